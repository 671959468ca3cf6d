"""Progress of a film's rendering, in numbers and as one line of text."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from fanreel.printable import counted

__all__ = ["Progress", "Snapshot"]

WAIT_SECONDS = 1.0
"""How long a shard counts as waiting after it reported so; a waiting shard reports several times a second."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Progress of a film at one moment.

    Attributes:
        segments_done: Segments rendered so far.
        segment_count: Segments that had to be rendered; what the store held already is in none of these numbers.
        frames_made: Frames rendered so far.
        frames_to_make: Frames of all segments that had to be rendered.
        fps: Frames rendered per second since the rendering began.
        seconds_left: Estimate from this speed; None while no frame is rendered.
        waiting: A shard waits for an encoder session, because other films hold them.
    """

    segments_done: int
    segment_count: int
    frames_made: int
    frames_to_make: int
    fps: float
    seconds_left: float | None
    waiting: bool = False

    def __str__(self) -> str:
        """Return the progress as one line of text."""
        if not self.segment_count:
            return "every segment is there already"
        left = "" if self.seconds_left is None else f", {_clock(self.seconds_left)} left"
        share = 100 * self.frames_made // self.frames_to_make if self.frames_to_make else 100
        waiting = ", waiting for an encoder session" if self.waiting else ""
        segments = f"{self.segments_done}/{counted(self.segment_count, 'segment')}"
        return f"{segments}, {share:d} %, {self.fps:.0f} fps{left}{waiting}"


class Progress:
    """Counts what shards report. Safe to use from several threads.

    Args:
        segment_count: Segments that have to be rendered.
        frames_to_make: Their frames.
        clock: Returns monotonic seconds.
    """

    def __init__(self, *, segment_count: int, frames_to_make: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        self._segment_count, self._segments_done = segment_count, 0
        self._frames_to_make, self._frames_made = frames_to_make, 0
        self._clock = clock
        self._started_at = clock()
        self._waited_at: float | None = None

    def add_frames(self, count: int) -> None:
        """Add frames that were rendered."""
        with self._lock:
            self._frames_made += count

    def add_segment(self) -> None:
        """Add a segment that is now in the store."""
        with self._lock:
            self._segments_done += 1

    def add_wait(self) -> None:
        """Note that a shard waits for an encoder session now."""
        with self._lock:
            self._waited_at = self._clock()

    def snapshot(self) -> Snapshot:
        """Return the progress of this moment."""
        with self._lock:
            # A segment that is rendered twice, after a fault, is counted twice; progress must not exceed 100 %.
            made = min(self._frames_made, self._frames_to_make)
            segments = min(self._segments_done, self._segment_count)
            now = self._clock()
            waiting = self._waited_at is not None and now - self._waited_at < WAIT_SECONDS
        seconds = now - self._started_at
        fps = made / seconds if seconds > 0 else 0.0
        left = (self._frames_to_make - made) / fps if fps else None
        return Snapshot(segments, self._segment_count, made, self._frames_to_make, fps, left, waiting)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
