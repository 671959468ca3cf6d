"""The messages between a session and its owner. Imports no encoder, so that the owner need not load one."""

from __future__ import annotations

from dataclasses import dataclass

from fanreel.errors import FanreelError
from fanreel.plan.encoding import EncodingPlan
from fanreel.plan.film import FilmPlan
from fanreel.plan.segments import Segment
from fanreel.segments.record import SegmentRecord
from fanreel.sessions.gpus import Gpu

__all__ = [
    "MEMORY_ADVICE",
    "NVENC_CODECS",
    "CodecRequest",
    "CodecWorks",
    "FramesMade",
    "GpusFound",
    "HoldRequest",
    "ProbeRequest",
    "SegmentMade",
    "SessionEnded",
    "SessionFailed",
    "SessionMessage",
    "SessionRequest",
    "ShardRequest",
    "SurveyRequest",
]

MEMORY_ADVICE = "ask for a smaller size, a faster preset or fewer sessions, or allow more memory"

NVENC_CODECS = ("h264_nvenc", "hevc_nvenc", "av1_nvenc")
"""FFmpeg's names of NVENC's codecs, the oldest first."""


@dataclass(frozen=True, slots=True)
class ShardRequest:
    """Make segments of a film; answered by `FramesMade` and `SegmentMade`.

    Attributes:
        plan: The film.
        segments: Those to be made, in order.
        threads: Threads that the encoder may use.
        folder: Where segment files are made.
        encoder: Which encoder makes them.
        gpu: UUID of the GPU that it runs on; empty for the CPU.
    """

    plan: FilmPlan
    segments: tuple[Segment, ...]
    threads: int
    folder: str
    encoder: str
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """Try whether an encoder really makes packets, on one GPU.

    Attributes:
        encoding: What to encode: a few black frames of it.
        encoder: Which encoder.
        gpu: UUID of the GPU; empty for the CPU.
    """

    encoding: EncodingPlan
    encoder: str
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class SurveyRequest:
    """Look which GPUs a process may use; answered by `GpusFound`."""


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """Open an encoder and keep it open, until the session is ended by its owner.

    Attributes:
        encoding: What it is opened for.
        encoder: Which encoder.
        gpu: UUID of the GPU; empty for the CPU.
    """

    encoding: EncodingPlan
    encoder: str
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class CodecRequest:
    """Try whether NVENC makes packets of a codec, with FFmpeg's own settings for it; answered by `CodecWorks`.

    Attributes:
        codec: FFmpeg's name of the encoder, for example ``hevc_nvenc``.
        gpu: UUID of the GPU.
    """

    codec: str
    gpu: str


SessionRequest = ShardRequest | ProbeRequest | SurveyRequest | HoldRequest | CodecRequest


@dataclass(frozen=True, slots=True)
class FramesMade:
    """This many more frames have been fed to the encoder."""

    count: int


@dataclass(frozen=True, slots=True)
class SegmentMade:
    """A segment is complete: its record, and its file in the request's folder."""

    record: SegmentRecord
    path: str


@dataclass(frozen=True, slots=True)
class GpusFound:
    """The GPUs that CUDA shows a process of this machine."""

    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class CodecWorks:
    """The codec makes packets; sent again once the driver was asked for its engines.

    Attributes:
        engines: How many NVENC engines the GPU has; None if the driver does not say, or was not asked yet.
    """

    engines: int | None


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The session gives up, for this reason."""

    error: FanreelError


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """What was asked for has been done."""


SessionMessage = FramesMade | SegmentMade | GpusFound | CodecWorks | SessionFailed | SessionEnded
