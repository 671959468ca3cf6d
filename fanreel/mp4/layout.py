"""Read the layout of an MP4 file: its boxes and what they claim, no sample.

Films are verified with it, so it shares nothing with the writer but the names of the boxes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from fanreel.errors import MediaError, storage_error
from fanreel.mp4.sample_entries import Colour

__all__ = ["BoxSpan", "Mp4Layout", "VideoLayout", "read_layout"]

VISUAL_ENTRY_BYTES = 78


@dataclass(frozen=True, slots=True)
class BoxSpan:
    """Where a box lies in the file: `start_byte` to `end_byte`, its content from `content_byte` on."""

    kind: str
    start_byte: int
    content_byte: int
    end_byte: int


@dataclass(frozen=True, slots=True)
class VideoLayout:
    """What the boxes of a video track say.

    Attributes:
        sample_entry: Its tag, such as "avc1".
        parameter_sets: The units in ``avcC``, ``hvcC`` or ``av1C``, as they are there.
        colour: Primaries, transfer, matrix and full range of ``colr``; None without such a tag.
        timescale: Ticks per second.
        start_ticks: Media time of the edit list's start, 0 without one.
        presented_seconds: Length of the edit, exact; None without an edit list.
    """

    sample_entry: str
    parameter_sets: tuple[bytes, ...]
    colour: Colour | None
    timescale: int
    start_ticks: int
    presented_seconds: Fraction | None


@dataclass(frozen=True, slots=True)
class Mp4Layout:
    """The top-level boxes in file order, and the video tracks; `truncated` if the last box runs past the end."""

    spans: tuple[BoxSpan, ...]
    moov_first: bool
    truncated: bool
    video_tracks: tuple[VideoLayout, ...]


def read_layout(path: Path) -> Mp4Layout:
    """Return the layout of the MP4 file `path`, reading no sample.

    Raises:
        MediaError: It is not an MP4 file, or was cut before its samples; the message says what is wrong.
        StorageError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _layout(file)
    except OSError as error:
        raise storage_error(error, doing=f"read {path}") from error
    except KeyError as error:
        raise MediaError(f"{path} is not a whole MP4 file: a track has no {error.args[0]}") from error
    except (ValueError, LookupError, StopIteration, ArithmeticError, RecursionError, struct.error) as error:
        raise MediaError(f"{path} is not a whole MP4 file: {str(error) or 'a box is missing or empty'}") from error


def _layout(file: BinaryIO) -> Mp4Layout:
    size_bytes = file.seek(0, os.SEEK_END)
    spans = list(_spans(file, 0, size_bytes))
    kinds = [span.kind for span in spans]
    if kinds[:1] != ["ftyp"]:
        raise ValueError(f"it does not begin with ftyp but with {kinds[:1] or 'nothing'}")
    if not {"moov", "mdat"} <= set(kinds):
        raise ValueError(f"it lacks moov or mdat: {kinds}")
    moov = spans[kinds.index("moov")]
    if moov.end_byte > size_bytes:
        raise ValueError(f"moov ends at byte {moov.end_byte}, the file at byte {size_bytes}")
    inside = _inside(file, moov)
    timescale = next(_timescale(_content(file, span)) for span in inside if span.kind == "mvhd")
    tracks = [_below(file, span) for span in inside if span.kind == "trak"]
    videos = [track for track in tracks if _content(file, track["hdlr"])[8:12] == b"vide"]
    return Mp4Layout(
        spans=tuple(spans),
        moov_first=kinds.index("moov") < kinds.index("mdat"),
        truncated=spans[-1].end_byte > size_bytes,
        video_tracks=tuple(_video_layout(file, track, movie_timescale=timescale) for track in videos),
    )


def _spans(file: BinaryIO, start: int, end: int) -> Iterator[BoxSpan]:
    """Yield the boxes from byte `start` on; the last one may claim to run past `end`."""
    while start < end:
        file.seek(start)
        header = file.read(min(16, end - start)).ljust(16, b"\0")
        size_bytes, kind, long_size = struct.unpack(">I4sQ", header)
        content = 16 if size_bytes == 1 else 8
        size_bytes = {0: end - start, 1: long_size}.get(size_bytes, size_bytes)
        name = kind.decode("latin-1")
        if size_bytes < content or end - start < content or not name.isprintable():
            raise ValueError(f"there is no box at byte {start}")
        yield BoxSpan(name, start, start + content, start + size_bytes)
        start += size_bytes


def _inside(file: BinaryIO, parent: BoxSpan, *, skip_bytes: int = 0) -> list[BoxSpan]:
    """Return the boxes in `parent` after its own `skip_bytes` of fields."""
    spans = list(_spans(file, parent.content_byte + skip_bytes, parent.end_byte))
    if spans and spans[-1].end_byte > parent.end_byte:
        raise ValueError(f"{spans[-1].kind} runs past the end of {parent.kind} at byte {parent.end_byte}")
    return spans


def _below(file: BinaryIO, parent: BoxSpan) -> dict[str, BoxSpan]:
    """Return the boxes of a track by kind, at any depth."""
    found: dict[str, BoxSpan] = {}
    for span in _inside(file, parent):
        found |= {span.kind: span}
        if span.kind in ("edts", "mdia", "minf", "stbl"):
            found |= _below(file, span)
    return found


def _content(file: BinaryIO, span: BoxSpan) -> bytes:
    file.seek(span.content_byte)
    return file.read(span.end_byte - span.content_byte)


def _video_layout(file: BinaryIO, track: dict[str, BoxSpan], *, movie_timescale: int) -> VideoLayout:
    entry = _inside(file, track["stsd"], skip_bytes=8)[0]
    parts = {span.kind: _content(file, span) for span in _inside(file, entry, skip_bytes=VISUAL_ENTRY_BYTES)}
    colr = parts.get("colr", b"")
    colour = _nclx_colour(colr) if colr[:4] == b"nclx" else None
    units = next((list(read(parts[kind])) for kind, read in _DECODER_RECORDS.items() if kind in parts), [])
    start_ticks, duration_ticks = _first_edit(_content(file, track["elst"])) if "elst" in track else (0, None)
    return VideoLayout(
        sample_entry=entry.kind,
        parameter_sets=tuple(units),
        colour=colour,
        timescale=_timescale(_content(file, track["mdhd"])),
        start_ticks=start_ticks,
        presented_seconds=None if duration_ticks is None else Fraction(duration_ticks, movie_timescale),
    )


def _nclx_colour(colr: bytes) -> Colour:
    """Return primaries, transfer, matrix and full range of ``colr``. Source: 14496-12, 12.1.5."""
    primaries, transfer, matrix, range_byte = struct.unpack(">4x3HB", colr)
    return primaries, transfer, matrix, range_byte >= 0x80


def _avcc_units(avcc: bytes) -> Iterator[bytes]:
    """Yield the SPS and PPS of a decoder record. Source: 14496-15, 5.3.3.1.2."""
    offset = 5
    for mask in (31, 255):
        offset = yield from _sized_units(avcc, offset + 1, count=avcc[offset] & mask)


def _hvcc_units(hvcc: bytes) -> Iterator[bytes]:
    """Yield the units of every array of a decoder record. Source: 14496-15, 8.3.3.1.2."""
    offset = 23
    for _ in range(hvcc[22]):
        count = int.from_bytes(hvcc[offset + 1 : offset + 3], "big")
        offset = yield from _sized_units(hvcc, offset + 3, count=count)


def _sized_units(record: bytes, offset: int, *, count: int) -> Generator[bytes, None, int]:
    """Yield `count` units, each after two bytes with its length; return the offset after them."""
    for _ in range(count):
        end = offset + 2 + int.from_bytes(record[offset : offset + 2], "big")
        yield record[offset + 2 : end]
        offset = end
    return offset


def _av1c_units(av1c: bytes) -> Iterator[bytes]:
    """Yield the OBUs of a decoder record as one; ours has one. Source: AV1 binding, 2.3.3."""
    if av1c[4:]:
        yield av1c[4:]


_DECODER_RECORDS = {"avcC": _avcc_units, "hvcC": _hvcc_units, "av1C": _av1c_units}


def _first_edit(elst: bytes) -> tuple[int, int]:
    """Return start and movie duration of the first edit that shows anything, or zeros. Source: 14496-12, 8.6.6."""
    layout = ">Qq4x" if elst[0] else ">Ii4x"
    return next(((start, duration) for duration, start in struct.iter_unpack(layout, elst[8:]) if start >= 0), (0, 0))


def _timescale(header: bytes) -> int:
    """Return the ticks per second of ``mvhd`` or ``mdhd``, after version, flags and two times."""
    return struct.unpack_from(">I", header, 20 if header[0] else 12)[0]
