"""Which work pools may render a film, with which encoders, and how fast one child of each is estimated to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from fanreel.codecs import EncoderChoice
from fanreel.errors import InvalidJobError
from fanreel.plan.encoding import EncodingPlan, allowed_encoders

__all__ = ["DeviceKind", "MeasuredSpeed", "PoolChoice", "choose_pools", "encoders_on", "expect_fps"]


class DeviceKind(StrEnum):
    """What the workers of a pool encode with."""

    GPU = "gpu"
    CPU = "cpu"


UNMEASURED_PX_PER_SECOND: Mapping[DeviceKind, float] = {DeviceKind.GPU: 4e8, DeviceKind.CPU: 6e7}
"""Pixels a second that one session is taken to encode where no host was calibrated: 200 and 30 frames of 1080p.
They decide the size of the first shards only; within minutes the film's own children show their speed."""


@dataclass(frozen=True, slots=True)
class MeasuredSpeed:
    """The speed of one session on a calibrated host.

    Attributes:
        device: The kind of device that encodes.
        px_per_second: Pixels that it encodes a second.
    """

    device: DeviceKind
    px_per_second: float


@dataclass(frozen=True, slots=True)
class PoolChoice:
    """The pools of a film.

    Attributes:
        devices: What each pool encodes with, the preferred pool first; at least one.
        encoders: The encoders whose segments the film may have, the best one first.
        left_out: Pools that the job names and that cannot make the film.
    """

    devices: Mapping[str, DeviceKind]
    encoders: tuple[str, ...]
    left_out: tuple[str, ...]


def choose_pools(encoding: EncodingPlan, devices: Mapping[str, DeviceKind]) -> PoolChoice:
    """Return which of the pools may render a film, and with which encoders.

    An H.264 film may have segments of several encoders, unless the job says `fallback: never`: then every pool with an
    encoder that the job allows may render it. All other films get the pools that have the best of these encoders.

    Args:
        encoding: What the job asks of the encoder.
        devices: What each pool that the job names encodes with, the preferred one first.

    Raises:
        InvalidJobError: No pool has an encoder that the job allows.
    """
    allowed = allowed_encoders(encoding)
    encoders = tuple(name for name in allowed if any(encoders_on(device, [name]) for device in devices.values()))
    if not encoders:
        raise InvalidJobError(
            f"render_on: none of {', '.join(devices)} makes {encoding.codec} with {' or '.join(allowed)}; "
            "name a pool that does, or ask for encoder: auto"
        )
    if not encoding.may_mix_encoders:
        encoders = encoders[:1]
    kept = {pool: device for pool, device in devices.items() if encoders_on(device, encoders)}
    return PoolChoice(kept, encoders, tuple(pool for pool in devices if pool not in kept))


def encoders_on(device: DeviceKind, encoders: Iterable[str]) -> tuple[str, ...]:
    """Return which of `encoders` run on a device of this kind, in their order."""
    return tuple(name for name in encoders if (name == EncoderChoice.NVENC) is (device is DeviceKind.GPU))


def expect_fps(encoding: EncodingPlan, device: DeviceKind, measured: Iterable[MeasuredSpeed]) -> float:
    """Return how many frames of a film one child is estimated to make a second: the median of the calibrated hosts.

    Which host has the workers of which pool is not known, and changes.
    """
    known = [speed.px_per_second for speed in measured if speed.device is device and speed.px_per_second > 0]
    return (median(known) if known else UNMEASURED_PX_PER_SECOND[device]) / (encoding.width_px * encoding.height_px)
