"""Dispatch: which pool renders which segments next, and what happens to those that failed, stalled or wait in vain.

A state machine without a clock, a server or a store. It is told the time, the film's child runs and the segments that
are there, and answers with what is to be done. The Prefect edge carries that out, and so does a simulation.

The server's list of child runs is the only memory: whatever it shows alive is relied on, whoever started it. So a
parent that is started again adopts its living children, and two parents of one film share theirs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain

from fanreel.dispatch.children import Blame, Cancel, Child, DispatchRules, Phase, Pool, SegmentRun, Start
from fanreel.dispatch.decisions import choose_cancels, choose_starts
from fanreel.dispatch.history import FULL_SECONDS, ChildHistory, FilmSegments, PoolHistory
from fanreel.dispatch.moment import Moment, view_pool
from fanreel.errors import NoWorkerError, ShardFailedError

__all__ = ["Dispatcher"]

ATTEMPTS_A_POOL = 2
"""How often one segment may fail in each pool, and in all as often again, before its film does."""


class Dispatcher:
    """The dispatch of one film.

    Args:
        frame_counts: Frames of each segment of the film, by index.
        missing: Indices of the segments that have to be made.
        rules: Its bounds.

    Attributes:
        failure: Why the film cannot be made; None as long as it may be.
    """

    def __init__(self, frame_counts: Sequence[int], missing: Collection[int], *, rules: DispatchRules) -> None:
        self.failure: ShardFailedError | NoWorkerError | None = None
        self._rules = rules
        self._segments = FilmSegments(frame_counts, missing)
        self._pools: defaultdict[str, PoolHistory] = defaultdict(PoolHistory)
        self._alive: dict[str, ChildHistory] = {}
        self._ended: list[ChildHistory] = []  # of the alive ones, to be judged once the store has answered
        self._ended_before: list[Child] = []  # had ended when they were first seen: what they made may not be known
        self._dead: set[str] = set()  # never seen to end: their host is gone, or frozen
        self._listed: set[str] = set()
        self._numbers: Counter[SegmentRun] = Counter()
        self._shard_count = 0
        self._moved_at: float | None = None

    @property
    def missing(self) -> set[int]:
        """Indices of the segments that are not there yet."""
        return self._segments.missing

    @property
    def is_done(self) -> bool:
        """Whether every segment is there."""
        return not self.missing

    @property
    def living(self) -> list[Child]:
        """The children that may still be at work."""
        return [each.child for each in self._alive.values()]

    @property
    def has_ended(self) -> bool:
        """Whether a child has ended since `decide` was last asked."""
        return bool(self._ended or self._ended_before)

    def speed(self, pool: Pool) -> float:
        """Return the frames a second of one child in a pool: as measured in this film, else as estimated before."""
        return self._pools[pool.name].fps(pool)

    def observe(self, now: float, children: Iterable[Child]) -> set[int]:
        """Take note of the film's children, as the server lists them, including those that ended long ago.

        Args:
            now: Seconds on a clock that never goes back.
            children: All that the film ever had.

        Returns:
            The segments to be looked for in the store; `note_present` wants the answer. They are those of children
            that ended since `decide` was last asked, and the next one of each running child.
        """
        if self._moved_at is None:
            self._moved_at = now
        listed = {child.key: child for child in children}
        for key, each in self._alive.items():
            if key not in listed and (key in self._listed or now - each.changed_at > self._rules.leave_seconds):
                listed[key] = replace(each.child, phase=Phase.FAILED, reason="its run was deleted")
        for child in listed.values():
            if child.key not in self._dead:
                self._observe_one(now, child)
        self._listed = set(listed)
        # Counted, they would fall behind those of the others once somebody has deleted a run.
        for child in listed.values():
            self._numbers[child.segments] = max(self._numbers[child.segments], child.number + 1)
        looked_for = [self._segments.left_of(child)[:1] for child in self.living if child.phase is Phase.RUNNING]
        looked_for += [self._segments.left_of(child) for child in self._ended_before]
        looked_for += [self._segments.left_of(each.child) for each in self._ended]
        return set(chain.from_iterable(looked_for))

    def find_made(self, looked_for: set[int], find: Callable[[set[int]], set[int]]) -> set[int]:
        """Return which segments are there: of some, and after each that is there, of the one that follows.

        Args:
            looked_for: The segments to begin with, as `observe` returned them.
            find: Returns which of some segments are in the store.
        """
        found: set[int] = set()
        while looked_for:
            present = find(looked_for)
            found |= present
            looked_for = {index + 1 for index in present} & self.missing - found
        return found

    def note_present(self, now: float, indices: Collection[int]) -> None:
        """Take note of segments that are in the store."""
        found = self.missing.intersection(indices)
        if not found:
            return
        self._segments.missing -= found
        self._moved_at = now
        for each in [*self._alive.values(), *self._ended]:
            made = self._segments.frames(found.intersection(each.child.segments.indices))
            if made and each.child.phase not in (Phase.WAITING, Phase.LEAVING) and not each.told:
                self._pools[each.child.pool].note_made(made, now - each.changed_at)
                each.changed_at, each.has_made = now, True

    def note_started(self, now: float, child: Child) -> None:
        """Take note of a child that was started as `decide` said, before the server lists it."""
        if child.key not in self._alive:
            self._alive[child.key] = ChildHistory(child, now)
            self._shard_count += 1

    def decide(self, now: float, pools: Sequence[Pool]) -> list[Start | Cancel]:
        """Return what is to be done now; nothing once all is done, or `failure` says that it cannot be.

        Args:
            now: As in `observe`.
            pools: Those that may be used, the preferred one first.
        """
        for each in self._ended:
            self._judge(now, each, len(pools))
        self._ended, self._ended_before = [], []
        if self.is_done or self.failure:
            return []
        moment = self._moment(now, pools)
        cancels, starts = choose_cancels(moment), choose_starts(moment)
        for cancel in cancels:
            self._alive[cancel.child.key].note_told(now, cancel)
        idle_seconds = now - (now if self._moved_at is None else self._moved_at)
        if not cancels and not starts and idle_seconds > self._rules.wait_seconds:
            self.failure = _nobody_works(idle_seconds, pools)
        return [*cancels, *starts]

    def _observe_one(self, now: float, child: Child) -> None:
        is_over = child.phase in (Phase.DONE, Phase.FAILED)
        if child.key not in self._alive:
            if is_over:
                self._ended_before += [child] if child.key not in self._listed else []
                return
            self.note_started(now, child)
        each = self._alive[child.key]
        if child.phase is not each.child.phase:
            if child.phase is Phase.RUNNING:
                self._moved_at = now
            if not is_over:
                each.changed_at = now
        each.child = child
        if child.phase is Phase.RUNNING:
            self._pools[child.pool].active_at = now
        if not is_over and each.counts_as_dead(now, self._rules.leave_seconds):
            self._dead.add(child.key)
            is_over = True
        if is_over:
            self._ended.append(self._alive.pop(child.key))

    def _judge(self, now: float, ended: ChildHistory, pool_count: int) -> None:
        """Take note of what a child that ended did not make, and of who is to blame."""
        child, left = ended.child, self._segments.left_of(ended.child)
        if not left:
            return
        self._shard_count -= 1
        blame = ended.told.blame if ended.told else Blame.SEGMENT
        if blame is Blame.NOBODY:
            for index in left:
                self._segments.histories[index].recut_count += 1
            return
        for index in left:
            self._segments.histories[index].avoided[child.pool] += 1
        if not ended.has_made:
            self._pools[child.pool].note_setback(now, self._rules.late_seconds)
        if blame is Blame.SEGMENT:
            # Segments are made in order: the others were not reached.
            self._blame(left[0], child, _reason(ended), pool_count)

    def _blame(self, index: int, child: Child, reason: str, pool_count: int) -> None:
        """Take note of what went wrong with a segment; it fails the film if no other try can help."""
        faults = self._segments.histories[index].faults
        faults.append(f"{child.pool}: {reason}")
        if child.is_hopeless or len(faults) >= ATTEMPTS_A_POOL * (pool_count + 1):
            tries = "1 try" if len(faults) == 1 else f"{len(faults)} tries"
            lines = [
                f"segment {index} could not be rendered in {tries}:",
                *dict.fromkeys(f"  {text}" for text in faults),
            ]
            self.failure = ShardFailedError("\n".join(lines))

    def _moment(self, now: float, pools: Sequence[Pool]) -> Moment:
        """Return all that decisions are made from, after a note of how loaded the pools are."""
        children = list(self._alive.values())
        by_pool = {pool.name: [each for each in children if each.child.pool == pool.name] for pool in pools}
        for pool in pools:
            there = by_pool[pool.name]
            taken = sum(each.child.phase in (Phase.TAKEN, Phase.RUNNING) for each in there)
            is_full = any(each.child.phase is Phase.WAITING and now - each.changed_at > FULL_SECONDS for each in there)
            self._pools[pool.name].note_load(now, pool, taken=taken, is_full=is_full)
        views = {
            pool.name: view_pool(pool, self._pools[pool.name], by_pool[pool.name], segments=self._segments, now=now)
            for pool in pools
        }
        return Moment(now, self._rules, views, children, self._segments, self._shard_count, self._numbers)


def _reason(ended: ChildHistory) -> str:
    """Return why a child ended without some of its segments."""
    if ended.told:
        return ended.told.reason
    if ended.child.phase is Phase.LEAVING:
        return "it did not end when it was told to"
    return ended.child.reason or "it ended without them"


def _nobody_works(idle_seconds: float, pools: Sequence[Pool]) -> NoWorkerError:
    counts = ", ".join(f"{pool.name} {pool.worker_count}" for pool in pools)
    return NoWorkerError(
        f"no shard was started or made for {idle_seconds:.0f} s; workers online: {counts}. "
        "Start a worker of one of these pools (python -m deployments.worker --pool NAME) and run the same job again"
    )
