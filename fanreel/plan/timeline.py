"""The timeline: what every frame of a film shows, as layers of content."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from fanreel.plan.camera import CameraPath, Rect, camera_at

__all__ = ["Clip", "Layer", "Photo", "Timeline", "layers_at"]


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo as the plan knows it: its content, not its place.

    Attributes:
        digest: BLAKE3 of the file's bytes, 64 hexadecimal digits.
        width_px: Width of the upright photo (its orientation applied).
        height_px: Height of the upright photo.
    """

    digest: str
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class Clip:
    """One photo on the timeline, over the frames `[start_frame, end_frame)` of the film."""

    photo: Photo
    path: CameraPath
    start_frame: int
    end_frame: int

    @property
    def frame_count(self) -> int:
        """Frames that show the clip."""
        return self.end_frame - self.start_frame


@dataclass(frozen=True, slots=True)
class Layer:
    """What one frame shows of one photo."""

    photo: Photo
    view: Rect


@dataclass(frozen=True, slots=True)
class Timeline:
    """The clips of a film in order, each beginning where the one before ends."""

    clips: tuple[Clip, ...]

    @property
    def frame_count(self) -> int:
        """Frames of the film."""
        return self.clips[-1].end_frame if self.clips else 0

    def clips_between(self, start_frame: int, end_frame: int) -> tuple[Clip, ...]:
        """Return the clips that are shown in `[start_frame, end_frame)`."""
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
        Layer(clip.photo, camera_at(clip.path, frame=frame - clip.start_frame, frame_count=clip.frame_count))
        for clip in timeline.clips_between(frame, frame + 1)
    )
