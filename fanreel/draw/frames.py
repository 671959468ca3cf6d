"""The frame source: draws any frame of a timeline into planes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np

from fanreel.draw.colour import prepare_colour
from fanreel.draw.layers import BLACK, Drawing, Planes, blend_planes, fill_planes
from fanreel.draw.still import StillDrawer
from fanreel.plan.content import ColourContent, Content, StillContent
from fanreel.plan.timeline import FULL_OPACITY, Layer, Timeline, layers_at

__all__ = ["FrameSource"]

CLIPS_AHEAD = 1
"""Clips whose content is made ready before it is needed. A photo takes some 5 to 8 MB of planes at 1080p."""


class FrameSource:
    """Draws frames of a timeline, in any order, cheapest in ascending order.

    The planes drawn depend on the timeline and the frame's number only: not on which frames were drawn
    before, nor on the machine. One thread makes contents ready ahead; those that are passed are dropped.

    Args:
        timeline: What every frame shows.
        photo_paths: Where each photo's bytes are, by digest.
        width_px: Width of a frame, even.
        height_px: Height of a frame, even.
        ranges: Frames that will be asked for, ascending; the whole film if empty. No content is made ready
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
        self._stills = StillDrawer(photo_paths, width_px=width_px, height_px=height_px)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="contents")
        self._ready: dict[Content, Future[Drawing]] = {}
        self._shown: Sequence[tuple[Content, int]] = ()

    def __enter__(self) -> Self:
        """Return the source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the thread that makes contents ready."""
        self._pool.shutdown(cancel_futures=True)

    def draw(self, frame: int, planes: Planes) -> None:
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
        self._make_ready(frame, layers)
        if not layers or layers[0].opacity < FULL_OPACITY:
            fill_planes(planes, BLACK)
        for layer in layers:
            drawing = self._ready[layer.content].result()
            if layer.opacity == FULL_OPACITY:
                drawing(layer, planes)
            else:
                above = [np.empty(plane.shape, np.uint8) for plane in planes]
                drawing(layer, above)
                blend_planes(planes, above, opacity=layer.opacity)

    def _make_ready(self, frame: int, layers: Sequence[Layer]) -> None:
        """Start to make ready what these layers and the next clips need, and forget the rest."""
        shown = [(layer.content, frame - layer.frame) for layer in layers]
        if shown == self._shown:
            return
        self._shown = shown
        end = max((start + layer.frame_count for layer, (_, start) in zip(layers, shown, strict=True)), default=frame)
        wanted = [layer.content for layer in layers] + self._contents_after(end)
        for content in self._ready.keys() - wanted:
            self._ready.pop(content).cancel()
        for content in wanted:
            if content not in self._ready:
                self._ready[content] = self._pool.submit(self._prepare, content)

    def _contents_after(self, frame: int) -> list[Content]:
        """Return the contents that will be needed first from `frame` on."""
        for each in self._ranges:
            if each.stop > frame:
                clips = self._timeline.clips_between(max(each.start, frame), each.stop)
                return [clip.content for clip in clips[:CLIPS_AHEAD]]
        return []

    def _prepare(self, content: Content) -> Drawing:
        match content:
            case StillContent():
                return self._stills.prepare(content)
            case ColourContent():
                return prepare_colour(content)
