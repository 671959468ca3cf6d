"""Whole plans: what a job becomes, the golden ones kept as files, and plans that travel as JSON."""

import json
import os
import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from fanreel.job.parse import parse_job
from fanreel.job.slideshow import Fit, Move
from fanreel.plan.content import BlurredCopy, ColourContent, Photo
from fanreel.plan.film import plan_digest, plan_from_json, plan_to_json
from fanreel.plan.kinds import plan_films
from fanreel.plan.slideshow import FetchedStills, Source, Still
from fanreel.plan.timeline import Clip, Timeline

GOLDEN = Path(__file__).parent / "golden"
JOBS = sorted(GOLDEN.glob("*.job.json"))
UPDATE = os.environ.get("FANREEL_UPDATE_GOLDEN") == "1"


def photo(name, width_px=4000, height_px=3000):
    return Photo(blake3(name.encode()).hexdigest(), width_px, height_px)


def still(name="a", seconds=4.0, move=Move.AUTO, views=(), path=None):
    return Still(Source(photo(name), path or f"/photos/{name}.jpg"), seconds, move, views)


def plan(stills, output="/films/film.mp4", **words):
    job = parse_job({"photos": ["a"], "output": "o"} | words)
    (film,) = plan_films(job, FetchedStills(tuple(stills)), output=output)
    return film


def golden_film(text):
    """Return the plan of a golden job: its values, and its photos as they would have been read."""
    content = json.loads(text)
    job = parse_job(content["job"])
    slides = job.slides or [None] * len(content["photos"])
    stills = [
        Still(
            Source(photo(found["name"], found["width_px"], found["height_px"]), f"/photos/{found['name']}.jpg"),
            (slide and slide.seconds) or job.seconds_per_slide,
            (slide and slide.move) or job.move,
            (tuple(slide.start), tuple(slide.end)) if slide and slide.start else (),
            (slide and slide.fit) or job.fit,
        )
        for slide, found in zip(slides, content["photos"], strict=True)
    ]
    (film,) = plan_films(job, FetchedStills(tuple(stills)), output=f"/films/{job.output}")
    return film


def test_there_are_three_golden_jobs():
    assert len(JOBS) == 3


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_a_golden_job_is_planned_as_its_file_says(path):
    # FANREEL_UPDATE_GOLDEN=1 writes the files anew; what then differs in git is what has changed for every user.
    film = golden_film(path.read_text())
    expected = path.with_name(path.name.replace(".job.", ".plan."))
    if UPDATE:
        expected.write_text(json.dumps(json.loads(plan_to_json(film)), indent=1) + "\n")
    assert expected.exists(), f"{expected.name} is missing: run with FANREEL_UPDATE_GOLDEN=1 and look at what it says"
    assert json.loads(plan_to_json(film)) == json.loads(expected.read_text())
    assert film == plan_from_json(expected.read_bytes())


stills = st.lists(
    st.builds(
        still,
        st.sampled_from("abcdefgh"),
        st.floats(0.01, 30),
        st.sampled_from(Move),
        st.sampled_from([(), ((0.1, 0.2, 0.3, 0.7), (0.0, 0.0, 1.0, 1.0))]),
    ),
    min_size=1,
    max_size=12,
)
rates = st.sampled_from(["24", "25", "30", "50", "60", "30000/1001"])


@settings(deadline=None)
@given(stills, rates)
def test_a_plan_survives_json(slides, fps):
    film = plan(slides, fps=fps)
    assert plan_from_json(plan_to_json(film)) == film
    assert plan_to_json(plan_from_json(plan_to_json(film))) == plan_to_json(film)
    assert plan_digest(plan_from_json(plan_to_json(film))) == plan_digest(film)


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"[1]", b"not json", b'{"name": "film"}'])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(ValueError, match="FilmPlan"):
        plan_from_json(text)


def test_a_plan_with_other_contents_than_stills_survives_json():
    film = plan([still(), still("b")])
    end = film.frame_count
    orange, black = ColourContent((255, 128, 0)), ColourContent((0, 0, 0))
    clips = *film.timeline.clips, Clip(orange, end, end + 30), Clip(black, end, end + 30, opacity=7)
    film = replace(film, timeline=Timeline(clips))
    assert plan_from_json(plan_to_json(film)) == film


def test_a_plan_of_the_version_without_contents_is_refused():
    values = json.loads(plan_to_json(plan([still()])))
    (clip,) = values["timeline"]["clips"]
    content = clip.pop("content")
    values["timeline"]["clips"] = [{"photo": content["photo"], "path": content["path"], **clip}]
    with pytest.raises(ValueError, match="content"):
        plan_from_json(json.dumps(values).encode())


@settings(deadline=None)
@given(stills, rates)
def test_a_film_is_as_long_as_its_slides_to_half_a_frame_each(slides, fps):
    film = plan(slides, fps=fps)
    asked = sum(Fraction(str(slide.seconds)) for slide in slides)
    assert abs(film.frame_count / film.encoding.frame_rate - asked) <= len(slides) / film.encoding.frame_rate
    assert [clip.content.photo for clip in film.timeline.clips] == [slide.source.photo for slide in slides]
    assert all(one.end_frame == other.start_frame for one, other in pairwise(film.timeline.clips))


def test_a_slide_s_own_views_come_before_any_move():
    film = plan([still(views=((0, 0, 0.5, 0.5), (0.5, 0.5, 1, 1)), move=Move.STILL)], size="400x300")
    path = film.timeline.clips[0].content.path
    assert (path.start.x1, path.start.y1, path.end.x0, path.end.y0) == (2000, 1500, 2000, 1500)


def test_a_plan_says_where_the_photos_and_the_film_are():
    film = plan([still("a"), still("b"), still("a")], output="/films/summer/holiday.mp4", sessions=3)
    assert (film.name, film.output, film.session_cap) == ("holiday.mp4", "/films/summer/holiday.mp4", 3)
    assert film.photo_paths == {photo("a").digest: "/photos/a.jpg", photo("b").digest: "/photos/b.jpg"}


def test_two_files_of_the_same_bytes_are_one_photo():
    film = plan([still("a", path="/one.jpg"), still("a", path="/two.jpg")])
    assert list(film.photo_paths) == [photo("a").digest]


@pytest.mark.parametrize(("fps", "seconds"), [("24", 8.0), ("30000/1001", 240 * 1001 / 30000)])
def test_seconds_are_those_of_the_frames(fps, seconds):
    assert plan([still(), still()], fps=fps).seconds == pytest.approx(seconds)


def test_six_hours_of_photos_are_planned_in_seconds():
    slides = [still(str(number)) for number in range(5400)]
    begun = time.process_time()
    film = plan(slides)
    elapsed = time.process_time() - begun
    assert film.frame_count == 5400 * 120
    assert elapsed < 5  # 0.5 s on one core of 2023.


def test_what_people_should_know_of_a_film_is_in_its_plan_and_in_no_segment_s_address():
    job, stills = parse_job({"photos": ["a"], "output": "o"}), (still(),)
    (film,) = plan_films(job, FetchedStills(stills, notes=("one of a pair",)), output="/films/film.mp4")
    assert film.notes == ("one of a pair",)
    assert plan_from_json(plan_to_json(film)) == film
    assert film.segments == plan(stills).segments


def test_a_plan_from_before_there_were_notes_is_read():
    values = json.loads(plan_to_json(plan([still()])))
    del values["notes"]
    assert plan_from_json(json.dumps(values).encode()).notes == ()


def test_a_film_whose_slides_are_rounded_to_frames_says_how_long_it_lasts():
    stills = [still(name, 10.0) for name in "abcdefghij"] * 30
    film = plan(stills, fps="30000/1001")
    assert film.notes == ("lasts 3003.00 s where 3000 s were asked: every slide is whole frames",)
    assert plan(stills, fps="30").notes == plan(stills[:1], fps="30000/1001").notes == ()
    assert plan([still(seconds=0.01)] * 3, fps="30").notes == (
        "lasts 0.10 s where 0.03 s were asked: every slide is whole frames",
    )


def test_a_rate_that_stands_for_another_one_is_told():
    film = plan([still(seconds=1.0)], fps="23.976")
    assert film.notes == ("23.976 frames a second are taken as 24000/1001, which they stand for",)
    assert (film.encoding.frame_rate, film.frame_count) == (Fraction(24000, 1001), 24)
    for fps in ("24000/1001", "12.50", "30"):
        assert plan([still(seconds=2.0)], fps=fps).notes == ()


@pytest.mark.parametrize(
    ("size", "fps", "codec", "note"),
    [
        ("1920x1080", "60", "h264", ()),
        ("3840x2160", "60", "h264", ()),
        ("4096x2304", "60", "h264", ("4096x2304 at 60 fps is h264 of level 6.0, ",)),
        ("7680x4320", "30", "h264", ("7680x4320 at 30 fps is h264 of level 6.0, ",)),
        ("7680x4320", "30", "hevc", ()),
    ],
)
def test_a_film_that_few_players_have_hardware_for_is_said_to_be_one(size, fps, codec, note):
    film = plan([still()], size=size, fps=fps, encoding={"codec": codec})
    assert len(film.notes) == len(note)
    assert all(said.startswith(begins) for said, begins in zip(film.notes, note, strict=True))


# What a person is told of each slide


def shown(px, **words):
    source = Source(Photo(blake3(b"photo").hexdigest(), *px), "/photos/photo.jpg")
    return plan([Still(source, **({"seconds": 4.0, "move": Move.ZOOM_IN} | words))]).slides[0]


def test_every_slide_says_how_its_photo_is_shown():
    slides = plan([still(move=Move.ZOOM_IN), still("b", 2.5, views=((0, 0, 1, 1), (0, 0, 0.5, 0.5)))]).slides
    assert [(slide.digest, slide.seconds, slide.fit, slide.move, slide.seen_share) for slide in slides] == [
        (photo("a").digest, 4.0, Fit.COVER, Move.ZOOM_IN, 0.75),
        (photo("b").digest, 2.5, Fit.COVER, None, 0.7708),
    ]


@pytest.mark.parametrize(
    ("px", "words", "warning"),
    [
        ((240, 180), {}, "too small: its 240x180 px are enlarged 8.0 times"),
        ((240, 320), {}, "too small: its 240x320 px are enlarged 3.2 times"),
        ((3000, 4000), {"fit": Fit.COVER}, "only 42% of it is ever seen; `fit: blur` or `contain` shows it whole"),
        (
            (2160, 3840),
            {"fit": Fit.PAN, "seconds": 4.0, "move": Move.AUTO},
            "pans 0.54 views a second, which is hard to follow; 9 seconds would be calm",
        ),
    ],
)
def test_a_person_is_warned_of_what_they_may_not_have_meant(px, words, warning):
    assert shown(px, **words).warnings == (warning,)


@pytest.mark.parametrize("px", [(960, 540), (4000, 3000), (3000, 4000), (2000, 2000), (10_000, 2000)])
def test_what_is_shown_well_is_not_warned_of(px):
    assert shown(px, move=Move.AUTO).warnings == ()


def test_a_photo_shown_whole_lies_on_its_copy_or_on_the_background():
    source = still().source
    tall = replace(source, photo=replace(source.photo, width_px=3000, height_px=4000))
    for fit, backdrop in {
        Fit.AUTO: BlurredCopy(),
        Fit.BLUR: BlurredCopy(),
        Fit.CONTAIN: ColourContent((18, 52, 86)),
        Fit.COVER: None,
        Fit.PAN: None,
    }.items():
        (clip,) = plan([Still(tall, 4.0, Move.AUTO, fit=fit)], background="#123456").timeline.clips
        assert clip.content.backdrop == backdrop


def test_the_whole_of_a_portrait_that_a_person_drew_is_shown_and_not_neck_and_chest():
    source = still().source
    tall = replace(source, photo=replace(source.photo, width_px=3000, height_px=4000))
    (clip,) = plan([Still(tall, 4.0, Move.AUTO, views=((0, 0, 1, 1), (0.2, 0.1, 0.8, 0.35)))]).timeline.clips
    start = clip.content.path.start
    assert start.x0 < 0
    assert start.x1 > 3000
    assert (start.y0, start.y1) == (0, 4000)


def addresses(stills):
    return {segment.address for segment in plan(stills).segments}


@pytest.mark.parametrize("seconds", [2, 4])
def test_one_photo_put_anywhere_in_400_changes_few_segments_though_neighbours_moves_differ(seconds):
    *stills, new = (still(str(number), seconds) for number in range(401))
    before = addresses(stills)
    changed = [len(addresses([*stills[:place], new, *stills[place:]]) - before) for place in range(0, 401, 20)]
    # At 134 places, of six films each: 1 to 3, and 4 at one place of 134; portraits panned for 10 s, at four.
    assert max(changed) <= 4
    assert sum(changed) / len(changed) < 2
