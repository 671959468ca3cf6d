"""Children of films on pools: started, listed, rendered and told to end on a real Prefect server, in this process.

What real workers make of them, and what they survive, is in test_pool_faults.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Cancelling, Completed, Crashed, Failed, Pending, Running, Scheduled
from support.jobs import draw_photo, make_job

from fanreel.dispatch.children import Child, Phase, SegmentRun, Start
from fanreel.errors import EncoderError, InvalidJobError, NoWorkerError
from fanreel.host.host import current_host
from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.join.verify import find_damage
from fanreel.plan.film import FilmPlan
from fanreel.render.here import plan_job
from flows.render_shard import render_shard
from flows.render_slideshow import render_slideshow
from tasks import child_runs
from tasks.child_runs import ChildRuns, read_pool_devices

POOL = "cpu"

pytestmark = pytest.mark.soak  # a server, and flows in it


@pytest.fixture(scope="module", autouse=True)
def _host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("host")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FANREEL_STORE", str(folder / "store"))
        patch.setenv("FANREEL_LOCK_FOLDER", str(folder / "locks"))
        patch.setenv("FANREEL_SHARD_SECONDS", "0.01")
        current_host.cache_clear()
        yield
        current_host().launcher.close()
        current_host.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def _deployed(prefect_server: None) -> None:
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(render_shard)
        client.create_deployment(flow_id, POOL, parameters={"device": "cpu"})
        client.create_deployment(flow_id, "nvenc", parameters={"device": "gpu"})


@pytest.fixture
def film(tmp_path: Path) -> FilmPlan:
    """A film of several segments that nobody has rendered, whose plan is in the store."""
    (plan,) = plan_job(_job(tmp_path), host=current_host())
    assert len(plan.segments) >= 4
    current_host().store.put_plan(plan)
    return plan


_seeds = iter(range(7000, 9000))


def _job(base: Path, **words: Any) -> Any:
    (base / "photos").mkdir()
    for _ in range(6):
        seed = next(_seeds)
        draw_photo(base / "photos" / f"photo-{seed}.jpg", seed=seed, size=(320, 240))
    return make_job(base, seconds_per_slide=6, **words)


def _runs(plan_address: str) -> ChildRuns:
    parameters = {"plan": plan_address, "encoders": ["x264"]}
    return ChildRuns(plan_address, name="film.mp4", parameters=parameters, speeds={POOL: 30.0, "nvenc": 200.0})


def _stored(plan: FilmPlan) -> list[int]:
    store = current_host().store
    return [segment.index for segment in plan.segments if store.find_verified(segment.address) is not None]


def _address(plan: FilmPlan) -> str:
    return current_host().store.put_plan(plan)


class TestShardFlow:
    def test_makes_its_segments_and_no_other(self, film: FilmPlan) -> None:
        render_shard(_address(film), 1, 3)
        assert _stored(film) == [1, 2]

    def test_again_makes_nothing(self, film: FilmPlan) -> None:
        render_shard(_address(film), 0, 1)
        made_at = [current_host().store.read_record(film.segments[0].address).event.started_at]
        render_shard(_address(film), 0, 1)
        assert [current_host().store.read_record(film.segments[0].address).event.started_at] == made_at

    def test_what_went_wrong_before_stands_in_the_records(self, film: FilmPlan) -> None:
        render_shard(_address(film), 0, 1, because="nvenc: out of memory (10)")
        assert current_host().store.read_record(film.segments[0].address).event.fallback == "nvenc: out of memory (10)"

    def test_a_gpu_that_is_not_there_is_told_of(self, film: FilmPlan) -> None:
        state = render_shard(_address(film), 0, 1, device="gpu", return_state=True)
        assert state.is_failed()
        assert isinstance(_error(state), EncoderError)
        assert "nvenc" in str(_error(state))
        assert _stored(film) == []

    def test_an_encoder_that_the_device_has_not_is_a_mistake_of_the_request(self, film: FilmPlan) -> None:
        state = render_shard(_address(film), 0, 1, device="gpu", encoders=["x264"], return_state=True)
        assert isinstance(_error(state), InvalidJobError)

    @pytest.mark.parametrize(("start", "end"), [(2, 2), (900, 901)])
    def test_segments_that_the_film_has_not(self, film: FilmPlan, start: int, end: int) -> None:
        state = render_shard(_address(film), start, end, return_state=True)
        assert isinstance(_error(state), InvalidJobError)
        assert f"segments {start} to {end}" in str(_error(state))


class TestChildRuns:
    def test_one_that_is_started_is_listed_and_waits(self, film: FilmPlan) -> None:
        runs = _runs(_address(film))
        child = runs.start(Start(POOL, SegmentRun(1, 3), 0))
        assert runs.list() == [child]
        assert (child.segments, child.phase) == (SegmentRun(1, 3), Phase.WAITING)

    def test_two_parents_that_start_the_same_start_one(self, film: FilmPlan) -> None:
        start = Start(POOL, SegmentRun(0, 2), 0)
        first, second = (_runs(_address(film)).start(start) for _ in range(2))
        assert first == second
        assert _runs(_address(film)).list() == [first]

    def test_the_next_of_the_same_is_another(self, film: FilmPlan) -> None:
        runs = _runs(_address(film))
        keys = {runs.start(Start(POOL, SegmentRun(0, 2), number)).key for number in range(3)}
        assert len(keys) == len(runs.list()) == 3

    def test_films_do_not_see_each_other(self, film: FilmPlan) -> None:
        _runs(_address(film)).start(Start(POOL, SegmentRun(0, 1), 0))
        assert _runs("f" * 64).list() == []

    def test_its_parameters_are_those_of_the_flow(self, film: FilmPlan) -> None:
        child = _runs(_address(film)).start(Start(POOL, SegmentRun(0, 2), 0, because="x" * 1000))
        run = _read(child)
        assert run.parameters["plan"] == _address(film)
        assert run.parameters["device"] == "cpu"
        assert len(run.parameters["because"]) <= 300
        render_shard.validate_parameters(run.parameters)

    def test_one_that_nobody_took_ends_at_once(self, film: FilmPlan) -> None:
        runs = _runs(_address(film))
        runs.cancel(runs.start(Start(POOL, SegmentRun(0, 1), 0)), "not wanted")
        (child,) = runs.list()
        assert child.phase is Phase.FAILED
        assert child.reason == "Cancelled: not wanted"

    def test_one_that_is_gone_is_told_in_vain(self, film: FilmPlan) -> None:
        child = Child("01234567-89ab-cdef-0123-456789abcdef", POOL, SegmentRun(0, 1), Phase.RUNNING)
        _runs(_address(film)).cancel(child, "not wanted")

    @pytest.mark.parametrize(
        ("state", "phase"),
        [
            (Scheduled(), Phase.WAITING),
            (AwaitingRetry(), Phase.WAITING),
            (Pending(), Phase.TAKEN),
            (Running(), Phase.RUNNING),
            (Cancelling(), Phase.LEAVING),
            (Completed(), Phase.DONE),
            (Failed(message="it broke"), Phase.FAILED),
        ],
        ids=lambda value: getattr(value, "name", ""),
    )
    def test_every_state_has_its_phase(self, film: FilmPlan, state: State[Any], phase: Phase) -> None:
        runs = _runs(_address(film))
        child = runs.start(Start(POOL, SegmentRun(0, 1), 0))
        if phase is Phase.LEAVING:
            _force(child, Running())  # Prefect cancels what never ran at once
        _force(child, state)
        (child,) = runs.list()
        assert child.phase is phase
        assert child.reason == ("Failed: it broke" if phase is Phase.FAILED else "")

    def test_a_crash_counts_when_it_stays(self, film: FilmPlan, monkeypatch: pytest.MonkeyPatch) -> None:
        runs = _runs(_address(film))
        child = runs.start(Start(POOL, SegmentRun(0, 1), 0))
        _force(child, Crashed(message="killed"))
        assert runs.list()[0].phase is Phase.LEAVING
        _force(child, AwaitingRetry(message="handed back"))
        assert runs.list()[0].phase is Phase.WAITING
        _force(child, Crashed(message="killed"))
        monkeypatch.setattr(child_runs, "SETTLE_SECONDS", 0.0)
        assert (runs.list()[0].phase, runs.list()[0].reason) == (Phase.FAILED, "Crashed: killed")

    def test_what_is_wrong_with_the_job_is_wrong_everywhere(self, film: FilmPlan) -> None:
        child = self.run(film, Start(POOL, SegmentRun(900, 901), 0))
        assert (child.phase, child.is_hopeless) == (Phase.FAILED, True)
        assert "segments 900 to 901" in child.reason

    def test_what_is_wrong_with_an_encoder_is_not(self, film: FilmPlan) -> None:
        child = self.run(film, Start("nvenc", SegmentRun(0, 1), 0))
        assert (child.phase, child.is_hopeless) == (Phase.FAILED, False)
        assert "nvenc" in child.reason

    def run(self, film: FilmPlan, start: Start) -> Child:
        """Run a child in this process, with the encoder of its pool's device; return it as it is listed then."""
        runs = ChildRuns(_address(film), name="film.mp4", parameters={"plan": _address(film)}, speeds={POOL: 30.0})
        run = _read(runs.start(start))
        run_flow(render_shard, flow_run=run, parameters=run.parameters, return_type="state")
        (child,) = runs.list()
        return child

    def test_runs_of_people_with_the_same_tag_are_left_alone(self, film: FilmPlan) -> None:
        runs = _runs(_address(film))
        with get_client(sync_client=True) as client:
            client.create_flow_run(render_slideshow, tags=[runs.tag])
        assert runs.list() == []

    def test_pools_without_workers_have_none(self, film: FilmPlan) -> None:
        pools = _runs(_address(film)).pools()
        assert [(pool.name, pool.worker_count, pool.fps) for pool in pools] == [(POOL, 0, 30.0), ("nvenc", 0, 200.0)]


class TestPoolDevices:
    def test_are_those_of_the_deployments(self) -> None:
        assert read_pool_devices(["nvenc", POOL]) == {"nvenc": "gpu", POOL: "cpu"}

    def test_a_pool_that_renders_nothing_is_refused_with_what_to_do(self) -> None:
        with pytest.raises(InvalidJobError, match=r"'gpus' is not allowed.*deployments\.apply"):
            read_pool_devices(["gpus"])


class _Worker:
    """Runs what is scheduled, one run at a time, in a thread of this process; not a Prefect worker."""

    def __init__(self, runs: ChildRuns) -> None:
        self._runs, self._stop = runs, threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.ran: list[SegmentRun] = []

    def __enter__(self) -> _Worker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _work(self) -> None:
        while not self._stop.wait(0.1):
            for child in self._runs.list():
                if child.phase is Phase.WAITING:
                    run = _read(child)
                    if run.state is None or not run.state.is_scheduled():
                        continue  # it was told to end meanwhile; a worker is refused it
                    run_flow(render_shard, flow_run=run, parameters=run.parameters, return_type="state")
                    self.ran.append(child.segments)


class TestFilm:
    def test_is_made_by_its_children(self, tmp_path: Path) -> None:
        job = _job(tmp_path, render_on=["nvenc", POOL], strategy="segments")
        (plan,) = plan_job(job, host=current_host())
        with _Worker(_runs(_address(plan))) as worker:
            # No pool has a worker, so the first one gets two children; nvenc cannot, and what failed there goes to cpu.
            state = render_slideshow(job.with_machines(render_on=[POOL]), return_state=True)
        (report,) = state.result()
        film = tmp_path / "out/film.mp4"
        assert find_damage(film, read_certificate(certificate_path(film)), full=True) == ()
        assert sorted(index for run in worker.ran for index in run.indices) == list(range(len(plan.segments)))
        assert len(worker.ran) > 1
        assert report.sessions == "on the pools cpu"
        assert (report.segments_rendered, report.segments_reused) == (len(plan.segments), 0)

    def test_fails_with_what_its_children_said(self, tmp_path: Path) -> None:
        job = _job(tmp_path, render_on=[POOL])
        (plan,) = plan_job(job, host=current_host())
        photo = max((tmp_path / "photos").iterdir())  # the last one's: all others have ended, for nobody cancels here
        with _Worker(_runs(_address(plan))), pytest.MonkeyPatch.context() as patch:
            # Between the plan and the render: the parent has read the photos, the child finds another one.
            patch.setattr(child_runs.ChildRuns, "start", _after(lambda: draw_photo(photo, seed=1), ChildRuns.start))
            state = render_slideshow(job, return_state=True)
        assert state.is_failed()
        assert "could not be rendered in 1 try" in str(_error(state)), "it is wrong everywhere"
        assert "PhotoChangedError" in str(state.message) + str(_error(state))
        assert not (tmp_path / "out/film.mp4").exists()
        assert all(child.phase in (Phase.DONE, Phase.FAILED) for child in _runs(_address(plan)).list())

    def test_ends_when_nobody_works(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FANREEL_WAIT_SECONDS", "2")
        current_host().launcher.close()
        current_host.cache_clear()
        job = _job(tmp_path, render_on=[POOL])
        (plan,) = plan_job(job, host=current_host())
        state = render_slideshow(job, return_state=True)
        assert isinstance(_error(state), NoWorkerError)
        assert "workers online: cpu 0" in str(_error(state))
        assert {child.phase for child in _runs(_address(plan)).list()} == {Phase.FAILED}
        current_host().launcher.close()
        current_host.cache_clear()


def _after(first: Any, then: Any) -> Any:
    """Return a function that calls one, of several threads one at a time, and then the other."""
    lock = threading.Lock()

    def both(*arguments: Any) -> Any:
        with lock:
            first()
        return then(*arguments)

    return both


def _read(child: Child) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(UUID(child.key))


def _error(state: State[Any]) -> Any:
    return state.result(raise_on_failure=False)


def _force(child: Child, state: State[Any]) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(child.key), state, force=True)
