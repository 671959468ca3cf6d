"""Concat: the join of segments and audio into one film, without re-encoding.

FFmpeg's concat demuxer is not used: it rounds to microseconds, reorders DTS and exits 0 on a missing part
(docs/decisions/0004). Here every time stamp is an integer multiple of the frame duration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np

from fanreel.audio.track import AudioTrack
from fanreel.mp4.moov import Track
from fanreel.mp4.writer import Chunk, write_mp4
from fanreel.plan.film import FilmPlan
from fanreel.segments.record import SegmentRecord
from fanreel.segments.tracks import video_track
from fanreel.store.segment_store import SegmentStore

__all__ = ["concat_segments", "film_chunks", "film_tracks"]

FETCHERS = 8
"""Segments fetched side by side, where the store is far away."""


def concat_segments(
    path: Path,
    *,
    plan: FilmPlan,
    records: Sequence[SegmentRecord],
    store: SegmentStore,
    audio: AudioTrack | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> int:
    """Write the film that `records`, in their order, add up to; `moov` comes first.

    Args:
        path: The new film; must not exist.
        plan: Gives the clock, the size and the reorder delay.
        records: All segments of the film in order.
        store: Where their bytes are.
        audio: Interleaved a segment at a time; packets after the film's end are left out.
        on_bytes: Called with the number of bytes each time that more were written.

    Returns:
        The film's size in bytes.

    Raises:
        StorageError: A segment is missing, or the film cannot be written.
        VerificationError: The segments do not belong together.
    """
    if audio is not None:
        audio = audio.until(Fraction(plan.frame_count) / plan.encoding.frame_rate)
    with ThreadPoolExecutor(FETCHERS) as pool:
        paths = list(pool.map(store.local_copy, records))
    tracks = film_tracks(plan, records, audio=audio)
    return write_mp4(path, tracks=tracks, chunks=film_chunks(plan, records, paths, audio=audio), on_bytes=on_bytes)


def film_tracks(plan: FilmPlan, records: Sequence[SegmentRecord], *, audio: AudioTrack | None) -> list[Track]:
    """Return the film's tracks: video and, if there is any, audio no longer than the film.

    Raises:
        VerificationError: The segments do not belong together.
    """
    tracks = [video_track(records, encoding=plan.encoding, clock=plan.clock)]
    if audio is not None:
        tracks.append(audio.track(seconds=Fraction(plan.frame_count) / plan.encoding.frame_rate))
    return tracks


def film_chunks(
    plan: FilmPlan, records: Sequence[SegmentRecord], paths: Sequence[Path], *, audio: AudioTrack | None
) -> list[Chunk]:
    """Return the chunks that the film is copied from: each segment, and after it the audio up to its end.

    Args:
        plan: Gives the frame rate.
        records: All segments of the film in order.
        paths: The file of each segment.
        audio: No longer than the film.
    """
    chunks: list[Chunk] = []
    end_frame = heard = 0
    for record, path in zip(records, paths, strict=True):
        offset, length_bytes = record.payload_offset, record.payload_bytes
        chunks.append(Chunk(0, sample_count=record.frame_count, path=path, offset=offset, length_bytes=length_bytes))
        end_frame += record.frame_count
        if audio is not None:
            until = len(audio.until(Fraction(end_frame) / plan.encoding.frame_rate).sizes)
            chunks += _audio_chunks(audio, heard, until)
            heard = until
    return chunks


def _audio_chunks(audio: AudioTrack, first: int, last: int) -> Iterator[Chunk]:
    """Yield the packets `[first, last)` as runs that lie without gaps in their file."""
    if first >= last:
        return
    ends = audio.offsets[first:last] + audio.sizes[first:last]
    breaks = np.flatnonzero(audio.offsets[first + 1 : last] != ends[:-1]) + first + 1
    for start, end in zip([first, *breaks.tolist()], [*breaks.tolist(), last], strict=True):
        yield Chunk(
            track=1,
            sample_count=end - start,
            path=audio.path,
            offset=int(audio.offsets[start]),
            length_bytes=int(audio.sizes[start:end].sum()),
        )
