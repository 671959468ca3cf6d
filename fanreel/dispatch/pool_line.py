"""The children of one pool at one moment: those at work, those that wait in line for a slot, and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fanreel.dispatch.children import Child, Phase, Pool
from fanreel.dispatch.pool_records import PoolRecord
from fanreel.dispatch.shard_sizes import PoolLoad

__all__ = ["GAIN_SECONDS", "Life", "PoolLine", "explain_wait"]

TOO_LONG = 1.3
"""A shard that waits is too large if it ends after so many times the time that the film needs from now."""

GAIN_SECONDS = 20.0
"""What waits is taken out of its line to gain no less: another child costs a slot some 10 s."""

_NEVER = float("inf")


@dataclass(slots=True)
class Life:
    """What is remembered of a child that was seen alive.

    Attributes:
        child: As it was seen last.
        changed_at: When it came into its phase, or made its last segment.
        given_up: Why it was told to end; empty if nobody here did that.
        told_count: How often it was.
        has_made: Whether it has made a segment.
    """

    child: Child
    changed_at: float
    given_up: str = ""
    told_count: int = 0
    has_made: bool = False


class PoolLine:
    """See the module.

    Args:
        pool: The pool.
        record: What was seen of it.
        lives: Of its children that may be alive, in the order in which they were started.
        now: The time.
        frames_left: Returns how many frames a child still has to make.
    """

    def __init__(
        self, pool: Pool, record: PoolRecord, lives: Iterable[Life], *, now: float, frames_left: Callable[[Child], int]
    ) -> None:
        self._pool, self._record, self._frames_left = pool, record, frames_left
        lives = list(lives)
        self._alive_count = len(lives)
        self._running_count = sum(life.child.phase is Phase.RUNNING for life in lives)
        self._waiting = [life.child.key for life in lives if life.child.phase is Phase.WAITING]
        at_work = (life for life in lives if life.child.phase in (Phase.TAKEN, Phase.RUNNING))
        self._ends = sorted(frames_left(life.child) / self.fps - (now - life.changed_at) for life in at_work)

    @property
    def fps(self) -> float:
        """Frames a second of one child."""
        return self._record.fps(self._pool)

    @property
    def slots(self) -> int:
        """Children that it is taken to run at once."""
        return self._record.slots(self._pool, alive=0)

    @property
    def free_count(self) -> int:
        """Slots that have no child, and none that waits for them; negative: so many more wait."""
        return self.slots - self._alive_count

    @property
    def room(self) -> int:
        """How many more children may be started for it now."""
        room = self._record.may_wait(self._pool, running=self._running_count) - len(self._waiting)
        return room - len(self._ends) if self._record.is_on_trial else room

    @property
    def load(self) -> PoolLoad:
        """What it does for the film."""
        return self._record.load(self._pool, ends=self._ends, waiting=self._alive_count - len(self._ends))

    def wait_seconds(self, child: Child) -> float:
        """Return after how long a child that waits is expected to find a slot; infinite: that is not known."""
        place = self._waiting.index(child.key) - (self.slots - len(self._ends))
        if place < 0:
            return 0.0
        return self._ends[place] if place < len(self._ends) else _NEVER

    def is_too_large(self, child: Child, film_seconds: float) -> bool:
        """Return whether a child that waits should be cut anew, by the speed that its pool has shown since.

        Args:
            child: One of the pool that waits.
            film_seconds: How long the film needs from now, were all shared out evenly.
        """
        if not self._record.frames_made:
            return False
        seconds = self.wait_seconds(child) + self._frames_left(child) / self.fps
        return TOO_LONG * film_seconds + GAIN_SECONDS < seconds < _NEVER


def explain_wait(idle_seconds: float, pools: Sequence[Pool]) -> str:
    """Return why a film fails for which nothing was done for so long."""
    counts = ", ".join(f"{pool.name} {pool.worker_count}" for pool in pools)
    return (
        f"no shard was started or made for {idle_seconds:.0f} s; workers online: {counts}. "
        "Start a worker of one of these pools (python -m deployments.worker --pool NAME) and run the same job again"
    )
