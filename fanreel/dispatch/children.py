"""The vocabulary of dispatch: child runs and pools as the server shows them, the bounds, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Blame", "Cancel", "Child", "DispatchRules", "Phase", "Pool", "SegmentRun", "Start"]


@dataclass(frozen=True, slots=True, order=True)
class SegmentRun:
    """Consecutive segments of a film: the indices `[start, end)`."""

    start: int
    end: int

    @property
    def indices(self) -> range:
        """The index of each segment."""
        return range(self.start, self.end)

    def __str__(self) -> str:
        """Return what people call it."""
        return f"segments {self.start}-{self.end - 1}" if self.end - self.start > 1 else f"segment {self.start}"


class Phase(Enum):
    """The state of a child run, as far as dispatch needs it."""

    WAITING = "waiting"
    """No worker has taken it yet."""
    TAKEN = "taken"
    """A worker has taken it and is about to start it."""
    RUNNING = "running"
    LEAVING = "leaving"
    """It was told to end and has not ended yet."""
    DONE = "done"
    FAILED = "failed"
    """It ended otherwise: failed, crashed or was cancelled."""


@dataclass(frozen=True, slots=True)
class Child:
    """A child run, as the server shows it.

    Attributes:
        key: Identifies the child.
        pool: The pool in which it runs or waits.
        segments: The segments that it makes, without those that are there already.
        phase: Its state.
        reason: Why it failed; for people.
        is_hopeless: Whether it would fail the same way in every pool.
        number: That of its `Start`; -1 if no parent has started it.
    """

    key: str
    pool: str
    segments: SegmentRun
    phase: Phase
    reason: str = ""
    is_hopeless: bool = False
    number: int = -1


@dataclass(frozen=True, slots=True)
class Pool:
    """A work pool, as the server shows it.

    Attributes:
        name: The pool's name.
        worker_count: Workers that are online.
        fps: Frames of the film that one child makes a second, above 0; an estimate.
    """

    name: str
    worker_count: int
    fps: float


@dataclass(frozen=True, slots=True)
class DispatchRules:
    """How long a dispatch waits, and how large its shards are.

    Attributes:
        late_seconds: After so long without a worker a child's segments go to another pool that has room. A child that
            a worker has taken has as long to start.
        stall_seconds: A running child has so long for each segment.
        leave_seconds: A child that was told to end and has not ended after so long counts as dead.
        wait_seconds: The film fails when nothing was started or made for so long.
        shortest_seconds: The least work in a shard; infinite: the film is one shard.
        longest_seconds: The most work in a shard: what a crash loses at most.
    """

    late_seconds: float = 60.0
    stall_seconds: float = 300.0
    leave_seconds: float = 30.0
    wait_seconds: float = 3600.0
    shortest_seconds: float = 20.0
    longest_seconds: float = 180.0


@dataclass(frozen=True, slots=True)
class Start:
    """Start a child.

    Attributes:
        pool: The pool that gets it.
        segments: The segments that it is to make.
        number: One more than any child for exactly these segments had, from 0. Film, segments and number name the
            child, so that two parents that decide the same start it once.
        because: What went wrong with the segments before, and in which pool; empty if nothing did.
    """

    pool: str
    segments: SegmentRun
    number: int
    because: str = ""


class Blame(Enum):
    """What is at fault where a child is told to end."""

    NOBODY = "nobody"
    """Another pool, or another size, is better by now."""
    POOL = "pool"
    """Its segments had no chance."""
    SEGMENT = "segment"
    """The segment that it did not make, in its pool."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Tell a child to end; the segments that it made are kept.

    Attributes:
        child: The child.
        reason: Why; for people.
        blame: What is at fault.
        instead: The pool whose free slot its segments are meant for; empty if none is.
    """

    child: Child
    reason: str
    blame: Blame
    instead: str = ""
