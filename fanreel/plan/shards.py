"""Shards: runs of segments handed to one task run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fanreel.plan.segments import Segment

__all__ = ["LARGEST_SHARD_COUNT", "Shard", "plan_shards"]

LARGEST_SHARD_COUNT = 32
"""Task runs that one film may cost by default: the orchestrator's API and database pay for each."""

SHARDS_A_SESSION = 3
"""Enough that a session which ends early finds more work; few enough that starting them costs little."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Segments that one encoder session makes, in order.

    Attributes:
        index: Place among the film's shards, from 0.
        segments: At least one.
    """

    index: int
    segments: tuple[Segment, ...]

    @property
    def frame_count(self) -> int:
        """Frames of all its segments."""
        return sum(segment.frame_count for segment in self.segments)

    @property
    def label(self) -> str:
        """What people call it."""
        first, last = self.segments[0].index, self.segments[-1].index
        return f"segment {first}" if first == last else f"segments {first}-{last}"


def plan_shards(segments: Sequence[Segment], *, session_count: int) -> tuple[Shard, ...]:
    """Return `segments` as runs of about equal numbers of frames.

    Args:
        segments: Those to be rendered, in order; not necessarily all of a film.
        session_count: Sessions that will work side by side.

    Returns:
        At most 32 shards, none empty; none at all if there are no segments.
    """
    count = min(len(segments), LARGEST_SHARD_COUNT, SHARDS_A_SESSION * session_count)
    frames_left = sum(segment.frame_count for segment in segments)
    shards: list[Shard] = []
    rest = list(segments)
    while rest:
        share = frames_left / (count - len(shards))
        run = [rest.pop(0)]
        frames = run[0].frame_count
        while len(rest) > count - len(shards) - 1 and frames + rest[0].frame_count / 2 <= share:
            frames += rest[0].frame_count
            run.append(rest.pop(0))
        frames_left -= frames
        shards.append(Shard(len(shards), tuple(run)))
    return tuple(shards)
