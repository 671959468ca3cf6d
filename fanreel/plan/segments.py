"""Where a film is cut into segments, decided by content.

Every place where the film may be cut (after a clip; inside a clip of over ten seconds) has a key: the
clip's digest. A range that is too long is cut at its smallest key, and both parts are looked at again.
So whether a place is cut depends on the clips between the nearest smaller keys on both sides and on
nothing farther away: a photo put between two others changes the segments that touch it, and no more.
docs/decisions/0003 has the rules that were tried and what an inserted photo changed under each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fanreel.plan.digests import clip_digest, frames_digest, segment_address
from fanreel.plan.encoding import EncodingPlan
from fanreel.plan.timebase import frame_count
from fanreel.plan.timeline import Clip, Timeline

__all__ = ["LONGEST_SEGMENT_SECONDS", "SHORTEST_SEGMENT_SECONDS", "Segment", "plan_segments"]

LONGEST_SEGMENT_SECONDS = 10
SHORTEST_SEGMENT_SECONDS = 2
"""No cut makes a shorter segment; only a film that is shorter itself has one."""

LONGEST_GOP_SECONDS = 4
SHORTEST_GOP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Segment:
    """The unit of encoding, storage and reuse: the frames `[start_frame, end_frame)` of a film.

    Attributes:
        index: Place in the film, from 0.
        start_frame: First frame, an IDR.
        end_frame: One past the last frame.
        keyframes: Frames of the film forced to be IDRs, ascending; the first is `start_frame`.
        frames_digest: What decides its planes.
        address: Where its encoded form is kept.
        cut: Why the film is cut before it, for people.
    """

    index: int
    start_frame: int
    end_frame: int
    keyframes: tuple[int, ...]
    frames_digest: str
    address: str
    cut: str

    @property
    def frame_count(self) -> int:
        """Frames of the segment."""
        return self.end_frame - self.start_frame


@dataclass(frozen=True, slots=True)
class _Place:
    frame: int
    key: tuple[int, str]
    reason: str


def plan_segments(timeline: Timeline, encoding: EncodingPlan) -> tuple[Segment, ...]:
    """Return the segments of a film, in order and without gaps.

    Each is at most 10 seconds and, unless the film is shorter, at least 2, rounded to frames as clips
    are. A clip of up to 10 seconds stays whole, except where every clip end that could be cut instead
    is less than 2 seconds from the cuts around: a 9-second clip between two of 1 second is cut.
    """
    places = _choose_cuts(_possible_cuts(timeline, encoding.frame_rate), timeline.frame_count, encoding.frame_rate)
    starts = [_Place(0, (0, ""), "start of the film"), *places]
    ends = [*(place.frame for place in places), timeline.frame_count]
    return tuple(
        _plan_segment(index, start, end_frame, timeline, encoding)
        for index, (start, end_frame) in enumerate(zip(starts, ends, strict=True))
    )


def _possible_cuts(timeline: Timeline, frame_rate: Fraction) -> list[_Place]:
    longest = frame_count(LONGEST_SEGMENT_SECONDS, frame_rate)
    places: list[_Place] = []
    for clip in timeline.clips:
        digest = clip_digest(clip)
        pieces = -(-clip.frame_count // longest)
        for piece in range(1, pieces):
            frame = clip.start_frame + clip.frame_count * piece // pieces
            places.append(_Place(frame, (1, f"{digest}{piece:08d}"), f"inside a clip of {clip.frame_count} frames"))
        reason = f"after clip {digest[:8]}, whose digest is the smallest around"
        places.append(_Place(clip.end_frame, (0, digest), reason))
    return places[:-1]


def _choose_cuts(places: Sequence[_Place], end_frame: int, frame_rate: Fraction) -> list[_Place]:
    """Return the places that are cut, in order: every range over ten seconds is cut at its smallest key."""
    longest = frame_count(LONGEST_SEGMENT_SECONDS, frame_rate)
    shortest = frame_count(SHORTEST_SEGMENT_SECONDS, frame_rate)
    cuts: list[_Place] = []
    ranges = [(0, end_frame, 0, len(places))]
    while ranges:
        start, end, first, last = ranges.pop()
        if end - start <= longest:
            continue
        inner = [i for i in range(first, last) if start + shortest <= places[i].frame <= end - shortest]
        if not inner:
            cuts.extend(_even_cuts(start, end, longest))
            continue
        # Of equal keys (one photo shown many times) the middle one keeps the depth logarithmic.
        smallest = min(places[i].key for i in inner)
        equal = [i for i in inner if places[i].key == smallest]
        chosen = equal[len(equal) // 2]
        cuts.append(places[chosen])
        ranges.append((start, places[chosen].frame, first, chosen))
        ranges.append((places[chosen].frame, end, chosen + 1, last))
    return sorted(cuts, key=lambda place: place.frame)


def _even_cuts(start: int, end: int, longest: int) -> Iterable[_Place]:
    pieces = -(-(end - start) // longest)
    for piece in range(1, pieces):
        yield _Place(start + (end - start) * piece // pieces, (2, ""), "no clip ends where a cut may be")


def _plan_segment(index: int, start: _Place, end_frame: int, timeline: Timeline, encoding: EncodingPlan) -> Segment:
    clips = timeline.clips_between(start.frame, end_frame)
    frames = frames_digest(
        clips,
        start_frame=start.frame,
        end_frame=end_frame,
        width_px=encoding.width_px,
        height_px=encoding.height_px,
    )
    keyframes = _plan_keyframes(clips, start.frame, end_frame, encoding.frame_rate)
    return Segment(
        index=index,
        start_frame=start.frame,
        end_frame=end_frame,
        keyframes=keyframes,
        frames_digest=frames,
        address=segment_address(frames, encoding, keyframes=[frame - start.frame for frame in keyframes]),
        cut=start.reason,
    )


def _plan_keyframes(clips: Sequence[Clip], start_frame: int, end_frame: int, frame_rate: Fraction) -> tuple[int, ...]:
    """Return the IDRs of a segment: its start, the clips' starts, and so many that no GOP is over 4 seconds.

    A clip's start less than a second from an IDR before it, or from the segment's end, is none.
    """
    longest, shortest = frame_count(LONGEST_GOP_SECONDS, frame_rate), frame_count(SHORTEST_GOP_SECONDS, frame_rate)
    anchors = [start_frame]
    for clip in clips:
        if anchors[-1] + shortest <= clip.start_frame <= end_frame - shortest:
            anchors.append(clip.start_frame)
    keyframes: list[int] = []
    for anchor, following in zip(anchors, [*anchors[1:], end_frame], strict=True):
        pieces = -(-(following - anchor) // longest)
        keyframes += [anchor + (following - anchor) * piece // pieces for piece in range(pieces)]
    return tuple(keyframes)
