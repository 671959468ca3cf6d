"""Child runs of a film, pools and the bounds of their dispatch: the words that a dispatcher and its edge share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Cancel", "Child", "DispatchRules", "Phase", "Pool", "SegmentRun", "Start"]


@dataclass(frozen=True, slots=True, order=True)
class SegmentRun:
    """A run of a film's segments, `[start, end)` by their index."""

    start: int
    end: int

    @property
    def indices(self) -> range:
        """The index of each."""
        return range(self.start, self.end)

    def __str__(self) -> str:
        """Return what people call it."""
        return f"segments {self.start}-{self.end - 1}" if self.end - self.start > 1 else f"segment {self.start}"


class Phase(Enum):
    """Where a child run is in its life."""

    WAITING = "waiting"
    """No worker has taken it yet."""
    TAKEN = "taken"
    """A worker has, and is about to start it."""
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
        key: What identifies it.
        pool: Where it runs, or waits to.
        segments: What it makes, those apart that are there already.
        phase: Where it is.
        reason: Why it failed; for people.
        is_hopeless: It failed in a way in which it would fail anywhere.
    """

    key: str
    pool: str
    segments: SegmentRun
    phase: Phase
    reason: str = ""
    is_hopeless: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    """A work pool, as the server shows it.

    Attributes:
        name: Its name.
        worker_count: Workers that are online.
        fps: Frames of the film that one child is thought to make a second, above 0.
    """

    name: str
    worker_count: int
    fps: float


@dataclass(frozen=True, slots=True)
class DispatchRules:
    """How patient a dispatch is, and how large its shards are.

    Attributes:
        late_seconds: A child that no worker took for so long is given to another pool that has room; one that its
            worker took and did not start is given up.
        stall_seconds: A child that runs and made no segment for so long is given up.
        leave_seconds: A child that was told to end and did not for so long counts as dead.
        wait_seconds: So long may nothing at all be started or made before the film fails.
        shortest_seconds: Shards are not cut smaller than so much work; infinite: the film is one shard.
        longest_seconds: Nor larger: so much work is lost at most by a crash, and so late may the last one end.
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
        pool: Where.
        segments: What it is to make.
        number: How many children there were for exactly these segments. With the film and the segments it names the
            child, so that two parents that start the same one start it once.
        because: What went wrong with them before, and where; empty if nothing did.
    """

    pool: str
    segments: SegmentRun
    number: int
    because: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Tell a child to end; what it made is kept."""

    child: Child
    reason: str
