"""Sample entries: how an MP4 file describes a codec to players.

Source: ISO/IEC 14496-14 (``mp4a``), 14496-15 (``avc1``, ``hvc1``) and the AV1 Codec ISO Media File Format Binding
(``av01``); the section is at each function.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence

from fanreel.codecs import Codec
from fanreel.mp4 import av1, hevc
from fanreel.mp4.bits import BitReader
from fanreel.mp4.bitstream import FORMS
from fanreel.mp4.boxes import box, full_box
from fanreel.mp4.h264 import PPS, SPS

__all__ = ["Colour", "mp4a_sample_entry", "video_sample_entry"]

# The profiles whose decoder record also has chroma format and bit depths (14496-15, 5.3.3.1.2).
HIGH_PROFILES = (100, 110, 122, 144)

Colour = tuple[int, int, int, bool]
"""Primaries, transfer and matrix as in ISO/IEC 23091-2, and whether the range is full."""


def video_sample_entry(
    codec: Codec,
    *,
    width: int,
    height: int,
    parameter_sets: Sequence[tuple[bytes, ...]],
    colour: Colour | None = None,
) -> bytes:
    """Return the box that describes a video track with square pixels and all its parameter sets.

    Args:
        codec: What it is coded in.
        width: Width in pixels.
        height: Height in pixels.
        parameter_sets: Units without start codes, as `Form.parameter_sets` counts them, one tuple for each encoder
            setting of the film. HEVC and AV1 have one.
        colour: Primaries, transfer, matrix (ISO/IEC 23091-2 codes) and whether the range is full; None writes no tag.

    Raises:
        ValueError: A unit is of another type, or no decoder could tell two different ones apart.

    Source: 14496-12, 12.1.3-12.1.5; 14496-15, 5.4.2 and 8.4.1; AV1 binding, 2.2.
    """
    picture = struct.pack(">6xH16xHHII4xH32xHh", 1, width, height, 0x480000, 0x480000, 1, 0x18, -1)
    parts = [_RECORDS[codec](parameter_sets)]
    if colour is not None:
        parts.append(box("colr", struct.pack(">4sHHHB", b"nclx", *colour[:3], colour[3] << 7)))
    return box(FORMS[codec].sample_entry, picture, *parts, box("pasp", struct.pack(">II", 1, 1)))


def _avcc(parameter_sets: Sequence[tuple[bytes, ...]]) -> bytes:
    """Return the decoder record: what holds for every set of the track. Source: 14496-15, 5.3.3.1.2."""
    sequences = _distinct_units([sps for sps, _ in parameter_sets], unit_type=SPS)
    pictures = _distinct_units([pps for _, pps in parameter_sets], unit_type=PPS)
    compatibility = sequences[0][2]
    for sps in sequences:
        compatibility &= sps[2]
    level = max(sps[3] for sps in sequences)
    head = bytes((1, sequences[0][1], compatibility, level, 0xFC | 3, 0xE0 | len(sequences)))
    units = _with_lengths(sequences) + bytes((len(pictures),)) + _with_lengths(pictures)
    return box("avcC", head, units, _high_profile_fields(sequences))


def _with_lengths(units: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack(">H", len(unit)) + unit for unit in units)


def _distinct_units(units: Sequence[bytes], *, unit_type: int) -> list[bytes]:
    """Return `units` in order without repeats; each must have an id of its own."""
    by_id: dict[int, bytes] = {}
    for unit in units:
        if not unit or unit[0] & 31 != unit_type:
            raise ValueError(f"a NAL unit of type {unit_type} was expected, not {unit[:8].hex() or 'an empty one'}")
        unit_id = _first_values(unit, start_byte=4 if unit_type == SPS else 1, count=1)[0]
        if by_id.setdefault(unit_id, unit) != unit:
            name = "SPS" if unit_type == SPS else "PPS"
            raise ValueError(f"two different {name} have the id {unit_id}; give each encoder an id of its own")
    # The decoder record counts SPS in five bits and PPS in eight.
    if not 0 < len(by_id) <= (31 if unit_type == SPS else 255):
        raise ValueError(f"an avc1 track cannot have {len(by_id)} NAL units of type {unit_type}")
    return list(by_id.values())


def _high_profile_fields(sequences: Sequence[bytes]) -> bytes:
    """Return chroma format and bit depths where the profile wants them, else nothing."""
    if sequences[0][1] not in HIGH_PROFILES:
        return b""
    formats = {tuple(_first_values(sps, start_byte=4, count=4)[1:]) for sps in sequences if sps[1] in HIGH_PROFILES}
    if len(formats) > 1:
        raise ValueError(f"the SPS differ in chroma format or bit depth: {sorted(formats)}; encode all alike")
    chroma, luma_depth, chroma_depth = formats.pop()
    return bytes((0xFC | chroma, 0xF8 | luma_depth, 0xF8 | chroma_depth, 0))


def _first_values(unit: bytes, *, start_byte: int, count: int) -> list[int]:
    """Return `count` Exp-Golomb numbers of a NAL unit. Source: ITU-T H.264, 7.3.2.1, 7.3.2.2 and 9.1."""
    # No value asked for here can put two zero bytes in a row, so no emulation prevention byte comes before its end.
    bits = BitReader(unit[start_byte : start_byte + 32])
    return [bits.read_exponential() for _ in range(count)]


def _hvcc(parameter_sets: Sequence[tuple[bytes, ...]]) -> bytes:
    """Return the decoder record; all parameter sets stand in it and none in a sample. Source: 14496-15, 8.3.3.1.2."""
    units = _only(parameter_sets)
    wanted = (hevc.VPS, hevc.SPS, hevc.PPS)
    if tuple(map(hevc.unit_type, units)) != wanted:
        raise ValueError(f"NAL units of types {wanted} were expected, not {[unit[:4].hex() for unit in units]}")
    sequence = hevc.read_sequence(units[1])
    head = struct.pack(
        ">B12sHBBBBHBB",
        1,
        sequence.profile_tier_level,
        0xF000,  # says nothing of parts of a picture that decode side by side
        0xFC,
        0xFC | sequence.chroma_format,
        0xF8 | sequence.luma_depth,
        0xF8 | sequence.chroma_depth,
        0,  # nor of the frame rate, which the track's own tables have
        sequence.temporal_layers << 3 | sequence.temporal_nested << 2 | 3,
        len(units),
    )
    arrays = [struct.pack(">BHH", 0x80 | kind, 1, len(unit)) + unit for kind, unit in zip(wanted, units, strict=True)]
    return box("hvcC", head, *arrays)


def _av1c(parameter_sets: Sequence[tuple[bytes, ...]]) -> bytes:
    """Return the decoder record. Source: AV1 binding, 2.3.3; 4:2:0 is all that the main profile has."""
    (header,) = _only(parameter_sets)
    sequence = av1.read_sequence(header)
    samples = sequence.tier << 7 | sequence.ten_bits << 6 | sequence.monochrome << 4 | 0b1100 | sequence.chroma_position
    return box("av1C", bytes((0x81, sequence.profile << 5 | sequence.level, samples, 0)), header)


def _only(parameter_sets: Sequence[tuple[bytes, ...]]) -> tuple[bytes, ...]:
    distinct = list(dict.fromkeys(parameter_sets))
    if len(distinct) != 1:
        raise ValueError(f"{len(distinct)} sets of parameter sets; a film in HEVC or AV1 is of one encoder and setting")
    return distinct[0]


_RECORDS: Mapping[Codec, Callable[[Sequence[tuple[bytes, ...]]], bytes]] = {
    Codec.H264: _avcc,
    Codec.HEVC: _hvcc,
    Codec.AV1: _av1c,
}


def mp4a_sample_entry(*, channels: int, sample_rate: int, audio_specific_config: bytes) -> bytes:
    """Return the ``mp4a`` box of an AAC track; only the config has a rate that 16 bits cannot hold.

    Source: 14496-12, 12.2.3; 14496-14, 5.6.1; 14496-1, 7.2.6 (object type 0x40 is MPEG-4 audio, stream type 5).
    """
    sound = struct.pack(">6xH8xHH4xI", 1, channels, 16, sample_rate << 16 if sample_rate < 2**16 else 0)
    decoder = _descriptor(4, bytes((0x40, 5 << 2 | 1)) + bytes(11) + _descriptor(5, audio_specific_config))
    stream = _descriptor(3, bytes(3) + decoder + _descriptor(6, b"\x02"))
    return box("mp4a", sound, full_box("esds", stream))


def _descriptor(tag: int, payload: bytes) -> bytes:
    """Return a descriptor with its length in four groups of seven bits. Source: 14496-1, 8.3.3."""
    lengths = [0x80 | len(payload) >> shift & 0x7F for shift in (21, 14, 7)]
    return bytes((tag, *lengths, len(payload) & 0x7F)) + payload
