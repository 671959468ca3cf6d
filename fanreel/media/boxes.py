"""The boxes of an MP4 file as bytes: pure functions, no file is touched.

Creation times are zero and no tool is named, so that the same input gives the same bytes. Tables of
samples go through numpy: a film of six hours has 648,000 of them.

Source: ISO/IEC 14496-12 (structure), 14496-14 (``mp4a``), 14496-15 (``avc1``); the section is at each function.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np

UINT32_MAX = 2**32 - 1
INT32_MAX = 2**31 - 1
UNITY_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
UNDETERMINED_LANGUAGE = 0x55C4  # "und", five bits a letter
# The profiles whose decoder record also tells chroma format and bit depths (14496-15, 5.3.3.1.2).
HIGH_PROFILES = (100, 110, 122, 144)
SPS, PPS = 7, 8

Colour = tuple[int, int, int, bool]


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no truth value to compare tracks by
class Track:
    """One track: its samples in decode order.

    Attributes:
        kind: "video" or "audio".
        timescale: Ticks per second; the first track's is the movie's too, where edits are rounded up to a tick.
        sample_entry: The whole ``avc1`` or ``mp4a`` box.
        sample_sizes: Bytes of each sample, uint32 [samples].
        sample_ticks: How long each sample lasts: one number for all, or [samples].
        composition_ticks: PTS - DTS of each sample, not negative, [samples]; None if all are zero.
        sync_samples: 0-based indices of the keyframes, rising; None if every sample is one.
        start_ticks: Media time shown first: the reorder delay of video, the priming of audio.
        presented_ticks: How much media time is shown from there on.
        width: Width in pixels, 0 for audio.
        height: Height in pixels, 0 for audio.
    """

    kind: Literal["video", "audio"]
    _: KW_ONLY
    timescale: int
    sample_entry: bytes
    sample_sizes: np.ndarray
    sample_ticks: int | np.ndarray
    composition_ticks: np.ndarray | None
    sync_samples: np.ndarray | None
    start_ticks: int
    presented_ticks: int
    width: int = 0
    height: int = 0


def box(kind: str, *payloads: bytes) -> bytes:
    """Return a box of four-character `kind` around `payloads`. Source: 14496-12, 4.2."""
    size_bytes = 8 + sum(map(len, payloads))
    return b"".join((struct.pack(">I4s", size_bytes, kind.encode("ascii")), *payloads))


def full_box(kind: str, *payloads: bytes, version: int = 0, flags: int = 0) -> bytes:
    """Return a box that begins with a version and 24 bits of flags. Source: 14496-12, 4.2."""
    return box(kind, struct.pack(">I", version << 24 | flags), *payloads)


def ftyp() -> bytes:
    """Return the brands: ISO base media with AVC. Source: 14496-12, 4.3."""
    return box("ftyp", struct.pack(">4sI", b"isom", 0x200), b"isomiso2avc1mp41")


def mdat_header(payload_bytes: int) -> bytes:
    """Return what precedes `payload_bytes` of samples, 16 bytes long where 8 cannot say it. Source: 14496-12, 4.2."""
    if payload_bytes + 8 > UINT32_MAX:
        return struct.pack(">I4sQ", 1, b"mdat", payload_bytes + 16)
    return struct.pack(">I4s", payload_bytes + 8, b"mdat")


def _timed_box(kind: str, *payloads: bytes, before_duration: bytes, duration_ticks: int, flags: int = 0) -> bytes:
    """Return a header box with zero times, in version 1 where the duration needs it (all ones mean "unknown")."""
    wide = duration_ticks >= UINT32_MAX
    times = bytes(16 if wide else 8)
    duration = struct.pack(">Q" if wide else ">I", duration_ticks)
    return full_box(kind, times, before_duration, duration, *payloads, version=int(wide), flags=flags)


def mvhd(*, timescale: int, duration_ticks: int, next_track_id: int) -> bytes:
    """Return the movie header. Source: 14496-12, 8.2.2."""
    rest = struct.pack(">IH10x36s24xI", 0x10000, 0x100, UNITY_MATRIX, next_track_id)
    return _timed_box("mvhd", rest, before_duration=struct.pack(">I", timescale), duration_ticks=duration_ticks)


def tkhd(*, track_id: int, duration_ticks: int, width: int, height: int, audible: bool) -> bytes:
    """Return the header of an enabled track, its duration in movie ticks. Source: 14496-12, 8.3.2."""
    volume = 0x100 if audible else 0
    rest = struct.pack(">8xHHH2x36sII", 0, 0, volume, UNITY_MATRIX, width << 16, height << 16)
    before = struct.pack(">I4x", track_id)
    return _timed_box("tkhd", rest, before_duration=before, duration_ticks=duration_ticks, flags=3)


def mdhd(*, timescale: int, duration_ticks: int) -> bytes:
    """Return the media header, its duration in media ticks. Source: 14496-12, 8.4.2."""
    rest = struct.pack(">H2x", UNDETERMINED_LANGUAGE)
    return _timed_box("mdhd", rest, before_duration=struct.pack(">I", timescale), duration_ticks=duration_ticks)


def edts(*, start_ticks: int, duration_ticks: int) -> bytes:
    """Return one edit: `duration_ticks` of the movie, from media time `start_ticks`. Source: 14496-12, 8.6.5-8.6.6."""
    wide = duration_ticks > UINT32_MAX or start_ticks > INT32_MAX
    edit = struct.pack(">IQqI" if wide else ">IIiI", 1, duration_ticks, start_ticks, 0x10000)
    return box("edts", full_box("elst", edit, version=int(wide)))


def hdlr(kind: str) -> bytes:
    """Return the handler of a "video" or "audio" track, under a plain name. Source: 14496-12, 8.4.3."""
    handler = {"video": b"vide", "audio": b"soun"}[kind]
    return full_box("hdlr", struct.pack(">4x4s12x", handler), kind.capitalize().encode("ascii"), b"\0")


def media_header(kind: str) -> bytes:
    """Return ``vmhd`` or ``smhd``. Source: 14496-12, 12.1.2 and 12.2.2."""
    return full_box("vmhd", bytes(8), flags=1) if kind == "video" else full_box("smhd", bytes(4))


def dinf() -> bytes:
    """Return "the samples lie in this file". Source: 14496-12, 8.7.1-8.7.2."""
    return box("dinf", full_box("dref", struct.pack(">I", 1), full_box("url ", flags=1)))


def stsd(sample_entry: bytes) -> bytes:
    """Return the one description that all samples of a track share. Source: 14496-12, 8.5.2."""
    return full_box("stsd", struct.pack(">I", 1), sample_entry)


def _run_starts(values: np.ndarray) -> np.ndarray:
    """Return the indices at which a run of equal values begins, int64 [runs]."""
    return np.flatnonzero(np.concatenate((np.ones(min(len(values), 1), bool), values[1:] != values[:-1])))


def _table(*columns: np.ndarray) -> bytes:
    """Return the number of rows and the rows, all as big-endian 32-bit numbers."""
    return struct.pack(">I", len(columns[0])) + np.stack(columns, axis=1).astype(">u4").tobytes()


def run_table(kind: str, values: np.ndarray) -> bytes:
    """Return ``stts`` or ``ctts`` (version 0): one non-negative number a sample. Source: 14496-12, 8.6.1.2-8.6.1.3."""
    starts = _run_starts(values)
    lengths = np.diff(starts, append=len(values))
    return full_box(kind, _table(lengths, values[starts]))


def stss(sync_samples: np.ndarray) -> bytes:
    """Return the table of keyframes from 0-based indices. Source: 14496-12, 8.6.2."""
    return full_box("stss", _table(np.asarray(sync_samples, np.int64) + 1))


def stsc(sample_counts: np.ndarray) -> bytes:
    """Return how many samples each chunk holds, equal neighbours as one row. Source: 14496-12, 8.7.4."""
    starts = _run_starts(sample_counts)
    return full_box("stsc", _table(starts + 1, sample_counts[starts], np.ones(len(starts), np.int64)))


def stsz(sizes_bytes: np.ndarray) -> bytes:
    """Return the size of every sample. Source: 14496-12, 8.7.3.2."""
    return full_box("stsz", bytes(4), _table(sizes_bytes))


def chunk_offsets(offsets: np.ndarray, *, wide: bool) -> bytes:
    """Return where each chunk begins in the file: ``stco``, or ``co64`` if `wide`. Source: 14496-12, 8.7.5."""
    if not wide:
        return full_box("stco", _table(offsets))
    return full_box("co64", struct.pack(">I", len(offsets)), offsets.astype(">u8").tobytes())


def avc1_sample_entry(
    *, width: int, height: int, parameter_sets: Sequence[tuple[bytes, bytes]], colour: Colour | None = None
) -> bytes:
    """Return the ``avc1`` box of an H.264 track with square pixels and all its parameter sets.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        parameter_sets: (SPS, PPS) NAL units without start codes, one pair for each encoder setting of the film.
        colour: Primaries, transfer, matrix (ISO/IEC 23091-2 codes) and whether the range is full; None writes no tag.

    Raises:
        ValueError: A unit is of another type, or two different ones share an id, which no decoder could tell apart.

    Source: 14496-12, 12.1.3-12.1.5; 14496-15, 5.4.2.
    """
    picture = struct.pack(">6xH16xHHII4xH32xHh", 1, width, height, 0x480000, 0x480000, 1, 0x18, -1)
    parts = [_avcc(parameter_sets)]
    if colour is not None:
        parts.append(box("colr", struct.pack(">4sHHHB", b"nclx", *colour[:3], colour[3] << 7)))
    return box("avc1", picture, *parts, box("pasp", struct.pack(">II", 1, 1)))


def _avcc(parameter_sets: Sequence[tuple[bytes, bytes]]) -> bytes:
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
    """Return `units` in order without repeats, each under an id of its own."""
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
    bits, position, values = "".join(f"{byte:08b}" for byte in unit[start_byte : start_byte + 32]), 0, []
    for _ in range(count):
        if "1" not in bits[position:]:
            raise ValueError(f"the NAL unit {unit.hex()} is cut short")
        end = 2 * bits.index("1", position) - position + 1
        values.append(int(bits[position:end], 2) - 1)
        position = end
    return values


def mp4a_sample_entry(*, channels: int, sample_rate: int, audio_specific_config: bytes) -> bytes:
    """Return the ``mp4a`` box of an AAC track; a rate that 16 bits cannot hold is told by the config alone.

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


def moov(
    tracks: Sequence[Track],
    *,
    sample_counts: Sequence[np.ndarray],
    offsets: Sequence[np.ndarray],
    wide: Sequence[bool],
) -> bytes:
    """Return all tables of the film. Source: 14496-12, 8.2.1.

    Args:
        tracks: At least one; the first gives the movie's timescale.
        sample_counts: Of each track, the samples in each of its chunks, int64 [chunks].
        offsets: Of each track, where its chunks begin in the file, int64 [chunks].
        wide: Of each track, whether its offsets are written in 64 bits.
    """
    timescale = tracks[0].timescale
    durations = [-(-track.presented_ticks * timescale // track.timescale) for track in tracks]
    parts = [mvhd(timescale=timescale, duration_ticks=max(durations), next_track_id=len(tracks) + 1)]
    for index, track in enumerate(tracks):
        chunk_tables = stsc(sample_counts[index]) + chunk_offsets(offsets[index], wide=wide[index])
        parts.append(_trak(track, chunk_tables, track_id=index + 1, duration_ticks=durations[index]))
    return box("moov", *parts)


def _trak(track: Track, chunk_tables: bytes, *, track_id: int, duration_ticks: int) -> bytes:
    """Return ``trak`` with its ``mdia`` and ``minf``. Source: 14496-12, 8.3.1, 8.4.1, 8.4.4."""
    sample_ticks = np.broadcast_to(np.asarray(track.sample_ticks, np.int64), len(track.sample_sizes))
    samples = _stbl(track, sample_ticks, chunk_tables)
    header = tkhd(
        track_id=track_id,
        duration_ticks=duration_ticks,
        width=track.width,
        height=track.height,
        audible=track.kind == "audio",
    )
    edit = edts(start_ticks=track.start_ticks, duration_ticks=duration_ticks)
    media = mdhd(timescale=track.timescale, duration_ticks=int(sample_ticks.sum())) + hdlr(track.kind)
    information = box("minf", media_header(track.kind), dinf(), samples)
    return box("trak", header, edit, box("mdia", media, information))


def _stbl(track: Track, sample_ticks: np.ndarray, chunk_tables: bytes) -> bytes:
    """Return the tables of a track's samples. Source: 14496-12, 8.5.1."""
    tables = [stsd(track.sample_entry), run_table("stts", sample_ticks)]
    if track.composition_ticks is not None:
        tables.append(run_table("ctts", track.composition_ticks))
    if track.sync_samples is not None:
        tables.append(stss(track.sync_samples))
    return box("stbl", *tables, stsz(track.sample_sizes), chunk_tables)
