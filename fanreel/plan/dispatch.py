"""Dispatch: which pool renders which segments next, and what becomes of those that failed, stalled or wait in vain.

A state machine without a clock, a server or a store: it is told what time it is, how the film's child runs are and
which segments are there, and answers with what is to be done. The Prefect edge carries it out; so does a simulation.

The server's list of child runs is the only memory: whatever it shows alive is relied on, whoever started it. So a
parent that is started again adopts its living children, and two parents of one film share theirs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from fanreel.plan.children import Cancel, Child, DispatchRules, Phase, Pool, SegmentRun, Start
from fanreel.plan.shards import LARGEST_SHARD_COUNT

__all__ = ["Dispatcher"]

MOST_SHARDS = 200
"""Child runs that a film may be cut into: each costs a server rows, and a worker seconds to start."""

SHARDS_A_SLOT = 2
"""What is left is cut for so many turns of every slot: shards shrink towards the end, and none ends much later."""

LEAST_WAITING = 2
"""Children that may wait for each worker, or half as many as run, so that one starts when another ends."""

ATTEMPTS_A_POOL = 2
"""How often one segment may fail in each pool, and in all as often again, before its film does."""


@dataclass(slots=True)
class _Life:
    """What is remembered of a child that was seen alive."""

    child: Child
    changed_at: float
    """When it came into its phase, or made its last segment."""
    given_up: str = ""
    """Why it was told to end; empty if nobody here did that."""


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
        self._lives: dict[str, _Life] = {}
        self._listed: set[str] = set()
        self._given_up: set[str] = set()
        self._ended: list[_Life] = []
        self._numbers: Counter[SegmentRun] = Counter()
        self._avoided: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._faults: defaultdict[int, list[str]] = defaultdict(list)
        self._frames_made: Counter[str] = Counter()
        self._seconds_worked: defaultdict[str, float] = defaultdict(float)
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
        seconds = self._seconds_worked[pool.name]
        return self._frames_made[pool.name] / seconds if seconds > 0 else pool.fps

    def observe(self, now: float, children: Iterable[Child]) -> set[int]:
        """Take note of the film's children, as the server lists them, those that ended long ago too.

        Args:
            now: Seconds on a clock that never goes back.
            children: All that the film ever had.

        Returns:
            The segments to be looked for in the store, the answer being for `note_present`: those of children that
            have just ended, and the next one that each running child is expected to make.
        """
        self._moved_at = now if self._moved_at is None else self._moved_at
        self._numbers.clear()
        looked_for: set[int] = set()
        listed = {child.key: child for child in children}
        for key in (self._listed & self._lives.keys()) - listed.keys():
            listed[key] = replace(self._lives[key].child, phase=Phase.FAILED, reason="its run was deleted")
        self._listed = set(listed)
        for child in listed.values():
            self._numbers[child.segments] += 1
            looked_for.update(self._observe_one(now, child))
        return looked_for & self.missing

    def note_present(self, now: float, indices: Collection[int]) -> None:
        """Take note of segments that are in the store."""
        found = self.missing.intersection(indices)
        if not found:
            return
        self.missing -= found
        self._moved_at = now
        for life in [*self._lives.values(), *self._ended]:
            made = self._frames(found.intersection(life.child.segments.indices))
            if made and life.child.phase is not Phase.WAITING:
                self._frames_made[life.child.pool] += made
                self._seconds_worked[life.child.pool] += now - life.changed_at
                life.changed_at = now

    def note_started(self, now: float, child: Child) -> None:
        """Take note of a child that was started as `decide` said, before the server lists it."""
        self._lives.setdefault(child.key, _Life(child, now))

    def decide(self, now: float, pools: Sequence[Pool]) -> list[Start | Cancel]:
        """Return what is to be done now; nothing once all is done, or `failure` says that it cannot be.

        Args:
            now: As in `observe`.
            pools: Those that may be used, the preferred one first.
        """
        for life in self._ended:
            self._judge(life, len(pools))
        self._ended.clear()
        if self.is_done or self.failure:
            return []
        room = self._room(pools)
        actions: list[Start | Cancel] = list(self._give_up(now, pools, room))
        actions += self._start(pools, room)
        idle_seconds = now - (self._moved_at if self._moved_at is not None else now)
        if not actions and idle_seconds > self._rules.wait_seconds:
            self.failure = _explain_wait(idle_seconds, pools)
        return actions

    def _observe_one(self, now: float, child: Child) -> Iterable[int]:
        life, is_over = self._lives.get(child.key), child.phase in (Phase.DONE, Phase.FAILED)
        if child.key in self._given_up or (life is None and is_over):
            return ()
        if life is None:
            life = self._lives[child.key] = _Life(child, now)
        if child.phase is not life.child.phase:
            if child.phase is Phase.RUNNING:
                self._moved_at = now
            if not is_over:
                life.changed_at = now
        life.child = child
        if child.phase is Phase.LEAVING and now - life.changed_at > self._rules.leave_seconds:
            self._given_up.add(child.key)  # nobody will see it dead: its host is gone, or frozen
            life.given_up = life.given_up or "it did not end when it was told to"
            is_over = True
        if is_over:
            del self._lives[child.key]
            self._ended.append(life)
            return child.segments.indices
        expected = self.missing.intersection(child.segments.indices) if child.phase is Phase.RUNNING else ()
        return sorted(expected)[:1]

    def _judge(self, life: _Life, pool_count: int) -> None:
        """Note against a child that ended what it did not make."""
        child = life.child
        left = sorted(self.missing.intersection(child.segments.indices))
        if not left:
            return
        for index in left:
            self._avoided[index][child.pool] += 1
        if life.given_up == _LATE:
            return  # nothing is wrong with the segments
        fault = f"{child.pool}: {life.given_up or child.reason or 'it ended without them'}"
        faults = self._faults[left[0]]  # segments are made in order: the others were not reached
        faults.append(fault)
        if child.is_hopeless or len(faults) >= ATTEMPTS_A_POOL * (pool_count + 1):
            told = "\n".join(f"  {text}" for text in dict.fromkeys(faults))
            self.failure = f"segment {left[0]} could not be rendered in {len(faults)} tries:\n{told}"
            self.failed = child

    def _give_up(self, now: float, pools: Sequence[Pool], room: dict[str, int]) -> Iterator[Cancel]:
        """Yield the children that are told to end, because others may do better."""
        for life in list(self._lives.values()):
            child, still_seconds = life.child, now - life.changed_at
            elsewhere = any(room[pool.name] > 0 for pool in pools if pool.name != child.pool)
            reason = ""
            if child.phase is Phase.RUNNING and still_seconds > self._rules.stall_seconds:
                reason = f"it made no segment for {still_seconds:.0f} s"
            elif child.phase is Phase.TAKEN and still_seconds > self._rules.late_seconds:
                reason = f"its worker did not start it within {still_seconds:.0f} s"
            elif child.phase is Phase.WAITING and still_seconds > self._rules.late_seconds and elsewhere:
                reason = _LATE
            if reason and not life.given_up:
                life.given_up = reason
                yield Cancel(child.key, reason)

    def _room(self, pools: Sequence[Pool]) -> dict[str, int]:
        """Return how many more children each pool may be given; where no pool has a worker, the first one may wait."""
        running = Counter(life.child.pool for life in self._lives.values() if life.child.phase is Phase.RUNNING)
        waiting = Counter(
            life.child.pool for life in self._lives.values() if life.child.phase in (Phase.WAITING, Phase.TAKEN)
        )
        room: dict[str, int] = {}
        for pool in pools:
            may_wait = max(LEAST_WAITING * pool.worker_count, running[pool.name] // 2)
            room[pool.name] = may_wait - waiting[pool.name]
        if pools and not any(pool.worker_count for pool in pools):
            room[pools[0].name] = LEAST_WAITING - waiting[pools[0].name]
        return room

    def _start(self, pools: Sequence[Pool], room: dict[str, int]) -> Iterator[Start]:
        """Yield a child for every run of segments that nobody makes and for which a pool has room."""
        covered = {index for life in self._lives.values() for index in life.child.segments.indices}
        waiting = sorted(self.missing - covered)
        slots = self._slots(pools)
        while waiting and any(count > 0 for count in room.values()):
            pool = self._choose(waiting[0], pools, room)
            if pool is None:
                waiting.pop(0)
                continue
            run = self._cut(waiting, pool, self._frames(waiting), slots)
            room[pool.name] -= 1
            waiting = [index for index in waiting if index >= run.end]
            faults = self._faults.get(run.start)
            yield Start(pool.name, run, self._numbers[run], because=faults[-1] if faults else "")

    def _choose(self, index: int, pools: Sequence[Pool], room: dict[str, int]) -> Pool | None:
        """Return where a segment goes: of the pools where it failed least the first one; None while that is full."""
        avoided = self._avoided.get(index, Counter[str]())
        served = [pool for pool in pools if pool.worker_count] or pools[:1]
        least = min((avoided[pool.name] for pool in served), default=0)
        return next((pool for pool in served if avoided[pool.name] == least and room[pool.name] > 0), None)

    def _cut(self, waiting: Sequence[int], pool: Pool, frames_left: int, slots: dict[str, float]) -> SegmentRun:
        """Return the first of the waiting segments as a shard for a pool, sized by its speed and by what is left."""
        rules, speed = self._rules, self.speed(pool)
        share = frames_left * speed / (SHARDS_A_SLOT * sum(slots.values()))
        share = min(
            max(share, rules.shortest_seconds * speed), max(rules.longest_seconds, rules.shortest_seconds) * speed
        )
        most = min(MOST_SHARDS, max(LARGEST_SHARD_COUNT, SHARDS_A_SLOT**2 * len(self._lives)))
        share = max(share, self._total_frames / most)
        start = end = waiting[0]
        frames = 0
        alike = self._avoided.get(start)
        for index in waiting:
            count = self._frame_counts[index]
            if index != end or (frames and frames + count / 2 > share) or self._avoided.get(index) != alike:
                break
            end, frames = index + 1, frames + count
        return SegmentRun(start, end)

    def _slots(self, pools: Sequence[Pool]) -> dict[str, float]:
        """Return the speed of each pool's slots together, those that it is known to have."""
        alive = Counter(life.child.pool for life in self._lives.values())
        return {pool.name: self.speed(pool) * max(alive[pool.name], pool.worker_count, 1) for pool in pools}

    def _frames(self, indices: Iterable[int]) -> int:
        return sum(self._frame_counts[index] for index in indices)


_LATE = "no worker started it in time"


def _explain_wait(idle_seconds: float, pools: Sequence[Pool]) -> str:
    counts = ", ".join(f"{pool.name} {pool.worker_count}" for pool in pools)
    return (
        f"no shard was started or made for {idle_seconds:.0f} s; workers online: {counts}. "
        "Start a worker of one of these pools (python -m deployments.worker --pool NAME) and run the same job again"
    )
