"""Encoders: planes in, packets out, one contract for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from fanreel.codecs import EncoderChoice
from fanreel.encode.libav import EncodedPacket
from fanreel.encode.nvenc import open_nvenc
from fanreel.encode.svt_av1 import open_svt_av1
from fanreel.encode.x264 import open_x264
from fanreel.encode.x265 import open_x265
from fanreel.plan.encoding import EncodingPlan

__all__ = ["Encoder", "open_encoder"]


class Encoder(Protocol):
    """An open encoder session. Packets come in decode order, some frames late."""

    name: str

    @property
    def parameter_sets(self) -> tuple[bytes, ...]:
        """The parameter sets of its packets, the same for all; those of AV1 are known once there is a packet."""
        ...

    def encode(self, draw: Callable[[Sequence[np.ndarray]], None], *, keyframe: bool) -> Iterator[EncodedPacket]:
        """Have `draw` fill Y, U and V of the next frame, encode it, yield what is ready."""
        ...

    def finish(self) -> Iterator[EncodedPacket]:
        """Yield the packets still inside. Nothing can be encoded afterwards."""
        ...


def open_encoder(plan: EncodingPlan, *, encoder: str, threads: int) -> Encoder:
    """Return an open session of an encoder.

    Args:
        plan: The encoding asked for.
        encoder: Which one of those that make the plan's codec.
        threads: Threads that it may use; NVENC needs none.

    Raises:
        EncoderUnavailableError: This machine has no such encoder.
        EncoderError: The encoder refuses the settings, or one more session; `nvenc_faults` lists NVENC's refusals.
    """
    if encoder == EncoderChoice.NVENC:
        return open_nvenc(plan)
    return _ON_CPU[EncoderChoice(encoder)](plan, threads=threads)


_ON_CPU: Mapping[EncoderChoice, Callable[..., Encoder]] = {
    EncoderChoice.X264: open_x264,
    EncoderChoice.X265: open_x265,
    EncoderChoice.SVT_AV1: open_svt_av1,
}
