"""The video track of a segment or of a whole film, from records alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fanreel.encode.libav import BT709
from fanreel.errors import VerificationError
from fanreel.mp4.moov import Track
from fanreel.mp4.sample_entries import video_sample_entry
from fanreel.plan.encoding import EncodingPlan
from fanreel.plan.timebase import TimeBase
from fanreel.segments.record import SegmentRecord

__all__ = ["film_parameter_sets", "presentation_frames", "video_track"]


def video_track(records: Sequence[SegmentRecord], *, encoding: EncodingPlan, clock: TimeBase) -> Track:
    """Return the track that shows `records` one after another.

    Frame k is shown at exactly k frame durations, also by players that ignore edit lists; packet n is decoded
    `reorder_frames` earlier than at n frame durations, the same for the whole film: DTS begins below zero. In a film of
    a few frames it begins at zero, and an edit list takes the delay off again.

    Args:
        records: Segments in order.
        encoding: Size and reorder delay, the same for all.
        clock: The film's time base.

    Raises:
        VerificationError: A segment has another codec or reorder delay than the film, or parameter sets under the
            same id as another segment's.
    """
    for record in records:
        if record.codec is not encoding.codec:
            raise VerificationError(f"segment {record.address[:12]} is in {record.codec}, the film in {encoding.codec}")
        if record.reorder_frames != encoding.reorder_frames:
            raise VerificationError(
                f"segment {record.address[:12]} has a reorder delay of {record.reorder_frames} frames, "
                f"the film {encoding.reorder_frames}"
            )
    shown = presentation_frames(records)
    early = shown - np.arange(len(shown))  # as if packet n were decoded at n frame durations
    delay = 0 if _is_seen_below_zero(early) else encoding.reorder_frames
    starts = np.cumsum([0, *(record.frame_count for record in records)])
    return Track(
        kind="video",
        timescale=clock.timescale,
        sample_entry=_sample_entry(records, encoding),
        sample_sizes=np.concatenate([np.array(record.packet_sizes, np.uint32) for record in records]),
        sample_ticks=clock.frame_ticks,
        composition_ticks=(early + delay) * clock.frame_ticks if early.any() else None,
        sync_samples=np.concatenate(
            [_sync_samples(record) + start for record, start in zip(records, starts, strict=False)]
        ),
        start_ticks=delay * clock.frame_ticks,
        presented_ticks=len(shown) * clock.frame_ticks,
        width=encoding.width_px,
        height=encoding.height_px,
    )


def _is_seen_below_zero(early: np.ndarray) -> bool:
    """Return whether FFmpeg sees how far DTS begins below zero: it passes over the last two rows of the offsets.

    Source: libavformat/mov.c, mov_read_ctts.
    """
    rows = np.flatnonzero(np.diff(early, prepend=early[0] - 1))
    return bool(early.min() >= 0 or early[: rows[max(len(rows) - 2, 0)]].min(initial=0) == early.min())


def presentation_frames(records: Sequence[SegmentRecord]) -> np.ndarray:
    """Return which frame of the film each packet shows, in decode order, int64."""
    parts = []
    start = 0
    for record in records:
        parts.append(np.array(record.packet_frames, np.int64) + start)
        start += record.frame_count
    return np.concatenate(parts)


def film_parameter_sets(records: Sequence[SegmentRecord]) -> list[tuple[bytes, ...]]:
    """Return the distinct parameter sets of `records`, in the order in which they are first needed."""
    distinct = dict.fromkeys(record.parameter_sets for record in records)
    return [tuple(bytes.fromhex(unit) for unit in units) for units in distinct]


def _sample_entry(records: Sequence[SegmentRecord], encoding: EncodingPlan) -> bytes:
    try:
        return video_sample_entry(
            encoding.codec,
            width=encoding.width_px,
            height=encoding.height_px,
            parameter_sets=film_parameter_sets(records),
            colour=(BT709, BT709, BT709, False),
        )
    except ValueError as error:
        makers = sorted({record.encoder for record in records})
        raise VerificationError(f"segments made by {makers} cannot be one film: {error}") from None


def _sync_samples(record: SegmentRecord) -> np.ndarray:
    return np.flatnonzero(np.isin(record.packet_frames, record.keyframes))
