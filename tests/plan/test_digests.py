"""What a segment's address depends on, and what it must not."""

import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from fanreel.codecs import Codec, EncoderChoice
from fanreel.job.encoding import Encoding, Preset
from fanreel.job.parse import parse_job
from fanreel.job.slideshow import Move
from fanreel.plan.camera import CameraPath, Rect
from fanreel.plan.content import ColourContent, Photo, StillContent
from fanreel.plan.digests import clip_digest, frames_digest, segment_address
from fanreel.plan.encoding import plan_encoding
from fanreel.plan.film import plan_digest
from fanreel.plan.kinds import plan_films
from fanreel.plan.slideshow import FetchedStills, Source, Still
from fanreel.plan.timeline import Clip

ROOT = Path(__file__).parents[2]
PHOTO = Photo("a" * 64, 4000, 3000)
OTHER = Photo("b" * 64, 4000, 3000)
PATH = CameraPath(Rect(0.0, 0.0, 4000.0, 2250.0), Rect(400.0, 225.0, 3600.0, 2025.0))
STILL = StillContent(PHOTO, PATH)
CLIP = Clip(STILL, start_frame=0, end_frame=120)


def still(photo=PHOTO, path="/photos/a.jpg", seconds=4.0, move=Move.ZOOM_IN, views=()):
    return Still(Source(photo, path), seconds, move, views)


def film(stills=(), output="/films/a.mp4", **words):
    job = parse_job({"photos": ["a"], "output": "o"} | words)
    return plan_films(job, FetchedStills(tuple(stills or [still(), still(OTHER)])), output=output)[0]


def addresses(*stills, **words):
    return [segment.address for segment in film(stills, **words).segments]


BASE = addresses()


@pytest.mark.parametrize(
    "words",
    [
        {"output": "/elsewhere/b.mp4"},
        {"base": "/elsewhere"},
        {"sessions": 5},
        {"encoding": {"encoder": "nvenc"}},
        {"encoding": {"encoder": "x264"}},
        {"seconds_per_slide": 9},
        {"move": "pan-left"},
        {"fps": "30/1"},
        {"fps": 30.0},
    ],
    ids=str,
)
def test_what_decides_no_frame_changes_no_address(words):
    assert addresses(**words) == BASE


def test_where_a_photo_lies_changes_no_address():
    assert addresses(still(path="/other/place.png"), still(OTHER, path="/x")) == BASE


@pytest.mark.parametrize(
    "words",
    [
        {"size": "1280x720"},
        {"size": "1080x1920"},
        {"fps": 25},
        {"fps": "30000/1001"},
        {"zoom": 1.31},
        {"encoding": {"preset": "draft"}},
        {"encoding": {"preset": "best"}},
        {"encoding": {"quality": 22}},
    ],
    ids=str,
)
def test_what_decides_the_frames_or_their_encoding_changes_every_address(words):
    assert not set(addresses(**words)) & set(BASE)


@pytest.mark.parametrize(
    "changed",
    [
        still(replace(PHOTO, digest="c" * 64)),
        still(move=Move.ZOOM_OUT),
        still(move=Move.STILL),
        still(seconds=4.1),
        still(views=((0, 0, 1, 1), (0, 0, 0.5, 0.5))),
    ],
    ids=lambda still: f"{still.move} {still.seconds} {still.views}",
)
def test_what_a_slide_shows_decides_its_address(changed):
    assert addresses(still())[0] != addresses(changed)[0]


def test_a_move_that_another_word_names_is_the_same_move():
    whole = ((0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0))
    assert addresses(still(move=Move.STILL)) == addresses(still(views=whole))


def test_neighbours_and_position_change_no_address():
    # Nine seconds each: every clip is a segment.
    one, two, three = (still(replace(PHOTO, digest=letter * 64), seconds=9) for letter in "123")
    alone = {address for single in (one, two, three) for address in addresses(single)}
    assert len(alone) == 3
    assert set(addresses(one, two, three)) == set(addresses(three, one, two)) == alone


def frames_of(*clips, start=0, end=120, width=1920, height=1080):
    return frames_digest(clips, start_frame=start, end_frame=end, width_px=width, height_px=height)


def test_a_part_of_a_clip_has_a_digest_of_its_own():
    digests = {frames_of(CLIP, start=start, end=end) for start, end in [(0, 120), (0, 60), (60, 120), (0, 61)]}
    assert len(digests) == 4


def test_the_order_of_clips_counts():
    other = replace(STILL, photo=OTHER)
    one, two = CLIP, Clip(other, start_frame=120, end_frame=240)
    swapped = Clip(other, start_frame=0, end_frame=120), Clip(STILL, start_frame=120, end_frame=240)
    assert frames_of(one, two, end=240) != frames_of(*swapped, end=240)


def test_which_clip_lies_above_counts_and_so_does_its_opacity():
    above = Clip(ColourContent((200, 0, 0)), 0, 120, opacity=100)
    found = {frames_of(*clips) for clips in [(CLIP,), (CLIP, above), (above, CLIP), (CLIP, replace(above, opacity=99))]}
    assert len(found) == 4


@pytest.mark.parametrize("part", range(3))
def test_every_part_of_a_colour_counts(part):
    colour = (10, 20, 30)
    other = tuple(value + (place == part) for place, value in enumerate(colour))
    assert clip_digest(Clip(ColourContent(colour), 0, 9)) != clip_digest(Clip(ColourContent(other), 0, 9))


def test_two_clips_are_not_one_of_the_same_length():
    halves = Clip(STILL, 0, 60), Clip(STILL, 60, 120)
    assert frames_of(CLIP) != frames_of(*halves)


def test_a_photo_s_claimed_size_is_not_its_content():
    # The digest of its bytes says all; a header that is read otherwise changes the path, which is in the digest.
    assert clip_digest(replace(CLIP, content=replace(STILL, photo=replace(PHOTO, width_px=1)))) == clip_digest(CLIP)


@pytest.mark.parametrize("edge", ["x0", "y0", "x1", "y1"])
@pytest.mark.parametrize("end", ["start", "end"])
def test_the_last_bit_of_a_view_counts(edge, end):
    view = getattr(PATH, end)
    moved = replace(view, **{edge: getattr(view, edge) + 2**-20})
    assert clip_digest(replace(CLIP, content=replace(STILL, path=replace(PATH, **{end: moved})))) != clip_digest(CLIP)


def test_plans_hold_floats_only():
    # In JSON 4000 is not 4000.0: a plan that went through JSON would have other digests than the one that was made.
    drawn = still(views=((0, 0, 1, 1), (0, 0, 1, 1)))
    for clip in film([still(), drawn, still(move=Move.PAN_DOWN), still(move=Move.STILL)]).timeline.clips:
        for view in (clip.content.path.start, clip.content.path.end):
            assert {type(edge) for edge in (view.x0, view.y0, view.x1, view.y1)} == {float}


def test_a_digest_is_of_64_hexadecimal_digits():
    plan = film()
    found = [clip_digest(CLIP), frames_of(CLIP), plan_digest(plan), *BASE]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in found)


def test_digests_stay_what_they_are_from_release_to_release():
    # Whoever changes these makes every store useless: raise a revision on purpose, or find another way.
    encoding = plan_encoding(Encoding(), width_px=1920, height_px=1080, frame_rate=Fraction(30))
    assert clip_digest(CLIP) == "6a5204599c5ab97f6e74aa4c1863a6cb600d9f47fcf606cea5fdd0816a266234"
    assert frames_of(CLIP) == "0605b6fe32fae94e971f5eb6dc071f939ec7ad9638a6f6939201ba1f27c89158"
    assert (
        segment_address(frames_of(CLIP), encoding, keyframes=[0])
        == "fb53957bc34de30fa6f7169c526caa35d00bbfaecdc340e55f8b4d07046af19f"
    )


def test_numbers_that_are_none_have_no_digest():
    broken = replace(CLIP, content=StillContent(PHOTO, CameraPath(Rect(0, 0, float("nan"), 1), PATH.end)))
    with pytest.raises(ValueError, match="JSON compliant"):
        clip_digest(broken)


def test_the_encoder_that_may_make_a_segment_is_not_in_its_address():
    plans = [
        plan_encoding(Encoding(encoder=encoder), width_px=1920, height_px=1080, frame_rate=Fraction(30))
        for encoder in (EncoderChoice.AUTO, EncoderChoice.NVENC, EncoderChoice.X264)
    ]
    assert len({segment_address("f" * 64, plan, keyframes=[0]) for plan in plans}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"preset": Preset.FAST}, {"preset": Preset.BALANCED}),
        ({"quality": 20}, {"quality": 21}),
        ({"codec": Codec.H264}, {"codec": Codec.HEVC}),
        ({"codec": Codec.HEVC}, {"codec": Codec.AV1}),
    ],
)
def test_the_encoding_asked_for_is_in_the_address(one, other):
    found = {
        segment_address(
            "f" * 64,
            plan_encoding(Encoding(**words), width_px=64, height_px=64, frame_rate=Fraction(30)),
            keyframes=[0],
        )
        for words in (one, other)
    }
    assert len(found) == 2


def test_another_process_finds_the_same_addresses():
    program = "import sys; sys.path[:0] = ['tests', 'tests/plan']; from test_digests import BASE; print(*BASE)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == BASE


def test_a_plan_s_own_digest_knows_where_everything_lies():
    assert plan_digest(film()) == plan_digest(film())
    assert plan_digest(film()) != plan_digest(film(output="/films/b.mp4"))
    assert plan_digest(film()) != plan_digest(film([still(path="/x"), still(OTHER)]))


def test_the_keyframes_asked_for_are_in_the_address():
    plan = plan_encoding(Encoding(), width_px=64, height_px=64, frame_rate=Fraction(30))
    assert segment_address("f" * 64, plan, keyframes=[0]) != segment_address("f" * 64, plan, keyframes=[0, 120])


def test_where_clips_lie_in_a_segment_is_in_the_digest():
    early = [replace(CLIP, start_frame=0, end_frame=100), replace(CLIP, start_frame=100, end_frame=200)]
    late = [replace(CLIP, start_frame=0, end_frame=100), replace(CLIP, start_frame=90, end_frame=190)]
    assert frames_of(*early, start=0, end=150) != frames_of(*late, start=0, end=150)
