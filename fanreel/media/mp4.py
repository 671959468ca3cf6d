"""Write a film or a segment as MP4 from samples that already lie in files, and read such a file's layout.

Every sample's size is known before the first byte is written, so ``moov`` comes first at its exact size and
the payload is moved by the kernel, whole chunks at a time: joining costs about what copying does.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fanreel.errors import MediaError, StorageError, storage_error
from fanreel.media import boxes
from fanreel.media.boxes import Track

__all__ = ["BoxSpan", "Chunk", "Mp4Layout", "Track", "VideoLayout", "mp4_header", "read_layout", "write_mp4"]

# One call of the kernel moves at most this much, so that progress is told and a signal is heard in between.
STEP_BYTES = 64 * 2**20
BUFFER_BYTES = 2**20
VISUAL_ENTRY_BYTES = 78


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive samples of one track, to be stored together.

    Attributes:
        track: Index into the tracks.
        sample_count: How many samples follow those of the track's chunk before, at least 1.
        path: The file in which their bytes lie without gaps.
        offset: Where they begin in `path`, in bytes.
        length_bytes: The sum of their sizes.
    """

    track: int
    _: KW_ONLY
    sample_count: int
    path: Path
    offset: int
    length_bytes: int


def write_mp4(
    path: Path, *, tracks: Sequence[Track], chunks: Sequence[Chunk], on_bytes: Callable[[int], None] | None = None
) -> int:
    """Create `path` from `chunks` in their order, on disk when this returns; a failure leaves no file.

    Args:
        path: The new file; one that exists is left as it is.
        tracks: At least one; the first gives the movie's timescale.
        chunks: In file order, which is how the tracks are interleaved.
        on_bytes: Told the size of each part just written; the parts add up to what is returned.

    Returns:
        The size of the file in bytes.

    Raises:
        ValueError: Tracks and chunks contradict each other; nothing has been written.
        StorageError: `path` exists or cannot be written, or a chunk's file is missing or too short.
    """
    header = mp4_header(tracks=tracks, chunks=chunks)
    report = on_bytes or (lambda _: None)
    with _created(path) as target:
        target.write(header)
        target.flush()
        report(len(header))
        for chunk in chunks:
            _copy_chunk(chunk, target=target, report=report)
        os.fsync(target.fileno())
    return len(header) + sum(chunk.length_bytes for chunk in chunks)


def mp4_header(*, tracks: Sequence[Track], chunks: Sequence[Chunk]) -> bytes:
    """Return all that precedes the payload: ``ftyp``, ``moov`` and the header of ``mdat``.

    Raises:
        ValueError: Tracks and chunks contradict each other.
    """
    of_track = _chunks_of_each(tracks, chunks)
    lengths = np.array([chunk.length_bytes for chunk in chunks], np.int64)
    payload_offsets = np.cumsum(lengths) - lengths
    offsets = [payload_offsets[numbers] for numbers in of_track]
    counts = [np.array([chunks[number].sample_count for number in numbers], np.int64) for numbers in of_track]
    mdat = boxes.mdat_header(int(lengths.sum()))
    # Wide offsets make moov longer and so push chunks further: from "none" upwards this finds the fewest.
    start, wide = 0, [False] * len(tracks)
    while True:
        placed = [payload_offset + start for payload_offset in offsets]
        header = boxes.ftyp() + boxes.moov(tracks, sample_counts=counts, offsets=placed, wide=wide) + mdat
        needed = [int(payload_offset[-1]) + len(header) > boxes.UINT32_MAX for payload_offset in offsets]
        if len(header) == start and needed == wide:
            return header
        start, wide = len(header), needed


def _chunks_of_each(tracks: Sequence[Track], chunks: Sequence[Chunk]) -> list[list[int]]:
    """Return the numbers of each track's chunks, after checking that chunks and samples agree."""
    of_track: list[list[int]] = [[] for _ in tracks]
    for number, chunk in enumerate(chunks):
        if not 0 <= chunk.track < len(tracks):
            raise ValueError(f"chunk {number} belongs to track {chunk.track}, but there are {len(tracks)} tracks")
        of_track[chunk.track].append(number)
    if not tracks:
        raise ValueError("an MP4 needs at least one track")
    for index, (track, numbers) in enumerate(zip(tracks, of_track, strict=True)):
        _check_arrays(index, track)
        _check_chunks(index, track, {number: chunks[number] for number in numbers})
    return of_track


def _check_arrays(index: int, track: Track) -> None:
    sample_count = len(track.sample_sizes)
    for name in ("sample_ticks", "composition_ticks"):
        values = getattr(track, name)
        if values is not None and np.ndim(values) and len(values) != sample_count:
            raise ValueError(f"track {index} has {sample_count} samples but {len(values)} {name}")
        if values is not None and np.min(values, initial=0) < 0:
            raise ValueError(f"track {index} has {name} of {np.min(values)}; none may be negative")
    keys = track.sync_samples
    if keys is not None and (np.diff(np.asarray(keys, np.int64), prepend=-1, append=sample_count) < 1).any():
        raise ValueError(f"track {index} has sync_samples that do not rise from 0 to below {sample_count}")


def _check_chunks(index: int, track: Track, chunks: Mapping[int, Chunk]) -> None:
    counts = np.array([chunk.sample_count for chunk in chunks.values()], np.int64)
    sample_count = len(track.sample_sizes)
    if not sample_count or counts.sum() != sample_count or counts.min() < 1:
        raise ValueError(f"track {index} has {sample_count} samples, its chunks {counts.tolist()[:8]}; all must match")
    ends = np.cumsum(track.sample_sizes, dtype=np.int64)[np.cumsum(counts) - 1]
    for (number, chunk), length in zip(chunks.items(), np.diff(ends, prepend=0).tolist(), strict=True):
        if chunk.length_bytes != length:
            claim = f"chunk {number} ({chunk.path}) has {chunk.length_bytes} bytes"
            raise ValueError(f"{claim}, but its samples in track {index} add up to {length}")


@contextlib.contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """Yield the new file `path`; if the block fails, the file is gone."""
    try:
        target = path.open("xb")
    except OSError as error:
        raise storage_error(error, doing=f"create {path}") from error
    try:
        with target:
            yield target
    except BaseException as error:
        with contextlib.suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise storage_error(error, doing=f"write {path}") from error
        raise


def _copy_chunk(chunk: Chunk, *, target: BinaryIO, report: Callable[[int], None]) -> None:
    """Append the bytes of `chunk` to `target`, in the kernel where it can."""
    try:
        source = chunk.path.open("rb", buffering=0)
    except OSError as error:
        raise storage_error(error, doing=f"read {chunk.path} for {target.name}") from error
    with source:
        position, end = chunk.offset, chunk.offset + chunk.length_bytes
        while position < end:
            moved = _move(source.fileno(), target.fileno(), position, min(end - position, STEP_BYTES))
            if not moved:
                missing = f"{chunk.path} ends {end - position} bytes before the end of its samples at byte {end}"
                raise StorageError(f"could not write {target.name}: {missing}; make that file again")
            position += moved
            report(moved)


def _move(source: int, target: int, position: int, length: int) -> int:
    """Return how many bytes were moved to the end of `target`; 0 says that `source` has ended.

    A kernel that cannot copy between two file systems says so in many ways (EXDEV, ENOSYS, EINVAL, EOPNOTSUPP, EPERM
    in a sandbox, an answer of 0): whatever it says, reading and writing comes last and has the last word.
    """
    ways = (("copy_file_range", (source, target, length, position)), ("sendfile", (target, source, position, length)))
    for name, arguments in ways:
        with contextlib.suppress(OSError, AttributeError):
            if moved := getattr(os, name)(*arguments):
                return moved
    data = os.pread(source, min(length, BUFFER_BYTES), position)
    return os.write(target, data) if data else 0


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
        sps_count: Sequence parameter sets in ``avcC``, 0 for another codec; `pps_count` likewise.
        colour: Primaries, transfer, matrix and full range of ``colr``; None without such a tag.
        timescale: Ticks per second.
        start_ticks: Media time of the edit list's start, 0 without one.
        presented_seconds: Length of the edit, exact; None without an edit list.
    """

    sample_entry: str
    sps_count: int
    pps_count: int
    colour: boxes.Colour | None
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
    sps_count, pps_count = _unit_counts(parts["avcC"]) if "avcC" in parts else (0, 0)
    start_ticks, duration_ticks = _first_edit(_content(file, track["elst"])) if "elst" in track else (0, None)
    return VideoLayout(
        sample_entry=entry.kind,
        sps_count=sps_count,
        pps_count=pps_count,
        colour=colour,
        timescale=_timescale(_content(file, track["mdhd"])),
        start_ticks=start_ticks,
        presented_seconds=None if duration_ticks is None else Fraction(duration_ticks, movie_timescale),
    )


def _nclx_colour(colr: bytes) -> boxes.Colour:
    """Return primaries, transfer, matrix and full range of ``colr``. Source: 14496-12, 12.1.5."""
    primaries, transfer, matrix, range_byte = struct.unpack(">4x3HB", colr)
    return primaries, transfer, matrix, range_byte >= 0x80


def _unit_counts(avcc: bytes) -> tuple[int, int]:
    """Return the numbers of SPS and PPS in a decoder record. Source: 14496-15, 5.3.3.1.2."""
    position = 6
    for _ in range(avcc[5] & 31):
        position += 2 + int.from_bytes(avcc[position : position + 2], "big")
    return avcc[5] & 31, avcc[position]


def _first_edit(elst: bytes) -> tuple[int, int]:
    """Return start and movie duration of the first edit that shows anything, or zeros. Source: 14496-12, 8.6.6."""
    layout = ">Qq4x" if elst[0] else ">Ii4x"
    return next(((start, duration) for duration, start in struct.iter_unpack(layout, elst[8:]) if start >= 0), (0, 0))


def _timescale(header: bytes) -> int:
    """Return the ticks per second of ``mvhd`` or ``mdhd``, after version, flags and two times."""
    return struct.unpack_from(">I", header, 20 if header[0] else 12)[0]
