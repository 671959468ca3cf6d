"""How a photo is fitted into a film: the rules by shape and seconds, the moves, and that neighbours differ."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from blake3 import blake3
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from fanreel.job.slideshow import Fit, Move
from fanreel.plan.camera import Rect, is_inside, seen_share
from fanreel.plan.fit import (
    PAN_VIEWS_PER_SECOND,
    WHOLE_ZOOM,
    Look,
    Shot,
    choose_looks,
    fit_of_views,
    plan_look,
    possible_looks,
)

WIDE_FILM = (1920, 1080)
NAMED = [move for move in Move if move is not Move.AUTO]
ACROSS, DOWN = (Move.PAN_LEFT, Move.PAN_RIGHT), (Move.PAN_UP, Move.PAN_DOWN)
PANS = (*ACROSS, *DOWN)
DIGEST = "c0ffee" * 11
LARGEST_PX = 30_000
GRID_PX = 4 * math.ulp(float(LARGEST_PX))

PHOTOS = st.tuples(st.integers(1, LARGEST_PX), st.integers(1, LARGEST_PX))
SIDES = st.integers(32, 4096).map(lambda half: 2 * half)
FILMS = st.tuples(SIDES, SIDES).filter(lambda film: max(film) <= 20 * min(film))
DIGESTS = st.integers(0, 2**256 - 1).map("{:064x}".format)
SHOTS = st.builds(Shot, PHOTOS, FILMS, zoom=st.floats(1, 8), seconds=st.floats(0.01, 3600), digest=DIGESTS)
each_shot = settings(deadline=None)


def shot(photo=(4000, 3000), film=WIDE_FILM, zoom=1.3, seconds=4.0, digest=DIGEST):
    return Shot(photo, film, zoom=zoom, seconds=seconds, digest=digest)


def paths_of(made, *, fit=Fit.AUTO, move=Move.AUTO):
    return [plan_look(look, made) for look in possible_looks(made, fit=fit, move=move)]


def path_of(move, made=None, *, fit=Fit.COVER, **words):
    """Return the path of a named move, where it is the only one."""
    (path,) = paths_of(made or shot(**words), fit=fit, move=move)
    return path


def centre(view):
    return (view.x0 + view.x1) / 2, (view.y0 + view.y1) / 2


# Which fit


@pytest.mark.parametrize(
    ("photo", "seconds", "fit"),
    [
        ((1920, 1080), 4, Fit.COVER),
        ((6000, 4000), 4, Fit.COVER),
        ((4000, 3000), 4, Fit.COVER),  # exactly a quarter is cut
        ((3999, 3000), 4, Fit.PAN),
        ((2560, 1080), 4, Fit.COVER),  # a quarter again, at the sides
        ((2561, 1080), 4, Fit.PAN),
        ((2561, 1080), 1, Fit.BLUR),
        ((2000, 2000), 4, Fit.PAN),
        ((2000, 2000), 3.1, Fit.BLUR),
        ((3000, 4000), 4, Fit.BLUR),
        ((3000, 4000), 5.4, Fit.BLUR),
        ((3000, 4000), 5.5, Fit.PAN),  # 64/27 views high: 1.37 of them are crossed
        ((2160, 3840), 8.6, Fit.BLUR),
        ((2160, 3840), 8.7, Fit.PAN),
        ((10_000, 2000), 7.2, Fit.BLUR),
        ((10_000, 2000), 7.3, Fit.PAN),
        ((1, 30_000), 60, Fit.BLUR),
    ],
)
def test_auto_chooses_by_the_photo_s_shape_and_the_slide_s_seconds(photo, seconds, fit):
    assert possible_looks(shot(photo, seconds=seconds), fit=Fit.AUTO, move=Move.AUTO)[0].fit is fit


@pytest.mark.parametrize(
    ("film", "photo", "fit"),
    [
        ((1080, 1920), (2160, 3840), Fit.COVER),
        ((1080, 1920), (3000, 4000), Fit.COVER),
        ((1080, 1920), (4000, 3000), Fit.BLUR),
        ((1080, 1080), (4000, 3000), Fit.COVER),
        ((1080, 1080), (1000, 2000), Fit.PAN),
    ],
)
def test_auto_goes_by_the_film_s_shape_too(film, photo, fit):
    assert possible_looks(shot(photo, film), fit=Fit.AUTO, move=Move.AUTO)[0].fit is fit


@pytest.mark.parametrize("move", [Move.STILL, Move.ZOOM_IN, Move.ZOOM_OUT, *ACROSS])
def test_a_move_that_is_no_pan_along_the_photo_has_no_pan(move):
    assert possible_looks(shot((3000, 4000), seconds=20), fit=Fit.AUTO, move=move) == (Look(Fit.BLUR, move),)


@pytest.mark.parametrize("move", DOWN)
def test_a_pan_along_a_long_photo_goes_from_end_to_end_where_there_is_time(move):
    assert possible_looks(shot((3000, 4000), seconds=20), fit=Fit.AUTO, move=move) == (Look(Fit.PAN, move),)
    assert possible_looks(shot((3000, 4000), seconds=4), fit=Fit.AUTO, move=move) == (Look(Fit.BLUR, move),)


@each_shot
@given(SHOTS, st.sampled_from([fit for fit in Fit if fit is not Fit.AUTO]), st.sampled_from(Move))
def test_a_fit_that_is_asked_for_is_the_fit_unless_the_photo_has_the_film_s_shape(made, fit, move):
    fits = {look.fit for look in possible_looks(made, fit=fit, move=move)}
    assert fits == ({Fit.COVER} if made.has_film_shape else {fit})


@pytest.mark.parametrize(
    ("photo", "has"), [((1366, 768), True), ((4000, 2251), True), ((4000, 2260), False), ((1920, 1088), False)]
)
def test_a_photo_has_the_film_s_shape_if_less_than_a_px_of_the_frame_is_left_beside_it(photo, has):
    assert shot(photo).has_film_shape is has


@pytest.mark.parametrize(
    ("photo", "views", "fit"),
    [
        ((3000, 4000), [(0, 0, 1, 1), (0, 0, 1, 1)], Fit.BLUR),
        ((3000, 4000), [(0, 0, 1, 0.42), (0, 0.1, 1, 0.5)], Fit.COVER),
        ((3000, 4000), [(0, 0, 1, 0.42), (0, 0, 1, 0.6)], Fit.BLUR),
        ((4000, 3000), [(0, 0, 1, 1), (0.4, 0.3, 0.8, 0.7)], Fit.COVER),
        ((10_000, 2000), [(0, 0, 1, 1), (0.4, 0, 0.7, 1)], Fit.BLUR),
    ],
)
def test_drawn_views_are_covered_if_no_more_than_a_quarter_of_them_is_lost(photo, views, fit):
    for asked in (Fit.AUTO, Fit.PAN):
        assert fit_of_views(asked, views, photo_px=photo, film_px=WIDE_FILM) is fit
    for asked in (Fit.COVER, Fit.CONTAIN, Fit.BLUR):
        assert fit_of_views(asked, views, photo_px=photo, film_px=WIDE_FILM) is asked


# What is seen


@pytest.mark.parametrize("photo", [(3000, 4000), (2160, 3840), (2000, 2000), (10_000, 2000), (1920, 1080)])
@pytest.mark.parametrize("seconds", [2, 4, 6, 10])
def test_all_of_a_photo_is_seen_by_default(photo, seconds):
    made = shot(photo, seconds=seconds)
    for path in paths_of(made):
        assert seen_share(path, photo_px=photo) == pytest.approx(1)


@each_shot
@given(FILMS, st.integers(1, 8), st.floats(1, 8), st.sampled_from(PANS))
def test_a_pan_over_a_photo_of_the_film_s_shape_keeps_every_edge_in_some_frame(film, times, zoom, move):
    photo = film[0] * times, film[1] * times
    path = path_of(move, shot(photo, film, zoom=zoom))
    assert seen_share(path, photo_px=photo) == pytest.approx(1)


def test_a_pan_over_a_photo_of_the_film_s_shape_goes_between_an_edge_and_the_whole():
    near, whole = Rect(0, 135, 1600, 1035), Rect(0, 0, 2080, 1170)
    made = shot((2080, 1170))
    for move, ends in {Move.PAN_RIGHT: (near, whole), Move.PAN_LEFT: (whole, near)}.items():
        path = path_of(move, made)
        for found, wanted in zip((path.start, path.end), ends, strict=True):
            assert (found.x0, found.y0, found.x1, found.y1) == pytest.approx(
                (wanted.x0, wanted.y0, wanted.x1, wanted.y1)
            )


@each_shot
@given(SHOTS, st.sampled_from([Fit.CONTAIN, Fit.BLUR]), st.sampled_from(NAMED))
def test_a_photo_that_is_shown_whole_is_whole_in_every_frame_and_only_a_little_smaller_than_could_be(made, fit, move):
    assume(not made.has_film_shape)
    width, height = made.photo_px
    path = path_of(move, made, fit=fit)
    for view in (path.start, path.end):
        assert view.x0 <= GRID_PX
        assert view.y0 <= GRID_PX
        assert view.x1 >= width - GRID_PX
        assert view.y1 >= height - GRID_PX
        assert min(view.width / width, view.height / height) <= min(WHOLE_ZOOM, made.zoom) * (1 + 1e-9)


@pytest.mark.parametrize("move", NAMED)
@pytest.mark.parametrize("photo", [(3000, 4000), (2160, 3840), (1000, 1000), (1900, 2000)])
def test_a_tall_photo_that_is_cut_keeps_its_upper_third_in_view(photo, move):
    path = path_of(move, shot(photo))
    widest = max(path.start, path.end, key=lambda view: view.width)
    if move in DOWN:  # where it is the upper end of the pan
        widest = min(path.start, path.end, key=lambda view: view.y0)
    assert widest.y0 == pytest.approx(0, abs=0.01 * photo[1])
    assert widest.y1 >= 0.99 * min(photo[1] / 3, widest.height)


def test_of_a_wide_photo_that_is_cut_less_is_lost_above_than_below():
    assert path_of(Move.STILL, shot((4000, 3000), film=(1600, 900))).start == Rect(0, 75, 4000, 2325)
    assert path_of(Move.STILL, shot((4000, 1000), film=(1600, 800))).start == Rect(1000, 0, 3000, 1000)


def test_a_focus_is_kept_in_view_by_every_move():
    for move in NAMED:
        made = Shot((3000, 4000), WIDE_FILM, zoom=1.3, seconds=1, digest=DIGEST, focus=(0.3, 0.8))
        path = plan_look(Look(Fit.COVER, move), made)
        seen = [view for view in (path.start, path.end) if view.y0 <= 3200 <= view.y1 and view.x0 <= 900 <= view.x1]
        assert len(seen) == 2


# The moves


@each_shot
@given(SHOTS, st.sampled_from(NAMED))
def test_the_widest_view_touches_two_sides_of_the_photo(made, move):
    view = path_of(Move.STILL, made).start
    assert is_inside(path_of(move, made), photo_px=made.photo_px)
    assert math.isclose(view.width, made.photo_px[0]) or math.isclose(view.height, made.photo_px[1])


@each_shot
@given(SHOTS)
def test_zooming_in_ends_nearer_and_inside_the_wide_view(made):
    path = path_of(Move.ZOOM_IN, made)
    assert math.isclose(path.start.width / path.end.width, made.zoom, rel_tol=1e-6)
    assert path.start.x0 - GRID_PX <= path.end.x0 <= path.end.x1 <= path.start.x1 + GRID_PX
    assert path.start.y0 - GRID_PX <= path.end.y0 <= path.end.y1 <= path.start.y1 + GRID_PX


@each_shot
@given(SHOTS, st.sampled_from([Fit.COVER, Fit.CONTAIN, Fit.BLUR]))
@example(shot((3000, 4000)), Fit.BLUR)
def test_each_move_has_one_that_goes_back(made, fit):
    for there, back in ((Move.ZOOM_IN, Move.ZOOM_OUT), ACROSS, DOWN):
        one, other = (path_of(move, made, fit=fit) for move in (there, back))
        assert (one.start, one.end) == (other.end, other.start)


def test_a_portrait_on_a_backdrop_grows_to_the_frame_s_height():
    path = path_of(Move.ZOOM_IN, shot((3000, 4000)), fit=Fit.BLUR)
    assert (path.end.y0, path.end.y1) == (0, 4000)
    assert path.start.height == pytest.approx(4000 / 0.94)
    assert centre(path.start) == pytest.approx((1500, 2000))
    assert centre(path.end) == pytest.approx((1500, 2000))


def test_a_zoom_of_1_moves_nothing():
    for fit in (Fit.COVER, Fit.BLUR):
        for move in (Move.ZOOM_IN, *ACROSS):
            path = path_of(move, shot((2000, 2900), zoom=1), fit=fit)
            assert path.start == path.end


DIRECTIONS = {Move.PAN_LEFT: (-1, 0), Move.PAN_RIGHT: (1, 0), Move.PAN_UP: (0, -1), Move.PAN_DOWN: (0, 1)}


@pytest.mark.parametrize("move", PANS)
@pytest.mark.parametrize("photo", [(4000, 3000), (3000, 4000), (12_000, 2000), (2000, 12_000), (1920, 1080)])
@pytest.mark.parametrize("film", [(1920, 1080), (1080, 1920), (1000, 1000)])
@pytest.mark.parametrize("fit", [Fit.COVER, Fit.BLUR, Fit.CONTAIN])
def test_a_pan_goes_where_its_name_says(move, photo, film, fit):
    path = path_of(move, shot(photo, film), fit=fit)
    across, down = (there - here for here, there in zip(centre(path.start), centre(path.end), strict=True))
    along = across * DIRECTIONS[move][0] + down * DIRECTIONS[move][1]
    aside = across * DIRECTIONS[move][1] + down * DIRECTIONS[move][0]
    assert along > 0
    assert abs(aside) <= along + GRID_PX


@each_shot
@given(SHOTS, st.integers(0, 1))
def test_a_pan_along_a_long_photo_is_as_fast_as_can_be_followed_or_goes_from_end_to_end(made, way):
    assume(made.way_views >= 0.11)
    path = path_of(made.long_pans[way], made)
    size, room = (path.start.height, made.photo_px[1]) if made.is_tall else (path.start.width, made.photo_px[0])
    gone = math.dist(centre(path.start), centre(path.end))
    assert gone == pytest.approx(min(room - size, size * PAN_VIEWS_PER_SECOND * made.seconds), rel=1e-6, abs=1e-6)
    assert (path.start.width, path.start.height) == pytest.approx((path.end.width, path.end.height), abs=GRID_PX)


@each_shot
@given(SHOTS)
def test_a_fit_of_pan_goes_from_end_to_end_in_any_time(made):
    assume(not made.has_film_shape)
    for path in paths_of(made, fit=Fit.PAN):
        assert seen_share(path, photo_px=made.photo_px) == pytest.approx(1)
        assert is_inside(path, photo_px=made.photo_px)
    assert {look.move for look in possible_looks(made, fit=Fit.PAN, move=Move.AUTO)} == set(made.long_pans)


# Neighbours


def test_automatic_moves_vary_from_photo_to_photo():
    digests = [blake3(str(number).encode()).hexdigest() for number in range(1200)]
    for photo, fit, moves in [
        ((1920, 1080), Fit.AUTO, {Move.ZOOM_IN, Move.ZOOM_OUT, *PANS}),
        ((4000, 3000), Fit.AUTO, {Move.ZOOM_IN, Move.ZOOM_OUT, *PANS}),
        ((3000, 4000), Fit.AUTO, {Move.ZOOM_IN, Move.ZOOM_OUT, *PANS}),
        ((9000, 1000), Fit.PAN, set(ACROSS)),
        ((1000, 9000), Fit.COVER, set(DOWN)),
    ]:
        found = Counter(
            possible_looks(shot(photo, digest=digest), fit=fit, move=Move.AUTO)[0].move for digest in digests
        )
        assert set(found) == moves
        assert min(found.values()) > 120


SIZES = st.sampled_from([(1920, 1080), (4000, 3000), (3000, 4000), (2160, 3840), (2000, 2000), (9000, 1000)])


@st.composite
def slides(draw):
    """What may be shown of one slide, and whether its move is automatic. Digests repeat, and so do preferences."""
    digest = draw(st.sampled_from([f"{number:064x}" for number in range(3)]) | st.integers(0, 11).map("{:08x}".format))
    made = shot(draw(SIZES), digest=digest, seconds=draw(st.sampled_from([2, 4, 10])))
    fit = draw(st.sampled_from([Fit.AUTO, Fit.AUTO, Fit.COVER, Fit.CONTAIN, Fit.BLUR]))
    move = draw(st.sampled_from([Move.AUTO, Move.AUTO, Move.AUTO, Move.ZOOM_IN, Move.STILL]))
    return possible_looks(made, fit=fit, move=move), move is Move.AUTO, digest


@settings(deadline=None, max_examples=500)
@given(st.lists(slides(), min_size=1, max_size=12))
def test_no_two_neighbours_move_alike_where_a_choice_was_left(film):
    possible, are_auto, digests = zip(*film, strict=True)
    chosen = choose_looks(possible, digests=digests)
    for (one, is_auto), (other, is_auto_too) in pairwise(zip(chosen, are_auto, strict=True)):
        assert one.move is not other.move or not (is_auto or is_auto_too)
    for look, looks in zip(chosen, possible, strict=True):
        assert look in looks


@settings(deadline=None, max_examples=500)
@given(st.lists(st.integers(0, 2).map("{:064x}".format), min_size=3, max_size=20))
def test_pans_that_have_two_ways_to_go_never_go_one_way_three_times(digests):
    film = [possible_looks(shot((3000, 4000), digest=each), fit=Fit.PAN, move=Move.AUTO) for each in digests]
    moves = [look.move for look in choose_looks(film, digests=digests)]
    assert not [index for index in range(len(moves) - 2) if len(set(moves[index : index + 3])) == 1]


def test_one_photo_shown_again_and_again_takes_turns():
    same = possible_looks(shot((1920, 1080)), fit=Fit.AUTO, move=Move.AUTO)
    moves = [look.move for look in choose_looks([same] * 5, digests=[DIGEST] * 5)]
    assert moves[0] is same[0].move
    assert moves[0] is moves[2] is moves[4] is not moves[1] is moves[3]


@pytest.mark.parametrize("photo", [(1920, 1080), (4000, 3000), (3000, 4000), (2000, 2000)])
@pytest.mark.parametrize("seconds", [4, 10])
def test_one_photo_put_anywhere_among_400_changes_few_looks(photo, seconds):
    *digests, new = (blake3(str(number).encode()).hexdigest() for number in range(401))

    def looks_of(digests):
        shots = [shot(photo, digest=digest, seconds=seconds) for digest in digests]
        return choose_looks([possible_looks(each, fit=Fit.AUTO, move=Move.AUTO) for each in shots], digests=digests)

    before, changed = looks_of(digests), []
    for place in range(0, 401, 3):
        after = looks_of([*digests[:place], new, *digests[place:]])
        changed.append(sum(a != b for a, b in zip(before, after[:place] + after[place + 1 :], strict=True)))
    assert sum(changed) / len(changed) < 1.2
    assert max(changed) <= 4
