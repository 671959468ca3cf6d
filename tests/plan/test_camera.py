"""The camera: inside the photo, in the film's shape, smooth, and where its name says."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fanreel.job.slideshow import Move
from fanreel.plan.camera import (
    PAN_WIDTHS_PER_SECOND,
    SMALLEST_VIEW_PX,
    CameraPath,
    Rect,
    camera_at,
    plan_move,
    plan_views,
)

LARGEST_PX = 30_000
# Where a view is a thousandth of a pixel wide, the grid of double precision at 30,000 px is what bounds its shape.
GRID_PX = 4 * math.ulp(float(LARGEST_PX))

NAMED = [move for move in Move if move is not Move.AUTO]
PANS = [Move.PAN_LEFT, Move.PAN_RIGHT, Move.PAN_UP, Move.PAN_DOWN]
DIGEST = "c0ffee" * 11

PHOTOS = st.tuples(st.integers(1, LARGEST_PX), st.integers(1, LARGEST_PX))
SIDES = st.integers(32, 4096).map(lambda half: 2 * half)
FILMS = st.tuples(SIDES, SIDES).filter(lambda film: max(film) <= 20 * min(film))
ZOOMS = st.floats(1, 8)
SECONDS = st.floats(0.01, 3600)
DIGESTS = st.integers(0, 2**256 - 1).map("{:064x}".format)
LOWS_AND_HIGHS = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).filter(lambda pair: pair[0] < pair[1])
VIEWS = st.tuples(LOWS_AND_HIGHS, LOWS_AND_HIGHS).map(lambda pair: (pair[0][0], pair[1][0], pair[0][1], pair[1][1]))


@st.composite
def paths(draw):
    """Draw a photo's size, a film's size and any path that can be planned for them."""
    photo, film = draw(PHOTOS), draw(FILMS)
    if draw(st.booleans()):
        return photo, film, plan_views(draw(VIEWS), draw(VIEWS), photo_px=photo, film_px=film)
    move, zoom, seconds = draw(st.sampled_from(Move)), draw(ZOOMS), draw(SECONDS)
    path = plan_move(move, photo_px=photo, film_px=film, zoom=zoom, seconds=seconds, digest=draw(DIGESTS))
    return photo, film, path


FRAME_COUNTS = st.integers(1, 2000)
each_path = settings(deadline=None)


def move_over(move, photo=(4000, 3000), film=(1920, 1080), zoom=1.3, seconds=4.0, digest=DIGEST):
    return plan_move(move, photo_px=photo, film_px=film, zoom=zoom, seconds=seconds, digest=digest)


def is_inside(view, photo):
    return 0 <= view.x0 < view.x1 <= photo[0] and 0 <= view.y0 < view.y1 <= photo[1]


def width(view):
    return view.x1 - view.x0


def height(view):
    return view.y1 - view.y0


def centre(view):
    return (view.x0 + view.x1) / 2, (view.y0 + view.y1) / 2


def is_of_shape(view, film):
    wanted = height(view) * film[0] / film[1]
    return math.isclose(width(view), wanted, rel_tol=1e-9, abs_tol=GRID_PX * max(1, film[0] / film[1]))


@each_path
@given(paths(), FRAME_COUNTS, st.floats(0, 1))
@example(((4000, 3000), (1920, 1080), CameraPath(Rect(0, 0, 4000, 2250), Rect(0, 0, 4000, 2250))), 2000, 0.25)
def test_every_view_is_inside_the_photo(planned, count, part):
    photo, _, path = planned
    assert is_inside(camera_at(path, frame=int(part * (count - 1)), frame_count=count), photo)


@each_path
@given(paths(), FRAME_COUNTS, st.floats(0, 1))
def test_every_view_has_the_shape_of_the_film(planned, count, part):
    _, film, path = planned
    assert is_of_shape(camera_at(path, frame=int(part * (count - 1)), frame_count=count), film)


@each_path
@given(paths(), FRAME_COUNTS)
def test_the_first_and_the_last_frame_are_the_path_s_ends_to_the_last_bit(planned, count):
    path = planned[2]
    assert camera_at(path, frame=0, frame_count=count) == path.start
    assume(count > 1)
    assert camera_at(path, frame=count - 1, frame_count=count) == path.end


def edges(path, count):
    """Return four lists: where each edge of the view is, frame by frame."""
    views = [camera_at(path, frame=frame, frame_count=count) for frame in range(count)]
    return [[getattr(view, edge) for view in views] for edge in ("x0", "y0", "x1", "y1")]


def steps(places):
    return [after - before for before, after in pairwise(places)]


few_paths = settings(deadline=None, max_examples=40)


@few_paths
@given(paths(), st.integers(3, 300))
def test_the_speed_changes_by_no_more_than_an_eased_move_needs(planned, count):
    # The second derivative of 3t^2 - 2t^3 is 6 - 12t: at most 6 ways a clip squared, at both ends.
    for places in edges(planned[2], count):
        bound = 6 * abs(places[-1] - places[0]) / (count - 1) ** 2
        assert all(abs(change) <= bound + GRID_PX for change in steps(steps(places)))


@few_paths
@given(paths(), st.integers(2, 300))
def test_a_move_starts_and_stops_at_rest(planned, count):
    # The first step of 3t^2 - 2t^3 is under 3 t^2, where an even move's would be t.
    for places in edges(planned[2], count):
        bound = 3 * abs(places[-1] - places[0]) / (count - 1) ** 2 + GRID_PX
        assert abs(steps(places)[0]) <= bound
        assert abs(steps(places)[-1]) <= bound


@few_paths
@given(paths(), st.integers(2, 300))
def test_a_move_never_turns_back(planned, count):
    for places in edges(planned[2], count):
        sign = 1 if places[-1] >= places[0] else -1
        assert all(sign * step >= -GRID_PX for step in steps(places))


def test_half_of_the_way_is_done_at_half_of_the_time():
    path = CameraPath(Rect(0, 0, 160, 90), Rect(100, 200, 260, 290))
    assert camera_at(path, frame=50, frame_count=101) == Rect(50, 100, 210, 190)


@pytest.mark.parametrize("count", [2, 7, 100, 1999])
def test_a_still_view_is_still_to_the_last_bit(count):
    path = move_over(Move.STILL, photo=(2999, 1987))
    assert {camera_at(path, frame=frame, frame_count=count) for frame in range(count)} == {path.start}


def test_a_single_frame_shows_where_the_move_starts():
    path = move_over(Move.ZOOM_IN)
    assert camera_at(path, frame=0, frame_count=1) == path.start


def test_still_shows_the_widest_view():
    assert move_over(Move.STILL, photo=(4000, 3000), film=(1600, 900)).start == Rect(0, 375, 4000, 2625)
    assert move_over(Move.STILL, photo=(4000, 1000), film=(1600, 800)).start == Rect(1000, 0, 3000, 1000)


@each_path
@given(PHOTOS, FILMS)
def test_the_widest_view_touches_two_sides_of_the_photo(photo, film):
    view = move_over(Move.STILL, photo=photo, film=film).start
    assert math.isclose(width(view), photo[0]) or math.isclose(height(view), photo[1])


@each_path
@given(PHOTOS, FILMS, st.floats(1.01, 8))
def test_zooming_in_ends_nearer_around_the_same_centre(photo, film, zoom):
    path = move_over(Move.ZOOM_IN, photo=photo, film=film, zoom=zoom)
    assert math.isclose(width(path.start) / width(path.end), zoom, rel_tol=1e-6)
    assert path.start.x0 < path.end.x0 < path.end.x1 < path.start.x1
    assert path.start.y0 < path.end.y0 < path.end.y1 < path.start.y1
    assert centre(path.end) == pytest.approx(centre(path.start))


@each_path
@given(PHOTOS, FILMS, ZOOMS)
def test_zooming_out_is_zooming_in_backwards(photo, film, zoom):
    near, far = (move_over(move, photo=photo, film=film, zoom=zoom) for move in (Move.ZOOM_IN, Move.ZOOM_OUT))
    assert (far.start, far.end) == (near.end, near.start)


DIRECTIONS = {Move.PAN_LEFT: (-1, 0), Move.PAN_RIGHT: (1, 0), Move.PAN_UP: (0, -1), Move.PAN_DOWN: (0, 1)}


@pytest.mark.parametrize("move", PANS)
@pytest.mark.parametrize("photo", [(4000, 3000), (3000, 4000), (12_000, 2000), (2000, 12_000), (1920, 1080)])
@pytest.mark.parametrize("film", [(1920, 1080), (1080, 1920), (1000, 1000)])
def test_a_pan_goes_where_its_name_says(move, photo, film):
    path = move_over(move, photo=photo, film=film)
    from_x, from_y = centre(path.start)
    to_x, to_y = centre(path.end)
    assert (math.copysign(1, to_x - from_x) if to_x != from_x else 0, to_y - from_y > 0) == (
        DIRECTIONS[move][0],
        DIRECTIONS[move][1] > 0,
    )
    assert (to_y < from_y) == (DIRECTIONS[move][1] < 0)


@each_path
@given(st.sampled_from(PANS), PHOTOS, FILMS, ZOOMS, SECONDS)
def test_a_pan_keeps_its_size_and_its_line(move, photo, film, zoom, seconds):
    path = move_over(move, photo=photo, film=film, zoom=zoom, seconds=seconds)
    assert math.isclose(width(path.start), width(path.end), rel_tol=1e-9, abs_tol=GRID_PX)
    if move in (Move.PAN_LEFT, Move.PAN_RIGHT):
        assert (path.start.y0, path.start.y1) == (path.end.y0, path.end.y1)
    else:
        assert (path.start.x0, path.start.x1) == (path.end.x0, path.end.x1)


@each_path
@given(st.sampled_from(PANS), PHOTOS, FILMS, ZOOMS, SECONDS)
def test_a_pan_is_as_fast_as_can_be_followed_or_as_far_as_the_photo_goes(move, photo, film, zoom, seconds):
    path = move_over(move, photo=photo, film=film, zoom=zoom, seconds=seconds)
    horizontal = move in (Move.PAN_LEFT, Move.PAN_RIGHT)
    size = width(path.start) if horizontal else height(path.start)
    room = photo[0] - size if horizontal else photo[1] - size
    gone = math.dist(centre(path.start), centre(path.end))
    assert gone == pytest.approx(min(room, size * PAN_WIDTHS_PER_SECOND * seconds), rel=1e-6, abs=1e-6)


def test_a_long_photo_is_panned_in_its_widest_view():
    path = move_over(Move.PAN_RIGHT, photo=(10_000, 1080), seconds=60)
    assert (path.start, path.end) == (Rect(0, 0, 1920, 1080), Rect(8080, 0, 10_000, 1080))


def test_a_pan_without_room_stands_still():
    path = move_over(Move.PAN_LEFT, photo=(1920, 1080), zoom=1)
    assert path.start == path.end == Rect(0, 0, 1920, 1080)


def test_automatic_moves_follow_the_photo_s_shape():
    digests = [f"{number:064x}" for number in range(40)]
    digests = [digest[-8:] + digest[:-8] for digest in digests]
    named = {move: move_over(move, photo=(9000, 1000)) for move in Move}
    found = {move_over(Move.AUTO, photo=(9000, 1000), digest=digest) for digest in digests}
    assert found == {named[Move.PAN_LEFT], named[Move.PAN_RIGHT]}
    named = {move: move_over(move, photo=(1000, 9000)) for move in Move}
    found = {move_over(Move.AUTO, photo=(1000, 9000), digest=digest) for digest in digests}
    assert found == {named[Move.PAN_UP], named[Move.PAN_DOWN]}


def test_automatic_moves_vary_from_photo_to_photo():
    names = {move_over(move): move for move in NAMED}
    digests = [f"{number * 2654435761 % 2**32:08x}" for number in range(1200)]
    found = Counter(names[move_over(Move.AUTO, digest=digest)] for digest in digests)
    assert set(found) == {Move.ZOOM_IN, Move.ZOOM_OUT, Move.PAN_LEFT, Move.PAN_RIGHT}
    assert min(found.values()) > 120


@each_path
@given(PHOTOS, FILMS, ZOOMS, SECONDS, DIGESTS)
def test_an_automatic_move_is_one_of_the_named_ones_and_always_the_same(photo, film, zoom, seconds, digest):
    planned = [
        move_over(move, photo=photo, film=film, zoom=zoom, seconds=seconds, digest=digest)
        for move in (Move.AUTO, Move.AUTO, *NAMED)
    ]
    assert planned[0] == planned[1]
    assert planned[0] in planned[2:]


@pytest.mark.parametrize(
    ("drawn", "grown"),
    [
        ((0.4, 0.4, 0.6, 0.6), Rect(300, 400, 700, 600)),
        ((0.4, 0.45, 0.6, 0.5), Rect(400, 425, 600, 525)),
        ((0.45, 0.2, 0.5, 0.4), Rect(275, 200, 675, 400)),
    ],
)
def test_a_drawn_view_is_grown_around_its_centre(drawn, grown):
    assert views_over(drawn) == grown


@pytest.mark.parametrize(
    ("drawn", "moved"),
    [
        ((0.0, 0.4, 0.2, 0.6), Rect(0, 400, 400, 600)),
        ((0.8, 0.4, 1.0, 0.6), Rect(600, 400, 1000, 600)),
        ((0.2, 0.0, 0.6, 0.1), Rect(200, 0, 600, 200)),
        ((0.2, 0.9, 0.6, 1.0), Rect(200, 800, 600, 1000)),
    ],
)
def test_a_grown_view_is_moved_into_the_photo(drawn, moved):
    assert views_over(drawn) == moved


@pytest.mark.parametrize(
    ("drawn", "shrunk"),
    [((0.0, 0.0, 1.0, 1.0), Rect(0, 250, 1000, 750)), ((0.5, 0.0, 1.0, 0.9), Rect(0, 200, 1000, 700))],
)
def test_a_view_that_cannot_grow_so_far_is_shrunk(drawn, shrunk):
    assert views_over(drawn) == shrunk


def views_over(drawn):
    """Return what a drawn view becomes on a photo of 1000 x 1000 in a film of 2:1, rounded to a billionth."""
    view = plan_views(drawn, drawn, photo_px=(1000, 1000), film_px=(1280, 640)).start
    return Rect(*(round(edge, 9) for edge in (view.x0, view.y0, view.x1, view.y1)))


@settings(each_path, suppress_health_check=[HealthCheck.filter_too_much])
@given(VIEWS, PHOTOS, FILMS)
def test_a_drawn_view_that_can_be_shown_whole_is(drawn, photo, film):
    view = plan_views(drawn, drawn, photo_px=photo, film_px=film).start
    x0, y0, x1, y1 = drawn[0] * photo[0], drawn[1] * photo[1], drawn[2] * photo[0], drawn[3] * photo[1]
    slack = 1e-6
    assume(width(view) >= x1 - x0 - slack)
    assume(height(view) >= y1 - y0 - slack)
    assert view.x0 <= x0 + slack
    assert view.y0 <= y0 + slack
    assert view.x1 >= x1 - slack
    assert view.y1 >= y1 - slack


@pytest.mark.parametrize("corner", [(0.0, 0.0), (0.5, 0.5), (1 - 1e-15, 1 - 1e-15)])
def test_a_view_of_nearly_nothing_is_grown_to_a_pixel(corner):
    x0, y0 = corner
    drawn = (x0, y0, min(1.0, x0 + 1e-15), min(1.0, y0 + 1e-15))
    view = plan_views(drawn, drawn, photo_px=(30_000, 30_000), film_px=(1920, 1080)).start
    assert is_inside(view, (30_000, 30_000))
    assert height(view) == pytest.approx(SMALLEST_VIEW_PX)
    assert is_of_shape(view, (1920, 1080))


def test_both_drawn_views_are_kept_apart():
    path = plan_views((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1), photo_px=(1600, 900), film_px=(1280, 720))
    assert path == CameraPath(Rect(0, 0, 800, 450), Rect(800, 450, 1600, 900))
