"""The frame source: draws any frame of a timeline into planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from fanreel.draw.planes import PhotoPlanes, plane_maps, prepare_planes
from fanreel.draw.resample import Resampler
from fanreel.plan.timeline import Clip, Timeline, layers_at

__all__ = ["FrameSource"]

CLIPS_AHEAD = 1
"""Photos prepared before they are needed. Each is some 5 to 8 MB of planes at 1080p."""


class FrameSource:
    """Draws frames of a timeline, in any order, cheapest in ascending order.

    The planes drawn depend on the timeline and the frame's number only: not on which frames were drawn
    before, nor on the machine. Photos are decoded ahead by one thread and dropped when they are passed.

    Args:
        timeline: What every frame shows.
        photo_paths: Where each photo's bytes are, by digest.
        width_px: Width of a frame, even.
        height_px: Height of a frame, even.
        ranges: Frames that will be asked for, ascending; the whole film if empty. No photo is prepared
            for others, and yet any frame can be drawn.
    """

    def __init__(
        self,
        timeline: Timeline,
        *,
        photo_paths: Mapping[str, str],
        width_px: int,
        height_px: int,
        ranges: Sequence[range] = (),
    ) -> None:
        self._timeline = timeline
        self._ranges = ranges or (range(timeline.frame_count),)
        self._photo_paths = photo_paths
        self._size = (width_px, height_px)
        luma = Resampler(height=height_px, width=width_px)
        chroma = Resampler(height=height_px // 2, width=width_px // 2)
        self._resamplers = (luma, chroma, chroma)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="photos")
        self._prepared: dict[Clip, Future[PhotoPlanes]] = {}
        self._current: Sequence[Clip] = ()

    def __enter__(self) -> Self:
        """Return the source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the thread that decodes ahead."""
        self._pool.shutdown(cancel_futures=True)

    def draw(self, frame: int, planes: Sequence[np.ndarray]) -> None:
        """Draw one frame.

        Args:
            frame: Its index in the film.
            planes: Y, U and V, uint8: (height, width) and twice (height/2, width/2); rows may be padded.

        Raises:
            IndexError: The film has no such frame.
            MediaError: A photo changed or does not decode.
            StorageError: A photo cannot be read.
        """
        layers = layers_at(self._timeline, frame)
        clips = self._timeline.clips_between(frame, frame + 1)
        self._prepare(clips)
        for clip, layer in zip(clips, layers, strict=True):
            photo = self._prepared[clip].result()
            maps = plane_maps(layer.view, scale=photo.scale, width_px=self._size[0], height_px=self._size[1])
            for resampler, source, (x, y), out in zip(self._resamplers, photo.planes, maps, planes, strict=True):
                resampler.resample(source, x=x, y=y, out=out)

    def _prepare(self, clips: Sequence[Clip]) -> None:
        """Start what these clips and the next ones need, and forget the rest."""
        if clips == self._current:
            return
        self._current = clips
        wanted = [*clips, *self._clips_after(clips[-1].end_frame)]
        for clip in [clip for clip in self._prepared if clip not in wanted]:
            self._prepared.pop(clip).cancel()
        for clip in wanted:
            if clip not in self._prepared:
                self._prepared[clip] = self._pool.submit(self._load, clip)

    def _clips_after(self, frame: int) -> Sequence[Clip]:
        """Return the clips that will be needed first from `frame` on."""
        for each in self._ranges:
            if each.stop > frame:
                return self._timeline.clips_between(max(each.start, frame), each.stop)[:CLIPS_AHEAD]
        return ()

    def _load(self, clip: Clip) -> PhotoPlanes:
        path = Path(self._photo_paths[clip.photo.digest])
        return prepare_planes(path, clip.photo, clip.path, width_px=self._size[0])
