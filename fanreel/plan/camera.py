"""The camera over a photo: frame index -> source rectangle in double precision.

Only `+ - * /` are used: IEEE 754 rounds them alike on every machine, so the same plan gives the same
rectangle to the last bit everywhere. `sin`, `exp` and `pow` do not have that property.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fanreel.job.slideshow import Move

__all__ = ["CameraPath", "Rect", "camera_at", "plan_move", "plan_views"]

PAN_WIDTHS_PER_SECOND = 0.2
"""Fastest pan, in views a second. A view crossed in under 5 s judders at 24 to 30 fps."""

LONG_SIDE_RATIO = 1.5
"""A photo whose shape is that much wider or taller than the film's is panned along its long side."""

SMALLEST_VIEW_PX = 1.0
"""A drawn view is at least so high: less shows one colour, and has no shape left in double precision."""


@dataclass(frozen=True, slots=True)
class Rect:
    """A view: a rectangle in px of the upright photo, x to the right, y down, edges not centres."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class CameraPath:
    """A move from `start` to `end`, both of the film's shape and inside the photo."""

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


def plan_move(
    move: Move, *, photo_px: tuple[int, int], film_px: tuple[int, int], zoom: float, seconds: float, digest: str
) -> CameraPath:
    """Return the path of a named move.

    Args:
        move: `auto` is decided by the photo's own shape and digest, never by its neighbours.
        photo_px: Width and height of the upright photo.
        film_px: Width and height of the film.
        zoom: Ratio between the wide and the near view, at least 1.
        seconds: How long the move lasts; bounds the way a pan goes.
        digest: The photo's content digest, hexadecimal.
    """
    if move is Move.AUTO:
        move = _choose_move(photo_px, film_px, digest)
    wide = _widest_view(photo_px, film_px)
    near = _scaled(wide, 1.0 / zoom)
    match move:
        case Move.ZOOM_IN:
            return CameraPath(wide, near)
        case Move.ZOOM_OUT:
            return CameraPath(near, wide)
        case Move.STILL:
            return CameraPath(wide, wide)
        case _:
            return _plan_pan(move, wide if _is_long(photo_px, film_px, move) else near, photo_px, seconds)


def plan_views(
    start: Sequence[float], end: Sequence[float], *, photo_px: tuple[int, int], film_px: tuple[int, int]
) -> CameraPath:
    """Return the path between two views that a person drew.

    Each is grown to the film's shape around its centre (and to a pixel's height), then moved (and, if it
    is larger than the photo, shrunk) until it lies inside the photo.

    Args:
        start: x0, y0, x1, y1 as fractions of the photo.
        end: The same for the last frame.
        photo_px: Width and height of the upright photo.
        film_px: Width and height of the film.
    """
    return CameraPath(_grown(start, photo_px, film_px), _grown(end, photo_px, film_px))


def _choose_move(photo_px: tuple[int, int], film_px: tuple[int, int], digest: str) -> Move:
    choice = int(digest[:8], 16)
    if _is_long(photo_px, film_px, Move.PAN_LEFT):
        return (Move.PAN_LEFT, Move.PAN_RIGHT)[choice % 2]
    if _is_long(photo_px, film_px, Move.PAN_UP):
        return (Move.PAN_UP, Move.PAN_DOWN)[choice % 2]
    return (Move.ZOOM_IN, Move.ZOOM_OUT, Move.ZOOM_IN, Move.ZOOM_OUT, Move.PAN_LEFT, Move.PAN_RIGHT)[choice % 6]


def _is_long(photo_px: tuple[int, int], film_px: tuple[int, int], move: Move) -> bool:
    across, down = photo_px[0] * film_px[1], photo_px[1] * film_px[0]
    if move in (Move.PAN_LEFT, Move.PAN_RIGHT):
        return across >= LONG_SIDE_RATIO * down
    return down >= LONG_SIDE_RATIO * across


def _widest_view(photo_px: tuple[int, int], film_px: tuple[int, int]) -> Rect:
    return _grown((0.0, 0.0, 1.0, 1.0), photo_px, film_px)


def _grown(view: Sequence[float], photo_px: tuple[int, int], film_px: tuple[int, int]) -> Rect:
    photo_width, photo_height = photo_px
    x0, y0, x1, y1 = view[0] * photo_width, view[1] * photo_height, view[2] * photo_width, view[3] * photo_height
    film_width, film_height = film_px
    height = max(y1 - y0, (x1 - x0) * film_height / film_width, SMALLEST_VIEW_PX)
    height = min(height, float(photo_height), photo_width * film_height / film_width)
    width = height * film_width / film_height
    return _placed((x0 + x1) / 2, (y0 + y1) / 2, width, height, photo_px)


def _placed(centre_x: float, centre_y: float, width: float, height: float, photo_px: tuple[int, int]) -> Rect:
    x0 = max(min(centre_x - width / 2, photo_px[0] - width), 0.0)
    y0 = max(min(centre_y - height / 2, photo_px[1] - height), 0.0)
    # (photo - width) + width can round to an ulp more than the photo.
    return Rect(x0, y0, min(x0 + width, float(photo_px[0])), min(y0 + height, float(photo_px[1])))


def _scaled(view: Rect, ratio: float) -> Rect:
    margin_x = (view.x1 - view.x0) * (1.0 - ratio) / 2
    margin_y = (view.y1 - view.y0) * (1.0 - ratio) / 2
    return Rect(view.x0 + margin_x, view.y0 + margin_y, view.x1 - margin_x, view.y1 - margin_y)


def _plan_pan(move: Move, view: Rect, photo_px: tuple[int, int], seconds: float) -> CameraPath:
    width, height = view.x1 - view.x0, view.y1 - view.y0
    reach = PAN_WIDTHS_PER_SECOND * seconds
    across = min(photo_px[0] - width, width * reach) / 2 if move in (Move.PAN_LEFT, Move.PAN_RIGHT) else 0.0
    down = min(photo_px[1] - height, height * reach) / 2 if move in (Move.PAN_UP, Move.PAN_DOWN) else 0.0
    sign = -1.0 if move in (Move.PAN_LEFT, Move.PAN_UP) else 1.0
    centre_x, centre_y = photo_px[0] / 2, photo_px[1] / 2
    start = _placed(centre_x - sign * across, centre_y - sign * down, width, height, photo_px)
    end = _placed(centre_x + sign * across, centre_y + sign * down, width, height, photo_px)
    return CameraPath(start, end)
