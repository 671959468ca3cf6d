"""Tracks, and the ``moov`` box that describes them: every table of the film before its first sample.

Source: ISO/IEC 14496-12; the section is at each function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np

from fanreel.mp4.boxes import (
    box,
    chunk_offsets,
    cslg,
    dinf,
    edts,
    hdlr,
    mdhd,
    media_header,
    mvhd,
    run_table,
    stsc,
    stsd,
    stss,
    stsz,
    tkhd,
)

__all__ = ["Track", "moov"]


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no truth value to compare tracks by
class Track:
    """One track: its samples in decode order.

    Attributes:
        kind: "video" or "audio".
        timescale: Ticks per second; the first track's is the movie's too, where edits are rounded up to a tick.
        sample_entry: The whole box, such as ``avc1`` or ``mp4a``.
        sample_sizes: Bytes of each sample, uint32 [samples].
        sample_ticks: How long each sample lasts: one number for all, or [samples].
        composition_ticks: PTS - DTS of each sample, [samples]; None if all are zero. With negative ones DTS begins
            below zero for players, and PTS where the samples say.
        sync_samples: 0-based indices of the keyframes, rising; None if every sample is one.
        start_ticks: Media time shown first: 0 of video, the priming of audio.
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
        if (shift_ticks := -int(track.composition_ticks.min())) > 0:
            shown_ticks = track.start_ticks + track.presented_ticks
            tables.append(
                cslg(composition_ticks=track.composition_ticks, shift_ticks=shift_ticks, duration_ticks=shown_ticks)
            )
    if track.sync_samples is not None:
        tables.append(stss(track.sync_samples))
    return box("stbl", *tables, stsz(track.sample_sizes), chunk_tables)
