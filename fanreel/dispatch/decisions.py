"""What is done at one moment of a film's dispatch: which children are told to end, and which are started."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from fanreel.dispatch.children import Blame, Cancel, Child, Phase, Start
from fanreel.dispatch.history import FULL_SECONDS, ChildHistory
from fanreel.dispatch.moment import Moment, PoolView
from fanreel.dispatch.shard_sizes import ShardSizes, cut_run

__all__ = ["choose_cancels", "choose_starts"]

MOST_RECUTS = 2
"""How often one segment may be taken out of a waiting shard that has turned out to be too large."""

TOO_LONG = 1.3
"""A waiting shard is too large if it would end after so many times the time that the film needs from now."""

GAIN_SECONDS = 20.0
"""A waiting child is withdrawn to gain at least so much: another child costs a slot some 10 s."""


def choose_cancels(moment: Moment) -> list[Cancel]:
    """Return the children that are told to end: those for which others may do better, again until they are seen to."""
    free = Counter({view.name: view.free_count for view in moment.pools.values()})
    cancels: list[Cancel] = []
    for each in moment.children:
        if each.child.phase is Phase.LEAVING:
            continue
        if each.told:
            cancels.append(replace(each.told, child=each.child))
        elif cancel := _cancel_of(moment, each, free):
            cancels.append(cancel)
            if cancel.instead:
                free[cancel.instead] -= 1
    return cancels


def _cancel_of(moment: Moment, each: ChildHistory, free: Counter[str]) -> Cancel | None:
    """Return why a child is told to end; None if it is left alone."""
    child, rules, still_seconds = each.child, moment.rules, moment.now - each.changed_at
    patience = 1 + len(moment.segments.next_of(child).faults)  # what failed before may just take long
    if child.phase is Phase.RUNNING and still_seconds > rules.stall_seconds * patience:
        return Cancel(child, f"it made no segment for {still_seconds:.0f} s", Blame.SEGMENT)
    if child.phase is Phase.TAKEN and still_seconds > rules.late_seconds * patience:
        return Cancel(child, f"its worker did not start it within {still_seconds:.0f} s", Blame.SEGMENT)
    if child.phase is not Phase.WAITING:
        return None
    if still_seconds > rules.late_seconds:
        others = _other_pools(moment, child)
        if others and _is_late(moment, child):
            return Cancel(child, "no worker started it in time", Blame.POOL)
        free_one = next((view.name for view in others if free[view.name] > 0), "")
        # A slot that is free elsewhere is better, once nothing else is left for it.
        if free_one and not moment.unassigned and moment.pools[child.pool].wait_seconds(child) >= GAIN_SECONDS:
            return Cancel(child, "a slot of another pool was free before one of its own", Blame.NOBODY, free_one)
    if still_seconds > FULL_SECONDS and _is_too_large(moment, child):
        why = "by the speeds that are known now it would end long after the film could"
        return Cancel(child, why, Blame.NOBODY)
    return None


def _has_workers(moment: Moment, pool: str) -> bool:
    return pool in moment.pools and moment.pools[pool].worker_count > 0


def _other_pools(moment: Moment, child: Child) -> list[PoolView]:
    """Return the pools that could take a waiting child; where its own one works, only those that do no worse."""
    others = [view for view in moment.pools.values() if view.name != child.pool and view.worker_count and view.room > 0]
    if not _has_workers(moment, child.pool):
        return others
    avoided = moment.segments.next_of(child).avoided
    return [view for view in others if avoided[view.name] <= avoided[child.pool] and not view.is_on_trial]


def _is_late(moment: Moment, child: Child) -> bool:
    """Return whether a waiting child's pool has no worker, or runs none of the film's children; else its line moves."""
    if not _has_workers(moment, child.pool):
        return True
    return moment.pools[child.pool].idle_seconds > moment.rules.late_seconds


def _is_too_large(moment: Moment, child: Child) -> bool:
    """Return whether a waiting child should be cut anew, because its pool has turned out to be slow."""
    view = moment.pools.get(child.pool)
    if view is None or not view.is_measured or moment.rules.shortest_seconds == float("inf"):
        return False
    left = moment.segments.left_of(child)
    fps = sum(each.fps * each.slots for each in moment.pools.values())
    if len(left) < 2 or fps <= 0 or any(moment.segments.histories[index].recut_count >= MOST_RECUTS for index in left):
        return False
    film_seconds = moment.frames_missing / fps
    seconds = view.wait_seconds(child) + moment.segments.frames(left) / view.fps
    return TOO_LONG * film_seconds + GAIN_SECONDS < seconds < float("inf")


def choose_starts(moment: Moment) -> list[Start]:
    """Return a child for every run of segments that nobody makes and for which a pool has room."""
    served = _served_pools(moment)
    sizes = ShardSizes(
        moment.pools, moment.segments.total_frames, moment.frames_missing, moment.shard_count, moment.rules
    )
    starts: list[Start] = []
    started = Counter[str]()
    waiting = moment.unassigned
    while waiting and any(view.room > started[view.name] for view in served):
        pool = _pool_for(moment, waiting[0], served, started)
        if not pool:
            waiting = waiting[1:]
            continue
        frames = sizes.next_frames(pool, started=started, frames_waiting=moment.segments.frames(waiting))
        run = cut_run(waiting, frames, moment.segments)
        faults = moment.segments.histories[run.start].faults
        starts.append(Start(pool, run, moment.numbers.get(run, 0), because=faults[-1] if faults else ""))
        started[pool] += 1
        waiting = [index for index in waiting if index >= run.end]
    return starts


def _served_pools(moment: Moment) -> list[PoolView]:
    """Return the pools that get children: those with workers that do not rest; the first one if none has workers."""
    views = list(moment.pools.values())
    with_workers = [view for view in views if view.worker_count]
    return [view for view in with_workers if not view.rests] or with_workers or views[:1]


def _pool_for(moment: Moment, index: int, served: list[PoolView], started: Counter[str]) -> str:
    """Return the pool that gets a segment, empty if it has to wait: of those where it failed least, the first.

    A pool with a free slot comes before one in which the segment would wait.
    """
    avoided = moment.segments.histories[index].avoided
    least = min((avoided[view.name] for view in served), default=0)
    fit = [view for view in served if avoided[view.name] == least and view.room > started[view.name]]
    free = [view for view in fit if view.free_count > started[view.name]]
    return next((view.name for view in free or fit), "")
