"""How large the next shard of a film is, so that all slots of all pools end at about the same time.

A shard that starts when a slot becomes free should end when the film does. If all frames were shared out evenly, that
would be `frames missing / frames a second of all slots` from now. Early shards take a part of that time, the last ones
all of it: shards shrink towards the end, and even out differences in speed. Guided self-scheduling (Polychronopoulos
and Kuck 1987) does so by counts of tasks; here the number of shards is bounded too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fanreel.dispatch.children import DispatchRules, SegmentRun
from fanreel.dispatch.history import FilmSegments
from fanreel.dispatch.moment import PoolView
from fanreel.plan.shards import LARGEST_SHARD_COUNT

__all__ = ["MOST_SHARDS", "ShardSizes", "cut_run"]

MOST_SHARDS = 200
"""Child runs that a film may be cut into: each costs a server rows, and a worker seconds to start."""

SHARDS_A_SLOT = 4
"""So many shards for every slot even out differences in speed; more would cost more starts than they save."""

EARLY_SHARE = 1.6
"""Part of the time up to the film's end that a shard takes, times the shards that its slot still has to come: with four
left shards take 40, 32, 20 and 8 % of it."""

LAST_SHARE = 0.85
"""No shard takes more of that time while there may be enough others, which even out how the last ones differ."""

ENOUGH_A_SLOT = 1.5


@dataclass(frozen=True)
class ShardSizes:
    """The sizes of the shards that are started at one moment.

    Attributes:
        pools: Every pool, by name.
        total_frames: Frames of all segments that had to be made.
        frames_missing: Frames of all that are not there yet, including those in work.
        shard_count: Shards before this moment, without those that failed.
        rules: The bounds.
    """

    pools: Mapping[str, PoolView]
    total_frames: int
    frames_missing: int
    shard_count: int
    rules: DispatchRules

    @cached_property
    def _slots(self) -> int:
        return max(1, sum(pool.busy_slots for pool in self.pools.values()))

    @cached_property
    def _fps(self) -> float:
        """Frames a second of all slots."""
        fps = sum(pool.fps * pool.busy_slots for pool in self.pools.values())
        return fps or max(pool.fps for pool in self.pools.values())

    @cached_property
    def _wanted_count(self) -> int:
        """Shards that the film is best cut into."""
        long_ones = self.total_frames * self._slots / self._fps / self.rules.longest_seconds
        return min(MOST_SHARDS, max(SHARDS_A_SLOT * self._slots, min(LARGEST_SHARD_COUNT, round(long_ones))))

    def next_frames(self, pool: str, *, started: Mapping[str, int], frames_waiting: int) -> float:
        """Return how many frames the next shard for a pool has, above 0; infinite: all of them.

        Args:
            pool: The pool that gets it.
            started: Shards that each pool has got at this moment already.
            frames_waiting: Frames that no shard has yet.
        """
        view, rules = self.pools[pool], self.rules
        shard_count = self.shard_count + sum(started.values())
        allowed_count = MOST_SHARDS - shard_count
        fps_a_slot = self._fps / self._slots
        least_seconds = frames_waiting / max(1, allowed_count) / fps_a_slot
        last_part = LAST_SHARE if allowed_count > ENOUGH_A_SLOT * self._slots else 1.0
        part = min(last_part, EARLY_SHARE * self._slots / max(1, self._wanted_count - shard_count))
        free_after_seconds = _free_after_seconds(view, view.queued_count + started.get(pool, 0))
        seconds = max(least_seconds, part * (self.frames_missing / self._fps - free_after_seconds))
        if not view.is_full:  # there may be many more slots than workers
            seconds = min(seconds, max(rules.longest_seconds, self.total_frames / MOST_SHARDS / fps_a_slot))
        return max(seconds, rules.shortest_seconds) * view.fps


def _free_after_seconds(pool: PoolView, queued_count: int) -> float:
    """Return after how many seconds a slot is free for the next shard, with so many before it."""
    place = queued_count - (pool.busy_slots - len(pool.ends))
    if not pool.is_full or not pool.ends or place < 0:
        return 0.0
    return max(0.0, pool.ends[min(place, len(pool.ends) - 1)])


def cut_run(waiting: Sequence[int], frames: float, segments: FilmSegments) -> SegmentRun:
    """Return the first of some segments as a shard of about so many frames, of one segment at least.

    The shard contains no missing segment of another child, but may contain some that are there already: a film of
    which every other segment is there would else cost a shard for each. Its segments have failed in the same pools.

    Args:
        waiting: Indices of segments that nobody makes, ascending; at least one.
        frames: The size; infinite: as many segments as may be in one shard.
        segments: The segments of the film.
    """
    start = end = waiting[0]
    cut_frames = 0
    for index in waiting:
        count = segments.frame_counts[index]
        is_cut_off = any(between in segments.missing for between in range(end, index))
        is_large = cut_frames > 0 and cut_frames + count / 2 > frames
        if is_cut_off or is_large or segments.histories[index].avoided != segments.histories[start].avoided:
            break
        end, cut_frames = index + 1, cut_frames + count
    return SegmentRun(start, end)
