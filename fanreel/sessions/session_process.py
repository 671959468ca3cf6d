"""What runs inside a session's process: one encoder session that makes the segments of one shard."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from fanreel.draw.frames import FrameSource
from fanreel.encode.encoder import Encoder, open_encoder
from fanreel.encode.libav import EncodedPacket
from fanreel.encode.nvenc_probe import count_engines, try_codec
from fanreel.errors import EncodeFaultError, FanreelError, SessionMemoryError, storage_error
from fanreel.plan.encoding import EncodingPlan
from fanreel.segments.record import SegmentRecord
from fanreel.segments.writer import SegmentWriter
from fanreel.sessions.gpus import list_gpus
from fanreel.sessions.messages import (
    MEMORY_ADVICE,
    CodecRequest,
    CodecWorks,
    FramesMade,
    GpusFound,
    HoldRequest,
    ProbeRequest,
    SegmentMade,
    SessionEnded,
    SessionFailed,
    SessionMessage,
    SessionRequest,
    ShardRequest,
    SurveyRequest,
)
from fanreel.settings import see_gpu

__all__ = ["run_session"]

PROBE_FRAMES = 8
"""Enough that packets come out before the end, whatever is held back."""

REPORT_SECONDS = 0.25
"""How often a session reports how many frames it has made; the owner takes longer silence for a hang."""


def run_session(connection: Connection) -> None:
    """Serve one request that comes over `connection`, and report over it.

    A `SessionRequest` comes in and `SessionMessage`s go out; both ends are this program.
    """
    # The owner closes the connection of a session that it no longer needs, and kills it.
    with contextlib.suppress(EOFError, ConnectionError):
        request: SessionRequest = connection.recv()
        try:
            for message in _answers(request):
                connection.send(message)
            connection.send(SessionEnded())
        except ConnectionError:
            raise
        except FanreelError as error:
            connection.send(SessionFailed(error))
        except OSError as error:
            place = request.folder if isinstance(request, ShardRequest) else "a session"
            connection.send(SessionFailed(storage_error(error, doing=f"render in {place}")))
        except MemoryError:
            connection.send(SessionFailed(SessionMemoryError(f"memory ran out; {MEMORY_ADVICE}")))


def _answers(request: SessionRequest) -> Iterator[SessionMessage]:
    match request:
        case SurveyRequest():
            yield GpusFound(list_gpus())
        case ProbeRequest():
            yield from _probe(request)
        case HoldRequest():
            yield from _hold(request)
        case CodecRequest():
            see_gpu(request.gpu)
            try_codec(request.codec)
            yield CodecWorks(None)
            yield CodecWorks(count_engines())
        case ShardRequest():
            yield from _messages(request)


def _probe(request: ProbeRequest) -> Iterator[FramesMade]:
    """Encode a few frames for real: an encoder may be listed, and even open, where it makes nothing."""
    encoder = _open(request.encoding, request.encoder, request.gpu, threads=1)
    packets = 0
    for frame in range(PROBE_FRAMES):
        packets += len(list(encoder.encode(_black, keyframe=frame == 0)))
        yield FramesMade(1)
    packets += len(list(encoder.finish()))
    if packets != PROBE_FRAMES:
        raise EncodeFaultError(f"{request.encoder} made {packets} packets of {PROBE_FRAMES} test frames")


def _hold(request: HoldRequest) -> Iterator[FramesMade]:
    encoder = _open(request.encoding, request.encoder, request.gpu, threads=1)
    while encoder:
        yield FramesMade(0)
        time.sleep(REPORT_SECONDS)


def _open(encoding: EncodingPlan, encoder: str, gpu: str, *, threads: int) -> Encoder:
    if gpu:
        see_gpu(gpu)
    return open_encoder(encoding, encoder=encoder, threads=threads)


def _black(planes: Sequence[np.ndarray]) -> None:
    for plane, value in zip(planes, (16, 128, 128), strict=True):
        plane.fill(value)


def _messages(request: ShardRequest) -> Iterator[SessionMessage]:
    reported_at, frames = -REPORT_SECONDS, 0  # at once: the owner learns that the encoder is open
    for made in _encode(request):
        if isinstance(made, SegmentMade):
            yield made
            continue
        frames += made
        if time.monotonic() - reported_at >= REPORT_SECONDS:
            yield FramesMade(frames)
            reported_at, frames = time.monotonic(), 0
    yield FramesMade(frames)


def _encode(request: ShardRequest) -> Iterator[SegmentMade | int]:
    """Yield 0 for the open encoder and for each packet, 1 for each frame fed, a message for each segment completed."""
    plan = request.plan
    encoder = _open(plan.encoding, request.encoder, request.gpu, threads=request.threads)
    yield 0
    source = FrameSource(
        plan.timeline,
        photo_paths=plan.photo_paths,
        width_px=plan.encoding.width_px,
        height_px=plan.encoding.height_px,
        ranges=[range(segment.start_frame, segment.end_frame) for segment in request.segments],
    )
    cutter = _Cutter(
        lambda writer: writer.finish(encoder=encoder.name, parameter_sets=encoder.parameter_sets, session=os.getpid())
    )
    with source:
        for segment in request.segments:
            writer = SegmentWriter(segment, encoding=plan.encoding, clock=plan.clock, folder=Path(request.folder))
            cutter.begin(writer)
            for frame in range(segment.start_frame, segment.end_frame):
                draw = partial(_draw, source, frame, writer)
                yield from cutter.add(encoder.encode(draw, keyframe=frame in segment.keyframes))
                yield 1
        yield from cutter.add(encoder.finish())
    cutter.check_empty()


def _draw(source: FrameSource, frame: int, writer: SegmentWriter, planes: Sequence[np.ndarray]) -> None:
    source.draw(frame, planes)
    writer.add_frame(planes)


class _Cutter:
    """Cuts the packets of one encoder session into segments at their forced IDRs.

    Packets come late, so up to two segments are open: one being fed, one waiting for its last packets.
    """

    def __init__(self, finish: Callable[[SegmentWriter], tuple[SegmentRecord, Path]]) -> None:
        self._finish = finish
        self._open: deque[SegmentWriter] = deque()
        self._first_fed = 0

    def begin(self, writer: SegmentWriter) -> None:
        """Expect the packets of one more segment."""
        self._open.append(writer)

    def add(self, packets: Iterator[EncodedPacket]) -> Iterator[SegmentMade | int]:
        """Hand packets to the segment that they belong to; yield 0 for each, and the segments that become complete."""
        for packet in packets:
            if not self._open:
                raise EncodeFaultError(f"the encoder gave a packet for frame {packet.frame}, which was not fed")
            writer = self._open[0]
            yield 0
            if writer.add_packet(packet, frame=packet.frame - self._first_fed):
                self._first_fed += writer.segment.frame_count
                record, path = self._finish(self._open.popleft())
                yield SegmentMade(record, str(path))

    def check_empty(self) -> None:
        """Raise `EncodeFaultError` if a segment still lacks packets."""
        if self._open:
            indices = [writer.segment.index for writer in self._open]
            raise EncodeFaultError(f"the encoder ended before it gave every packet of the segments {indices}")
