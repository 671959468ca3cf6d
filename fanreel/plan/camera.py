"""The camera over a photo: frame index -> source rectangle in double precision.

Only `+ - * /` are used: IEEE 754 rounds them alike on every machine, so the same plan gives the same
rectangle to the last bit everywhere. `sin`, `exp` and `pow` do not have that property.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = [
    "CameraPath",
    "Rect",
    "camera_at",
    "focus_down",
    "is_inside",
    "place_view",
    "plan_views",
    "seen_share",
    "shown_share",
]

SMALLEST_VIEW_PX = 1.0
"""A drawn view is at least so high: less shows one colour, and has no shape left in double precision."""

_Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rect:
    """A view: a rectangle in px of the upright photo, x to the right, y down, edges not centres."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """Its width, px of the photo."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Its height, px of the photo."""
        return self.y1 - self.y0


@dataclass(frozen=True, slots=True)
class CameraPath:
    """A move from `start` to `end`, both of the film's shape."""

    start: Rect
    end: Rect


def camera_at(path: CameraPath, *, frame: int, frame_count: int) -> Rect:
    """Return what frame `frame` of `frame_count` sees.

    The move is eased at both ends (`3t^2 - 2t^3`): it starts and stops at rest. The first frame sees
    exactly `path.start`, the last one exactly `path.end`.
    """
    time = frame / (frame_count - 1) if frame_count > 1 else 0.0
    done = time * time * (3.0 - 2.0 * time)
    left = 1.0 - done
    start, end = path.start, path.end
    return Rect(
        _between(start.x0, end.x0, left, done),
        _between(start.y0, end.y0, left, done),
        _between(start.x1, end.x1, left, done),
        _between(start.y1, end.y1, left, done),
    )


def _between(first: float, last: float, left: float, done: float) -> float:
    # Rounding can carry the sum an ulp past either end: out of the photo, or off a view that stands still.
    low, high = (first, last) if first <= last else (last, first)
    return min(max(first * left + last * done, low), high)


def plan_views(
    start: Sequence[float],
    end: Sequence[float],
    *,
    photo_px: tuple[int, int],
    film_px: tuple[int, int],
    is_whole: bool = False,
) -> CameraPath:
    """Return the path between two views that a person drew.

    Each is grown to the film's shape around its centre (and to a pixel's height), then moved (and, if it
    is larger than the photo, shrunk) until it lies inside the photo. One that has to be shrunk in height
    stays around the point that `focus_down` names.

    Args:
        start: x0, y0, x1, y1 as fractions of the photo.
        end: The same for the last frame.
        photo_px: Width and height of the upright photo.
        film_px: Width and height of the film.
        is_whole: Nothing is shrunk: what was drawn is shown whole, and a view may be larger than the photo.
    """
    return CameraPath(*(_grown(view, photo_px, film_px, is_whole=is_whole) for view in (start, end)))


def shown_share(view: Sequence[float], *, photo_px: tuple[int, int], film_px: tuple[int, int]) -> float:
    """Return which share of the area of a drawn view is left where it has to lie inside the photo.

    Args:
        view: x0, y0, x1, y1 as fractions of the photo.
        photo_px: Width and height of the upright photo.
        film_px: Width and height of the film.
    """
    shown = _grown(view, photo_px, film_px, is_whole=False)
    width, height = (view[2] - view[0]) * photo_px[0], (view[3] - view[1]) * photo_px[1]
    return min(shown.width / width, 1.0) * min(shown.height / height, 1.0)


def _grown(view: Sequence[float], photo_px: tuple[int, int], film_px: tuple[int, int], *, is_whole: bool) -> Rect:
    photo_width, photo_height = photo_px
    x0, y0, x1, y1 = view[0] * photo_width, view[1] * photo_height, view[2] * photo_width, view[3] * photo_height
    film_width, film_height = film_px
    height = max(y1 - y0, (x1 - x0) * film_height / film_width, SMALLEST_VIEW_PX)
    if is_whole:
        width = height * film_width / film_height
    else:
        height = min(height, float(photo_height), photo_width * film_height / film_width)
        width = min(height * film_width / film_height, float(photo_width))  # rounding may have made it larger
    is_cut = height < y1 - y0
    centre_y = y0 + max(height / 2, focus_down(x1 - x0, y1 - y0) * (y1 - y0)) if is_cut else (y0 + y1) / 2
    return place_view((x0 + x1) / 2, centre_y, width, height, photo_px)


def focus_down(width: float, height: float) -> float:
    """Return what stays in view of a picture that is cut above and below, as a fraction of its height: heads are up.

    Of an upright picture it is the middle of the upper third, of which no part is then lost to a view of that height.
    """
    return 1 / 6 if height >= width else 0.4


def place_view(centre_x: float, centre_y: float, width: float, height: float, photo_px: tuple[int, int]) -> Rect:
    """Return the view of this size around a centre, moved into the photo; along a side that is longer, over its middle.

    All in px of the photo.
    """
    x0, x1 = _placed(centre_x, width, float(photo_px[0]))
    y0, y1 = _placed(centre_y, height, float(photo_px[1]))
    return Rect(x0, y0, x1, y1)


def _placed(centre: float, length: float, room: float) -> tuple[float, float]:
    if length > room:
        return (room - length) / 2, (room + length) / 2
    start = max(min(centre - length / 2, room - length), 0.0)
    # (room - length) + length can round to an ulp more than the room.
    return start, min(start + length, room)


def is_inside(path: CameraPath, *, photo_px: tuple[int, int]) -> bool:
    """Return whether every view of a path lies inside the photo."""
    width, height = photo_px
    views = (path.start, path.end)
    return all(view.x0 >= 0 and view.y0 >= 0 and view.x1 <= width and view.y1 <= height for view in views)


def seen_share(path: CameraPath, *, photo_px: tuple[int, int]) -> float:
    """Return which share of the photo's area is in view at some time of a move, from 0 to 1.

    The views of a path have one shape and lie on straight lines between two: together they cover the convex hull of
    the first and the last, no more and no less.

    Args:
        path: The move.
        photo_px: Width and height of the upright photo.
    """
    width, height = map(float, photo_px)
    seen = _hull(_corners(path.start) + _corners(path.end))
    for is_before in (lambda p: p[0], lambda p: width - p[0], lambda p: p[1], lambda p: height - p[1]):
        seen = _cut_off(seen, is_before)
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise([*seen, *seen[:1]])) / 2
    return min(max(area / (width * height), 0.0), 1.0)


def _corners(view: Rect) -> list[_Point]:
    return [(view.x0, view.y0), (view.x1, view.y0), (view.x0, view.y1), (view.x1, view.y1)]


def _hull(points: Sequence[_Point]) -> list[_Point]:
    """Return the corners of the convex hull, in order.

    Source: A. M. Andrew, "Another efficient algorithm for convex hulls in two dimensions", 1979.
    """
    found: list[_Point] = []
    for line in (sorted(points), sorted(points, reverse=True)):
        half: list[_Point] = []
        for point in line:
            while len(half) > 1 and _turn(half[-2], half[-1], point) <= 0:
                half.pop()
            half.append(point)
        found += half[:-1]
    return found


def _turn(a: _Point, b: _Point, c: _Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _cut_off(polygon: Sequence[_Point], depth: Callable[[_Point], float]) -> list[_Point]:
    """Return what of a convex polygon lies where `depth`, which is linear, is not negative."""
    kept: list[_Point] = []
    for a, b in pairwise([*polygon, *polygon[:1]]):
        here, there = depth(a), depth(b)
        if here >= 0:
            kept.append(a)
        if (here < 0) != (there < 0):
            part = here / (here - there)
            kept.append((a[0] + (b[0] - a[0]) * part, a[1] + (b[1] - a[1]) * part))
    return kept
