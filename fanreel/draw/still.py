"""Draws stills: photos under their moves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fanreel.draw.backdrop import make_backdrop
from fanreel.draw.coverage import Cover, covers_of, joint_place, lay_beside
from fanreel.draw.layers import Drawing, Planes
from fanreel.draw.planes import PhotoPlanes, plane_maps, prepare_planes
from fanreel.draw.resample import Resampler
from fanreel.plan.camera import Rect, camera_at
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
        if still.backdrop is not None:
            return self._prepare_before_backdrop(still, photo)

        def draw(layer: Layer, planes: Planes) -> None:
            view = camera_at(still.path, frame=layer.frame, frame_count=layer.frame_count)
            maps = plane_maps(view, scale=photo.scale, width_px=self._width_px, height_px=self._height_px)
            for resampler, source, (x, y), out in zip(self._resamplers, photo.planes, maps, planes, strict=True):
                resampler.resample(source, x=x, y=y, out=out)

        return draw

    def _prepare_before_backdrop(self, still: StillContent, photo: PhotoPlanes) -> Drawing:
        """Return what draws a photo that does not fill the frame: it is resampled where it comes to lie, no farther."""
        behind = make_backdrop(still, photo, width_px=self._width_px, height_px=self._height_px)
        ends = (self._covers(still, view) for view in (still.path.start, still.path.end))
        places = [joint_place(*pair) for pair in zip(*ends, strict=True)]
        resamplers = [
            Resampler(height=rows.stop - rows.start, width=columns.stop - columns.start) for rows, columns in places
        ]

        def draw(layer: Layer, planes: Planes) -> None:
            view = camera_at(still.path, frame=layer.frame, frame_count=layer.frame_count)
            maps = plane_maps(view, scale=photo.scale, width_px=self._width_px, height_px=self._height_px)
            parts = zip(resamplers, photo.planes, maps, places, planes, strict=True)
            for resampler, source, (x, y), (rows, columns), out in parts:
                here = {"x": x.starting_at(columns.start), "y": y.starting_at(rows.start)}
                resampler.resample(source, **here, out=out[rows, columns])
            lay_beside(planes, behind, self._covers(still, view))

        return draw

    def _covers(self, still: StillContent, view: Rect) -> tuple[Cover, ...]:
        return covers_of(view, still.photo, width_px=self._width_px, height_px=self._height_px)
