"""Encoders: planes in, packets out, one contract for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import av
import av.error
import av.logging
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from fanreel.errors import EncodeFaultError, EncoderSettingsError, EncoderUnavailableError
from fanreel.job import EncoderChoice
from fanreel.media.h264 import parameter_sets, to_length_prefixed
from fanreel.plan.encoding import EncodingPlan, x264_options

__all__ = ["BT709", "EncodedPacket", "Encoder", "X264Encoder", "open_encoder", "plane_views"]

BT709 = 1
"""Primaries, transfer and matrix alike. Source: ISO/IEC 23091-2 (CICP), tables 2 to 4."""

LIMITED_RANGE = 1
"""FFmpeg's number for 16 to 235 (AVCOL_RANGE_MPEG)."""


@dataclass(frozen=True, slots=True)
class EncodedPacket:
    """One coded frame.

    Attributes:
        frame: Number of the frame fed to the encoder, from 0.
        keyframe: An IDR.
        payload: Length-prefixed NAL units.
    """

    frame: int
    keyframe: bool
    payload: bytes


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


def open_encoder(plan: EncodingPlan, *, threads: int) -> Encoder:
    """Return an open session of the encoder that `plan` asks for.

    Args:
        plan: The encoding asked for.
        threads: Threads that the encoder may use.

    Raises:
        EncoderUnavailableError: This build has no such encoder.
        EncoderSettingsError: The encoder refuses the settings.
    """
    if plan.encoder is EncoderChoice.NVENC:
        raise EncoderUnavailableError(
            "encoder 'nvenc' is not supported yet; ask for 'auto' or 'x264' (`fanreel doctor` shows what there is)"
        )
    return X264Encoder(plan, threads=threads)


class X264Encoder:
    """libx264 through PyAV, in this process."""

    name = "x264"

    def __init__(self, plan: EncodingPlan, *, threads: int) -> None:
        self._context = _open_x264(plan, threads)
        self.parameter_sets = parameter_sets(bytes(self._context.extradata or b""))
        self._frame = av.VideoFrame(plan.width_px, plan.height_px, "yuv420p")
        self._frame.time_base = self._context.time_base
        self._fed = 0

    def encode(self, draw: Callable[[Sequence[np.ndarray]], None], *, keyframe: bool) -> Iterator[EncodedPacket]:
        """Have `draw` fill Y, U and V of the next frame, encode it, yield what is ready."""
        self._frame.make_writable()
        draw(plane_views(self._frame))
        self._frame.pts = self._fed
        self._frame.pict_type = PictureType.I if keyframe else PictureType.NONE
        self._fed += 1
        yield from self._packets(self._frame)

    def finish(self) -> Iterator[EncodedPacket]:
        """Yield the packets still inside. Nothing can be encoded afterwards."""
        yield from self._packets(None)

    def _packets(self, frame: av.VideoFrame | None) -> Iterator[EncodedPacket]:
        # One by one: the last frames of a slow preset take long, and each packet is a sign of life.
        packets = self._context.encode_lazy(frame)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                raise EncodeFaultError(f"x264 failed at frame {self._fed - 1}: {error}") from None
            if packet is None:
                return
            if packet.pts is None:
                raise EncodeFaultError("x264 gave a packet without a time stamp")
            yield EncodedPacket(packet.pts, packet.is_keyframe, to_length_prefixed(bytes(packet)))


def plane_views(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    """Return the planes of a frame as arrays (height, width) uint8 that share its memory."""
    return tuple(
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]  # type: ignore[arg-type]
        for plane in frame.planes
    )


def _open_x264(plan: EncodingPlan, threads: int) -> VideoCodecContext:
    options = x264_options(plan)
    try:
        context = av.CodecContext.create("libx264", "w")
    except (av.error.FFmpegError, ValueError) as error:
        raise EncoderUnavailableError(f"this build of PyAV has no libx264: {error}") from None
    context.width, context.height, context.pix_fmt = plan.width_px, plan.height_px, "yuv420p"
    context.framerate, context.time_base = plan.frame_rate, 1 / plan.frame_rate
    context.color_primaries, context.color_trc, context.colorspace = BT709, BT709, BT709
    context.color_range = LIMITED_RANGE
    context.thread_count = threads
    context.flags |= Flags.global_header
    context.options = {
        "preset": options.preset,
        "profile": options.profile,
        "crf": options.rate_factor,
        "forced-idr": "1",
        "x264-params": ":".join(f"{key}={value}" for key, value in options.parameters.items()),
    }
    _open(context, f"{plan.width_px}x{plan.height_px} at {plan.frame_rate} fps, {plan.preset}, quality {plan.quality}")
    return context


def _open(context: VideoCodecContext, asked: str) -> None:
    # At PyAV's defaults nothing is captured, and nothing is said a second time.
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    with av.logging.Capture() as lines:
        try:
            context.open()
        except (av.error.FFmpegError, ValueError) as error:
            said = "; ".join(text.strip() for _, _, text in lines) or getattr(error, "strerror", None) or str(error)
            raise EncoderSettingsError(f"x264 refused {asked}: {said}") from None
        finally:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)
