"""What a person may ask for, and what a wrong word is answered with."""

import json
import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanreel.codecs import CODEC_ENCODERS, Codec, EncoderChoice
from fanreel.errors import InvalidJobError
from fanreel.job.encoding import Encoding, Preset
from fanreel.job.film import FilmJob, FilmKind
from fanreel.job.machines import Machines, Strategy
from fanreel.job.parse import job_model, parse_job
from fanreel.job.slideshow import Fit, Move, OnBadPhoto, Pairs, Slide, SlideshowJob

NAN, INFINITY = float("nan"), float("inf")
HUGE = 10**5000
HUGE_TEXT = "9" * 5000
ARABIC_30 = "\N{ARABIC-INDIC DIGIT THREE}\N{ARABIC-INDIC DIGIT ZERO}"
ARABIC_SIZE = f"{ARABIC_30}0x{ARABIC_30}0"
SIZES = (
    "Width x height in pixels, both even and from 64 to 8192: 1920x1080. Or 720p, 1080p, 1440p, 4k, vertical, square."
)
RATES = "Frames per second: 24, 25, 30, 50, 60, or a fraction such as 30000/1001, for which 29.97 stands."
RATE_RANGE = "from 1 to 240 frames per second"
PHOTOS = SlideshowJob.model_fields["photos"].description
MOVES = "input should be 'auto', 'still', 'zoom-in', 'zoom-out', 'pan-left', 'pan-right', 'pan-up' or 'pan-down'"
NO_TRUTH = "a number is needed, not true or false (YAML reads yes, no, on and off as these)"
SLIDE_KEYS = "a mapping is needed, with keys such as photo, seconds, move, fit, start, end"
MACHINE_KEYS = "a mapping is needed, with keys such as render_on, sessions, strategy"
ENCODING_KEYS = "a mapping is needed, with keys such as codec, encoder, fallback, preset, quality"
WHOLE, CORNER = [0, 0, 1, 1], [0, 0, 0.5, 0.5]


def job(**words):
    return parse_job({"photos": ["a.jpg"], "output": "film.mp4"} | words)


def slide(**words):
    return parse_job({"output": "film.mp4", "slides": [{"photo": "a.jpg"} | words]}).slides[0]


def mistakes(values):
    with pytest.raises(InvalidJobError) as caught:
        parse_job(values)
    return str(caught.value).split("\n")


def answer(values):
    """Return the lines that a job is answered with; none if it is good."""
    try:
        parse_job(values)
    except InvalidJobError as error:
        return str(error).split("\n")
    return []


def mistake(**words):
    """Return the one line that a job with `words` is answered with."""
    (line,) = mistakes({"photos": ["a.jpg"], "output": "film.mp4"} | words)
    return line


def slide_mistake(**words):
    (line,) = mistakes({"output": "film.mp4", "slides": [{"photo": "a.jpg"} | words]})
    return line


def test_photos_and_an_output_are_enough():
    done = job()
    assert (done.width_px, done.height_px, done.frame_rate) == (1920, 1080, 30)
    assert (done.seconds_per_slide, done.move, done.zoom, done.sessions) == (4, Move.AUTO, 1.3, 0)
    assert done.encoding == Encoding(encoder=EncoderChoice.AUTO, preset=Preset.FAST, quality=21)


@pytest.mark.parametrize("size", ["64x64", "320x180", "1920x1080", "1080x1920", "8192x4320"])
def test_a_size_is_two_even_sides(size):
    done = job(size=size)
    assert f"{done.width_px}x{done.height_px}" == size


@pytest.mark.parametrize(
    ("fps", "rate"),
    [
        *[(text, Fraction(text)) for text in ("24", "25", "30", "50", "60", "30000/1001", "24000/1001", "1", "240")],
        (24, Fraction(24)),
        (25.0, Fraction(25)),
        ("60/2", Fraction(30)),
        ("12.5", Fraction(25, 2)),
        *[(fps, Fraction(24000, 1001)) for fps in (23.976, "23.976", "23.98", 23.976023976, "23.9760")],
        *[(fps, Fraction(30000, 1001)) for fps in (29.97, "29.970", "29.97003", "30000/1001")],
        *[(fps, Fraction(48000, 1001)) for fps in (47.952, "47.95")],
        *[(fps, Fraction(60000, 1001)) for fps in (59.94, "59.940")],
        *[(fps, Fraction(120000, 1001)) for fps in (119.88, "119.880")],
        # What is not such a rate to its last digit stays what it is.
        *[(fps, Fraction(fps)) for fps in ("23.97", "23.977", "29.98", "29.971", "24.98", "2997/100", "30.0", "24.0")],
    ],
)
def test_a_frame_rate_is_exact_whether_written_as_text_or_as_a_number(fps, rate):
    assert job(fps=fps).frame_rate == rate


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("seconds_per_slide", [0.001, 4, "4", 3600]),
        ("zoom", [1, 1.3, 8]),
        ("base", ["", "/films"]),
        ("output", ["film.mp4", "films/"]),
    ],
)
def test_values_at_both_ends_of_their_range_are_taken(key, values):
    for value in values:
        assert getattr(job(**{key: value}), key) == (value if key in {"base", "output"} else float(value))


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        *[(size, "320x180") for size in ("320 x 180", "320X180", " 320x180 ", "320\xd7180", "320  x180")],
        ("720p", "1280x720"),
        ("1080p", "1920x1080"),
        ("1440P", "2560x1440"),
        *[(size, "3840x2160") for size in ("4k", "4K")],
        ("Vertical", "1080x1920"),
        ("square", "1080x1080"),
    ],
)
def test_a_size_is_taken_in_words_too(size, wanted):
    assert job(size=size).size == wanted


def test_a_size_in_words_is_judged_as_one_in_digits():
    assert mistake(size="321 x 180").endswith("width and height must be even, for example 320x180")


@pytest.mark.parametrize("move", ["Zoom-In", "zoom_in", "ZOOM IN", " zoom-in "])
def test_a_choice_is_taken_in_any_spelling(move):
    assert job(move=move).move is slide(move=move).move is Move.ZOOM_IN
    encoding = {"encoder": "SVT_AV1", "codec": "Av1"}
    done = job(on_bad_photo="Skip", pairs="ALL", film="Slideshow", strategy="Film", encoding=encoding)
    assert (done.on_bad_photo, done.pairs, done.strategy) == (OnBadPhoto.SKIP, Pairs.ALL, Strategy.FILM)
    assert (done.encoding.encoder, done.encoding.codec) == (EncoderChoice.SVT_AV1, Codec.AV1)


def test_one_photo_needs_no_list():
    assert job(photos="photos").photos == ["photos"]
    alone = parse_job({"output": "film.mp4", "slides": ["a.jpg", {"photo": "b.jpg", "seconds": 2}]})
    assert alone.slides == [Slide(photo="a.jpg"), Slide(photo="b.jpg", seconds=2)]
    assert parse_job({"output": "film.mp4", "slides": "a.jpg"}).slides == [Slide(photo="a.jpg")]


@pytest.mark.parametrize("codec", list(Codec))
def test_a_codec_is_made_by_its_own_encoders_and_no_other(codec):
    for encoder in EncoderChoice:
        asked = {"encoder": encoder.value, "codec": codec.value}
        if encoder in (EncoderChoice.AUTO, EncoderChoice.NVENC, *CODEC_ENCODERS[codec]):
            assert job(encoding=asked).encoding.codec is codec
            continue
        assert mistake(encoding=asked) == (
            f"encoding.encoder: {encoder} does not make {codec}: ask for auto, {' or '.join(CODEC_ENCODERS[codec])}"
        )


def test_an_encoder_is_not_blamed_for_a_codec_that_is_none():
    assert mistake(encoding={"codec": "vp9", "encoder": "x265"}) == (
        "encoding.codec: 'vp9' is not allowed; input should be 'h264', 'hevc' or 'av1'"
    )


def test_a_job_fails_on_bad_photos_unless_it_says_otherwise():
    assert job().on_bad_photo is OnBadPhoto.FAIL


def test_an_empty_encoding_is_the_default_one():
    assert job(encoding={}).encoding == Encoding()


def test_a_slide_leaves_to_the_job_what_it_does_not_say():
    done = slide()
    assert (done.seconds, done.move, done.fit, done.start, done.end) == (None, None, None, [], [])


def test_a_slide_has_words_of_its_own():
    done = slide(seconds=2.5, start=WHOLE, end=CORNER)
    assert (done.seconds, done.start, done.end) == (2.5, WHOLE, CORNER)


def test_a_drawn_view_may_be_fitted_in():
    assert slide(fit="contain", start=WHOLE, end=CORNER).fit is Fit.CONTAIN


@pytest.mark.parametrize(("background", "rgb"), [("#000000", (0, 0, 0)), ("#12aBFf", (18, 171, 255))])
def test_a_background_is_red_green_and_blue(background, rgb):
    assert job(background=background).background_rgb == rgb


BACKGROUNDS = (
    "What lies around a photo that fit: contain shows whole: # and six hexadecimal digits for red, green and blue, "
    "such as #000000."
)

BAD = [
    *[("background", value, BACKGROUNDS) for value in ("black", "#000", "000000", "#00000g", "#000000\n", 0)],
    ("fit", "fill", "input should be 'auto', 'cover', 'contain', 'blur' or 'pan'"),
    *[
        ("size", value, SIZES)
        for value in (None, 1920, True, [1920, 1080], "1080", "1080i", "8k", "4 k", "", "x", "-2x2")
    ],
    *[("size", value, SIZES) for value in ("1920x1080\n", ARABIC_SIZE, "1920.0x1080")],
    ("size", "1921x1080", "width and height must be even, for example 1920x1080"),
    ("size", "1920x1081", "width and height must be even, for example 1920x1080"),
    *[("size", value, "each side from 64 to 8192 px") for value in ("0x0", "62x64", "64x62", "8194x64", "64x8194")],
    *[
        ("fps", value, RATES)
        for value in (None, True, [24], {}, "", "30\n", "fast", "30fps", "1e2", "-30", "30/", ARABIC_30)
    ],
    *[("fps", value, RATE_RANGE) for value in (0, -1, 0.5, 240.5, 241, NAN, INFINITY, -INFINITY)],
    *[("fps", value, RATE_RANGE) for value in ("0", "0.9", "241", "1/2", "1/0", "0/0", "30/000")],
    ("fps", "30000001/1000001", "write it as a fraction of numbers up to 1,000,000, such as 30000/1001"),
    ("fps", 23.976023977, "write it as a fraction of numbers up to 1,000,000, such as 30000/1001"),
    *[("photos", value, f"a list is needed. {PHOTOS}") for value in (None, {}, {"a.jpg": 1}, 3, True)],
    *[("seconds_per_slide", value, "input should be greater than 0") for value in (0, -1, -INFINITY)],
    *[("seconds_per_slide", value, "input should be less than or equal to 3600") for value in (3601, INFINITY)],
    *[("seconds_per_slide", value, "input should be a valid number") for value in (None, [4], {})],
    ("seconds_per_slide", "long", "input should be a valid number, unable to parse string as a number"),
    *[("move", value, MOVES) for value in (None, False, "", "spin", "zoomin", 3, [], {})],
    *[("zoom", value, "input should be greater than or equal to 1") for value in (0.99, 0, -1)],
    *[("zoom", value, "input should be less than or equal to 8") for value in (8.01, INFINITY)],
    *[(key, value, NO_TRUTH) for key in ("seconds_per_slide", "zoom") for value in (True, False)],
    *[
        (
            "output",
            value,
            FilmJob.model_fields["output"].description,
        )
        for value in (None, 3, [], {})
    ],
    ("output", "", "string should have at least 1 character"),
    ("output", "https://host/film.mp4", "a file, a folder, or s3://bucket/...; other places take no films"),
    ("output", "s3:///film.mp4", "a file, a folder, or s3://bucket/...; other places take no films"),
    *[
        (
            "base",
            value,
            FilmJob.model_fields["base"].description,
        )
        for value in (None, 3, [])
    ],
    *[("film", value, "input should be 'slideshow'") for value in (None, "movie", 1)],
    *[("on_bad_photo", value, "input should be 'fail' or 'skip'") for value in (None, "ignore", True, 1, [])],
    *[("encoding", value, ENCODING_KEYS) for value in (None, "x264", [], 21)],
    *[("machines", value, MACHINE_KEYS) for value in (None, "here", [], 21)],
    *[("slides", value, "a list is needed.") for value in (None, {})],
]

BAD_MACHINES = [
    ("sessions", -1, "input should be greater than or equal to 0"),
    ("sessions", 1025, "input should be less than or equal to 1024"),
    ("sessions", 1.5, "input should be a valid integer, got a number with a fractional part"),
    *[("sessions", value, "input should be a valid integer") for value in (None, [], {})],
    *[("sessions", value, "input should be a finite number") for value in (NAN, INFINITY)],
    *[("sessions", value, NO_TRUTH) for value in (True, False)],
    ("render_on", [], "here, or the names of work pools"),
    ("render_on", ["here", "cpu"], "here stands alone: name pools, or here"),
    ("render_on", ["cpu", "cpu"], "each pool once"),
    ("strategy", "fast", "input should be 'auto', 'film' or 'segments'"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), BAD_MACHINES, ids=lambda value: repr(value)[:30])
def test_a_wrong_word_about_machines_is_answered_at_its_place_in_either_spelling(key, value, allowed):
    line = f"machines.{key}: {value!r} is not allowed; {allowed}"
    assert mistake(machines={key: value}) == mistake(**{key: value}) == line


def test_a_job_may_say_of_machines_beside_them_what_it_does_not_say_there():
    done = job(sessions=3, render_on=["nvenc", "cpu"], machines={"strategy": "film"})
    assert (done.sessions, done.pools, done.strategy) == (3, ("nvenc", "cpu"), Strategy.FILM)
    assert done == job(machines={"sessions": 3, "render_on": ["nvenc", "cpu"], "strategy": "film"})
    assert job(render_on="cpu").pools == ("cpu",)
    assert (job().sessions, job().pools, job().strategy) == (0, (), Strategy.AUTO)


def test_what_is_said_of_machines_twice_is_refused():
    line = mistake(sessions=3, machines={"sessions": 2})
    assert line == "sessions: unknown key; it is a key of machines: give it once, there"


def test_a_key_of_encoding_beside_it_is_told_its_place():
    assert mistake(codec="hevc") == "codec: unknown key; it is a key of encoding: give it once, there"


@pytest.mark.parametrize(("key", "value", "allowed"), BAD, ids=lambda value: repr(value)[:30])
def test_a_wrong_value_is_answered_with_key_value_and_what_is_allowed(key, value, allowed):
    line = mistake(**{key: value})
    assert line.startswith(f"{key}: {value!r} is not allowed; {allowed}")
    assert key == "slides" or line.endswith(allowed)


@pytest.mark.parametrize("key", ["seconds_per_slide", "zoom"])
def test_not_a_number_is_no_number(key):
    assert mistake(**{key: NAN}).startswith(f"{key}: nan is not allowed; input should be ")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        *[
            ("encoder", value, "input should be 'auto', 'nvenc', 'x264', 'x265' or 'svt-av1'")
            for value in (None, "h265", 1)
        ],
        *[("codec", value, "input should be 'h264', 'hevc' or 'av1'") for value in (None, "h265", 264, [])],
        *[("preset", value, "input should be 'draft', 'fast', 'balanced' or 'best'") for value in (None, "slow", [])],
        ("quality", 52, "input should be less than or equal to 51"),
        ("quality", -1, "input should be greater than or equal to 0"),
        ("quality", 20.5, "input should be a valid integer, got a number with a fractional part"),
        ("quality", True, NO_TRUTH),
        ("quality", NAN, "input should be a finite number"),
        ("quality", "high", "input should be a valid integer, unable to parse string as an integer"),
    ],
)
def test_a_wrong_encoding_is_answered_at_its_place(key, value, allowed):
    assert mistake(encoding={key: value}) == f"encoding.{key}: {value!r} is not allowed; {allowed}"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"photo": ""}, "photo: '' is not allowed; string should have at least 1 character"),
        ({"photo": None}, "photo: None is not allowed; File, relative to the job's base."),
        ({"seconds": 0}, "seconds: 0 is not allowed; input should be greater than 0"),
        ({"seconds": 3601}, "seconds: 3601 is not allowed; input should be less than or equal to 3600"),
        ({"seconds": []}, "seconds: [] is not allowed; input should be a valid number"),
        ({"seconds": True}, f"seconds: True is not allowed; {NO_TRUTH}"),
        ({"move": "spin"}, f"move: 'spin' is not allowed; {MOVES}"),
        ({"start": WHOLE}, "end: start and end belong together: give both or neither"),
        ({"end": WHOLE}, "end: start and end belong together: give both or neither"),
        (
            {"start": WHOLE, "end": CORNER, "move": "still"},
            "start: start and end are a move of their own: leave `move` out",
        ),
        (
            {"start": WHOLE, "end": [0, 0, 1]},
            "end: [0, 0, 1] is not allowed; four fractions from 0 to 1: x0, y0, x1, y1",
        ),
        (
            {"start": [0, 0, 1, 1.5], "end": WHOLE},
            "start: [0, 0, 1, 1.5] is not allowed; four fractions from 0 to 1: x0, y0, x1, y1",
        ),
        (
            {"start": [0, 0, 1, NAN], "end": WHOLE},
            "start: [0, 0, 1, nan] is not allowed; four fractions from 0 to 1: x0, y0, x1, y1",
        ),
        (
            {"start": [0.5, 0, 0.5, 1], "end": WHOLE},
            "start: [0.5, 0, 0.5, 1] is not allowed; x0 must be less than x1, and y0 less than y1",
        ),
        (
            {"start": WHOLE, "end": [0, 1, 1, 0]},
            "end: [0, 1, 1, 0] is not allowed; x0 must be less than x1, and y0 less than y1",
        ),
        ({"start": [0, 0, "a", 1], "end": WHOLE}, "start.2: 'a' is not allowed; input should be a valid number"),
        ({"start": [0, 0, True, 1], "end": WHOLE}, f"start.2: True is not allowed; {NO_TRUTH}"),
        ({"start": "0 0 1 1", "end": WHOLE}, "start: '0 0 1 1' is not allowed; a list is needed."),
    ],
)
def test_a_wrong_slide_is_answered_at_its_place(words, line):
    assert slide_mistake(**words).startswith(f"slides.0.{line}")


@pytest.mark.parametrize("entry", [None, 3, ["a.jpg"]])
def test_a_slide_that_is_no_mapping_is_told_what_it_holds(entry):
    (line,) = mistakes({"output": "film.mp4", "slides": [{"photo": "a.jpg"}, entry]})
    assert line == f"slides.1: {entry!r} is not allowed; {SLIDE_KEYS}"


@pytest.mark.parametrize("entry", [None, 2024, 1.5, True, {}, []])
def test_a_photo_that_is_no_name_is_told_its_number(entry):
    assert mistake(photos=["a.jpg", entry]) == f"photos.1: {entry!r} is not allowed; {PHOTOS}"


@pytest.mark.parametrize("words", [{"photos": ["a.jpg"], "slides": [{"photo": "b.jpg"}]}, {}, {"photos": []}])
def test_photos_come_from_one_of_two_keys(words):
    both, none = "slides: give either photos or slides, not both", "photos: none; give photos or slides"
    line = both if words.get("slides") else none
    assert mistakes({"output": "film.mp4"} | words) == [line]


@pytest.mark.parametrize(
    ("key", "meant"),
    [("siez", "size"), ("Photos", "photos"), ("second_per_slide", "seconds_per_slide"), ("out", "output")],
)
def test_a_misspelt_key_is_told_which_one_it_resembles(key, meant):
    assert mistake(**{key: 1}) == f"{key}: unknown key; did you mean {meant!r}?"


def test_a_misspelt_key_inside_another_is_told_which_one_it_resembles():
    assert mistake(encoding={"qualty": 3}) == "encoding.qualty: unknown key; did you mean 'quality'?"
    assert slide_mistake(mov="still") == "slides.0.mov: unknown key; did you mean 'move'?"


def test_a_key_that_resembles_none_is_told_all():
    assert mistake(wibble=1) == f"wibble: unknown key; known keys: {', '.join(SlideshowJob.model_fields)}"
    assert (
        mistake(encoding={"xx": 1}) == "encoding.xx: unknown key; known keys: codec, encoder, fallback, preset, quality"
    )
    assert slide_mistake(xx=1) == "slides.0.xx: unknown key; known keys: photo, seconds, move, fit, start, end"


def test_a_missing_key_is_told_what_it_is_for():
    assert mistakes({"photos": ["a.jpg"]}) == [f"output: missing; {FilmJob.model_fields['output'].description}"]
    line = "slides.0.photo: missing; File, relative to the job's base."
    assert mistakes({"output": "film.mp4", "slides": [{}]}) == [line]


@pytest.mark.parametrize("key", [1, None, True, 2.5])
def test_a_key_that_is_no_text_is_refused(key):
    for values in ({"photos": ["a.jpg"], "output": "o.mp4", key: 1}, job().model_dump() | {"encoding": {key: 1}}):
        (line,) = mistakes(values)
        assert line.endswith(f": {key!r} is not allowed; keys should be strings")


def test_all_mistakes_are_told_at_once():
    lines = mistakes(
        {
            "size": "1921x1080",
            "fps": 0,
            "seconds_per_slide": True,
            "move": "spin",
            "zoom": 9,
            "slides": [{"seconds": 0, "start": WHOLE}, {"photo": "b", "move": "still", "start": WHOLE, "end": WHOLE}],
            "encoding": {"quality": 52, "presets": "best"},
            "sessions": -1,
            "bse": ".",
        }
    )
    assert [line.split(":")[0] for line in lines] == [
        "output",
        "size",
        "seconds_per_slide",
        "move",
        "zoom",
        "fps",
        "slides.0.photo",
        "slides.0.seconds",
        "slides.0.end",
        "slides.1.start",
        "encoding.quality",
        "encoding.presets",
        "machines.sessions",
        "bse",
    ]


def test_an_empty_job_is_told_all_it_lacks():
    assert [line.split(":")[0] for line in mistakes({})] == ["output", "photos"]


@pytest.mark.parametrize("values", [None, [], [{"photos": ["a"]}], "photos: a", 3, True])
def test_a_job_that_is_no_mapping_is_refused(values):
    assert mistakes(values) == [f"a job is a mapping of keys to values, not {type(values).__name__}"]


@pytest.mark.parametrize("key", list(SlideshowJob.model_fields))
def test_a_number_of_five_thousand_digits_is_a_mistake_like_any_other(key):
    line = mistake(**{key: HUGE})
    assert line.startswith(f"{key}: ")
    assert " is not allowed; " in line


def test_numbers_of_five_thousand_digits_in_text_are_a_mistake_like_any_other():
    assert mistake(size=f"{HUGE_TEXT}x2").endswith(SIZES)
    assert mistake(fps=HUGE_TEXT).endswith(RATES)
    assert mistake(fps=f"30/{HUGE_TEXT}").endswith(RATES)


@pytest.mark.parametrize("value", ["x" * 10_000, ["x"] * 10_000, "x\ny" * 10])
def test_a_long_value_is_shown_by_its_beginning_on_one_line(value):
    assert len(mistake(size=value)) < 200


@pytest.mark.parametrize("key", ["two\nlines", "k" * 10_000])
def test_a_strange_key_stays_on_one_line(key):
    assert len(mistake(**{key: 1})) < 400


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
THINGS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([*SlideshowJob.model_fields, "wibble"])


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(KEYS, THINGS, max_size=6))
def test_whatever_a_file_holds_gives_a_job_or_lines_that_name_its_keys(values):
    known = "|".join(map(re.escape, {*values, "output", "photos", "slides"}))
    for line in answer(values):
        assert re.match(rf"({known})[.:]", line), line


@pytest.mark.parametrize(
    "done",
    [
        job(),
        job(size="64x8192", fps=29.97, seconds_per_slide=0.1, move="pan-up", zoom=1.1, sessions=3, base="/b"),
        job(encoding={"encoder": "nvenc", "preset": "best", "quality": 0}),
        parse_job({"output": "o", "slides": [{"photo": "a"}, {"photo": "b", "seconds": 0.7, "move": "still"}]}),
        parse_job({"output": "o", "slides": [{"photo": "a", "start": [0.1, 0.2, 0.3, 0.7], "end": WHOLE}]}),
    ],
)
def test_a_job_survives_json(done):
    assert parse_job(json.loads(json.dumps(done.model_dump(mode="json")))) == done
    assert SlideshowJob.model_validate_json(done.model_dump_json()) == done


def test_what_a_slide_leaves_out_is_left_out_of_its_json():
    assert slide().model_dump(mode="json") == {"photo": "a.jpg", "start": [], "end": []}


def test_a_job_cannot_be_changed():
    with pytest.raises(InvalidJobError, match="zoom: the values of a job do not change"):
        job().zoom = 2


def walk(schema):
    """Yield every schema inside `schema`, itself first."""
    yield schema
    for key, value in schema.items():
        if key in {"properties", "$defs"}:
            for inner in value.values():
                yield from walk(inner)
        elif key == "items":
            yield from walk(value)


def models_below(schema, definitions):
    """Return how many levels of models lie below a model's schema."""
    depths = [0]
    for inner in walk({"properties": schema.get("properties", {})}):
        target = definitions.get(inner.get("$ref", "").removeprefix("#/$defs/"), {})
        if target.get("type") == "object":
            depths.append(1 + models_below(target, definitions))
    return max(depths)


SCHEMA = SlideshowJob.model_json_schema()


def test_the_form_keeps_the_order_of_its_fields():
    # What most people ask for stands first, and groups last; the kind of film, which is one, is no field.
    fields = [name for name in job().model_dump() if name != "film"]
    assert list(SCHEMA["properties"]) == fields
    assert fields[:6] == ["photos", "output", "size", "seconds_per_slide", "move", "fit"]
    assert fields[-3:] == ["base", "encoding", "machines"]
    assert list(SCHEMA["$defs"]["Encoding"]["properties"]) == ["codec", "encoder", "fallback", "preset", "quality"]


def test_fields_are_numbered_for_servers_that_keep_no_order():
    for schema in (SCHEMA, *(SCHEMA["$defs"][name] for name in ("Encoding", "Machines", "Slide"))):
        assert [field["position"] for field in schema["properties"].values()] == list(range(len(schema["properties"])))


@pytest.mark.parametrize("kind", FilmKind)
def test_a_kind_of_film_has_a_model_of_its_own(kind):
    model = job_model({"film": kind.value})
    assert issubclass(model, FilmJob)
    assert model.model_fields["film"].default is kind


def test_the_form_has_no_unions_and_no_nulls():
    for schema in walk(SCHEMA):
        assert not {"anyOf", "oneOf", "not"} & schema.keys(), schema
        assert len(schema.get("allOf", [])) <= 1, schema
        assert isinstance(schema.get("type", ""), str), schema
        assert schema.get("type") != "null"
        assert schema.get("default", ...) is not None, schema


def test_the_form_has_no_free_mappings():
    for schema in walk(SCHEMA):
        closed = "propertyNames" in schema or schema.get("additionalProperties") is False
        assert schema.get("type") != "object" or closed
        assert not schema.get("patternProperties")


def test_the_form_has_one_level_of_nested_models():
    assert models_below(SCHEMA, SCHEMA["$defs"]) == 1


@pytest.mark.parametrize("model", [SlideshowJob, Slide, Encoding, Machines])
def test_every_field_of_the_form_is_described(model):
    for name, field in model.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


SIZE_SENTENCE = (
    "'width x height, both even and from 64 to 8192 px, such as 1920x1080; "
    "or 720p, 1080p, 1440p, 4k, vertical, square' was expected"
)


def refusals(values):
    """Return what Prefect's API answers a job with, at which of its keys."""
    prefect = pytest.importorskip("prefect.utilities.schema_tools.validation")
    return {(error.json_path.removeprefix("$."), error.message) for error in prefect.validate(values, SCHEMA)}


@pytest.mark.parametrize(
    "words",
    [
        {},
        *[
            {"size": size}
            for size in ("64x64", "8192x8192", "1998x70", "320 x 180", "1920X1080", "4k", "1080P", "Square")
        ],
        *[{"output": output} for output in ("/o/", "/o.MP4", "s3://b/o.mp4", "s3://b/o/", "~/o.mp4")],
        *[{"photos": [photo]} for photo in ("/p", "~/p", "s3://b/p/", "https://host/p.jpg")],
        *[{"photos": ["p"], "output": "o.mp4", "base": base} for base in ("/b", "~/b")],
        {"base": ""},
        {"photos": [], "slides": [{"photo": "/a.jpg"}]},
        {"film": "slideshow", "sessions": 2, "strategy": "film", "render_on": ["nvenc", "cpu"]},
        {"machines": {"sessions": 2, "strategy": "film", "render_on": ["nvenc", "cpu"]}},
    ],
)
def test_the_schema_takes_what_a_job_may_be(words):
    assert not refusals({"photos": ["/a.jpg"], "output": "/o.mp4"} | words)


@pytest.mark.parametrize(
    ("words", "key", "sentence"),
    [
        *[
            (
                {"size": size},
                "size",
                SIZE_SENTENCE,
            )
            for size in ("321x181", "320x181", "62x64", "64x8194", "1920", "wide", "")
        ],
        ({"fps": "fast"}, "fps", "'frames per second, such as 25, 30 or 30000/1001' was expected"),
        *[
            (
                {"output": output},
                "output",
                "'a file ending in .mp4, or a folder ending in /; on the worker, or in s3://bucket/' was expected",
            )
            for output in ("/x.mov", "/x", "https://host/x.mp4", "s3:///x.mp4")
        ],
        ({"photos": []}, "photos", "[] should be non-empty"),
        ({"photos": ["/p", "p"]}, "photos[1]", "'a whole path, such as /films/trip/photos; or give base' was expected"),
        ({"output": "o.mp4"}, "output", "'a whole path, such as /films/trip/photos; or give base' was expected"),
        ({"base": "b"}, "base", "'an absolute folder of the worker, or nothing' was expected"),
        ({"slides": [{"photo": "/a.jpg"}]}, "photos", "'no photos, where slides are given' was expected"),
    ],
)
def test_the_schema_refuses_a_wrong_job_in_words(words, key, sentence):
    assert refusals({"photos": ["/a.jpg"], "output": "/o.mp4"} | words) == {(key, sentence)}


def test_the_schema_refuses_unknown_keys_and_a_job_without_pictures():
    (unknown,) = refusals({"photos": ["/a.jpg"], "output": "/o.mp4", "wibble": 1})
    assert unknown[1].startswith("'wibble' is not one of ['photos', ")
    assert refusals({"output": "/o.mp4"}) == {("$", "'photos' is a required property")}


def test_the_form_takes_what_a_job_writes():
    prefect = pytest.importorskip("prefect.utilities.schema_tools.validation")
    slides = {"output": "o/", "base": "/b", "slides": [{"photo": "a"}, {"photo": "b", "move": "still", "seconds": 3}]}
    for done in (job(base="/b"), parse_job(slides)):
        assert not prefect.validate(done.model_dump(mode="json"), SCHEMA, raise_on_error=False)


@pytest.mark.parametrize(
    ("size", "fps", "instead"),
    [
        ("8192x8192", "30", "a smaller size"),
        ("8192x4320", "240", "a smaller size, or codec hevc"),
    ],
)
def test_a_film_beyond_every_level_of_h264_is_refused(size, fps, instead):
    (line,) = mistakes({"output": "film.mp4", "photos": ["a.jpg"], "size": size, "fps": fps})
    assert line == (
        f"encoding: no level of h264 carries {size} at {fps} frames per second, so that no player "
        f"has to play it: ask for {instead}"
    )
    assert job(size=size, fps=fps, encoding={"codec": "hevc"}).size == size
