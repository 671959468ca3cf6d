"""Which work pools may render a film, with which encoders, and how fast one child of each is thought to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from fanreel.codecs import Codec, EncoderChoice
from fanreel.errors import InvalidJobError
from fanreel.job.slideshow import Fallback
from fanreel.plan.encoding import EncodingPlan, allowed_encoders

__all__ = ["DeviceKind", "MeasuredSpeed", "PoolChoice", "choose_pools", "encoders_on", "expect_fps"]


class DeviceKind(StrEnum):
    """What the workers of a pool encode with."""

    GPU = "gpu"
    CPU = "cpu"


UNMEASURED_PX_PER_SECOND: Mapping[DeviceKind, float] = {DeviceKind.GPU: 4e8, DeviceKind.CPU: 6e7}
"""Pixels that one session is taken to encode a second as long as no host was calibrated: 200 and 30 frames of 1080p.
They decide how large the first shards are, and nothing else; what a film's own children do is seen within minutes."""


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """What one session of a calibrated host makes.

    Attributes:
        device: Of which kind.
        px_per_second: Pixels a second.
    """

    device: DeviceKind
    px_per_second: float


@dataclass(frozen=True, slots=True)
class PoolChoice:
    """The pools of a film.

    Attributes:
        devices: What each encodes with, the preferred pool first; at least one.
        encoders: Whose segments the film may have, the best one first.
        left_out: Pools that were named and cannot make it.
    """

    devices: Mapping[str, DeviceKind]
    encoders: tuple[str, ...]
    left_out: tuple[str, ...]


def choose_pools(encoding: EncodingPlan, devices: Mapping[str, DeviceKind]) -> PoolChoice:
    """Return which of the pools may render a film, and with which encoders.

    All that have an encoder which the job allows may, where segments of two encoders can share the film: in H.264,
    unless the job forbids that any but the best one makes some. Else those that have the best encoder among them.

    Args:
        encoding: What is asked of the encoder.
        devices: What each pool that the job names encodes with, the preferred one first.

    Raises:
        InvalidJobError: None of them has such an encoder.
    """
    allowed = allowed_encoders(encoding)
    encoders = tuple(name for name in allowed if any(encoders_on(device, [name]) for device in devices.values()))
    if not encoders:
        raise InvalidJobError(
            f"render_on: none of {', '.join(devices)} makes {encoding.codec} with {' or '.join(allowed)}; "
            "name a pool that does, or ask for encoder: auto"
        )
    may_mix = encoding.codec is Codec.H264 and encoding.fallback is not Fallback.NEVER
    if not may_mix:
        encoders = encoders[:1]
    kept = {pool: device for pool, device in devices.items() if encoders_on(device, encoders)}
    return PoolChoice(kept, encoders, tuple(pool for pool in devices if pool not in kept))


def encoders_on(device: DeviceKind, encoders: Iterable[str]) -> tuple[str, ...]:
    """Return which of `encoders` run on a device of this kind, in their order."""
    return tuple(name for name in encoders if (name == EncoderChoice.NVENC) is (device is DeviceKind.GPU))


def expect_fps(encoding: EncodingPlan, device: DeviceKind, measured: Iterable[MeasuredSpeed]) -> float:
    """Return how many frames of a film one child is thought to make a second, by what calibrated hosts do.

    The median of the hosts: which of them has which pool's workers is not known, and changes.
    """
    known = [speed.px_per_second for speed in measured if speed.device is device and speed.px_per_second > 0]
    return (median(known) if known else UNMEASURED_PX_PER_SECOND[device]) / (encoding.width_px * encoding.height_px)
