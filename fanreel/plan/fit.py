"""How a photo of one shape is shown in a film of another: what of it is seen, and how the camera moves over it.

Pure: from the sizes of photo and film, the seconds, the photo's digest and, where it is known, a point to focus on.
docs/decisions/0019 has the table of the rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fanreel.job.slideshow import Fit, Move
from fanreel.plan.camera import CameraPath, Rect, focus_down, place_view, shown_share

__all__ = [
    "PAN_VIEWS_PER_SECOND",
    "Look",
    "Shot",
    "choose_looks",
    "fit_of_views",
    "plan_look",
    "possible_looks",
]

LARGEST_CUT = 0.25
"""Share of a photo that `fit: auto` cuts off."""

PAN_VIEWS_PER_SECOND = 0.25
"""Fastest pan. A view crossed in under 4 s judders at 24 to 30 fps."""

SHORTEST_PAN_VIEWS = 0.1
"""Room that the widest view leaves along one side of a photo from which on a pan goes along it, without zooming."""

WHOLE_ZOOM = 1 / 0.94
"""Largest ratio between the ends of a move over a photo that is shown whole: it grows to the frame's full height."""

_ACROSS, _DOWN = (Move.PAN_LEFT, Move.PAN_RIGHT), (Move.PAN_UP, Move.PAN_DOWN)
_BACKWARDS = (Move.PAN_LEFT, Move.PAN_UP)
_ZOOMS = (Move.ZOOM_IN, Move.ZOOM_OUT)


@dataclass(frozen=True, slots=True)
class Look:
    """How one photo is shown.

    Attributes:
        fit: Never `auto`.
        move: Never `auto`; None where a person drew the views.
    """

    fit: Fit
    move: Move | None


@dataclass(frozen=True, slots=True)
class Shot:
    """A photo in a film.

    Attributes:
        photo_px: Width and height of the upright photo.
        film_px: Width and height of the film.
        zoom: Ratio between the wide and the near view, at least 1.
        seconds: How long it is shown.
        digest: The photo's content digest, hexadecimal: what `auto` is decided by where several choices are as good.
        focus: The point that has to stay in view, as fractions of the photo; None where nothing is known of it.
    """

    photo_px: tuple[int, int]
    film_px: tuple[int, int]
    zoom: float
    seconds: float
    digest: str
    focus: tuple[float, float] | None = None

    @property
    def is_tall(self) -> bool:
        """Whether the photo is taller than the film's shape: covering the film cuts it above and below."""
        across, down = self._sides
        return down > across

    @property
    def kept_share(self) -> float:
        """Share of the photo that the widest view inside it shows."""
        across, down = self._sides
        return min(across, down) / max(across, down)

    @property
    def has_film_shape(self) -> bool:
        """Whether a photo that is shown whole leaves less than a px of the frame free."""
        across, down = self._sides
        side_px = self.film_px[0] if down > across else self.film_px[1]
        return abs(across - down) * side_px < max(across, down)

    @property
    def way_views(self) -> float:
        """How far a pan from end to end of the photo goes, in views."""
        across, down = self._sides
        return max(across, down) / min(across, down) - 1

    @property
    def long_pans(self) -> tuple[Move, Move]:
        """The pans along the side of the photo that covering the film cuts."""
        return _DOWN if self.is_tall else _ACROSS

    @property
    def _sides(self) -> tuple[int, int]:
        """Width and height of the photo, in units in which the film is square."""
        return self.photo_px[0] * self.film_px[1], self.photo_px[1] * self.film_px[0]


def possible_looks(shot: Shot, *, fit: Fit, move: Move) -> tuple[Look, ...]:
    """Return how a photo may be shown, the preferred look first; one look where a person has left no choice.

    Where `move` is `auto`, there are at least four moves to choose from, but for `fit: pan`, which has two. The more
    there are, the seldomer neighbours prefer the same.
    """
    settled = _settle_fit(shot, fit, move)
    if settled is Fit.PAN:
        if move in shot.long_pans:
            return (Look(settled, move),)
        # Two ways to go cannot differ from both neighbours without counting along the film.
        spare = _looks(Fit.BLUR, _turned(_ZOOMS, shot)) if fit is Fit.AUTO else ()
        return (*_looks(settled, _turned(shot.long_pans, shot)), *spare)
    if move is not Move.AUTO:
        return (Look(settled, move),)
    if settled is Fit.COVER and shot.kept_share < 1 - LARGEST_CUT:
        return _looks(settled, (*_turned(shot.long_pans, shot), *_turned(_ZOOMS, shot)))
    return _looks(settled, _turned((*_ZOOMS, *_ACROSS, *_DOWN), shot))


def _settle_fit(shot: Shot, fit: Fit, move: Move) -> Fit:
    if shot.has_film_shape:
        return Fit.COVER
    if fit is not Fit.AUTO:
        return fit
    if shot.kept_share >= 1 - LARGEST_CUT:
        return Fit.COVER
    may_pan = move is Move.AUTO or move in shot.long_pans
    return Fit.PAN if may_pan and shot.way_views <= PAN_VIEWS_PER_SECOND * shot.seconds else Fit.BLUR


def _looks(fit: Fit, moves: Sequence[Move]) -> tuple[Look, ...]:
    return tuple(Look(fit, move) for move in moves)


def _turned(moves: Sequence[Move], shot: Shot) -> tuple[Move, ...]:
    """Return the moves from the one on that the photo's digest names."""
    first = int(shot.digest[:8], 16) % len(moves)
    return (*moves[first:], *moves[:first])


def choose_looks(possible: Sequence[Sequence[Look]], *, digests: Sequence[str]) -> list[Look]:
    """Return one look of those that each slide may have, in order: no two neighbours move alike, if they can help it.

    Of neighbours that prefer one move, the one with the smaller digest keeps it, and one that has no choice keeps it
    always. A slide that gives way takes the first of its moves that neither neighbour has taken or keeps. So what an
    edit of the film changes lies beside it: further away it is felt only through slides that all give way.

    Args:
        possible: What each slide may be, the preferred look first. With three moves to choose from there is always one
            that differs from both neighbours; with two, no move is made three times in a row.
        digests: The photo's digest of each slide.
    """
    ranks = [(len(looks) > 1, digests[place][::-1], place) for place, looks in enumerate(possible)]
    preferred = [looks[0].move for looks in possible]

    def keeps(place: int) -> bool:
        beside = [other for other in (place - 1, place + 1) if 0 <= other < len(possible)]
        rivals = [other for other in beside if preferred[other] is preferred[place]]
        return len(possible[place]) == 1 or all(ranks[place] < ranks[rival] for rival in rivals)

    chosen: list[Look] = []
    for place, looks in enumerate(possible):
        before = chosen[-1].move if chosen else None
        after = preferred[place + 1] if place + 1 < len(possible) and keeps(place + 1) else None
        differing = [look for look in looks if look.move is not before] or [*looks]
        free = (look for look in differing if look.move is not after)
        chosen.append(looks[0] if keeps(place) else next(free, differing[0]))
    return chosen


def fit_of_views(
    fit: Fit, views: Sequence[Sequence[float]], *, photo_px: tuple[int, int], film_px: tuple[int, int]
) -> Fit:
    """Return `cover`, `contain` or `blur`: what becomes of drawn views that have another shape than the film.

    Args:
        fit: As asked for; `pan` has no meaning for them, and is taken for `auto`.
        views: As fractions of the photo.
        photo_px: Width and height of the upright photo.
        film_px: Width and height of the film.
    """
    if fit not in (Fit.AUTO, Fit.PAN):
        return fit
    shown = min(shown_share(view, photo_px=photo_px, film_px=film_px) for view in views)
    return Fit.COVER if shown >= 1 - LARGEST_CUT else Fit.BLUR


def plan_look(look: Look, shot: Shot) -> CameraPath:
    """Return the path of a named move.

    Args:
        look: One of `possible_looks`.
        shot: What it is made over.
    """
    if look.fit in (Fit.CONTAIN, Fit.BLUR):
        return _plan_whole(look.move, shot)
    wide, near = _view_around_focus(shot, zoom=1), _view_around_focus(shot, zoom=shot.zoom)
    match look.move:
        case Move.ZOOM_IN:
            return CameraPath(wide, near)
        case Move.ZOOM_OUT:
            return CameraPath(near, wide)
        case Move.STILL:
            return CameraPath(wide, wide)
    if look.fit is Fit.PAN or (look.move in shot.long_pans and shot.way_views >= SHORTEST_PAN_VIEWS):
        longest = float("inf") if look.fit is Fit.PAN else PAN_VIEWS_PER_SECOND * shot.seconds
        return _turned_back(look.move, _plan_long_pan(wide, shot, longest))
    # Only a view of the whole height shows both corners of a side: the way back from the edge ends in the widest view.
    across = look.move in _ACROSS
    edge = Rect(0.0, near.y0, near.width, near.y1) if across else Rect(near.x0, 0.0, near.x1, near.height)
    return _turned_back(look.move, CameraPath(edge, wide))


def _plan_whole(move: Move | None, shot: Shot) -> CameraPath:
    """Return a gentle move in which the whole photo stays in view: it grows, shrinks, or drifts as far."""
    width, height = map(float, shot.photo_px)
    film_width, film_height = shot.film_px
    if shot.is_tall:
        near = _around(width / 2, height / 2, height * film_width / film_height, height)
    else:
        near = _around(width / 2, height / 2, width, width * film_height / film_width)
    ratio = min(shot.zoom, WHOLE_ZOOM)
    wide = _around(width / 2, height / 2, near.width * ratio, near.height * ratio)
    match move:
        case Move.ZOOM_IN:
            return CameraPath(wide, near)
        case Move.ZOOM_OUT:
            return CameraPath(near, wide)
        case Move.STILL:
            return CameraPath(near, near)
    across = (wide.width - near.width) / 2 if move in _ACROSS else 0.0
    down = (wide.height - near.height) / 2 if move in _DOWN else 0.0
    first = _around(width / 2 - across, height / 2 - down, wide.width, wide.height)
    last = _around(width / 2 + across, height / 2 + down, wide.width, wide.height)
    return _turned_back(move, CameraPath(first, last))


def _around(centre_x: float, centre_y: float, width: float, height: float) -> Rect:
    x0, y0 = centre_x - width / 2, centre_y - height / 2
    return Rect(x0, y0, x0 + width, y0 + height)


def _turned_back(move: Move | None, path: CameraPath) -> CameraPath:
    return CameraPath(path.end, path.start) if move in _BACKWARDS else path


def _view_around_focus(shot: Shot, *, zoom: float) -> Rect:
    """Return the widest view inside the photo, or one that is nearer."""
    photo_width, photo_height = map(float, shot.photo_px)
    film_width, film_height = shot.film_px
    height = min(photo_height, photo_width * film_height / film_width)
    width = min(height * film_width / film_height, photo_width)  # rounding may have made it larger
    is_cut = shot.is_tall and not shot.has_film_shape
    across, down = shot.focus or (0.5, focus_down(*shot.photo_px) if is_cut else 0.5)
    return place_view(across * photo_width, down * photo_height, width / zoom, height / zoom, shot.photo_px)


def _plan_long_pan(wide: Rect, shot: Shot, longest_views: float) -> CameraPath:
    """Return a pan to the right or down along the side that is cut, around the focus if it cannot go all the way."""
    if shot.is_tall:
        first, last = _stretch(wide.y0, wide.height, float(shot.photo_px[1]), longest_views)
        return CameraPath(*(Rect(wide.x0, start, wide.x1, end) for start, end in (first, last)))
    first, last = _stretch(wide.x0, wide.width, float(shot.photo_px[0]), longest_views)
    return CameraPath(*(Rect(start, wide.y0, end, wide.y1) for start, end in (first, last)))


def _stretch(
    middle: float, length: float, room: float, longest_views: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the first and the last view of a pan along one side, of which the middle one would start at `middle`."""
    way = min(room - length, length * longest_views)
    first = max(min(middle - way / 2, room - length - way), 0.0)
    return (first, min(first + length, room)), (first + way, min(first + way + length, room))
