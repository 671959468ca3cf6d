"""A small picture of a film, for pages that show what was made."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace

from fanreel.errors import FilmDamagedError
from fanreel.mp4.containers import open_mp4

__all__ = ["draw_poster"]

LONGEST_SIDE_PX = 480


def draw_poster(film: Path) -> bytes:
    """Return a frame from the middle of a film as a JPEG of at most 480 px a side.

    Raises:
        FilmDamagedError: It has no frame that can be decoded.
    """
    try:
        with open_mp4(film) as container:
            stream = container.streams.video[0]
            container.seek((container.duration or 0) // 2)
            frame = next(container.decode(stream))
        return _jpeg(frame)
    except (av.error.FFmpegError, IndexError, StopIteration) as error:
        raise FilmDamagedError(f"{film}: no picture of it can be drawn: {error}") from None


def _jpeg(frame: av.VideoFrame) -> bytes:
    scale = min(1, LONGEST_SIDE_PX / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale / 2) * 2) for side in (frame.width, frame.height))
    # Films are BT.709 in limited range; JPEG is BT.601 in full range (JFIF 1.02, "Colour space").
    small = frame.reformat(
        width,
        height,
        format="yuvj420p",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU601,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    small.pts = None
    encoder = cast("VideoCodecContext", av.CodecContext.create("mjpeg", "w"))
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuvj420p", Fraction(1, 25)
    encoder.bit_rate = width * height * 40  # some 30 kB for the largest
    return b"".join(bytes(packet) for packet in [*encoder.encode(small), *encoder.encode(None)])
