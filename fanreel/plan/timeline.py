"""The timeline: what every frame of a film shows, as layers of content."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from fanreel.plan.content import Content

__all__ = ["FULL_OPACITY", "Clip", "Layer", "Timeline", "layers_at"]

FULL_OPACITY = 256
"""Hides all that lies below. 0 shows nothing; what is between is mixed in integers, alike on every machine."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One content on the timeline, over the frames `[start_frame, end_frame)` of the film.

    Attributes:
        content: What is shown.
        start_frame: First frame.
        end_frame: One past the last frame.
        opacity: From 0 to `FULL_OPACITY`.
    """

    content: Content
    start_frame: int
    end_frame: int
    opacity: int = FULL_OPACITY

    @property
    def frame_count(self) -> int:
        """Frames that show the clip."""
        return self.end_frame - self.start_frame


@dataclass(frozen=True, slots=True)
class Layer:
    """What one frame of the film shows of one content.

    Attributes:
        content: What is shown.
        frame: Which frame of the content, from 0.
        frame_count: How many frames the content is shown for.
        opacity: From 0 to `FULL_OPACITY`.
    """

    content: Content
    frame: int
    frame_count: int
    opacity: int = FULL_OPACITY


@dataclass(frozen=True, slots=True)
class Timeline:
    """The clips of a film, by their start; of two that share frames the later one lies above.

    No clip ends before one that stands earlier. In a slideshow each begins where the one before ends.
    """

    clips: tuple[Clip, ...]

    @property
    def frame_count(self) -> int:
        """Frames of the film."""
        return self.clips[-1].end_frame if self.clips else 0

    def clips_between(self, start_frame: int, end_frame: int) -> tuple[Clip, ...]:
        """Return the clips that are shown in `[start_frame, end_frame)`, the lower ones first."""
        first = bisect_right(self.clips, start_frame, key=lambda clip: clip.end_frame)
        last = bisect_right(self.clips, end_frame - 1, key=lambda clip: clip.start_frame)
        return self.clips[first:last]


def layers_at(timeline: Timeline, frame: int) -> tuple[Layer, ...]:
    """Return the picture that frame `frame` is, bottom layer first.

    Raises:
        IndexError: `frame` is not in `[0, timeline.frame_count)`.
    """
    if not 0 <= frame < timeline.frame_count:
        raise IndexError(f"frame {frame} is not in [0, {timeline.frame_count})")
    return tuple(
        Layer(clip.content, frame - clip.start_frame, clip.frame_count, clip.opacity)
        for clip in timeline.clips_between(frame, frame + 1)
    )
