"""A film's dispatch at one moment: all that decisions are made from, and none of it changes meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fanreel.dispatch.children import Child, DispatchRules, Phase, Pool, SegmentRun
from fanreel.dispatch.history import ChildHistory, FilmSegments, PoolHistory

__all__ = ["Moment", "PoolView", "view_pool"]

_NEVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """A pool, and its children of this film.

    Attributes:
        name: The pool's name.
        worker_count: Workers that are online.
        fps: Frames that one child makes a second, above 0.
        is_measured: Whether this film's children have shown `fps`.
        slots: Children that the pool is taken to run at once.
        is_full: Whether the number of slots is known, because children were seen to wait for one.
        ends: Seconds until each child at work is expected to end, ascending; negative for one that is overdue.
        waiting: Keys of the children that wait for a worker, the next one first.
        leaving_count: Children that were told to end.
        room: How many more children may be started for it; below 1: none.
        is_on_trial: Whether its last children were all unsuccessful.
        rests: Whether it gets no child now, if there is another pool.
        idle_seconds: Since one of its children was seen running.
    """

    name: str
    worker_count: int
    fps: float
    is_measured: bool = False
    slots: int
    is_full: bool
    ends: tuple[float, ...] = ()
    waiting: tuple[str, ...] = ()
    leaving_count: int = 0
    room: int = 1
    is_on_trial: bool = False
    rests: bool = False
    idle_seconds: float = 0.0

    @property
    def queued_count(self) -> int:
        """Children that may be alive and are not at work."""
        return len(self.waiting) + self.leaving_count

    @property
    def free_count(self) -> int:
        """Slots without a child at work or waiting for them; negative: so many more children wait."""
        return self.slots - len(self.ends) - self.queued_count

    @property
    def busy_slots(self) -> int:
        """Slots that count for the film's speed: where their number is not known, at least one for each child."""
        if self.is_full or self.is_on_trial:
            return self.slots
        return max(self.slots, len(self.ends) + self.queued_count)

    def wait_seconds(self, child: Child) -> float:
        """Return after how long a waiting child is expected to find a slot; infinite if that is not known."""
        place = self.waiting.index(child.key) - (self.slots - len(self.ends))
        if place < 0:
            return 0.0
        return self.ends[place] if place < len(self.ends) else _NEVER


@dataclass(frozen=True)
class Moment:
    """See the module.

    Attributes:
        now: The time.
        rules: The bounds of the dispatch.
        pools: The pools that may be used, by name, the preferred one first.
        children: The children that may be alive.
        segments: The segments of the film.
        shard_count: Shards started so far, without those that failed.
        numbers: What the next child for each run of segments is numbered, where there was one.
    """

    now: float
    rules: DispatchRules
    pools: Mapping[str, PoolView]
    children: Sequence[ChildHistory]
    segments: FilmSegments
    shard_count: int
    numbers: Mapping[SegmentRun, int]

    @cached_property
    def unassigned(self) -> list[int]:
        """The segments that nobody makes, ascending."""
        assigned = {index for each in self.children for index in each.child.segments.indices}
        return sorted(self.segments.missing - assigned)

    @cached_property
    def frames_missing(self) -> int:
        """Frames of the segments that are not there yet."""
        return self.segments.frames(self.segments.missing)


def view_pool(
    pool: Pool, history: PoolHistory, children: Sequence[ChildHistory], *, segments: FilmSegments, now: float
) -> PoolView:
    """Return a pool at one moment.

    Args:
        pool: The pool.
        history: What was seen of it.
        children: Its children that may be alive, in the order in which they were started.
        segments: The segments of the film.
        now: The time.
    """
    fps = history.fps(pool)
    at_work = [each for each in children if each.child.phase in (Phase.TAKEN, Phase.RUNNING)]
    waiting = tuple(each.child.key for each in children if each.child.phase is Phase.WAITING)
    running = sum(each.child.phase is Phase.RUNNING for each in at_work)
    ends = (segments.frames(segments.left_of(each.child)) / fps - (now - each.changed_at) for each in at_work)
    return PoolView(
        name=pool.name,
        worker_count=pool.worker_count,
        fps=fps,
        is_measured=history.frames_made > 0,
        slots=history.slots(pool),
        is_full=history.full_slots > 0,
        ends=tuple(sorted(ends)),
        waiting=waiting,
        leaving_count=len(children) - len(at_work) - len(waiting),
        room=history.room(pool, waiting=len(waiting), at_work=len(at_work), running=running),
        is_on_trial=history.is_on_trial,
        rests=now < history.rests_until,
        idle_seconds=now - history.active_at,
    )
