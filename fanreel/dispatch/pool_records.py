"""What a film's dispatch has seen of a pool: how fast its children are, how many it runs, what they come to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fanreel.dispatch.children import Pool
from fanreel.dispatch.shard_sizes import PoolLoad

__all__ = ["FULL_SECONDS", "PoolRecord"]

LEAST_WAITING = 4
"""Children that wait for the workers of a pool, so that a slot that gets free finds one; more where there are many."""

WORKERS_A_WAITING, RUNNING_A_WAITING = 4, 8
"""One may wait for so many workers, or for so many children that run: each poll of a worker has to find enough."""

FULL_SECONDS = 15.0
"""A pool of which a child waits for longer has no free slot: its workers ask every 10 s, give or take 3."""

PEAK_SECONDS = 60.0
"""A slot is without a child for some 10 s whenever one ends; for so long it is not."""

SLOTS_A_WORKER = 2
"""What a worker is taken to have, as long as it is not known."""

SETBACKS = 3
"""After so many children in a row that came to nothing a pool gets one at a time, for a trial."""

MOST_DOUBLINGS = 4
"""The rest before a trial doubles each time, so often."""


@dataclass(slots=True)
class PoolRecord:
    """What was seen of one pool.

    Attributes:
        frames_made: By its children.
        seconds_worked: In which they made them.
        full_slots: The most children that ran there lately, since it was seen to be full; 0 if it was not yet.
        full_workers: Workers that it has had since.
        peak: The most children that workers had, since `peak_until` less `PEAK_SECONDS`.
        last_peak: The same, in the time before.
        peak_until: When the next such time begins.
        setbacks: Children in a row that made nothing, or that no worker took; since one of them made a segment.
        rest_count: How often it has rested since.
        rests_until: Until then it gets nothing, where there is another pool.
    """

    frames_made: int = 0
    seconds_worked: float = 0.0
    full_slots: int = 0
    full_workers: int = 0
    peak: int = 0
    last_peak: int = 0
    peak_until: float = float("-inf")
    setbacks: int = 0
    rest_count: int = 0
    rests_until: float = float("-inf")

    def fps(self, pool: Pool) -> float:
        """Return the frames a second of one child: as seen in this film, else as known before."""
        return self.frames_made / self.seconds_worked if self.seconds_worked > 0 else pool.fps

    def note_made(self, frames: int, seconds: float) -> None:
        """Take note of frames that a child has made."""
        self.frames_made += frames
        self.seconds_worked += seconds
        self.setbacks = self.rest_count = 0

    def note_setback(self, now: float, rest_seconds: float) -> None:
        """Take note of a child that came to nothing there."""
        self.setbacks += 1
        if self.is_on_trial and now >= self.rests_until:  # those that fail together are one reason
            self.rests_until = now + rest_seconds * 2 ** min(self.rest_count, MOST_DOUBLINGS)
            self.rest_count += 1

    def note_load(self, now: float, pool: Pool, *, taken: int, is_full: bool) -> None:
        """Take note of how many of its children workers have, and whether one waits longer than they take to ask."""
        if now >= self.peak_until:
            self.last_peak, self.peak, self.peak_until = self.peak, 0, now + PEAK_SECONDS
        self.peak = max(self.peak, taken)
        if pool.worker_count > self.full_workers:
            self.full_slots = 0
        if self.full_slots or (is_full and taken):
            self.full_workers = pool.worker_count
            self.full_slots = max(self.peak, self.last_peak, 1)

    def slots(self, pool: Pool, *, alive: int) -> int:
        """Return how many children it is taken to run at once; `alive` wait or run there now."""
        if self.is_on_trial:
            return 0
        return self.full_slots or max(alive, SLOTS_A_WORKER * pool.worker_count)

    def load(self, pool: Pool, *, ends: Iterable[float], waiting: int) -> PoolLoad:
        """Return what the pool does for the film.

        Args:
            pool: As it is now.
            ends: Seconds after which each of its children at work is expected to end.
            waiting: Children that wait for its workers.
        """
        ascending = tuple(sorted(max(0.0, seconds) for seconds in ends))
        slots = self.slots(pool, alive=len(ascending) + waiting)
        return PoolLoad(self.fps(pool), slots, self.full_slots > 0, ascending, waiting)

    @property
    def is_on_trial(self) -> bool:
        """Whether its children come to nothing."""
        return self.setbacks >= SETBACKS

    def may_wait(self, pool: Pool, *, running: int) -> int:
        """Return how many children may wait for its workers, or for the first one."""
        if self.is_on_trial or not pool.worker_count:
            return 1
        return max(LEAST_WAITING, pool.worker_count // WORKERS_A_WAITING, running // RUNNING_A_WAITING)
