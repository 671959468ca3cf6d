"""The dispatcher, told by hand what the server and the store show: what it starts, gives up and makes of failures."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from fanreel.dispatch.children import Cancel, Child, DispatchRules, Phase, Pool, SegmentRun, Start
from fanreel.dispatch.dispatcher import Dispatcher
from fanreel.dispatch.history import FilmSegments
from fanreel.dispatch.moment import PoolView
from fanreel.dispatch.shard_sizes import MOST_SHARDS, ShardSizes, cut_run
from fanreel.errors import NoWorkerError, ShardFailedError

FRAMES = 100
"""Of each segment: at 10 frames a second one takes 10 s."""

RULES = DispatchRules()
NVENC, CPU = Pool("nvenc", 1, 40.0), Pool("cpu", 1, 10.0)


class Film:
    """A dispatcher, and the server that it sees: a table of children that a test changes by hand."""

    def __init__(self, count: int = 4, *, pools: tuple[Pool, ...] = (CPU,), rules: DispatchRules = RULES) -> None:
        self.count, self.pools, self.rules = count, pools, rules
        self.children: dict[str, Child] = {}
        self.present: set[int] = set()
        self.cancelled: list[Cancel] = []
        self.started: list[Start] = []
        self.looked_for: set[int] = set()
        self.now = 0.0
        self.dispatcher = self.fresh()

    def fresh(self) -> Dispatcher:
        """A parent that has just begun."""
        return Dispatcher([FRAMES] * self.count, set(range(self.count)) - self.present, rules=self.rules)

    def tick(self, seconds: float = 1.0, *, store_answers: bool = True) -> list[Start | Cancel]:
        """Let time pass; carry out what is decided as a server without failures would."""
        self.now += seconds
        self.looked_for = self.dispatcher.observe(self.now, list(self.children.values()))
        if not store_answers:
            return []
        self.dispatcher.note_present(self.now, self.looked_for & self.present)
        actions = self.dispatcher.decide(self.now, self.pools)
        for action in actions:
            if isinstance(action, Cancel):
                self.cancelled.append(action)
                key = action.child.key
                self.change(key, Phase.FAILED if self[key].phase is Phase.WAITING else Phase.LEAVING)
            else:
                key = f"{action.segments.start}-{action.segments.end}:{action.number}"
                assert key not in self.children, "a name that a child already has starts nothing"
                self.children[key] = Child(key, action.pool, action.segments, Phase.WAITING, number=action.number)
                self.started.append(action)
                self.dispatcher.note_started(self.now, self.children[key])
        return actions

    def __getitem__(self, key: str) -> Child:
        return self.children[key]

    def change(self, key: str, phase: Phase, reason: str = "", *, hopeless: bool = False) -> None:
        self.children[key] = replace(self.children[key], phase=phase, reason=reason, is_hopeless=hopeless)

    def run_all(self, phase: Phase = Phase.RUNNING) -> None:
        for key, child in list(self.children.items()):
            if child.phase is Phase.WAITING:
                self.change(key, phase)

    def finish(self, key: str) -> None:
        """Have a child make all that it was given, and end."""
        self.present |= set(self[key].segments.indices)
        self.change(key, Phase.DONE)

    def phases(self) -> dict[str, str]:
        return {key: child.phase.value for key, child in self.children.items()}


def whole(count: int = 4, **words: object) -> Film:
    """A film that is one shard, its child listed."""
    film = Film(count, rules=replace(RULES, shortest_seconds=inf), **words)  # type: ignore[arg-type]
    film.tick()
    return film


class TestStart:
    def test_a_short_film_is_one_shard(self) -> None:
        film = Film(2)
        assert film.tick() == [Start("cpu", SegmentRun(0, 2), 0)]
        assert film.tick() == []

    def test_every_segment_is_given_to_one_child(self) -> None:
        film = Film(50)
        for _ in range(100):
            film.tick()
            film.run_all()
        given = sorted(index for start in film.started for index in start.segments.indices)
        assert given == list(range(50))

    def test_a_film_whose_shards_have_no_shortest_is_one(self) -> None:
        film = Film(1000, rules=replace(RULES, shortest_seconds=inf), pools=(replace(CPU, worker_count=100),))
        assert film.tick() == [Start("cpu", SegmentRun(0, 1000), 0)]

    def test_the_preferred_pool_comes_first_and_the_next_one_when_it_is_full(self) -> None:
        film = Film(400, pools=(NVENC, CPU))
        film.tick()
        # First as many as slots are taken to be there, then as many as may wait in a line.
        assert [start.pool for start in film.started] == ["nvenc", "nvenc", "cpu", "cpu"] * 2

    def test_a_pool_without_workers_gets_nothing_while_another_has_some(self) -> None:
        film = Film(400, pools=(replace(NVENC, worker_count=0), CPU))
        for _ in range(20):
            film.tick()
            film.run_all()
        assert {start.pool for start in film.started} == {"cpu"}

    def test_one_child_waits_in_the_first_pool_where_none_has_workers(self) -> None:
        film = Film(400, pools=(replace(NVENC, worker_count=0), replace(CPU, worker_count=0)))
        for _ in range(20):
            film.tick()
        assert [start.pool for start in film.started] == ["nvenc"]

    def test_a_pool_that_wakes_up_gets_more(self) -> None:
        film = Film(400, pools=(replace(CPU, worker_count=0),))
        film.tick()
        film.pools = (CPU,)
        film.run_all()
        film.tick()
        assert len(film.started) == 5

    def test_no_pools_at_all_start_nothing(self) -> None:
        film = Film(4, pools=())
        assert film.tick() == []
        film.now += RULES.wait_seconds
        film.tick()
        assert "workers online:" in str(film.dispatcher.failure)

    def test_what_is_there_is_not_made(self) -> None:
        film = Film(4)
        film.present = {0, 1, 3}
        film.dispatcher = film.fresh()
        assert film.tick() == [Start("cpu", SegmentRun(2, 3), 0)]

    def test_every_other_segment_there_costs_no_shard_for_each(self) -> None:
        film = Film(1000)
        film.present = set(range(0, 1000, 2))
        film.dispatcher = film.fresh()
        for _ in range(100):
            film.tick()
            film.run_all()
        assert len(film.started) <= MOST_SHARDS / 2
        assert {index for start in film.started for index in start.segments.indices} >= set(range(1, 1000, 2))

    def test_a_shard_reaches_over_none_that_another_child_makes(self) -> None:
        film = Film(6)
        film.children["theirs"] = Child("theirs", "cpu", SegmentRun(2, 4), Phase.RUNNING)
        film.tick()
        assert [start.segments for start in film.started] == [SegmentRun(0, 2), SegmentRun(4, 6)]

    def test_a_pool_twice_as_fast_gets_shards_twice_as_large(self) -> None:
        film = Film(4000, pools=(Pool("nvenc", 1, 20.0), Pool("cpu", 1, 10.0)))
        film.tick()
        sizes = {
            pool: [len(start.segments.indices) for start in film.started if start.pool == pool]
            for pool in ("nvenc", "cpu")
        }
        for fast, slow in zip(sizes["nvenc"], sizes["cpu"], strict=True):
            assert fast == pytest.approx(2 * slow, abs=1)

    def test_what_was_seen_of_a_pool_s_speed_comes_before_what_was_thought(self) -> None:
        film = Film(100)
        film.tick()
        film.run_all()
        film.tick()
        film.present = {0}
        film.tick(20.0)
        assert film.dispatcher.speed(CPU) == FRAMES / 20.0
        film.present |= {1, 2}
        film.tick(10.0)
        assert film.dispatcher.speed(CPU) == pytest.approx(2 * FRAMES / 30.0)


class TestOutcomes:
    def test_a_film_whose_segments_are_all_there_is_done(self) -> None:
        film = whole()
        film.finish("0-4:0")
        assert not film.dispatcher.is_done
        assert film.dispatcher.missing == {0, 1, 2, 3}
        assert film.tick() == []
        assert film.dispatcher.is_done
        assert not film.dispatcher.living

    def test_a_running_child_s_next_segment_is_looked_for(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.RUNNING)
        film.tick()
        assert film.looked_for == {0}
        film.present = {0, 1}
        film.tick()
        film.tick()
        assert film.looked_for == {1}

    def test_a_child_that_only_waits_costs_the_store_nothing(self) -> None:
        film = whole()
        film.tick()
        assert film.looked_for == set()

    @pytest.mark.parametrize("phase", [Phase.FAILED, Phase.DONE])
    def test_what_a_child_left_goes_to_the_next_pool_and_says_why(self, phase: Phase) -> None:
        film = whole(pools=(NVENC, CPU))
        film.present = {0, 1}
        film.change("0-4:0", phase, "Crashed: exit code -9" if phase is Phase.FAILED else "")
        why = "Crashed: exit code -9" if phase is Phase.FAILED else "it ended without them"
        assert film.tick() == [Start("cpu", SegmentRun(2, 4), 0, because=f"nvenc: {why}")]

    def test_it_comes_back_to_the_first_pool_when_the_next_one_failed_as_often(self) -> None:
        film = whole(pools=(NVENC, CPU))
        film.change("0-4:0", Phase.FAILED, "bad")
        film.tick()
        film.change("0-4:1", Phase.FAILED, "worse")
        (start,) = film.tick()
        assert start == Start("nvenc", SegmentRun(0, 4), 2, because="cpu: worse")

    def test_it_stays_where_it_is_if_there_is_no_other_pool(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.FAILED, "bad")
        assert film.tick() == [Start("cpu", SegmentRun(0, 4), 1, because="cpu: bad")]

    def test_what_is_wrong_with_the_job_fails_at_once(self) -> None:
        film = whole(pools=(NVENC, CPU))
        film.present = {0}
        film.change("0-4:0", Phase.FAILED, "Failed: PhotoError: a.jpg", hopeless=True)
        assert film.tick() == []
        assert isinstance(film.dispatcher.failure, ShardFailedError)
        assert str(film.dispatcher.failure) == (
            "segment 1 could not be rendered in 1 try:\n  nvenc: Failed: PhotoError: a.jpg"
        )
        assert film.tick() == []

    def test_a_hopeless_child_that_made_everything_is_no_failure(self) -> None:
        film = whole()
        film.present = set(range(4))
        film.change("0-4:0", Phase.FAILED, "too late", hopeless=True)
        film.tick()
        assert film.dispatcher.is_done
        assert not film.dispatcher.failure

    @pytest.mark.parametrize(("pools", "tries"), [((CPU,), 4), ((NVENC, CPU), 6)])
    def test_a_segment_that_always_fails_is_tried_so_often(self, pools: tuple[Pool, ...], tries: int) -> None:
        film = whole(1, pools=pools)
        for attempt in range(20):
            for key, child in list(film.children.items()):
                if child.phase is Phase.WAITING:
                    film.change(key, Phase.FAILED, "no" if attempt % 2 else "not yet")
            film.tick(RULES.late_seconds * 20)  # longer than any pool rests
            if film.dispatcher.failure:
                break
        assert len(film.started) == tries
        said = str(film.dispatcher.failure).splitlines()
        assert said[0] == f"segment 0 could not be rendered in {tries} tries:"
        assert len(said) == len(set(said)), "each fault is said once"
        assert {line.strip() for line in said[1:]} <= {f"{p.name}: {w}" for p in pools for w in ("no", "not yet")}

    def test_faults_of_different_segments_are_not_added_up(self) -> None:
        film = whole(50)
        for index in range(40):
            (key,) = [key for key, child in film.children.items() if child.phase is Phase.WAITING]
            film.present.add(index)
            film.change(key, Phase.FAILED, f"killed at {index}")
            film.tick()
            assert not film.dispatcher.failure
        assert film.started[-1].segments == SegmentRun(40, 50)

    def test_a_run_that_was_deleted_is_made_again(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.RUNNING)
        film.tick()
        del film.children["0-4:0"]
        assert film.tick() == [Start("cpu", SegmentRun(0, 4), 1, because="cpu: its run was deleted")]

    def test_a_run_that_was_deleted_before_it_was_ever_listed_is_made_again(self) -> None:
        film = whole()
        del film.children["0-4:0"]
        assert film.tick() == [], "the server may take a moment to list it"
        (start,) = film.tick(RULES.leave_seconds)
        assert start.because == "cpu: its run was deleted"

    def test_a_child_that_ended_while_the_store_was_away_is_judged_when_it_is_back(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.RUNNING)
        film.tick()
        film.finish("0-4:0")
        for _ in range(3):
            film.tick(store_answers=False)
            assert film.looked_for == {0, 1, 2, 3}
            assert film.dispatcher.has_ended
        assert film.tick() == []
        assert film.dispatcher.is_done


def _cancelled(action: Start | Cancel) -> tuple[str, str]:
    assert isinstance(action, Cancel)
    return action.child.key, action.reason


class TestGivingUp:
    def test_a_child_that_makes_nothing_is_told_to_end_and_then_replaced(self) -> None:
        film = whole(pools=(NVENC, CPU))
        film.change("0-4:0", Phase.RUNNING)
        film.tick()
        assert film.tick(RULES.stall_seconds) == []
        (told,) = film.tick()
        assert _cancelled(told) == ("0-4:0", "it made no segment for 301 s")
        assert film.tick() == [], "it may still be at work"
        film.change("0-4:0", Phase.FAILED, "Cancelled")
        (start,) = film.tick()
        assert start == Start("cpu", SegmentRun(0, 4), 1, because="nvenc: it made no segment for 301 s")

    def test_a_child_that_makes_something_now_and_then_is_left_alone(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.RUNNING)
        film.tick()
        for index in range(3):
            film.present.add(index)
            assert film.tick(RULES.stall_seconds - 1) == []
        assert not film.cancelled

    def test_what_stalled_once_has_longer_the_next_time(self) -> None:
        # Segments that just take long would else fail everywhere.
        film = whole()
        film.change("0-4:0", Phase.RUNNING)
        film.tick()
        film.tick(RULES.stall_seconds + 1)
        film.change("0-4:0", Phase.FAILED)
        film.tick()
        film.run_all()
        film.tick()
        assert film.tick(1.9 * RULES.stall_seconds) == []
        assert [type(action) for action in film.tick(0.2 * RULES.stall_seconds)] == [Cancel]

    def test_a_child_that_its_worker_took_and_did_not_start_is_replaced(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.TAKEN)
        film.tick()
        (told,) = film.tick(RULES.late_seconds + 1)
        assert _cancelled(told) == ("0-4:0", "its worker did not start it within 61 s")

    def test_what_does_not_end_counts_as_dead_after_a_while(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.RUNNING)
        film.tick()
        film.tick(RULES.stall_seconds + 1)
        assert film["0-4:0"].phase is Phase.LEAVING
        film.tick()
        assert film.tick(RULES.leave_seconds) == []
        (start,) = film.tick()
        assert (start.segments, start.because) == (SegmentRun(0, 4), "cpu: it made no segment for 301 s")
        film.change("0-4:0", Phase.RUNNING)  # its host wakes up
        assert film.tick() == []
        assert [child.key for child in film.dispatcher.living] == ["0-4:1"]

    def test_a_child_that_somebody_else_told_to_end_and_does_not_counts_as_dead_too(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.LEAVING)
        film.tick()
        (start,) = film.tick(RULES.leave_seconds + 1)
        assert start.because == "cpu: it did not end when it was told to"

    def test_a_child_is_told_again_if_the_server_did_not_hear(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.RUNNING)
        film.tick()
        film.tick(RULES.stall_seconds + 1)
        for _ in range(3):
            film.change("0-4:0", Phase.RUNNING)
            assert [type(action) for action in film.tick()] == [Cancel]

    def test_a_child_that_cannot_be_told_counts_as_dead_after_a_while(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.RUNNING)
        film.tick()
        film.tick(RULES.stall_seconds + 1)
        for _ in range(int(RULES.leave_seconds) + 2):
            film.change("0-4:0", Phase.RUNNING)
            film.tick()
        assert [start.number for start in film.started] == [0, 1]

    def test_a_child_whose_run_was_deleted_lends_its_name_to_no_other(self) -> None:
        film = whole()
        del film.children["0-4:0"]
        film.tick(RULES.leave_seconds + 1)
        film.tick()
        film.change("0-4:1", Phase.FAILED)
        film.tick()
        assert [start.number for start in film.started] == [0, 1, 2]

    def test_a_child_that_no_worker_takes_goes_to_the_pool_whose_workers_are_there(self) -> None:
        film = whole(pools=(NVENC, CPU))
        assert film.tick(RULES.late_seconds) == []
        (told,) = film.tick()
        assert _cancelled(told) == ("0-4:0", "no worker started it in time")
        (start,) = film.tick()
        assert (start.pool, start.because) == ("cpu", ""), "nothing went wrong with its segments"

    def test_a_child_that_no_worker_takes_waits_on_where_there_is_no_other_pool(self) -> None:
        film = whole()
        for _ in range(10):
            film.tick(RULES.late_seconds)
        assert not film.cancelled

    def test_a_child_of_a_pool_that_lost_its_workers_goes_to_another(self) -> None:
        film = whole(pools=(NVENC, CPU))
        film.pools = (replace(NVENC, worker_count=0), CPU)
        film.tick(RULES.late_seconds)
        film.tick()
        (start,) = film.tick()
        assert start.pool == "cpu"

    def test_a_late_child_is_not_sent_to_and_fro(self) -> None:
        film = whole(pools=(NVENC, CPU))
        for _ in range(50):
            film.tick(RULES.late_seconds)
        assert [start.pool for start in film.started] == ["nvenc", "cpu"]

    def test_children_next_in_line_of_a_pool_that_works_are_not_late(self) -> None:
        film = Film(4000, pools=(NVENC, CPU))
        film.tick()
        film.change(next(key for key, child in film.children.items() if child.pool == "nvenc"), Phase.RUNNING)
        film.tick()
        for index in range(10):
            film.present.add(index)
            film.tick(RULES.late_seconds)
        assert "no worker started it in time" not in {
            told.reason for told in film.cancelled if told.child.pool == "nvenc"
        }

    def test_a_child_is_not_late_because_those_before_it_have_just_ended(self) -> None:
        film = Film(4000, pools=(NVENC, CPU))
        film.tick()
        first, *line = [key for key, child in film.children.items() if child.pool == "nvenc"]
        film.change(first, Phase.RUNNING)
        film.tick(RULES.late_seconds / 2)
        film.finish(first)
        film.tick(RULES.late_seconds / 2 + 1)  # its worker has yet to ask for the next one
        assert not {told.child.key for told in film.cancelled} & set(line)

    def test_the_last_ones_of_a_line_that_moves_go_where_slots_are_free_one_to_each(self) -> None:
        slow = replace(NVENC, fps=FRAMES / 30.0)
        film = Film(7, pools=(slow, replace(CPU, worker_count=0)))
        film.tick()
        film.change("0-1:0", Phase.RUNNING)
        film.tick()
        assert film.phases() == {"0-1:0": "running", "1-3:0": "waiting", "3-5:0": "waiting", "5-7:0": "waiting"}
        film.pools = (slow, replace(CPU, fps=FRAMES / 30.0))
        film.tick(RULES.late_seconds + 1)
        # Two slots a worker are taken to be there: one of its own is free for the first in line, two are elsewhere.
        why = "a slot of another pool was free before one of its own"
        assert [(told.child.key, told.reason) for told in film.cancelled] == [("3-5:0", why), ("5-7:0", why)]
        for _ in range(3):
            film.tick()
        assert [(start.pool, start.segments.start) for start in film.started[4:]] == [
            *(("cpu", 3), ("cpu", 4)),
            *(("nvenc", 5), ("nvenc", 6)),
        ]

    def test_what_waits_is_cut_anew_when_its_pool_is_slower_than_was_thought(self) -> None:
        film = Film(4000, pools=(replace(NVENC, fps=40.0), replace(CPU, fps=40.0)))
        film.tick()
        for pool in ("nvenc", "cpu"):
            for key in [key for key, child in film.children.items() if child.pool == pool][:2]:
                film.change(key, Phase.RUNNING)
        film.tick()
        for second in range(60):  # cpu makes a segment in 60 s, nvenc one in 2 s
            for child in list(film.children.values()):
                if child.phase is Phase.RUNNING and (second % 2 == 0 if child.pool == "nvenc" else second == 59):
                    left = sorted(set(child.segments.indices) - film.present)
                    film.present.update(left[:1])
            film.tick()
        for _ in range(3):
            film.tick()
        assert {told.child.pool for told in film.cancelled} == {"cpu"}
        assert {len(told.child.segments.indices) for told in film.cancelled} == {72}
        assert film.started[-1].pool == "cpu"
        assert len(film.started[-1].segments.indices) == 1

    def test_the_last_ones_in_line_go_where_a_slot_is_free(self) -> None:
        film = Film(8, pools=(replace(NVENC, fps=10.0), replace(CPU, worker_count=0)))
        film.tick()
        assert len(film.started) > 2
        first = film.started[0].segments
        film.change(f"{first.start}-{first.end}:0", Phase.RUNNING)
        film.tick()
        film.pools = (replace(NVENC, fps=10.0), CPU)
        film.tick(RULES.late_seconds)
        assert film.cancelled
        film.tick()
        assert film.started[-1].pool == "cpu"


class TestPoolsThatComeToNothing:
    def fail_all(self, film: Film, pool: str) -> None:
        for key, child in list(film.children.items()):
            if child.phase is Phase.WAITING and child.pool == pool:
                film.change(key, Phase.FAILED, "no access to the store")

    def test_get_a_child_for_a_trial_now_and_then(self) -> None:
        film = Film(4000, pools=(NVENC, CPU), rules=replace(RULES, stall_seconds=inf))
        for _ in range(600):
            film.tick()
            self.fail_all(film, "nvenc")
        assert not film.dispatcher.failure
        nvenc = [start for start in film.started if start.pool == "nvenc"]
        # The first four, then one after 60 s, 120 s and 240 s more; it is the next one's turn in another 480 s.
        assert len(nvenc) == 4 + 3

    def test_are_back_once_a_child_makes_something(self) -> None:
        film = Film(4000, pools=(NVENC, CPU))
        film.tick()
        self.fail_all(film, "nvenc")
        film.tick()
        film.tick(RULES.late_seconds)
        trial = film.started[-1]
        assert trial.pool == "nvenc"
        key = f"{trial.segments.start}-{trial.segments.end}:{trial.number}"
        film.change(key, Phase.RUNNING)
        film.tick()
        assert film.started[-1] is trial
        film.present.add(trial.segments.start)
        film.tick()
        assert [start.pool for start in film.started[film.started.index(trial) + 1 :]] == ["nvenc"] * 4

    def test_are_all_there_is_where_no_other_has_workers(self) -> None:
        film = Film(4000, pools=(NVENC, replace(CPU, worker_count=0)))
        for _ in range(4):
            film.tick()
            self.fail_all(film, "nvenc")
        assert len(film.started) > 4


class TestPatience:
    def test_a_film_that_nobody_takes_fails_in_the_end_and_says_what_to_do(self) -> None:
        film = Film(4, pools=(replace(NVENC, worker_count=0), replace(CPU, worker_count=0)))
        film.tick()
        film.tick(RULES.wait_seconds)
        assert not film.dispatcher.failure
        film.tick()
        assert str(film.dispatcher.failure).startswith(
            "no shard was started or made for 3601 s; workers online: nvenc 0, cpu 0."
        )
        assert "deployments.worker --pool" in str(film.dispatcher.failure)
        assert isinstance(film.dispatcher.failure, NoWorkerError)

    def test_whatever_starts_or_is_made_begins_it_anew(self) -> None:
        film = whole(rules_wait := 4)
        assert rules_wait == 4
        film.tick(RULES.wait_seconds - 10)
        film.change("0-4:0", Phase.RUNNING)
        film.tick()
        film.tick(20)
        assert not film.dispatcher.failure

    def test_a_film_that_waits_in_vain_at_a_late_start_waits_from_then_on(self) -> None:
        film = Film(4, pools=(replace(CPU, worker_count=0),))
        film.now = 1e6
        film.tick()
        film.tick()
        assert not film.dispatcher.failure


class TestParents:
    def test_one_that_is_started_again_adopts_what_lives(self) -> None:
        film = Film(400, pools=(NVENC, CPU))
        film.tick()
        film.run_all()
        before = dict(film.children)
        film.tick()
        film.dispatcher = film.fresh()
        film.tick()
        assert {key for key in film.children if key in before} == set(before)
        given = [index for child in film.children.values() for index in child.segments.indices]
        assert len(given) == len(set(given)), "no segment has two children"
        assert {child.key for child in film.dispatcher.living} >= set(before)

    def test_one_that_is_started_again_relies_on_what_ended_meanwhile(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.RUNNING)
        film.dispatcher = film.fresh()  # it took all for missing
        film.finish("0-4:0")
        assert film.tick() == []
        assert film.dispatcher.is_done

    def test_one_that_is_started_again_makes_what_those_before_it_failed_at(self) -> None:
        film = whole()
        film.change("0-4:0", Phase.FAILED, "bad")
        film.dispatcher = film.fresh()
        assert film.tick() == [Start("cpu", SegmentRun(0, 4), 1)]
        assert film.tick() == []
        assert film.looked_for == set(), "those that ended long ago are looked at once"

    def test_two_at_once_start_the_same(self) -> None:
        film, other = Film(400, pools=(NVENC, CPU)), Film(400, pools=(NVENC, CPU))
        assert film.tick() == other.tick()

    def test_the_second_of_two_starts_nothing(self) -> None:
        film, other = whole(), whole()
        other.children, other.dispatcher = film.children, other.fresh()
        assert other.tick() == []
        film.finish("0-4:0")
        other.present = film.present
        other.tick()
        assert other.dispatcher.is_done

    def test_a_store_that_was_emptied_is_filled_by_children_of_new_names(self) -> None:
        film = whole()
        film.finish("0-4:0")
        film.tick()
        film.present = set()
        film.dispatcher = film.fresh()
        assert film.tick() == [Start("cpu", SegmentRun(0, 4), 1)]


def next_frames(
    *pools: PoolView,
    total: int = 100_000,
    missing: int | None = None,
    count: int = 0,
    rules: DispatchRules = RULES,
    waiting: int = 100_000,
) -> float:
    """Return the frames of the next shard for the first of some pools."""
    named = {f"pool-{number}": pool for number, pool in enumerate(pools)}
    sizes = ShardSizes(named, total, total if missing is None else missing, count, rules)
    return sizes.next_frames("pool-0", started={}, frames_waiting=waiting)


def pool(fps: float = 10.0, slots: int = 1, *, known: bool = True, ends: tuple[float, ...] = (), queued: int = 0):
    return PoolView(name="", worker_count=1, fps=fps, slots=slots, is_full=known, ends=ends, leaving_count=queued)


class TestSizes:
    def test_the_last_shards_end_when_the_film_does(self) -> None:
        # 30 s of work for two slots; one is busy for 12 s more. A shard of the other one takes what ends then too.
        assert next_frames(pool(slots=2, ends=(12.0,)), missing=300 + 120, count=198, waiting=300) == 10.0 * 21.0

    def test_no_shard_is_shorter_than_the_shortest_or_empty(self) -> None:
        assert next_frames(pool(), total=10, waiting=10) == RULES.shortest_seconds * 10.0
        assert next_frames(pool(), total=10, waiting=10, rules=replace(RULES, shortest_seconds=0.0)) > 0

    def test_as_long_as_slots_are_not_known_no_shard_is_longer_than_the_longest(self) -> None:
        assert next_frames(pool(known=False)) == RULES.longest_seconds * 10.0

    def test_a_film_of_days_still_has_no_more_than_200(self) -> None:
        size = next_frames(pool(known=False), total=10**8, waiting=10**8)
        assert size == pytest.approx(10**8 / MOST_SHARDS)

    def test_they_shrink_towards_the_end(self) -> None:
        seen: list[float] = []
        left = 10**6
        while left > 0:
            seen.append(next_frames(pool(slots=16), total=10**6, missing=left, count=len(seen), waiting=left))
            left -= round(seen[-1])
        assert seen[0] > 2 * seen[-1]

    def test_a_shard_that_will_wait_for_long_is_smaller(self) -> None:
        now = next_frames(pool(slots=4), count=150, waiting=1000)
        later = next_frames(pool(slots=4, ends=(500.0, 600.0, 700.0, 800.0), queued=2), count=150, waiting=1000)
        assert later < now

    def test_those_that_get_a_shard_at_the_same_moment_wait_for_each_other(self) -> None:
        sizes = ShardSizes({"pool-0": pool(slots=2, ends=(0.0, 500.0))}, 100_000, 100_000, 150, RULES)
        first, second = (sizes.next_frames("pool-0", started={"pool-0": n}, frames_waiting=1000) for n in range(2))
        assert second < first

    def test_pools_without_workers_do_not_count(self) -> None:
        assert next_frames(pool(slots=4)) == next_frames(pool(slots=4), pool(fps=1000.0, slots=0))


class TestCut:
    def cut(self, waiting: list[int], size: float, *, missing: set[int] | None = None, avoided: dict | None = None):
        segments = FilmSegments([FRAMES] * 20, set(waiting) if missing is None else missing)
        for index, counts in (avoided or {}).items():
            segments.histories[index].avoided.update(counts)
        return cut_run(waiting, size, segments)

    @pytest.mark.parametrize(("size", "end"), [(1, 1), (149, 1), (150, 2), (249, 2), (250, 3), (inf, 5)])
    def test_it_is_rounded_to_whole_segments(self, size: float, end: int) -> None:
        assert self.cut([0, 1, 2, 3, 4], size) == SegmentRun(0, end)

    def test_it_reaches_over_those_that_are_there(self) -> None:
        assert self.cut([0, 2, 5], inf) == SegmentRun(0, 6)

    def test_it_ends_before_one_that_another_child_makes(self) -> None:
        assert self.cut([0, 2, 5], inf, missing={0, 2, 4, 5}) == SegmentRun(0, 3)

    def test_segments_that_failed_elsewhere_are_apart(self) -> None:
        assert self.cut([0, 1, 2], inf, avoided={1: {"cpu": 1}}) == SegmentRun(0, 1)
        assert self.cut([1, 2], inf, avoided={1: {"cpu": 1}, 2: {"cpu": 1}}) == SegmentRun(1, 3)
