"""What every encoder that we reach through libavcodec has in common: planes in, packets out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import av
import av.error
import av.logging
import cv2
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from fanreel.codecs import Codec, EncoderChoice
from fanreel.errors import EncodeFaultError, EncoderError, EncoderSettingsError, EncoderUnavailableError
from fanreel.mp4.bitstream import open_bitstream
from fanreel.plan.encoding import EncodingPlan

__all__ = ["BT709", "LIMITED_RANGE", "EncodedPacket", "LibavEncoder", "open_context", "open_libav", "plane_views"]

BT709 = 1
"""Primaries, transfer and matrix alike. Source: ISO/IEC 23091-2 (CICP), tables 2 to 4."""

LIMITED_RANGE = 1
"""FFmpeg's number for 16 to 235 (AVCOL_RANGE_MPEG)."""

Explain = Callable[[str, Sequence[str]], EncoderError]
"""Makes an error of what was being done and of the lines that libavcodec said."""


@dataclass(frozen=True, slots=True)
class EncodedPacket:
    """One coded frame.

    Attributes:
        frame: Number of the frame fed to the encoder, from 0.
        keyframe: An IDR, or in AV1 a shown key frame: nothing after it refers to what came before.
        payload: As MP4 keeps it: length-prefixed NAL units, or OBUs without delimiters.
    """

    frame: int
    keyframe: bool
    payload: bytes


class LibavEncoder:
    """An open encoder of libavcodec, in this process.

    Args:
        context: The open codec; its pixel format is yuv420p or nv12.
        codec: What it writes.
        name: What the segments' records call the encoder.
        explain: Makes an error of a failure.
    """

    def __init__(self, context: VideoCodecContext, *, codec: Codec, name: str, explain: Explain) -> None:
        self.name = name
        self._stream = open_bitstream(codec, bytes(context.extradata or b""))
        self._context, self._explain = context, explain
        self._frame = av.VideoFrame(context.width, context.height, context.pix_fmt or "yuv420p")
        self._frame.time_base = context.time_base
        chroma = (2, context.height // 2, context.width // 2)
        self._chroma = np.empty(chroma, np.uint8) if context.pix_fmt == "nv12" else None
        self._fed = 0

    @property
    def parameter_sets(self) -> tuple[bytes, ...]:
        """The parameter sets of its packets; those of AV1 are known once there is a packet."""
        return self._stream.parameter_sets

    def encode(self, draw: Callable[[Sequence[np.ndarray]], None], *, keyframe: bool) -> Iterator[EncodedPacket]:
        """Have `draw` fill Y, U and V of the next frame, encode it, yield what is ready."""
        self._frame.make_writable()
        if self._chroma is None:
            draw(plane_views(self._frame))
        else:
            luma, chroma = plane_views(self._frame)
            draw((luma, *self._chroma))
            # NVENC reads U and V by turns: this takes 0.1 ms for 1080p and copies no luma.
            cv2.merge(list(self._chroma), chroma.reshape(*self._chroma.shape[1:], 2, copy=False))
        self._frame.pts = self._fed
        self._frame.pict_type = PictureType.I if keyframe else PictureType.NONE
        self._fed += 1
        yield from self._packets(self._frame)

    def finish(self) -> Iterator[EncodedPacket]:
        """Yield the packets still inside. Nothing can be encoded afterwards."""
        yield from self._packets(None)

    def _packets(self, frame: av.VideoFrame | None) -> Iterator[EncodedPacket]:
        # One by one: the last frames of a slow preset take long, and each packet shows that the encoder works.
        packets = self._context.encode_lazy(frame)
        while True:
            with _captured() as lines:
                try:
                    packet = next(packets, None)
                except av.error.FFmpegError as error:
                    raise self._explain(f"frame {self._fed - 1}", _with_reason(lines, error)) from None
            if packet is None:
                return
            if packet.pts is None:
                raise EncodeFaultError(f"{self.name} gave a packet without a time stamp")
            sample = self._stream.sample(bytes(packet), keyframe=packet.is_keyframe)
            yield EncodedPacket(packet.pts, packet.is_keyframe, sample)


def open_libav(
    plan: EncodingPlan,
    *,
    name: EncoderChoice,
    encoder: str,
    threads: int,
    options: dict[str, str],
    pixel_format: str = "yuv420p",
    explain: Explain | None = None,
) -> LibavEncoder:
    """Return an open encoder session for the frames of a plan.

    Args:
        plan: The encoding asked for.
        name: What the segments' records call the encoder.
        encoder: FFmpeg's name of it.
        threads: Threads that it may use.
        options: FFmpeg's options for it.
        pixel_format: yuv420p or nv12.
        explain: Makes an error of a refusal and of a fault; settings are to blame for every refusal if not given.

    Raises:
        EncoderUnavailableError: This build of PyAV has no such encoder.
        EncoderError: What `explain` makes of a refusal.
    """
    context = open_context(
        plan,
        encoder=encoder,
        pixel_format=pixel_format,
        threads=threads,
        options=options,
        explain=explain or partial(_refused, name.value),
    )
    return LibavEncoder(context, codec=plan.codec, name=name.value, explain=explain or partial(_failed, name.value))


def _refused(name: str, asked: str, said: Sequence[str]) -> EncoderSettingsError:
    return EncoderSettingsError(f"{name} refused {asked}: {'; '.join(said)}")


def _failed(name: str, place: str, said: Sequence[str]) -> EncodeFaultError:
    return EncodeFaultError(f"{name} failed at {place}: {'; '.join(said)}")


def plane_views(frame: av.VideoFrame) -> tuple[np.ndarray, ...]:
    """Return the planes of a frame as arrays (height, width) uint8 that share its memory.

    The second plane of nv12 holds U and V by turns: (height/2, width).
    """
    interleaved = frame.format.name == "nv12"
    return tuple(
        np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[  # type: ignore[arg-type]
            :, : plane.width * (2 if interleaved and place else 1)
        ]
        for place, plane in enumerate(frame.planes)
    )


def open_context(
    plan: EncodingPlan, *, encoder: str, pixel_format: str, threads: int, options: dict[str, str], explain: Explain
) -> VideoCodecContext:
    """Return an open codec for the frames of a plan, tagged BT.709 and limited range.

    Args:
        plan: Gives the size and the frame rate.
        encoder: FFmpeg's name of it.
        pixel_format: yuv420p or nv12.
        threads: Threads that the encoder may use.
        options: FFmpeg's options for it.
        explain: Makes an error of a refusal.

    Raises:
        EncoderUnavailableError: This build has no such encoder.
        EncoderError: What `explain` makes of a refusal.
    """
    try:
        context = cast("VideoCodecContext", av.CodecContext.create(encoder, "w"))
    except (av.error.FFmpegError, ValueError) as error:
        raise EncoderUnavailableError(f"this build of PyAV has no {encoder}: {error}") from None
    context.width, context.height, context.pix_fmt = plan.width_px, plan.height_px, pixel_format
    context.framerate, context.time_base = plan.frame_rate, 1 / plan.frame_rate
    context.color_primaries, context.color_trc, context.colorspace = BT709, BT709, BT709
    context.color_range = LIMITED_RANGE
    context.thread_count = threads
    context.flags |= Flags.global_header
    context.options = options
    with _captured() as lines:
        try:
            context.open()
        except (av.error.FFmpegError, ValueError) as error:
            raise explain(_describe(plan), _with_reason(lines, error)) from None
    return context


def _describe(plan: EncodingPlan) -> str:
    return f"{plan.width_px}x{plan.height_px} at {plan.frame_rate} fps, {plan.preset}, quality {plan.quality}"


def _with_reason(lines: Sequence[tuple[int, str, str]], error: Exception) -> list[str]:
    """Return the lines that were said; where there are none, what the exception says."""
    # Some lines come in pieces.
    said = [line.strip() for line in "".join(text for _, _, text in lines).splitlines() if line.strip()]
    return said or [getattr(error, "strerror", None) or str(error)]


@contextmanager
def _captured() -> Iterator[list[tuple[int, str, str]]]:
    """Yield the list that this thread's lines of libav go to, warnings among them, for some refusals are only warnings.

    PyAV's defaults capture nothing and drop a line that was said before.
    """
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as lines:
            yield lines
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)
