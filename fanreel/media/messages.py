"""What a session and its owner tell each other. Imports no encoder, so that the owner need not load one."""

from __future__ import annotations

from dataclasses import dataclass

from fanreel.errors import FanreelError
from fanreel.media.record import SegmentRecord
from fanreel.plan.film import FilmPlan
from fanreel.plan.segments import Segment

__all__ = [
    "MEMORY_ADVICE",
    "FramesMade",
    "SegmentMade",
    "SessionEnded",
    "SessionFailed",
    "SessionMessage",
    "ShardRequest",
]

MEMORY_ADVICE = "ask for a smaller size, a faster preset or fewer sessions, or allow more memory"


@dataclass(frozen=True, slots=True)
class ShardRequest:
    """What a session is asked to do.

    Attributes:
        plan: The film.
        segments: Those to be made, in order.
        threads: Threads that the encoder may use.
        folder: Where segment files are made.
    """

    plan: FilmPlan
    segments: tuple[Segment, ...]
    threads: int
    folder: str


@dataclass(frozen=True, slots=True)
class FramesMade:
    """So many more frames have been fed to the encoder."""

    count: int


@dataclass(frozen=True, slots=True)
class SegmentMade:
    """A segment is complete: its record, and its file in the request's folder."""

    record: SegmentRecord
    path: str


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The session gives up, for this reason."""

    error: FanreelError


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """Every segment has been made."""


SessionMessage = FramesMade | SegmentMade | SessionFailed | SessionEnded
