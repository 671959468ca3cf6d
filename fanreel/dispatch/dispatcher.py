"""Dispatch: which pool renders which segments next, and what becomes of those that failed, stalled or wait in vain.

A state machine without a clock, a server or a store: it is told what time it is, how the film's child runs are and
which segments are there, and answers with what is to be done. The Prefect edge carries it out; so does a simulation.

The server's list of child runs is the only memory: whatever it shows alive is relied on, whoever started it. So a
parent that is started again adopts its living children, and two parents of one film share theirs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from fanreel.dispatch.children import Cancel, Child, DispatchRules, Phase, Pool, SegmentRun, Start
from fanreel.dispatch.pool_line import GAIN_SECONDS, Life, PoolLine, explain_wait
from fanreel.dispatch.pool_records import FULL_SECONDS, PoolRecord
from fanreel.dispatch.segment_faults import SegmentFaults
from fanreel.dispatch.shard_sizes import ShardSizes, cut_run

__all__ = ["Dispatcher"]

RECUTS = 2
"""How often one segment may be taken out of a shard that waits, because that has turned out to be too large."""

TOLD_COUNT = 10
"""A child that was told to end so often, and is not seen to, counts as dead like one that takes too long to."""

_LATE = "no worker started it in time"
_MOVED = "a slot of another pool was free before one of its own"
_TOO_LARGE = "by the speeds that are known now it would end long after the film could"
_OLD = "it ended before it was known here"


class Dispatcher:
    """The dispatch of one film.

    Args:
        frame_counts: Frames of each segment of the film, by index.
        missing: Indices of the segments that have to be made.
        rules: Its bounds.

    Attributes:
        missing: Indices of the segments that are not there yet.
        failure: Why the film cannot be made, as far as is known; empty as long as it can.
        failed: The child whose failure that is, if it is one's.
    """

    def __init__(self, frame_counts: Sequence[int], missing: Collection[int], *, rules: DispatchRules) -> None:
        self.missing = set(missing)
        self.failure = ""
        self.failed: Child | None = None
        self._frame_counts, self._rules = frame_counts, rules
        self._total_frames = self._frames(self.missing)
        self._lives: dict[str, Life] = {}
        self._listed: set[str] = set()
        self._given_up: set[str] = set()
        self._ended: list[Life] = []
        self._numbers: Counter[SegmentRun] = Counter()
        self._faults = SegmentFaults()
        self._recuts = Counter[int]()
        self._active_at: dict[str, float] = {}
        self._records: defaultdict[str, PoolRecord] = defaultdict(PoolRecord)
        self._shard_count = 0
        self._moved_at: float | None = None

    @property
    def is_done(self) -> bool:
        """Whether every segment is there."""
        return not self.missing

    @property
    def living(self) -> list[Child]:
        """The children that may still be at work."""
        return [life.child for life in self._lives.values()]

    @property
    def has_ended(self) -> bool:
        """Whether a child has ended since `decide` was last asked."""
        return bool(self._ended)

    @property
    def frames_missing(self) -> int:
        """Frames of the segments that are not there yet."""
        return self._frames(self.missing)

    def speed(self, pool: Pool) -> float:
        """Return the frames a second of one child in a pool: as seen in this film, else as known before."""
        return self._records[pool.name].fps(pool)

    def observe(self, now: float, children: Iterable[Child]) -> set[int]:
        """Take note of the film's children, as the server lists them, those that ended long ago too.

        Args:
            now: Seconds on a clock that never goes back.
            children: All that the film ever had.

        Returns:
            The segments to be looked for in the store, the answer being for `note_present`: those of children that
            ended since `decide` was last asked, and the next one that each running child is expected to make.
        """
        self._moved_at = now if self._moved_at is None else self._moved_at
        self._numbers.clear()
        looked_for = set[int]()
        listed = {child.key: child for child in children}
        for key in self._lives.keys() - listed.keys():
            life = self._lives[key]
            if key in self._listed or now - life.changed_at > self._rules.leave_seconds:
                listed[key] = replace(life.child, phase=Phase.FAILED, reason="its run was deleted")
        for child in listed.values():
            self._numbers[child.segments] += 1
            looked_for.update(self._observe_one(now, child))
        self._listed = set(listed)
        for life in self._ended:  # again and again, until the store has answered and they were judged
            looked_for.update(life.child.segments.indices)
        return looked_for & self.missing

    def note_present(self, now: float, indices: Collection[int]) -> None:
        """Take note of segments that are in the store."""
        found = self.missing.intersection(indices)
        if not found:
            return
        self.missing -= found
        self._moved_at = now
        for life in [*self._lives.values(), *self._ended]:
            child = life.child
            made = self._frames(found.intersection(child.segments.indices))
            if made and child.phase not in (Phase.WAITING, Phase.LEAVING) and not life.given_up:
                self._records[child.pool].note_made(made, now - life.changed_at)
                life.changed_at, life.has_made = now, True

    def note_started(self, now: float, child: Child) -> None:
        """Take note of a child that was started as `decide` said, before the server lists it."""
        if child.key not in self._lives:
            self._lives[child.key] = Life(child, now)
            self._shard_count += 1

    def decide(self, now: float, pools: Sequence[Pool]) -> list[Start | Cancel]:
        """Return what is to be done now; nothing once all is done, or `failure` says that it cannot be.

        Args:
            now: As in `observe`.
            pools: Those that may be used, the preferred one first.
        """
        while self._ended:
            self._judge(now, self._ended.pop(0), len(pools))
        if self.is_done or self.failure:
            return []
        self._note_loads(now, pools)
        served = self._served(now, pools)
        lines = {pool.name: self._line(now, pool) for pool in pools}
        # Where no pool has a worker, the first one is served, and one child may wait.
        room = {pool.name: lines[pool.name].room if pool in served else 0 for pool in pools}
        actions: list[Start | Cancel] = list(self._give_up(now, pools, lines))
        actions += self._start(served, room, lines)
        idle_seconds = now - (self._moved_at if self._moved_at is not None else now)
        if not actions and idle_seconds > self._rules.wait_seconds:
            self.failure = explain_wait(idle_seconds, pools)
        return actions

    def _observe_one(self, now: float, child: Child) -> Iterable[int]:
        life, is_over = self._lives.get(child.key), child.phase in (Phase.DONE, Phase.FAILED)
        if child.key in self._given_up:
            return ()
        if life is None:
            if is_over:
                if child.key not in self._listed:
                    self._ended.append(Life(child, now, given_up=_OLD))  # what it made may not be known here
                return ()
            self.note_started(now, child)
            life = self._lives[child.key]
        if child.phase is not life.child.phase:
            if child.phase is Phase.RUNNING:
                self._moved_at = now
            if not is_over:
                life.changed_at = now
        life.child = child
        if child.phase is Phase.RUNNING:
            self._active_at[child.pool] = now
        if not is_over and self._is_given_up(now, life):
            self._given_up.add(child.key)  # nobody will see it dead: its host is gone, or frozen
            life.given_up = life.given_up or "it did not end when it was told to"
            is_over = True
        if is_over:
            del self._lives[child.key]
            self._ended.append(life)
            return ()
        return (self._next_of(child),) if child.phase is Phase.RUNNING else ()

    def _is_given_up(self, now: float, life: Life) -> bool:
        """Return whether a child that was told to end, and did not, counts as dead."""
        is_told = life.child.phase is Phase.LEAVING or life.told_count >= TOLD_COUNT
        return is_told and now - life.changed_at > self._rules.leave_seconds

    def _judge(self, now: float, life: Life, pool_count: int) -> None:
        """Note against a child that ended what it did not make."""
        child = life.child
        left = sorted(self._left_of(child))
        if not left or life.given_up == _OLD:
            return
        self._shard_count -= 1
        if life.given_up in (_MOVED, _TOO_LARGE):
            self._recuts.update(left)
            return  # nothing is wrong with the segments, nor with the pool
        self._faults.avoid(left, child.pool)
        if not life.has_made:
            self._records[child.pool].note_setback(now, self._rules.late_seconds)
        if life.given_up == _LATE:
            return  # nothing is wrong with the segments
        fault = f"{child.pool}: {life.given_up or child.reason or 'it ended without them'}"
        # Segments are made in order: the others were not reached.
        failure = self._faults.note(left[0], fault, pool_count=pool_count, is_hopeless=child.is_hopeless)
        if failure:
            self.failure, self.failed = failure, child

    def _line(self, now: float, pool: Pool) -> PoolLine:
        lives = (life for life in self._lives.values() if life.child.pool == pool.name)
        return PoolLine(pool, self._records[pool.name], lives, now=now, frames_left=self._frames_left)

    def _frames_left(self, child: Child) -> int:
        return self._frames(self._left_of(child))

    def _give_up(self, now: float, pools: Sequence[Pool], lines: dict[str, PoolLine]) -> Iterator[Cancel]:
        """Yield the children that are told to end, because others may do better; until they are seen to."""
        free = Counter({name: line.free_count for name, line in lines.items()})
        for life in list(self._lives.values()):
            child, still_seconds = life.child, now - life.changed_at
            if child.phase is Phase.LEAVING:
                continue
            if not life.given_up and still_seconds > min(self._rules.stall_seconds, self._rules.late_seconds):
                patience = 1 + self._faults.count(self._next_of(child))  # what failed may just take long
                if child.phase is Phase.RUNNING and still_seconds > self._rules.stall_seconds * patience:
                    life.given_up = f"it made no segment for {still_seconds:.0f} s"
                elif child.phase is Phase.TAKEN and still_seconds > self._rules.late_seconds * patience:
                    life.given_up = f"its worker did not start it within {still_seconds:.0f} s"
                elif child.phase is Phase.WAITING and still_seconds > self._rules.late_seconds:
                    life.given_up = self._find_better(now, child, pools, lines, free)
                if life.given_up:
                    life.changed_at = now
            if not life.given_up and still_seconds > FULL_SECONDS and self._is_too_large(child, lines):
                life.given_up, life.changed_at = _TOO_LARGE, now
            if life.given_up:
                life.told_count += 1
                yield Cancel(child, life.given_up)

    def _find_better(
        self,
        now: float,
        child: Child,
        pools: Sequence[Pool],
        lines: dict[str, PoolLine],
        free: Counter[str],
    ) -> str:
        """Return why a child that waits would do better in another pool, empty if not; takes a free slot there."""
        avoided = self._faults.avoided_in(self._next_of(child))
        others = [each for each in pools if each.name != child.pool and each.worker_count and lines[each.name].room > 0]
        if not any(pool.name == child.pool and pool.worker_count for pool in pools):
            return _LATE if others else ""
        others = [pool for pool in others if avoided[pool.name] <= avoided[child.pool]]
        others = [pool for pool in others if not self._records[pool.name].is_on_trial]
        if now - self._active_at.get(child.pool, float("-inf")) > self._rules.late_seconds:
            return _LATE if others else ""
        # It is next in a line that moves. A slot that is free elsewhere is better, once nothing else is left for it.
        better = next((pool.name for pool in others if free[pool.name] > 0), "")
        if not better or self._waiting() or lines[child.pool].wait_seconds(child) < GAIN_SECONDS:
            return ""
        free[better] -= 1
        return _MOVED

    def _is_too_large(self, child: Child, lines: dict[str, PoolLine]) -> bool:
        """Return whether a child that waits should be cut anew, for speeds are known that were not when it was cut."""
        if child.phase is not Phase.WAITING or child.pool not in lines or self._rules.shortest_seconds == float("inf"):
            return False
        left = self._left_of(child)
        fps = sum(line.fps * line.slots for line in lines.values())
        is_new = len(left) > 1 and all(self._recuts[index] < RECUTS for index in left)
        return is_new and fps > 0 and lines[child.pool].is_too_large(child, self.frames_missing / fps)

    def _note_loads(self, now: float, pools: Sequence[Pool]) -> None:
        taken = self._count(Phase.TAKEN, Phase.RUNNING)
        full = {
            life.child.pool
            for life in self._lives.values()
            if life.child.phase is Phase.WAITING and now - life.changed_at > FULL_SECONDS
        }
        for pool in pools:
            self._records[pool.name].note_load(now, pool, taken=taken[pool.name], is_full=pool.name in full)

    def _served(self, now: float, pools: Sequence[Pool]) -> list[Pool]:
        """Return the pools that segments may go to: those with workers, and of those the ones that do not rest."""
        served = [pool for pool in pools if pool.worker_count]
        awake = [pool for pool in served if now >= self._records[pool.name].rests_until]
        return awake or served or list(pools[:1])

    def _start(self, served: Sequence[Pool], room: dict[str, int], lines: dict[str, PoolLine]) -> Iterator[Start]:
        """Yield a child for every run of segments that nobody makes and for which a pool has room."""
        waiting = self._waiting() if any(count > 0 for count in room.values()) else []
        sizes = self._sizes(lines) if waiting else None
        free = Counter({name: line.free_count for name, line in lines.items()})
        while waiting and sizes and any(count > 0 for count in room.values()):
            pool = self._choose(waiting[0], served, room, free)
            if pool is None:
                waiting.pop(0)
                continue
            size = sizes.next_size(pool.name, self._frames(waiting))
            run = cut_run(
                waiting, size, frame_counts=self._frame_counts, missing=self.missing, avoided=self._faults.avoided
            )
            room[pool.name] -= 1
            free[pool.name] -= 1
            waiting = [index for index in waiting if index >= run.end]
            yield Start(pool.name, run, self._numbers[run], because=self._faults.last(run.start))

    def _choose(self, index: int, served: Sequence[Pool], room: dict[str, int], free: Counter[str]) -> Pool | None:
        """Return where a segment goes: of the pools where it failed least the first one; None while those are full.

        Those with a free slot come before those in which it would wait.
        """
        avoided = self._faults.avoided_in(index)
        least = min((avoided[pool.name] for pool in served), default=0)
        fit = [pool for pool in served if avoided[pool.name] == least and room[pool.name] > 0]
        return next((pool for pool in fit if free[pool.name] > 0), fit[0] if fit else None)

    def _sizes(self, lines: dict[str, PoolLine]) -> ShardSizes:
        return ShardSizes(
            {name: line.load for name, line in lines.items()},
            total_frames=self._total_frames,
            frames_missing=self.frames_missing,
            shard_count=self._shard_count,
            rules=self._rules,
        )

    def _waiting(self) -> list[int]:
        """Return the segments that nobody makes."""
        covered = {index for life in self._lives.values() for index in life.child.segments.indices}
        return sorted(self.missing - covered)

    def _count(self, *phases: Phase) -> Counter[str]:
        return Counter(life.child.pool for life in self._lives.values() if life.child.phase in phases)

    def _next_of(self, child: Child) -> int:
        """Return the first segment that a child still has to make; -1 if there is none."""
        return next((index for index in child.segments.indices if index in self.missing), -1)

    def _left_of(self, child: Child) -> set[int]:
        return self.missing.intersection(child.segments.indices)

    def _frames(self, indices: Iterable[int]) -> int:
        return sum(self._frame_counts[index] for index in indices)
