"""The dispatcher among simulated pools, workers and faults: every segment is made, or the film fails and says why."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from benchmarks.pool_simulation import PoolSimulation, Run, WorkerKind
from benchmarks.simulated_parent import SimulatedParent
from fanreel.dispatch.children import DispatchRules, Phase
from fanreel.dispatch.shard_sizes import MOST_SHARDS

each_film = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])

RULES = DispatchRules(wait_seconds=1200.0)
SPEEDS = {"nvenc": 100.0, "cpu": 20.0}
NVENC = WorkerKind("nvenc", slots=2, fps=100.0)
CPU = WorkerKind("cpu", slots=2, fps=20.0)


@dataclass(slots=True)
class Ended:
    """What became of a film."""

    simulation: PoolSimulation
    parent: SimulatedParent
    runs: list[Run]

    @property
    def made(self) -> Counter[int]:
        return Counter({index: count for (film, index), count in self.simulation.tally.made.items() if film == "film"})

    def assert_whole(self) -> None:
        assert not self.parent.failure
        assert set(self.made) >= set(range(len(self.simulation.frame_counts["film"])))

    def frames_by_pool(self) -> dict[str, int]:
        counts = self.simulation.frame_counts["film"]
        pools = {run.pool for run in self.runs}
        return {p: sum(counts[i] for run in self.runs if run.pool == p for i in run.segments.indices) for p in pools}


def render(simulation: PoolSimulation, counts: list[int], **words) -> Ended:
    parent = SimulatedParent(
        simulation, "film", counts, speeds=words.pop("speeds", SPEEDS), rules=words.pop("rules", RULES), **words
    )
    simulation.run(until=lambda: parent.ended_at is not None, limit_seconds=5 * 86400)
    return Ended(simulation, parent, list(simulation.runs["film"].values()))


LENGTHS = st.lists(st.integers(30, 300), min_size=1, max_size=150)
SEEDS = st.integers(0, 2**32)
KINDS = st.builds(
    WorkerKind,
    pool=st.sampled_from(["nvenc", "cpu"]),
    slots=st.integers(1, 6),
    fps=st.sampled_from([5.0, 20.0, 60.0, 200.0]),
    fps_spread=st.sampled_from([0.0, 0.2]),
    poll_seconds=st.sampled_from([2.0, 10.0]),
    start_seconds=st.sampled_from([1.0, 8.0]),
)


@each_film
@given(LENGTHS, SEEDS, st.lists(st.tuples(KINDS, st.integers(1, 8)), min_size=1, max_size=3))
def test_without_faults_every_segment_is_made_once(
    counts: list[int], seed: int, workers: list[tuple[WorkerKind, int]]
) -> None:
    simulation = PoolSimulation(seed=seed)
    for kind, count in workers:
        simulation.add_workers(kind, count)
    film = render(simulation, counts)
    film.assert_whole()
    assert set(film.made.values()) == {1}
    assert not simulation.tally.overlaps
    assert len(film.runs) <= MOST_SHARDS
    assert all(run.phase in (Phase.DONE, Phase.FAILED) for run in film.runs)
    assert not [run for run in film.runs if run.phase is Phase.FAILED and run.reason != "Cancelled"]


@each_film
@given(LENGTHS, SEEDS, st.lists(st.floats(0.05, 40.0), min_size=3, max_size=20))
def test_whatever_the_ticks_are(counts: list[int], seed: int, ticks: list[float]) -> None:
    simulation = PoolSimulation(seed=seed)
    simulation.add_workers(NVENC)
    simulation.add_workers(CPU, 2)
    film = render(simulation, counts, tick_seconds=lambda: simulation.random.choice(ticks))
    film.assert_whole()
    assert set(film.made.values()) == {1}
    assert not simulation.tally.overlaps


FAULTS = st.lists(
    st.tuples(
        st.floats(0, 400),
        st.sampled_from(
            [
                "kill child",
                "lose worker",
                "stop worker",
                "freeze",
                "freeze for ever",
                "delete",
                "parent",
                "server",
                "store",
            ]
        ),
        st.integers(0, 1000),
    ),
    max_size=12,
)


class Troubles:
    """Does faults at their times."""

    def __init__(self, simulation: PoolSimulation) -> None:
        self.simulation = simulation
        self.away: dict[str, float] = {"server": 0.0, "store": 0.0}
        self.parents: list[SimulatedParent] = []
        self.counts: list[int] = []
        simulation.is_away = lambda now, what: now < self.away[what]

    def start_parent(self) -> None:
        self.parents.append(SimulatedParent(self.simulation, "film", self.counts, speeds=SPEEDS, rules=RULES))

    def do(self, what: str, pick: int) -> None:
        simulation = self.simulation
        runs = [run for run in simulation.runs["film"].values() if not run.is_over]
        workers = [worker for worker in simulation.workers if worker.gone_at > simulation.now]
        if what in self.away:
            self.away[what] = simulation.now + pick % 100
        elif what == "parent":
            if self.parents[-1].ended_at is None:
                self.parents[-1].kill()
                self.start_parent()
        elif what in ("kill child", "delete"):
            if runs:
                run = runs[pick % len(runs)]
                (simulation.kill_child if what == "kill child" else simulation.delete_run)(run)
        elif workers:
            worker = workers[pick % len(workers)]
            if what == "lose worker":
                simulation.lose_worker(worker)
            elif what == "stop worker":
                simulation.stop_worker(worker)
            else:
                simulation.freeze_worker(worker, math.inf if what == "freeze for ever" else pick % 500)
        # Somebody looks after the pools: what went comes again.
        if what in ("lose worker", "stop worker", "freeze for ever") and workers:
            simulation.at(
                simulation.now + 60.0, lambda: simulation.add_workers(workers[pick % len(workers)].kind) and None
            )


@settings(each_film, max_examples=25)
@given(LENGTHS, SEEDS, FAULTS, st.sampled_from([90.0, math.inf]))
@example([30], 0, [(0.0, "delete", 0), (32.0, "kill child", 0)], 90.0)
def test_with_faults_every_segment_is_made_and_little_of_it_twice(
    counts: list[int], seed: int, faults: list[tuple[float, str, int]], zombie_seconds: float
) -> None:
    simulation = PoolSimulation(seed=seed, zombie_seconds=zombie_seconds)
    simulation.add_workers(NVENC)
    simulation.add_workers(CPU, 2)
    troubles = Troubles(simulation)
    troubles.counts = counts
    troubles.start_parent()
    for at, what, pick in faults:
        simulation.at(at, troubles.do, what, pick)
    simulation.run(until=lambda: troubles.parents[-1].ended_at is not None, limit_seconds=5 * 86400)
    film = Ended(simulation, troubles.parents[-1], list(simulation.runs["film"].values()))
    film.assert_whole()
    given_up = {key for parent in troubles.parents for key in parent.given_up}
    deleted = [run for run, _ in simulation.tally.overlaps if run.key not in simulation.runs["film"]]
    overlaps = [old for old, _ in simulation.tally.overlaps if old.key not in given_up and old not in deleted]
    frozen = {worker for worker in simulation.workers if worker.frozen_until > 0 or worker.gone_at < math.inf}
    assert all(run.worker in frozen for run in overlaps), "only what nobody hears of is made beside"
    # Twice is made what a host was about to keep when it froze or was given up; each has four slots at most.
    assert sum(film.made.values()) - len(film.made) <= 4 * len(faults)
    assert len(film.runs) <= 60 + 12 * len(faults)


@each_film
@given(SEEDS, st.integers(0, 59), st.sampled_from(["nvenc", "cpu"]))
def test_a_segment_that_fails_in_one_pool_is_made_in_the_other_and_says_why(seed: int, index: int, pool: str) -> None:
    simulation = PoolSimulation(seed=seed)
    simulation.add_workers(NVENC)
    simulation.add_workers(CPU)
    simulation.poison["film", index, pool] = "Failed: EncoderError: no"
    film = render(simulation, [100] * 60)
    film.assert_whole()
    assert set(film.made.values()) == {1}
    told = [run.because for run in film.runs if run.because]
    assert set(told) <= {f"{pool}: Failed: EncoderError: no"}


@each_film
@given(SEEDS, st.integers(0, 59))
def test_a_segment_that_fails_everywhere_fails_the_film_and_is_named(seed: int, index: int) -> None:
    simulation = PoolSimulation(seed=seed)
    simulation.add_workers(NVENC)
    simulation.add_workers(CPU)
    for pool in ("nvenc", "cpu"):
        simulation.poison["film", index, pool] = "Failed: EncoderError: no"
    film = render(simulation, [100] * 60)
    assert film.parent.failure.splitlines() == [
        f"segment {index} could not be rendered in 6 tries:",
        *(sorted(film.parent.failure.splitlines()[1:], reverse=film.parent.failure.splitlines()[1].startswith("  n"))),
    ]
    assert len(film.parent.failure.splitlines()) == 3


@each_film
@given(SEEDS, st.integers(0, 59))
def test_what_is_hopeless_is_tried_once(seed: int, index: int) -> None:
    simulation = PoolSimulation(seed=seed)
    simulation.add_workers(NVENC)
    simulation.add_workers(CPU)
    for pool in ("nvenc", "cpu"):
        simulation.poison["film", index, pool] = "hopeless: PhotoError: a.jpg"
    film = render(simulation, [100] * 60)
    assert film.parent.failure.startswith(f"segment {index} could not be rendered in 1 try:")
    assert sum(run.is_hopeless for run in film.runs) == 1


class TestPools:
    def test_the_preferred_pool_makes_what_it_can(self) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.add_workers(NVENC)
        film = render(simulation, [100] * 60)
        film.assert_whole()
        assert {run.pool for run in film.runs} == {"nvenc"}

    def test_a_pool_without_workers_is_no_trouble(self) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.add_workers(CPU)
        film = render(simulation, [100] * 60)
        film.assert_whole()
        assert {run.pool for run in film.runs} == {"cpu"}

    def test_no_worker_at_all_fails_after_the_wait(self) -> None:
        simulation = PoolSimulation(seed=1)
        film = render(simulation, [100] * 60)
        assert film.parent.failure.startswith("no shard was started or made for 1201 s; workers online: nvenc 0, cpu 0")
        assert len(film.runs) == 1

    def test_workers_that_come_late_are_in_time(self) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.at(600.0, lambda: simulation.add_workers(CPU) and None)
        film = render(simulation, [100] * 60)
        film.assert_whole()

    def test_a_pool_that_takes_nothing_delays_the_film_little(self) -> None:
        # Its worker is online, and full of other people's runs.
        def end(**words: object) -> float:
            simulation = PoolSimulation(seed=1)
            simulation.add_workers(CPU, 4)
            for worker in simulation.add_workers(NVENC, int(bool(words))):
                worker.free.clear()
            film = render(simulation, [100] * 400)
            film.assert_whole()
            assert set(film.made.values()) == {1}
            assert len(film.runs) < 100
            return film.parent.ended_at or 0.0

        assert end(full=True) < 1.3 * end()

    def test_a_pool_twice_as_fast_makes_twice_as_much(self) -> None:
        simulation = PoolSimulation(seed=1)
        for pool, fps in (("fast", 40.0), ("slow", 20.0)):
            simulation.add_workers(WorkerKind(pool, slots=2, fps=fps, fps_spread=0.0), 2)
        film = render(simulation, [200] * 2500, speeds={"fast": 30.0, "slow": 30.0})
        frames = film.frames_by_pool()
        assert frames["fast"] / frames["slow"] == pytest.approx(2.0, rel=0.15)

    @pytest.mark.parametrize("seed", range(10))
    @pytest.mark.parametrize("start_seconds", [1.0, 4.0])
    @pytest.mark.parametrize(
        ("fast", "slow", "believed"),
        [
            ((40.0, 2), (20.0, 2), (40.0, 20.0)),
            ((40.0, 2), (20.0, 2), (30.0, 30.0)),
            ((200.0, 1), (20.0, 6), (200.0, 20.0)),
            ((200.0, 1), (20.0, 6), (50.0, 50.0)),
        ],
    )
    def test_pools_of_different_speeds_end_together(
        self,
        fast: tuple[float, int],
        slow: tuple[float, int],
        believed: tuple[float, float],
        start_seconds: float,
        seed: int,
    ) -> None:
        simulation = PoolSimulation(seed=seed)
        for pool, (fps, workers) in (("fast", fast), ("slow", slow)):
            simulation.add_workers(
                WorkerKind(pool, slots=2, fps=fps, fps_spread=0.1, start_seconds=start_seconds), workers
            )
        fps_of_all = 2 * (fast[0] * fast[1] + slow[0] * slow[1])
        # As long as 200 s of all slots: four turns of each slot cost it 40 s of them.
        film = render(simulation, [200] * round(fps_of_all), speeds=dict(zip(("fast", "slow"), believed, strict=True)))
        film.assert_whole()
        assert set(film.made.values()) == {1}
        assert film.parent.ended_at is not None
        assert film.parent.ended_at < 1.8 * 200.0

    def test_a_pool_that_fails_everything_costs_a_few_children(self) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.add_workers(NVENC, 4)
        simulation.add_workers(CPU, 4)
        for index in range(400):
            simulation.poison["film", index, "nvenc"] = "Failed: StorageError: no access"
        film = render(simulation, [100] * 400)
        film.assert_whole()
        assert sum(run.pool == "nvenc" for run in film.runs) <= 20

    def test_a_slow_film_s_segments_are_not_taken_for_hung(self) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.add_workers(WorkerKind("cpu", slots=2, fps=0.25, fps_spread=0.0), 2)  # 400 s a segment
        film = render(simulation, [100] * 8, speeds={"cpu": 10.0}, tick_seconds=lambda: 5.0)
        film.assert_whole()


class TestParents:
    def test_one_that_is_started_again_starts_nothing_twice(self) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.add_workers(CPU, 4)
        parents = [SimulatedParent(simulation, "film", [100] * 200, speeds=SPEEDS, rules=RULES)]

        def again() -> None:
            parents[-1].kill()
            parents.append(SimulatedParent(simulation, "film", [100] * 200, speeds=SPEEDS, rules=RULES))

        for at in (3.0, 15.5, 40.0, 41.0, 90.0):
            simulation.at(at, again)
        simulation.run(until=lambda: parents[-1].ended_at is not None)
        assert not simulation.tally.overlaps
        assert set(simulation.tally.made.values()) == {1}
        assert len(simulation.tally.made) == 200

    @pytest.mark.parametrize("lag_seconds", [0.0, 0.4, 7.3, 60.0])
    def test_two_at_once_share_their_children(self, lag_seconds: float) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.add_workers(CPU, 4)
        first = SimulatedParent(simulation, "film", [100] * 200, speeds=SPEEDS, rules=RULES)
        second = SimulatedParent(
            simulation, "film", [100] * 200, speeds=SPEEDS, rules=RULES, lag_seconds=(lag_seconds, 0.0)
        )
        simulation.run(until=lambda: first.ended_at is not None and second.ended_at is not None)
        assert not first.failure + second.failure
        assert not simulation.tally.overlaps
        assert set(simulation.tally.made.values()) == {1}

    def test_one_that_takes_what_is_there_for_missing_makes_none_of_it_again(self) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.add_workers(CPU, 4)
        render(simulation, [100] * 50)
        film = render(simulation, [100] * 50, missing=range(50))
        assert set(film.made.values()) == {1}
        assert len(film.runs) <= 32


class TestSizes:
    @pytest.mark.parametrize(
        ("workers", "slots", "most"), [(1, 1, 40), (1, 4, 48), (4, 2, 56), (100, 1, 200), (500, 2, 200)]
    )
    def test_few_slots_make_few_children_and_many_no_more_than_200(self, workers: int, slots: int, most: int) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.add_workers(WorkerKind("cpu", slots=slots, fps=100.0), workers)
        film = render(simulation, [500] * 250, speeds={"cpu": 100.0}, tick_seconds=lambda: 2.0)
        film.assert_whole()
        assert len(film.runs) <= most

    def test_sixteen_workers_are_hardly_ever_idle(self) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.add_workers(WorkerKind("cpu", fps=30.0, fps_spread=0.05), 16)
        film = render(simulation, [540] * 1000, speeds={"cpu": 30.0}, tick_seconds=lambda: 2.0)
        started = min(run.running_at for run in film.runs)
        ended = max(run.ended_at for run in film.runs)
        assert simulation.tally.busy_seconds / (16 * (ended - started)) > 0.9

    def test_a_film_in_one_shard_is_one_child(self) -> None:
        simulation = PoolSimulation(seed=1)
        simulation.add_workers(CPU, 16)
        film = render(simulation, [100] * 60, rules=replace(RULES, shortest_seconds=math.inf))
        film.assert_whole()
        assert len(film.runs) == 1


def test_a_simulation_is_the_same_each_time() -> None:
    def ended() -> tuple[float | None, dict[str, int]]:
        simulation = PoolSimulation(seed=7)
        simulation.add_workers(CPU, 5)
        film = render(simulation, [100] * 100)
        return film.parent.ended_at, dict(simulation.tally.calls)

    assert ended() == ended()
