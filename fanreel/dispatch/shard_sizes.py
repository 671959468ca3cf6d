"""How large the next shard of a film is, so that all slots of all pools end at about the same time.

A shard that starts when a slot gets free should end when the film does: were all its frames shared out without
rests, that would be `frames missing / frames a second of all slots` from now. Early shards take a part of the time up
to there, the last ones all of it, so that shards shrink towards the end and differences in speed are evened out.
Guided self-scheduling (Polychronopoulos and Kuck 1987) does so by counts of tasks; here a film may not have many.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fanreel.dispatch.children import DispatchRules, SegmentRun
from fanreel.plan.shards import LARGEST_SHARD_COUNT

__all__ = ["MOST_SHARDS", "PoolLoad", "ShardSizes", "cut_run"]

MOST_SHARDS = 200
"""Child runs that a film may be cut into: each costs a server rows, and a worker seconds to start."""

SHARDS_A_SLOT = 4
"""So many turns of every slot even out what slots differ by; more cost more starts than they save."""

EARLY_SHARE = 1.6
"""Part of the time up to the film's end that a shard takes, times the turns that its slot still has: with four turns
left shards take 40, 32, 20 and 8 % of it."""

LAST_SHARE = 0.85
"""No shard takes more of it as long as there may be enough others: those even out what the last ones differ by."""

ENOUGH_A_SLOT = 1.5


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """What a pool does for a film, and may do.

    Attributes:
        fps: Frames that one child makes a second, above 0.
        slots: Children that it runs at once, as far as is known.
        is_known: Whether that is known: children wait there for longer than workers take to ask.
        ends: Seconds after which each of the children at work is expected to end, ascending.
        waiting_count: Children that wait there.
    """

    fps: float
    slots: int
    is_known: bool
    ends: tuple[float, ...]
    waiting_count: int


class ShardSizes:
    """The sizes of the shards that are started at one moment.

    Args:
        loads: Of every pool.
        total_frames: Of all the film's segments that had to be made.
        frames_missing: Of all that are not there yet, those that are being made too.
        shard_count: Shards that there were so far, those that failed apart.
        rules: The bounds.
    """

    def __init__(
        self,
        loads: Mapping[str, PoolLoad],
        *,
        total_frames: int,
        frames_missing: int,
        shard_count: int,
        rules: DispatchRules,
    ) -> None:
        self._loads, self._rules, self._total_frames = loads, rules, total_frames
        self._slots = max(1, sum(load.slots for load in loads.values()))
        fps = sum(load.fps * load.slots for load in loads.values())
        self._fps = fps or max(load.fps for load in loads.values())
        self._end_seconds = frames_missing / self._fps
        long_ones = total_frames * self._slots / self._fps / rules.longest_seconds
        wanted = max(SHARDS_A_SLOT * self._slots, min(LARGEST_SHARD_COUNT, round(long_ones)))
        self._left = min(MOST_SHARDS, wanted) - shard_count
        self._allowed = MOST_SHARDS - shard_count
        self._started: dict[str, int] = dict.fromkeys(loads, 0)

    def next_size(self, pool: str, frames_waiting: int) -> float:
        """Return how many frames the next shard for a pool has, above 0; infinite: all of them.

        Args:
            pool: Where it is to go.
            frames_waiting: Frames that no shard has yet.
        """
        load, rules = self._loads[pool], self._rules
        fps_a_slot = self._fps / self._slots
        least_seconds = frames_waiting / max(1, self._allowed) / fps_a_slot
        last_part = LAST_SHARE if self._allowed > ENOUGH_A_SLOT * self._slots else 1.0
        part = min(last_part, EARLY_SHARE * self._slots / max(1, self._left))
        seconds = max(least_seconds, part * (self._end_seconds - self._free_after(load, pool)))
        if not load.is_known:  # there may be many more slots than workers
            seconds = min(seconds, max(rules.longest_seconds, self._total_frames / MOST_SHARDS / fps_a_slot))
        self._left, self._allowed = self._left - 1, self._allowed - 1
        self._started[pool] += 1
        return max(seconds, rules.shortest_seconds) * load.fps

    def _free_after(self, load: PoolLoad, pool: str) -> float:
        """Return after how many seconds a slot is free for the next shard."""
        free_count = load.slots - len(load.ends)
        place = load.waiting_count + self._started[pool] - free_count
        if not load.is_known or not load.ends or place < 0:
            return 0.0
        return load.ends[min(place, len(load.ends) - 1)]


def cut_run(
    waiting: Sequence[int],
    size: float,
    *,
    frame_counts: Sequence[int],
    missing: Collection[int],
    avoided: Mapping[int, Mapping[str, int]],
) -> SegmentRun:
    """Return the first of some segments as a shard of about `size` frames, of one segment at least.

    Args:
        waiting: Indices of segments that nobody makes, ascending; at least one.
        size: Frames; infinite: as many segments as may be in one shard.
        frame_counts: Of each segment of the film.
        missing: The segments that are not there; the shard reaches over none that another one makes, but over those
            that are there: a film of which every other segment is there would else cost a shard for each.
        avoided: How often each segment failed where; those that go together failed alike.
    """
    start = end = waiting[0]
    frames = 0
    for index in waiting:
        count = frame_counts[index]
        is_cut_off = any(between in missing for between in range(end, index))
        is_full = frames > 0 and frames + count / 2 > size
        if is_cut_off or is_full or avoided.get(index) != avoided.get(start):
            break
        end, frames = index + 1, frames + count
    return SegmentRun(start, end)
