"""The encoder x264: how it is asked for an encoding, and opened through PyAV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fanreel.codecs import EncoderChoice
from fanreel.encode.libav import LibavEncoder, open_libav
from fanreel.job.encoding import Preset
from fanreel.plan.encoding import EncodingPlan

__all__ = ["X264Options", "open_x264", "x264_options"]


def open_x264(plan: EncodingPlan, *, threads: int) -> LibavEncoder:
    """Return an open session of libx264.

    Raises:
        EncoderUnavailableError: This build has no libx264.
        EncoderSettingsError: It refuses the settings.
    """
    asked = x264_options(plan)
    options = {
        "preset": asked.preset,
        "profile": asked.profile,
        "crf": asked.rate_factor,
        "forced-idr": "1",
        "x264-params": ":".join(f"{key}={value}" for key, value in asked.parameters.items()),
    }
    return open_libav(plan, name=EncoderChoice.X264, encoder="libx264", threads=threads, options=options)


@dataclass(frozen=True, slots=True)
class X264Options:
    """How libx264 is opened: preset, profile and constant rate factor, and the stream's features pinned."""

    preset: str
    profile: str
    rate_factor: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Options:
    """What a preset asks of x264 beyond what every stream of ours has.

    Attributes:
        b_frames: B-frames in a row.
        cabac: Arithmetic coding; without it a frame costs less and has more bytes.
        deblock: Whether the edges of blocks are smoothed.
        search: Options that no parameter set shows: how motion is sought and bits are shared out.
    """

    b_frames: int
    cabac: bool
    deblock: bool
    search: Mapping[str, str]


_BASE = "ultrafast"
_REFERENCES = 1
# Each takes the least CPU time at VMAF 93 on films of moving stills for its bytes: docs/decisions/0010. What is not
# named is as in x264's ultrafast. Nothing looks ahead: that saves bytes, but triples the time, and where it ends,
# before a join, frames were 1 dB worse than their neighbours. `qcomp` and `ipratio` are such that a session's
# first frames are neither better nor worse than those after any other keyframe.
_OPTIONS = {
    Preset.DRAFT: _Options(
        b_frames=3, cabac=False, deblock=False, search={"qcomp": "0.72", "ipratio": "1.35", "pbratio": "1.5"}
    ),
    Preset.FAST: _Options(
        b_frames=3,
        cabac=True,
        deblock=False,
        search={"subme": "1", "qcomp": "0.72", "ipratio": "1.35", "pbratio": "1.5"},
    ),
    Preset.BALANCED: _Options(
        b_frames=5,
        cabac=True,
        deblock=True,
        search={"subme": "2", "trellis": "1", "ipratio": "1.3", "pbratio": "1.5"},
    ),
    Preset.BEST: _Options(
        b_frames=3,
        cabac=True,
        deblock=True,
        search={"subme": "4", "trellis": "1", "ipratio": "1.2", "pbratio": "1.4"},
    ),
}

# Level, macroblocks a frame, macroblocks a second, macroblocks of decoded picture buffer.
# Source: ITU-T H.264 (08/2021), table A-1.
_LEVELS = (
    ("3.0", 1_620, 40_500, 8_100),
    ("3.1", 3_600, 108_000, 18_000),
    ("4.0", 8_192, 245_760, 32_768),
    ("4.2", 8_704, 522_240, 34_816),
    ("5.0", 22_080, 589_824, 110_400),
    ("5.1", 36_864, 983_040, 184_320),
    ("5.2", 36_864, 2_073_600, 184_320),
    ("6.0", 139_264, 4_177_920, 696_320),
    ("6.1", 139_264, 8_355_840, 696_320),
    ("6.2", 139_264, 16_711_680, 696_320),
)


def x264_options(plan: EncodingPlan) -> X264Options:
    """Return how libx264 makes what `plan` asks for.

    Keyframes come where the segments' plan forces them and nowhere else; parameter sets have id 1, so
    that an encoder whose sets have id 0 (NVENC's default) can share one film.
    """
    options = _OPTIONS[plan.preset]
    parameters = {
        "sps-id": "1",
        "keyint": "infinite",
        "scenecut": "0",
        "open-gop": "0",
        "bframes": str(options.b_frames),
        "b-adapt": "0",
        "b-pyramid": "normal",
        "ref": str(_REFERENCES),
        "cabac": str(int(options.cabac)),
        "8x8dct": "1",
        "weightp": "0",
        "weightb": "0",
        "no-deblock": str(int(not options.deblock)),
        "rc-lookahead": "0",
        "mbtree": "0",
        "level": _lowest_level(plan, references=max(_REFERENCES, 1 + plan.reorder_frames)),
        "stitchable": "1",
        **options.search,
    }
    return X264Options(
        preset=_BASE,
        profile="high",
        # x264 takes less than 1 for lossless, which is another profile that few players know.
        rate_factor=str(max(1, plan.quality)),
        parameters=parameters,
    )


def _lowest_level(plan: EncodingPlan, *, references: int) -> str:
    # The longer side has a limit of its own: sqrt(8 x macroblocks a frame), A.3.1 of the same text.
    across, down = -(-plan.width_px // 16), -(-plan.height_px // 16)
    macroblocks, longer = across * down, max(across, down)
    for level, frame_limit, rate_limit, buffer_limit in _LEVELS:
        fits = macroblocks <= frame_limit and longer**2 <= 8 * frame_limit
        fits = fits and macroblocks * plan.frame_rate <= rate_limit
        if fits and macroblocks * references <= buffer_limit:
            return level
    return _LEVELS[-1][0]
