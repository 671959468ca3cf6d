"""Encoders: planes in, packets out, one contract for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from fanreel.job import EncoderChoice
from fanreel.media.libav import EncodedPacket
from fanreel.media.nvenc import open_nvenc
from fanreel.media.x264 import open_x264
from fanreel.plan.encoding import EncodingPlan

__all__ = ["Encoder", "open_encoder"]


class Encoder(Protocol):
    """An open encoder session. Packets come in decode order, some frames late."""

    name: str
    parameter_sets: tuple[bytes, bytes]

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
        encoder: Which one, one of `EncoderChoice` but `auto`.
        threads: Threads that it may use; NVENC needs none.

    Raises:
        EncoderUnavailableError: This machine has no such encoder.
        EncoderError: The encoder refuses the settings, or one more session; NVENC's are in `nvenc_faults`.
    """
    if encoder == EncoderChoice.NVENC:
        return open_nvenc(plan)
    return open_x264(plan, threads=threads)
