"""Write a film or a segment as MP4 from samples that already lie in files.

Every sample's size is known before the first byte is written, so ``moov`` comes first at its exact size and
the payload is moved by the kernel, whole chunks at a time: joining costs about what copying does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fanreel.errors import StorageError, storage_error
from fanreel.mp4 import boxes
from fanreel.mp4.moov import Track, moov

__all__ = ["Chunk", "mp4_header", "write_mp4"]

# One call of the kernel moves at most this much: between calls progress is reported and signals are handled.
STEP_BYTES = 64 * 2**20
BUFFER_BYTES = 2**20


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
    ftyp = boxes.ftyp({track.sample_entry[4:8].decode("latin-1") for track in tracks})
    while True:
        placed = [payload_offset + start for payload_offset in offsets]
        header = ftyp + moov(tracks, sample_counts=counts, offsets=placed, wide=wide) + mdat
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
    if np.min(track.sample_ticks, initial=0) < 0:
        raise ValueError(f"track {index} has sample_ticks of {np.min(track.sample_ticks)}; none may be negative")
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
