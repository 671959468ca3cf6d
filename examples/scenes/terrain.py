"""Landscapes as a camera sees them: a height map, its light and shadow, and rays cast over it column by column."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from scenes.paint import Plane, smooth

_REPEAT = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera stands over a square height map whose near edge lies under it.

    Attributes:
        eye: Height of the camera, in the unit of the heights.
        horizon: Row of the horizon, as a fraction of the picture's height.
        focal: Focal length, as a fraction of the picture's width.
        near: Distance of the first ground that is drawn, 1 being the depth of the map.
        steps: Number of distances that are looked at.
        span: Width of the map where 1 is its depth.
    """

    eye: float
    horizon: float
    focal: float
    near: float = 0.03
    steps: int = 1200
    span: float = 1.0

    def distances(self) -> Plane:
        """Return the distances that are looked at, near first, close together near by, float32 of shape (steps,)."""
        return np.linspace(self.near**0.5, 0.997, self.steps, dtype=np.float32) ** 2


@dataclass(frozen=True, slots=True)
class Ground:
    """What each pixel below the sky shows.

    Attributes:
        top: The first row that holds any ground; the planes begin there.
        depth: Distance of the ground, 0 to 1; 2 where there is sky.
        across: Column on the height map, float32.
        along: Row on the height map, float32.
        height: Height of the ground.
        cells: Number of cells along one side of the height map.
    """

    top: int
    depth: Plane
    across: Plane
    along: Plane
    height: Plane
    cells: int

    def cover(self) -> Plane:
        """Return 1 on the ground and 0 in the sky, with a pixel's softness between, so that crests show no steps."""
        return cv2.GaussianBlur((self.depth < 1.5).astype(np.float32), (3, 3), 0.7)

    def sample(self, texture: Plane) -> Plane:
        """Return the values of a texture of the map's size (H, W) or (H, W, n), seen through the camera."""
        return cv2.remap(texture, self.across, self.along, **_REPEAT)

    def tile(self, texture: Plane, times: float) -> Plane:
        """Return a texture repeated over the ground, `times` finer than the height map, for detail near by."""
        edge = {"interpolation": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_WRAP}
        climb = self.height * np.float32(self.cells)  # else the texture would smear down cliffs
        along = (self.along + climb) * np.float32(times)
        return cv2.remap(texture, self.across * np.float32(times), along, **edge)


def ridged(rng: np.random.Generator, size: int, cell: float, octaves: int, gain: float = 0.5) -> Plane:
    """Return mountains: noise folded at zero, so that it has sharp crests, rougher where it is high. 0 to about 1."""
    total = np.zeros((size, size), np.float32)
    weight, amplitude = np.float32(1), 0.5
    for _ in range(octaves):
        rows = max(2, round(size / cell))
        lattice = rng.standard_normal((rows + 3, rows + 3), dtype=np.float32)
        fold = 1 - np.abs(cv2.resize(lattice, (size, size), interpolation=cv2.INTER_CUBIC)) * np.float32(0.8)
        fold = np.maximum(fold, 0) ** 2 * weight
        weight = np.clip(fold * 1.8, 0, 1)
        total += fold * np.float32(amplitude)
        cell, amplitude = cell / 2.03, amplitude * gain
    return total


def sunlight(heights: Plane, scale: float, elevation: float, depthward: float = 0.0) -> tuple[Plane, Plane]:
    """Return how directly low light from the left strikes a height map, and how much of it is not shadowed.

    Args:
        heights: The height map, (n, n), row 0 nearest to the camera.
        scale: Heights in units of one map cell are `heights * scale`.
        elevation: Tangent of the light's angle above the horizon.
        depthward: How much the light comes from behind the scene (positive) or from the camera.

    Returns:
        The cosine of the angle of incidence, and the light that arrives, both 0 to 1.
    """
    slope_x = cv2.Sobel(heights, cv2.CV_32F, 1, 0, scale=scale / 8)
    slope_z = cv2.Sobel(heights, cv2.CV_32F, 0, 1, scale=scale / 8)
    facing = slope_x - slope_z * np.float32(depthward) + np.float32(elevation)
    norm = np.sqrt(1 + slope_x**2 + slope_z**2) * np.float32(np.sqrt(1 + depthward**2 + elevation**2))
    # A ray from the left falls by `elevation` a cell: what a crest further left throws beyond this cell's height.
    lifted = heights * np.float32(scale) + np.arange(heights.shape[1], dtype=np.float32) * np.float32(elevation)
    over = np.maximum.accumulate(lifted, axis=1) - lifted
    return np.maximum(facing / norm, 0), 1 - smooth(over, 0.2, 4.0)


def cast(heights: Plane, view: View, shape: tuple[int, int]) -> tuple[Ground, Plane]:
    """Return what every pixel of a picture of `shape` sees of the ground, and the skyline for each distance.

    Returns:
        The ground, and the highest row that ground up to each distance reaches, float32 of shape (steps, width).
    """
    distances = view.distances()
    rows = _rows_of(heights, view, shape, distances)
    skyline = np.minimum.accumulate(rows, axis=0)
    return _ground(heights.shape[0], view, shape, distances, skyline), skyline


def _rows_of(heights: Plane, view: View, shape: tuple[int, int], distances: Plane) -> Plane:
    """Return the picture row on which the ground at each distance and column would lie, shape (steps, width)."""
    size, width = heights.shape[0], shape[1]
    bearing = (np.arange(width, dtype=np.float32) - width / 2) / np.float32(view.focal * width)
    across = (bearing[None, :] * distances[:, None] / np.float32(view.span) + np.float32(0.5)) * size
    along = np.ascontiguousarray(np.broadcast_to(distances[:, None] * size, across.shape))
    ground = cv2.remap(heights, across.astype(np.float32), along.astype(np.float32), **_REPEAT)
    lift = (ground - np.float32(view.eye)) / distances[:, None]
    return np.float32(view.horizon * shape[0]) - lift * np.float32(view.focal * width)


def _first_hits(skyline: Plane, top: int, height: int) -> NDArray[np.int32]:
    """Return the index of the first distance that covers each pixel from row `top` on; `steps` where none does."""
    steps, width = skyline.shape
    hits = np.full((height - top + 1, width), steps, np.int32)
    rows = np.clip(np.ceil(skyline).astype(np.int32) - top, 0, height - top)
    columns = np.arange(width)
    for step in range(steps - 1, -1, -1):
        hits[rows[step], columns] = step
    return np.minimum.accumulate(hits[:-1], axis=0)


def _ground(size: int, view: View, shape: tuple[int, int], distances: Plane, skyline: Plane) -> Ground:
    """Return the ground of every pixel, its distance interpolated between the two steps around it."""
    height, width = shape
    top = int(np.clip(np.floor(skyline.min()), 0, height - 2))
    hits = _first_hits(skyline, top, height)
    sky = hits == len(distances)
    near = np.clip(hits - 1, 0, len(distances) - 2)
    flat = near * width + np.arange(width, dtype=np.int32)
    below, above = np.take(skyline, flat), np.take(skyline, flat + width)
    row = np.arange(top, height, dtype=np.float32)[:, None]
    part = np.clip((below - row) / np.maximum(below - above, 1e-3), 0, 1)
    depth = np.take(distances, near) * (1 - part) + np.take(distances, near + 1) * part
    bearing = (np.arange(width, dtype=np.float32) - width / 2) / np.float32(view.focal * width)
    across = (bearing * depth / np.float32(view.span) + np.float32(0.5)) * np.float32(size)
    lift = (np.float32(view.horizon * height) - row) / np.float32(view.focal * width)
    rise = lift * depth + np.float32(view.eye)
    return Ground(top, np.where(sky, 2, depth), across, depth * np.float32(size), rise, size)
