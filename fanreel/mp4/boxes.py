"""The boxes of an MP4 file as bytes: pure functions, no file is touched.

Creation times are zero and no tool is named, so that the same input gives the same bytes. Tables of
samples go through numpy: a film of six hours has 648,000 of them.

Source: ISO/IEC 14496-12 (structure), the section is at each function.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

import numpy as np

UINT32_MAX = 2**32 - 1
INT32_MAX = 2**31 - 1
UNITY_MATRIX = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
UNDETERMINED_LANGUAGE = 0x55C4  # "und", five bits a letter


def box(kind: str, *payloads: bytes) -> bytes:
    """Return a box of four-character `kind` around `payloads`. Source: 14496-12, 4.2."""
    size_bytes = 8 + sum(map(len, payloads))
    return b"".join((struct.pack(">I4s", size_bytes, kind.encode("ascii")), *payloads))


def full_box(kind: str, *payloads: bytes, version: int = 0, flags: int = 0) -> bytes:
    """Return a box that begins with a version and 24 bits of flags. Source: 14496-12, 4.2."""
    return box(kind, struct.pack(">I", version << 24 | flags), *payloads)


def ftyp(sample_entries: Collection[str]) -> bytes:
    """Return the brands: ISO base media, and that of the codec where it has one. HEVC has none of its own.

    Args:
        sample_entries: What the tracks' samples are, such as "avc1".

    Source: 14496-12, 4.3 and annex E; AV1 Codec ISO Media File Format Binding, 2.1.
    """
    of_codecs = [brand for brand in ("avc1", "av01") if brand in sample_entries]
    # iso4: composition offsets may be negative, in ctts of version 1.
    brands = "".join(("isom", "iso2", "iso4", *of_codecs, "mp41"))
    return box("ftyp", struct.pack(">4sI", b"iso4", 0x200), brands.encode("ascii"))


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
    """Return ``stts`` or ``ctts``: one number a sample, in version 1 if one is negative.

    Source: 14496-12, 8.6.1.2-8.6.1.3.
    """
    starts = _run_starts(values)
    lengths = np.diff(starts, append=len(values))
    return full_box(kind, _table(lengths, values[starts]), version=int(values.min(initial=0) < 0))


def cslg(*, composition_ticks: np.ndarray, shift_ticks: int, duration_ticks: int) -> bytes:
    """Return how presentation and decoding lie to each other, which readers need where offsets are negative.

    Args:
        composition_ticks: PTS - DTS of each sample.
        shift_ticks: What makes the least of them zero.
        duration_ticks: How long the pictures are shown; the first one is shown at 0.

    Source: 14496-12, 8.6.1.4.
    """
    bounds = (shift_ticks, int(composition_ticks.min()), int(composition_ticks.max()), 0, duration_ticks)
    wide = max(map(abs, bounds)) > INT32_MAX
    return full_box("cslg", struct.pack(">5q" if wide else ">5i", *bounds), version=int(wide))


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
