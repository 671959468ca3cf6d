"""Coded streams, codec by codec: from an encoder's packets to the samples that MP4 keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fanreel.codecs import Codec
from fanreel.errors import EncodeFaultError
from fanreel.mp4 import av1, h264, hevc
from fanreel.mp4.nal import to_length_prefixed

__all__ = ["FORMS", "Bitstream", "Form", "open_bitstream"]


@dataclass(frozen=True, slots=True)
class Form:
    """How a codec is named and described in files.

    Attributes:
        decoder: libavcodec's name of the decoder used here. libavcodec's own decoder for AV1 needs a GPU.
        sample_entry: The box that describes a track whose parameter sets stand in `record` alone.
        record: The box in it that configures a decoder.
        parameter_sets: How many an encoder session has: SPS and PPS; VPS, SPS and PPS; the sequence header OBU.
    """

    decoder: str
    sample_entry: str
    record: str
    parameter_sets: int


FORMS: Mapping[Codec, Form] = {
    Codec.H264: Form("h264", "avc1", "avcC", 2),
    Codec.HEVC: Form("hevc", "hvc1", "hvcC", 3),
    Codec.AV1: Form("libdav1d", "av01", "av1C", 1),
}


class Bitstream(Protocol):
    """What one encoder session writes. The parameter sets are known at the latest with its first packet."""

    parameter_sets: tuple[bytes, ...]

    def sample(self, packet: bytes, *, keyframe: bool) -> bytes:
        """Return the next packet as an MP4 sample."""
        ...


def open_bitstream(codec: Codec, extradata: bytes) -> Bitstream:
    """Return the stream of an encoder that has just been opened.

    Args:
        codec: What it encodes.
        extradata: Its extradata, which may hold parameter sets.

    Raises:
        EncodeFaultError: The encoder gave no parameter sets.
    """
    if codec is Codec.AV1:
        return _ObuStream(extradata)
    find = hevc.parameter_sets if codec is Codec.HEVC else h264.parameter_sets
    return _NalStream(find(extradata))


class _NalStream:
    """H.264 or HEVC: NAL units after their lengths, parameter sets outside."""

    def __init__(self, parameter_sets: tuple[bytes, ...]) -> None:
        self.parameter_sets = parameter_sets

    def sample(self, packet: bytes, *, keyframe: bool) -> bytes:
        return to_length_prefixed(packet)


class _ObuStream:
    """AV1: every keyframe begins with the sequence header, the same one for the whole session.

    Source: AV1 Codec ISO Media File Format Binding, 2.4 (samples) and 2.5 (sync samples).
    """

    def __init__(self, extradata: bytes) -> None:
        # Some encoders give an `av1C` record, whose first bit is 1; no OBU begins so.
        stream = extradata[4:] if extradata[:1] >= b"\x80" else extradata
        # Only a fallback: SVT-AV1 chooses its tools later, and codes another header than it gives here.
        self._told = _headers(_read_obus(stream))
        self.parameter_sets: tuple[bytes, ...] = ()

    def sample(self, packet: bytes, *, keyframe: bool) -> bytes:
        units = _read_obus(packet)
        headers = _headers(units)
        before = self._told[:1] if keyframe and not headers else []
        headers += before
        if len(headers) > 1 or (keyframe and not headers):
            raise EncodeFaultError(f"a packet has {len(headers)} sequence headers{', a keyframe' if keyframe else ''}")
        if headers and self.parameter_sets not in ((), (headers[0],)):
            was = self.parameter_sets[0].hex()
            raise EncodeFaultError(f"the encoder changed its sequence header from {was} to {headers[0].hex()}")
        if headers:
            self.parameter_sets = (headers[0],)
        return b"".join([*before, *(unit for kind, unit in units if kind not in (av1.TEMPORAL_DELIMITER, av1.PADDING))])


def _read_obus(data: bytes) -> list[tuple[int, bytes]]:
    try:
        return list(av1.obus(data))
    except ValueError as error:
        raise EncodeFaultError(f"the encoder gave no AV1: {error}") from None


def _headers(units: Sequence[tuple[int, bytes]]) -> list[bytes]:
    return [unit for kind, unit in units if kind == av1.SEQUENCE_HEADER]
