"""The camera: inside the photo, in the film's shape, smooth, and where its name says."""

import math
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fanreel.job.slideshow import Fit, Move
from fanreel.plan.camera import SMALLEST_VIEW_PX, CameraPath, Rect, camera_at, plan_views, seen_share, shown_share
from fanreel.plan.fit import Shot, plan_look, possible_looks

LARGEST_PX = 30_000
# Where a view is a thousandth of a pixel wide, the grid of double precision at 30,000 px is what bounds its shape.
GRID_PX = 4 * math.ulp(float(LARGEST_PX))

PHOTOS = st.tuples(st.integers(1, LARGEST_PX), st.integers(1, LARGEST_PX))
SIDES = st.integers(32, 4096).map(lambda half: 2 * half)
FILMS = st.tuples(SIDES, SIDES).filter(lambda film: max(film) <= 20 * min(film))
ZOOMS = st.floats(1, 8)
SECONDS = st.floats(0.01, 3600)
DIGESTS = st.integers(0, 2**256 - 1).map("{:064x}".format)
LOWS_AND_HIGHS = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).filter(lambda pair: pair[0] < pair[1])
VIEWS = st.tuples(LOWS_AND_HIGHS, LOWS_AND_HIGHS).map(lambda pair: (pair[0][0], pair[1][0], pair[0][1], pair[1][1]))


FITS = st.sampled_from(Fit)


@st.composite
def paths(draw, fits=FITS):
    """Draw a photo's size, a film's size and any path that can be planned for them."""
    photo, film, fit = draw(PHOTOS), draw(FILMS), draw(fits)
    if draw(st.booleans()):
        is_whole = fit not in (Fit.COVER, Fit.PAN)
        return photo, film, plan_views(draw(VIEWS), draw(VIEWS), photo_px=photo, film_px=film, is_whole=is_whole)
    shot = Shot(photo, film, zoom=draw(ZOOMS), seconds=draw(SECONDS), digest=draw(DIGESTS))
    look = draw(st.sampled_from(possible_looks(shot, fit=fit, move=draw(st.sampled_from(Move)))))
    return photo, film, plan_look(look, shot)


COVERING = st.sampled_from([Fit.COVER, Fit.PAN])


FRAME_COUNTS = st.integers(1, 2000)
each_path = settings(deadline=None)


def is_inside(view, photo):
    return 0 <= view.x0 < view.x1 <= photo[0] and 0 <= view.y0 < view.y1 <= photo[1]


def is_of_shape(view, film):
    wanted = view.height * film[0] / film[1]
    return math.isclose(view.width, wanted, rel_tol=1e-9, abs_tol=GRID_PX * max(1, film[0] / film[1]))


@each_path
@given(paths(COVERING), FRAME_COUNTS, st.floats(0, 1))
@example(((4000, 3000), (1920, 1080), CameraPath(Rect(0, 0, 4000, 2250), Rect(0, 0, 4000, 2250))), 2000, 0.25)
def test_every_view_that_covers_is_inside_the_photo(planned, count, part):
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


def zoom(photo=(4000, 3000)):
    return plan_views((0, 0, 1, 1), (0.2, 0.2, 0.6, 0.6), photo_px=photo, film_px=(1920, 1080))


@pytest.mark.parametrize("count", [2, 7, 100, 1999])
def test_a_still_view_is_still_to_the_last_bit(count):
    view = zoom(photo=(2999, 1987)).end
    path = CameraPath(view, view)
    assert {camera_at(path, frame=frame, frame_count=count) for frame in range(count)} == {view}


def test_a_single_frame_shows_where_the_move_starts():
    assert camera_at(zoom(), frame=0, frame_count=1) == zoom().start


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
    [
        # Around the middle of the upper third of what was drawn, as far as that shows no more than what was drawn.
        ((0.0, 0.0, 1.0, 1.0), Rect(0, 0, 1000, 500)),
        ((0.5, 0.0, 1.0, 0.9), Rect(0, 0, 1000, 500)),
        ((0.0, 0.2, 1.0, 0.9), Rect(0, 230, 1000, 730)),
    ],
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
    assume(view.width >= x1 - x0 - slack)
    assume(view.height >= y1 - y0 - slack)
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
    assert view.height == pytest.approx(SMALLEST_VIEW_PX)
    assert is_of_shape(view, (1920, 1080))


def test_both_drawn_views_are_kept_apart():
    path = plan_views((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1), photo_px=(1600, 900), film_px=(1280, 720))
    assert path == CameraPath(Rect(0, 0, 800, 450), Rect(800, 450, 1600, 900))


@pytest.mark.parametrize(
    ("drawn", "shown"),
    [
        ((0.0, 0.0, 1.0, 1.0), Rect(-500, 0, 1500, 1000)),
        ((0.5, 0.0, 1.0, 0.9), Rect(-400, 0, 1400, 900)),
        ((0.1, 0.4, 0.4, 0.5), Rect(100, 375, 400, 525)),
        ((0.0, 0.2, 0.1, 0.8), Rect(-100, 200, 1100, 800)),
    ],
)
def test_a_view_that_is_to_be_shown_whole_may_be_larger_than_the_photo(drawn, shown):
    view = plan_views(drawn, drawn, photo_px=(1000, 1000), film_px=(1280, 640), is_whole=True).end
    assert Rect(*(round(edge, 9) for edge in (view.x0, view.y0, view.x1, view.y1))) == shown


@each_path
@given(VIEWS, PHOTOS, FILMS)
def test_what_is_to_be_shown_whole_is(drawn, photo, film):
    view = plan_views(drawn, drawn, photo_px=photo, film_px=film, is_whole=True).start
    slack = 1e-6
    assert view.x0 <= drawn[0] * photo[0] + slack
    assert view.y0 <= drawn[1] * photo[1] + slack
    assert view.x1 >= drawn[2] * photo[0] - slack
    assert view.y1 >= drawn[3] * photo[1] - slack


@each_path
@given(VIEWS, PHOTOS, FILMS)
def test_the_shown_share_of_a_view_is_what_is_left_of_it(drawn, photo, film):
    view = plan_views(drawn, drawn, photo_px=photo, film_px=film).start
    assume(min(view.width, view.height) > 2 * SMALLEST_VIEW_PX)
    left = max(view.x0, drawn[0] * photo[0]), max(view.y0, drawn[1] * photo[1])
    right = min(view.x1, drawn[2] * photo[0]), min(view.y1, drawn[3] * photo[1])
    whole = (drawn[2] - drawn[0]) * (drawn[3] - drawn[1]) * photo[0] * photo[1]
    found = shown_share(drawn, photo_px=photo, film_px=film)
    assert found == pytest.approx((right[0] - left[0]) * (right[1] - left[1]) / whole, rel=1e-6)


# How much is seen


@pytest.mark.parametrize(
    ("start", "end", "share"),
    [
        (Rect(0, 0, 160, 90), Rect(0, 0, 160, 90), 1),
        (Rect(0, 0, 80, 45), Rect(0, 0, 80, 45), 1 / 4),
        (Rect(0, 0, 80, 45), Rect(0, 0, 160, 90), 1),
        (Rect(0, 0, 80, 45), Rect(80, 0, 160, 45), 1 / 2),
        (Rect(0, 0, 80, 45), Rect(80, 45, 160, 90), 3 / 4),  # all but two triangles of an eighth each
        (Rect(40, 0, 120, 45), Rect(40, 45, 120, 90), 1 / 2),
        (Rect(-160, -90, 320, 180), Rect(-160, -90, 320, 180), 1),
        (Rect(-80, 0, 80, 90), Rect(-80, 0, 80, 90), 1 / 2),
    ],
)
def test_the_seen_share_is_that_of_all_views_together(start, end, share):
    for path in (CameraPath(start, end), CameraPath(end, start)):
        assert seen_share(path, photo_px=(160, 90)) == pytest.approx(share, abs=1e-12)


@few_paths
@given(paths())
def test_the_seen_share_is_what_a_grid_of_points_finds(planned):
    photo, _, path = planned
    across, down = (abs(b - a) for a, b in ((path.start.x0, path.end.x0), (path.start.y0, path.end.y0)))
    nearest = min(path.start, path.end, key=lambda view: view.width)
    assume(across < 100 * nearest.width)  # else two frames may leave points between them
    assume(down < 100 * nearest.height)
    points = 60
    seen = [[False] * points for _ in range(points)]
    for frame in range(400):
        view = camera_at(path, frame=frame, frame_count=400)
        first_x, last_x = (math.ceil(edge / photo[0] * points - 0.5) for edge in (view.x0, view.x1))
        first_y, last_y = (math.ceil(edge / photo[1] * points - 0.5) for edge in (view.y0, view.y1))
        columns = range(max(first_x, 0), min(last_x, points))
        for row in range(max(first_y, 0), min(last_y, points)):
            seen[row][columns.start : columns.stop] = [True] * len(columns)
    # Its edge passes each row of points at most twice, and each column.
    assert abs(sum(map(sum, seen)) / points**2 - seen_share(path, photo_px=photo)) < 6 / points
