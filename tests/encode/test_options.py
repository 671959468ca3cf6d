"""What is asked of the encoders: levels that every decoder can trust, and options that are kept with their revision.

What the options promise of a stream is tested on streams, in test_encoder.py.
"""

import hashlib
import json
import re
import subprocess
from dataclasses import asdict
from fractions import Fraction

import imageio_ffmpeg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanreel.codecs import CODEC_ENCODERS, ENCODER_NAMES, Codec, EncoderChoice
from fanreel.encode.nvenc import nvenc_options
from fanreel.encode.svt_av1 import av1_rate_factor, svt_av1_options
from fanreel.encode.x264 import x264_options
from fanreel.encode.x265 import x265_options
from fanreel.job.encoding import Encoding, Preset
from fanreel.plan.encoding import ENCODING_REVISION, allowed_encoders, encoder_bytes_per_pixel, plan_encoding
from fanreel.sessions.capacity import BASE_SESSION_BYTES

NTSC = Fraction(30000, 1001)

# Level: macroblocks a second, a frame, in the decoded picture buffer. Source: ITU-T H.264 (08/2021), table A-1, whole.
TABLE_A_1 = {
    "1.0": (1_485, 99, 396),
    "1.1": (3_000, 396, 900),
    "1.2": (6_000, 396, 2_376),
    "1.3": (11_880, 396, 2_376),
    "2.0": (11_880, 396, 2_376),
    "2.1": (19_800, 792, 4_752),
    "2.2": (20_250, 1_620, 8_100),
    "3.0": (40_500, 1_620, 8_100),
    "3.1": (108_000, 3_600, 18_000),
    "3.2": (216_000, 5_120, 20_480),
    "4.0": (245_760, 8_192, 32_768),
    "4.1": (245_760, 8_192, 32_768),
    "4.2": (522_240, 8_704, 34_816),
    "5.0": (589_824, 22_080, 110_400),
    "5.1": (983_040, 36_864, 184_320),
    "5.2": (2_073_600, 36_864, 184_320),
    "6.0": (4_177_920, 139_264, 696_320),
    "6.1": (8_355_840, 139_264, 696_320),
    "6.2": (16_711_680, 139_264, 696_320),
}


def planned(size="1920x1080", rate=30, **words):
    width, height = map(int, size.split("x"))
    return plan_encoding(Encoding(**words), width_px=width, height_px=height, frame_rate=Fraction(rate))


def level(size, rate, **words):
    return x264_options(planned(size, rate, **words)).parameters["level"]


def carries(name, size, rate, buffered):
    """Return whether a level's limits hold for a film, by the text of A.3.1 and table A-1."""
    a_second, a_frame, in_buffer = TABLE_A_1[name]
    across, down = (-(-int(side) // 16) for side in size.split("x"))
    return (
        across * down <= a_frame
        and across * down * rate <= a_second
        and across**2 <= 8 * a_frame
        and down**2 <= 8 * a_frame
        and across * down * buffered <= in_buffer
    )


@pytest.mark.parametrize("preset", list(Preset))
@pytest.mark.parametrize(
    ("size", "rate", "expected"),
    [
        ("640x360", 30, "3.0"),
        ("720x576", 25, "3.0"),
        ("1280x720", 25, "3.1"),
        ("1280x720", 30, "3.1"),
        ("1280x720", NTSC, "3.1"),
        ("1920x1080", 24, "4.0"),
        ("1920x1080", 30, "4.0"),
        ("1080x1920", 30, "4.0"),
        ("1920x1080", 50, "4.2"),
        ("1920x1080", 60, "4.2"),
        ("2560x1440", 30, "5.0"),
        ("3840x2160", 30, "5.1"),
        ("3840x2160", 60, "5.2"),
        ("7680x4320", 30, "6.0"),
        ("7680x4320", 60, "6.1"),
        ("8192x4320", 120, "6.2"),
    ],
)
def test_usual_films_have_their_usual_level(size, rate, expected, preset):
    assert level(size, rate, preset=preset) == expected


SIDES = st.integers(32, 4096).map(lambda half: 2 * half)


@settings(deadline=None, max_examples=200)
@given(SIDES, SIDES, st.sampled_from([1, 24, 25, NTSC, 50, 60, 120, 240]), st.sampled_from(list(Preset)))
def test_the_level_carries_the_film_wherever_one_does(width, height, rate, preset):
    # x264 keeps up to four pictures: max(references, 1 + reorder delay, 4 with a pyramid of B-frames).
    size, buffered = f"{width}x{height}", 4
    if any(carries(name, size, rate, buffered) for name in TABLE_A_1):
        assert carries(level(size, rate, preset=preset), size, rate, buffered)
    else:
        assert level(size, rate, preset=preset) == "6.2"


@pytest.mark.parametrize(("size", "expected"), [("8192x64", "5.1"), ("64x8192", "5.1"), ("4096x64", "4.0")])
def test_a_side_may_be_too_long_for_a_level_that_its_area_suits(size, expected):
    assert level(size, 24) == expected


def every_option():
    """Yield what each encoder is asked for with each preset."""
    for preset in Preset:
        yield asdict(x264_options(planned(preset=preset)))
        yield x265_options(planned(codec=Codec.HEVC, preset=preset), threads=2)
        yield svt_av1_options(planned(codec=Codec.AV1, preset=preset), threads=2)
        yield from (nvenc_options(planned(codec=codec, preset=preset)) for codec in Codec)


def test_options_that_change_raise_the_revision():
    # Segments that were made with other options must not be taken for those of these: a change here raises
    # ENCODING_REVISION with it.
    digest = hashlib.sha256(json.dumps(list(every_option()), sort_keys=True).encode()).hexdigest()
    assert (ENCODING_REVISION, digest[:16]) == (3, "8814f3f372f9091b")


@pytest.mark.parametrize("preset", list(Preset))
@pytest.mark.parametrize("size", ["1280x720", "1920x1080"])
def test_a_session_stays_below_its_share_of_memory(preset, size):
    plan = planned(size, preset=preset)
    assert encoder_bytes_per_pixel(plan) * plan.width_px * plan.height_px + BASE_SESSION_BYTES < 400e6


ALLOWED = {codec: (EncoderChoice.AUTO, *encoders) for codec, encoders in CODEC_ENCODERS.items()}


@pytest.mark.parametrize(("codec", "encoder"), [(codec, encoder) for codec in Codec for encoder in ALLOWED[codec]])
def test_the_plan_says_what_was_asked_for(codec, encoder):
    plan = planned("1080x1920", NTSC, codec=codec, encoder=encoder, preset=Preset.BEST, quality=18)
    assert (plan.codec, plan.encoder, plan.preset, plan.quality) == (codec, encoder, Preset.BEST, 18)
    only = tuple(choice.value for choice in CODEC_ENCODERS[codec])
    assert allowed_encoders(plan) == (only if encoder is EncoderChoice.AUTO else (encoder.value,))
    assert set(allowed_encoders(plan)) <= set(ENCODER_NAMES)
    assert (plan.width_px, plan.height_px, plan.frame_rate) == (1080, 1920, NTSC)


def test_av1_s_scale_never_falls_and_never_says_lossless():
    scale = [av1_rate_factor(quality) for quality in range(52)]
    assert scale == sorted(scale)
    assert (scale[0], scale[-1]) == (1, 63), "0 would stand for a default, and 63 is the worst"


@pytest.mark.parametrize("codec", list(Codec))
@pytest.mark.parametrize("preset", list(Preset))
def test_nvenc_has_every_option_that_it_is_asked_for(codec, preset):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-h", f"encoder={codec}_nvenc"]
    known = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    asked = nvenc_options(planned(codec=codec, preset=preset, quality=0))
    assert {name for name in asked if f"\n  -{name} " not in known} <= {"b", "g", "bf"}  # libavcodec's own
    for name in ("preset", "tune", "rc", "b_ref_mode", "profile"):
        if name in asked:
            part = known[known.index(f"\n  -{name} ") :]
            assert asked[name] in re.findall(r"\n     (\S+)", part[: part.index("\n  -", 3)])
    assert float(asked["cq"]) == 1
    assert int(asked["bf"]) <= max(1, planned(codec=codec).reorder_frames) * 2
