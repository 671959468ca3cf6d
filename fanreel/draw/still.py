"""Draws stills: photos under their moves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fanreel.draw.layers import Drawing, Planes
from fanreel.draw.planes import plane_maps, prepare_planes
from fanreel.draw.resample import Resampler
from fanreel.plan.camera import camera_at
from fanreel.plan.content import StillContent
from fanreel.plan.timeline import Layer

__all__ = ["StillDrawer"]


class StillDrawer:
    """Draws stills of one frame size, one at a time; they share the scratch memory.

    Args:
        paths: Where each photo's bytes are, by digest.
        width_px: Width of a frame, even.
        height_px: Height of a frame, even.
    """

    def __init__(self, paths: Mapping[str, str], *, width_px: int, height_px: int) -> None:
        self._paths = paths
        self._width_px, self._height_px = width_px, height_px
        luma = Resampler(height=height_px, width=width_px)
        chroma = Resampler(height=height_px // 2, width=width_px // 2)
        self._resamplers = (luma, chroma, chroma)

    def prepare(self, still: StillContent) -> Drawing:
        """Return what draws a still. Decodes its photo; another thread may draw other stills meanwhile.

        Raises:
            MediaError: The photo changed or does not decode.
            StorageError: It cannot be read.
        """
        path = Path(self._paths[still.photo.digest])
        photo = prepare_planes(path, still.photo, still.path, width_px=self._width_px)

        def draw(layer: Layer, planes: Planes) -> None:
            view = camera_at(still.path, frame=layer.frame, frame_count=layer.frame_count)
            maps = plane_maps(view, scale=photo.scale, width_px=self._width_px, height_px=self._height_px)
            for resampler, source, (x, y), out in zip(self._resamplers, photo.planes, maps, planes, strict=True):
                resampler.resample(source, x=x, y=y, out=out)

        return draw
