"""The encoder x264: how it is asked for an encoding, and opened through PyAV."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fanreel.codecs import HIGHEST_H264_LEVEL, EncoderChoice, h264_level
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
    Preset.DRAFT: _Options(b_frames=3, cabac=False, deblock=False, search={"ipratio": "1.35", "pbratio": "1.5"}),
    Preset.FAST: _Options(
        b_frames=3, cabac=True, deblock=False, search={"subme": "1", "ipratio": "1.35", "pbratio": "1.5"}
    ),
    Preset.BALANCED: _Options(
        b_frames=5, cabac=True, deblock=True, search={"subme": "2", "ipratio": "1.3", "pbratio": "1.5"}
    ),
    Preset.BEST: _Options(
        b_frames=3, cabac=True, deblock=True, search={"subme": "4", "ipratio": "1.2", "pbratio": "1.4"}
    ),
}

# Without these a dark sky, whose gradient has few codes, comes out in bands: blocks of little contrast get more bits,
# and small coefficients are kept (trellis would drop them again). What they cost: docs/decisions/0010.
_SMOOTH = {"qcomp": "0.72", "aq-mode": "1", "deadzone-intra": "6", "deadzone-inter": "12"}


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
        "level": _level(plan),
        "stitchable": "1",
        **_SMOOTH,
        **options.search,
    }
    return X264Options(
        preset=_BASE,
        profile="high",
        # x264 takes less than 1 for lossless, which is another profile that few players know.
        rate_factor=str(max(1, plan.quality)),
        parameters=parameters,
    )


def _level(plan: EncodingPlan) -> str:
    """Return the level that the stream claims: the highest for a film that no level carries."""
    carries = h264_level(
        width_px=plan.width_px,
        height_px=plan.height_px,
        frame_rate=plan.frame_rate,
        pictures=max(_REFERENCES, 1 + plan.reorder_frames),
    )
    return carries or HIGHEST_H264_LEVEL
