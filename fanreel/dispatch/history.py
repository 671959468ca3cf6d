"""What a film's dispatch remembers of its children, of the pools, and of the film's segments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from fanreel.dispatch.children import Cancel, Child, Phase, Pool

__all__ = ["FULL_SECONDS", "ChildHistory", "FilmSegments", "PoolHistory", "SegmentHistory"]

LEAST_WAITING = 4
"""Children that wait for the workers of a pool, so that a slot that becomes free finds one; more in large pools."""

WORKERS_A_WAITING, RUNNING_A_WAITING = 4, 8
"""One child may wait for so many workers, or for so many running children: each poll of a worker has to find enough."""

FULL_SECONDS = 15.0
"""A pool in which a child waits for longer has no free slot: its workers ask every 10 s, give or take 3."""

PEAK_SECONDS = 60.0
"""A slot has no child for some 10 s after one has ended, but never for so long."""

SLOTS_A_WORKER = 2
"""Slots that a worker is taken to have until more is known."""

SETBACKS = 3
"""After so many unsuccessful children in a row a pool is on trial: it gets one child at a time."""

MOST_DOUBLINGS = 4
"""The rest before a trial doubles each time, at most so often."""

TOLD_COUNT = 10
"""A child that was told to end so often, and whose state never showed it, counts as dead after the same time."""


@dataclass(slots=True)
class ChildHistory:
    """A child that was seen alive.

    Attributes:
        child: The child, as it was seen last.
        changed_at: When it entered its phase, made its last segment, or was first told to end.
        told: What it was told when it was told to end; None if this dispatch has not told it.
        told_count: How often it was told.
        has_made: Whether it has made a segment.
    """

    child: Child
    changed_at: float
    told: Cancel | None = None
    told_count: int = 0
    has_made: bool = False

    def note_told(self, now: float, cancel: Cancel) -> None:
        """Take note that the child is told to end."""
        if self.told is None:
            self.told, self.changed_at = cancel, now
        self.told_count += 1

    def counts_as_dead(self, now: float, leave_seconds: float) -> bool:
        """Return whether the child was told to end and did not within the time it has for that."""
        is_told = self.child.phase is Phase.LEAVING or self.told_count >= TOLD_COUNT
        return is_told and now - self.changed_at > leave_seconds


@dataclass(slots=True)
class SegmentHistory:
    """The failures of one segment.

    Attributes:
        avoided: How often each pool was given the segment and did not make it.
        faults: What went wrong with the segment itself, each time.
        recut_count: How often it was in a waiting shard that was withdrawn.
    """

    avoided: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    recut_count: int = 0


class FilmSegments:
    """The segments of a film.

    Attributes:
        frame_counts: Frames of each segment, by index.
        missing: Indices of the segments that are not there yet.
        total_frames: Frames of all segments that had to be made.
        histories: The history of each segment, by index.
    """

    def __init__(self, frame_counts: Sequence[int], missing: Collection[int]) -> None:
        self.frame_counts, self.missing = frame_counts, set(missing)
        self.total_frames = self.frames(self.missing)
        self.histories = [SegmentHistory() for _ in frame_counts]

    def frames(self, indices: Iterable[int]) -> int:
        """Return the frames of some segments."""
        return sum(self.frame_counts[index] for index in indices)

    def left_of(self, child: Child) -> list[int]:
        """Return the segments that a child still has to make, in its order."""
        return [index for index in child.segments.indices if index in self.missing]

    def next_of(self, child: Child) -> SegmentHistory:
        """Return the history of the next segment that a child makes; an empty one if nothing is left."""
        return next((self.histories[index] for index in self.left_of(child)), SegmentHistory())


@dataclass(slots=True)
class PoolHistory:
    """The speed, the size and the failures of one pool.

    Attributes:
        active_at: When one of its children was seen running last.
        frames_made: Frames that its children have made.
        seconds_worked: Seconds in which they made them.
        full_slots: The most children that ran there lately, once the pool was seen to be full; 0 before.
        full_workers: Workers that it had when it was seen to be full.
        peak: The most children that its workers had, since `peak_until` less `PEAK_SECONDS`.
        last_peak: The same, for the period before.
        peak_until: When the present period ends.
        setbacks: Unsuccessful children in a row: they made nothing, or no worker took them.
        rest_count: How often it has rested since its last success.
        rests_until: Until then it gets no child, if there is another pool.
    """

    active_at: float = float("-inf")
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

    @property
    def is_on_trial(self) -> bool:
        """Whether its last children were all unsuccessful."""
        return self.setbacks >= SETBACKS

    def fps(self, pool: Pool) -> float:
        """Return the frames a second of one child: as measured in this film, else as estimated before."""
        return self.frames_made / self.seconds_worked if self.seconds_worked > 0 else pool.fps

    def note_made(self, frames: int, seconds: float) -> None:
        """Take note of frames that a child has made."""
        self.frames_made += frames
        self.seconds_worked += seconds
        self.setbacks = self.rest_count = 0

    def note_setback(self, now: float, rest_seconds: float) -> None:
        """Take note of an unsuccessful child."""
        self.setbacks += 1
        if self.is_on_trial and now >= self.rests_until:  # children that fail together have one cause
            self.rests_until = now + rest_seconds * 2 ** min(self.rest_count, MOST_DOUBLINGS)
            self.rest_count += 1

    def note_load(self, now: float, pool: Pool, *, taken: int, is_full: bool) -> None:
        """Take note of how many children workers have, and whether one waits longer than workers take to ask."""
        if now >= self.peak_until:
            self.last_peak, self.peak, self.peak_until = self.peak, 0, now + PEAK_SECONDS
        self.peak = max(self.peak, taken)
        if pool.worker_count > self.full_workers:
            self.full_slots = 0
        if self.full_slots or (is_full and taken):
            self.full_workers = pool.worker_count
            self.full_slots = max(self.peak, self.last_peak, 1)

    def slots(self, pool: Pool) -> int:
        """Return how many children the pool is taken to run at once."""
        return 0 if self.is_on_trial else self.full_slots or SLOTS_A_WORKER * pool.worker_count

    def room(self, pool: Pool, *, waiting: int, at_work: int, running: int) -> int:
        """Return how many more children may be started for the pool, which has so many now; negative: too many wait."""
        if self.is_on_trial:
            return 1 - waiting - at_work
        if not pool.worker_count:
            return 1 - waiting
        return max(LEAST_WAITING, pool.worker_count // WORKERS_A_WAITING, running // RUNNING_A_WAITING) - waiting
