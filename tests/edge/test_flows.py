"""The flow with a real Prefect server, and its command without one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, unmapped
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import disable_run_logger
from prefect.states import Failed
from support.jobs import draw_photo, make_job
from support.prefect_server import give_database
from support.processes import descendants, environment_in, own_tracebacks, sessions_below, wait_until

from fanreel import errors
from fanreel.errors import FanreelError, MediaError, PhotoChangedError, SessionLostError
from fanreel.host.host import current_host
from fanreel.job.slideshow import SlideshowJob
from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.join.verify import find_damage
from fanreel.plan.shards import LARGEST_SHARD_COUNT
from fanreel.policy import MOST_RETRIES, POLICIES
from fanreel.report.film_report import FilmReport
from flows.render_slideshow import render_slideshow
from tasks.concat import concat
from tasks.fetch import fetch
from tasks.plan import plan
from tasks.render import render
from tasks.retries import RETRIED, worth_retrying
from tasks.runner import HOST_TASK_RUNNER
from tasks.upload import upload
from tasks.watch import film_run, watch_flow

ROOT = Path(__file__).parents[2]
EVERY_ERROR = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FanreelError)]
TASK_RUNS_BESIDE_SHARDS = 4  # fetch, plan, concat, upload


@pytest.fixture(scope="module", autouse=True)
def _host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """This module's tests share a host, whose sessions' launcher is then warm."""
    folder = tmp_path_factory.mktemp("host")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FANREEL_STORE", str(folder / "store"))
        patch.setenv("FANREEL_LOCK_FOLDER", str(folder / "locks"))
        current_host.cache_clear()
        yield
        current_host().launcher.close()
        current_host.cache_clear()


def _draw(folder: Path, *, first_seed: int, count: int = 4) -> None:
    (folder / "photos").mkdir()
    for seed in range(first_seed, first_seed + count):
        draw_photo(folder / "photos" / f"photo-{seed}.jpg", seed=seed)


def _run(job: SlideshowJob) -> tuple[State[list[FilmReport]], dict[str, TaskRun]]:
    """Return the flow run's state and its task runs by name."""
    state = render_slideshow(job, return_state=True)
    return state, _task_runs(state)


def _task_runs(state: State[object]) -> dict[str, TaskRun]:
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[_flow_run_id(state)]))
    with get_client(sync_client=True) as client:
        # Task runs reach the server as events, a little after the flow run's own state.
        def read() -> list[TaskRun]:
            runs = client.read_task_runs(flow_run_filter=chosen)
            told = not state.is_completed() or any(run.name.startswith("upload ") for run in runs)
            return runs if told and all(run.state is not None and run.state.is_final() for run in runs) else []

        runs = wait_until(read, seconds=60, what="every task run is final")
    assert len({run.name for run in runs}) == len(runs)
    return {run.name: run for run in runs}


def _flow_run_id(state: State[object]) -> UUID:
    assert state.state_details.flow_run_id is not None
    return state.state_details.flow_run_id


def _artifact_texts(state: State[object]) -> dict[str | None, str]:
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[_flow_run_id(state)]))
    with get_client(sync_client=True) as client:
        return {
            artifact.key: f"{artifact.data} {artifact.description}"
            for artifact in client.read_artifacts(artifact_filter=chosen)
        }


def _assert_sound(film: Path) -> None:
    assert find_damage(film, read_certificate(certificate_path(film)), full=True) == ()


def _has_begun(store: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # a scratch folder that goes while we look
        return any((store / "scratch").glob("*/*.packets"))
    return False


def _shards(runs: dict[str, TaskRun]) -> dict[str, TaskRun]:
    return {name: run for name, run in runs.items() if name.startswith("render ")}


@pytest.mark.usefixtures("prefect_server")
def test_a_film_is_made_and_shown(tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=10)
    state, runs = _run(make_job(tmp_path))

    (report,) = state.result()
    assert report.film == str(tmp_path / "out/film.mp4")
    assert report.verified
    assert report.frame_count == 4 * 4 * 8
    assert report.fps > 0
    _assert_sound(tmp_path / "out/film.mp4")

    shards = _shards(runs)
    assert set(runs) - set(shards) == {
        "fetch photos for film.mp4",
        "plan film.mp4",
        "concat film.mp4",
        "upload film.mp4",
    }
    assert shards
    assert all(name.endswith(" of film.mp4") and not run.tags for name, run in shards.items())
    assert len(runs) == len(shards) + TASK_RUNS_BESIDE_SHARDS <= 20
    assert all(run.run_count == 1 and run.state is not None and run.state.is_completed() for run in runs.values())
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(_flow_run_id(state)).name == "film.mp4"

    artifacts = _artifact_texts(state)
    assert set(artifacts) == {"film-progress", "film-report"}
    assert artifacts["film-progress"].startswith("100 film.mp4: ")
    assert str(report) in artifacts["film-report"]
    assert "](data:image/jpeg;base64,/9j/" in artifacts["film-report"]


@pytest.mark.usefixtures("prefect_server")
def test_a_second_run_renders_nothing(tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=20)
    first, _ = _run(make_job(tmp_path))
    second, runs = _run(make_job(tmp_path, output="out/again.mp4"))

    assert first.result()[0].segments_rendered > 0
    assert second.result()[0].segments_rendered == 0
    assert not _shards(runs)
    assert _artifact_texts(second)["film-progress"].startswith("100 again.mp4: ")
    _assert_sound(tmp_path / "out/again.mp4")


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("name", ["{job.output} {0} {}.mp4", 'it\'s a "film" %s.mp4', "фильм 影片 ü.mp4"])
def test_names_are_the_users_own(tmp_path: Path, name: str) -> None:
    _draw(tmp_path, first_seed=30, count=2)
    state, runs = _run(make_job(tmp_path, output=f"out/{name}"))

    assert state.is_completed()
    assert f"concat {name}" in runs
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(_flow_run_id(state)).name == name
    _assert_sound(tmp_path / "out" / name)


@pytest.mark.usefixtures("prefect_server")
def test_one_session_at_a_time_if_the_job_says_so(tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=40)
    state, runs = _run(make_job(tmp_path, sessions=1))

    assert state.is_completed()
    assert len(_shards(runs)) > 1
    certificate = read_certificate(certificate_path(tmp_path / "out/film.mp4"))
    events = [current_host().store.read_record(segment.address).event for segment in certificate.segments]
    by_session = [[event for event in events if event.session == session] for session in {e.session for e in events}]
    spans = sorted((min(e.started_at for e in group), max(e.ended_at for e in group)) for group in by_session)
    assert len(spans) > 1
    assert all(ended <= started for (_, ended), (started, _) in itertools.pairwise(spans))


def test_task_runs_are_bounded() -> None:
    assert LARGEST_SHARD_COUNT + TASK_RUNS_BESIDE_SHARDS <= 36


@pytest.mark.usefixtures("prefect_server")
def test_a_killed_session_is_tried_again(tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=50, count=1)
    # One segment and one session, of a second or more, that is killed within milliseconds of its first frame.
    job = make_job(tmp_path, size="640x360", fps="30", seconds_per_slide=10, sessions=1, encoding={"preset": "best"})
    store = current_host().settings.store
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not (_has_begun(store) and (sessions := sessions_below(os.getpid()))):
            assert time.monotonic() < deadline, "no session"
            time.sleep(0.002)
        os.kill(sessions[0], signal.SIGKILL)
        killed.append(sessions[0])

    killer = threading.Thread(target=kill)
    killer.start()
    state, runs = _run(job)
    killer.join()

    assert killed
    assert state.is_completed()
    retried = [run for run in _shards(runs).values() if run.run_count == 2]
    assert len(retried) == 1
    with get_client(sync_client=True) as client:
        states = [past.name for past in client.read_task_run_states(retried[0].id)]
    assert [name for name in states if name != "Pending"] == ["Running", "AwaitingRetry", "Retrying", "Completed"]
    _assert_sound(tmp_path / "out/film.mp4")
    certificate = read_certificate(certificate_path(tmp_path / "out/film.mp4"))
    assert max(current_host().store.read_record(segment.address).event.retries for segment in certificate.segments) == 1


@pytest.mark.usefixtures("prefect_server")
def test_a_segment_that_is_gone_is_made_again(tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=55, count=2)
    job = make_job(tmp_path)

    @flow(task_runner=HOST_TASK_RUNNER)
    def render_robbed() -> FilmReport:
        with watch_flow():
            (film,) = plan(job, fetch(job))
            rendered = render.map(film.order.shards, film=unmapped(film)).result()
            current_host().store.local_copy(current_host().store.read_record(rendered[0][0])).unlink()
            return upload(film, concat(film))

    state = render_robbed(return_state=True)

    assert state.is_completed()
    assert _task_runs(state)["concat film.mp4"].run_count == 2
    assert state.result().segments_rendered == 1
    _assert_sound(tmp_path / "out/film.mp4")


@pytest.mark.usefixtures("prefect_server")
def test_a_bad_photo_fails_at_once(tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=60, count=1)
    (tmp_path / "photos/broken.jpg").write_bytes(b"no photo")
    state, runs = _run(make_job(tmp_path))

    assert state.is_failed()
    with pytest.raises(MediaError, match=r"broken\.jpg") as caught:
        state.result()
    assert state.message == str(caught.value)
    assert list(runs) == ["fetch photos for film.mp4"]
    assert runs["fetch photos for film.mp4"].run_count == 1


def test_a_parent_on_pools_keeps_no_launcher_of_sessions(tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=70, count=1)

    def launchers() -> list[str]:
        return [line for line in descendants(os.getpid()).values() if "fanreel.sessions.session_server" in line]

    current_host().launcher.close()
    with disable_run_logger():
        fetch.fn(make_job(tmp_path, render_on=["cpu"]))
        assert launchers() == []
        fetch.fn(make_job(tmp_path))
    assert len(launchers()) == 1


@pytest.mark.usefixtures("prefect_server")
def test_a_job_that_cannot_be_is_refused_in_our_words_before_any_step() -> None:
    values: Any = {"photos": ["/a.jpg"], "slides": [{"photo": "/b.jpg"}], "output": "/o.mp4", "zoom": 9}
    state = render_slideshow(values, return_state=True)
    assert state.is_failed()
    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[_flow_run_id(state)]))
        assert client.read_task_runs(flow_run_filter=chosen) == []
    assert state.message == (
        "zoom: 9 is not allowed; input should be less than or equal to 8\n"
        "slides: give either photos or slides, not both"
    )


@pytest.mark.usefixtures("prefect_server")
def test_a_shard_that_fails_stops_the_others(tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=70, count=2)
    spoiled, other = sorted((tmp_path / "photos").iterdir())
    slides = [{"photo": str(spoiled), "seconds": 5}, {"photo": str(other), "seconds": 1200}]
    job = make_job(tmp_path, photos=[], slides=slides, size="1280x720", fps="30", encoding={"preset": "best"})
    failed_at: list[float] = []

    @flow(task_runner=HOST_TASK_RUNNER)
    def render_spoiled() -> None:
        with watch_flow():
            (film,) = plan(job, fetch(job))
            draw_photo(spoiled, seed=79)
            try:
                render.map(film.order.shards, film=unmapped(film)).result()
            finally:
                failed_at.append(time.monotonic())

    state = render_spoiled(return_state=True)

    assert time.monotonic() - failed_at[0] < 60
    with pytest.raises(PhotoChangedError):
        state.result()
    ends = {run.state_name for run in _shards(_task_runs(state)).values()}
    assert "Failed" in ends
    assert "Completed" not in ends
    assert not sessions_below(os.getpid())


@pytest.mark.parametrize("kind", EVERY_ERROR)
@pytest.mark.parametrize("run_count", range(1, MOST_RETRIES + 2))
def test_the_policy_table_decides(kind: type[FanreelError], run_count: int) -> None:
    state = Failed(data=kind("why"))
    expected = kind in POLICIES and run_count <= POLICIES[kind].retries
    assert worth_retrying(None, TaskRun(task_key="render", dynamic_key="0", run_count=run_count), state) is expected


def test_only_our_own_errors_are_tried_again() -> None:
    run = TaskRun(task_key="render", dynamic_key="0", run_count=1)
    assert not worth_retrying(None, run, Failed(data=RuntimeError("why")))
    assert not worth_retrying(None, run, Failed(message="no error at all"))


def test_the_rule_holds_where_an_event_loop_runs() -> None:
    async def ask() -> bool:
        run = TaskRun(task_key="render", dynamic_key="0", run_count=1)
        return worth_retrying(None, run, Failed(data=SessionLostError("why")))

    assert asyncio.run(ask()) is True
    assert RETRIED["retries"] == MOST_RETRIES


@pytest.mark.usefixtures("prefect_server")
def test_films_are_watched_within_a_flow_run_only(tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=80, count=1)
    runs = []

    @flow
    def watched() -> None:
        with watch_flow():
            (film,) = plan(make_job(tmp_path), fetch(make_job(tmp_path)))
            runs.extend([film_run(film), film_run(film)])

    watched()
    watched()
    assert runs[0] is runs[1]
    assert runs[2] is runs[3]
    assert runs[0] is not runs[2]
    with pytest.raises(LookupError):
        film_run(None)  # type: ignore[arg-type]


@pytest.fixture
def environment(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, str]:
    """No server anywhere: the flow starts a temporary one; the quick tests' ones find no database either."""
    if request.node.get_closest_marker("soak"):
        give_database(tmp_path / "prefect")
    return environment_in(tmp_path)


JOB = """
size: 320x180
fps: 8
photos: [photos]
encoding: {preset: draft, quality: 30}
output: out/film.mp4
"""


def _ask(tmp_path: Path, text: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    job = tmp_path / "job.yaml"
    job.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "flows.render_slideshow", str(job)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)


def test_the_command_makes_a_film_and_tells_in_one_block(tmp_path: Path, environment: dict[str, str]) -> None:
    _draw(tmp_path, first_seed=90, count=2)
    done = _ask(tmp_path, JOB, environment)

    assert done.returncode == 0, done.stderr
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(rows) == ["film", "photos", "length", "speed", "encoder", "segments", "verified"]
    assert rows["film"] == str(tmp_path / "out/film.mp4")
    assert rows["length"].startswith("8.00 s, 64 frames, 320x180")
    assert rows["segments"].endswith("rendered, 0 reused")
    assert rows["verified"].startswith("yes")
    _assert_sound(tmp_path / "out/film.mp4")


def test_the_command_refuses_an_unknown_key(tmp_path: Path, environment: dict[str, str]) -> None:
    done = _ask(tmp_path, JOB + "sise: 1\n", environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip() == "fanreel: sise: unknown key; did you mean 'size'?"


def test_the_command_refuses_a_bad_setting(tmp_path: Path, environment: dict[str, str]) -> None:
    done = _ask(tmp_path, JOB, environment | {"FANREEL_HANG_SECONDS": "soon"})
    assert done.returncode == 2
    assert done.stderr.strip().startswith("fanreel: FANREEL_HANG_SECONDS: 'soon' is not a number")


@pytest.mark.soak
def test_the_command_says_last_what_was_wrong(tmp_path: Path, environment: dict[str, str]) -> None:
    _draw(tmp_path, first_seed=92, count=1)
    (tmp_path / "photos/broken.jpg").write_bytes(b"no photo")
    done = _ask(tmp_path, JOB, environment)

    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("fanreel: ")]
    assert "broken.jpg" in line
    assert own_tracebacks(done.stderr) == []


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_leaves_no_process(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals, code: int
) -> None:
    _draw(tmp_path, first_seed=94, count=4)
    (tmp_path / "job.yaml").write_text(
        JOB.replace("320x180", "1920x1080").replace("draft", "best") + "seconds_per_slide: 600\n"
    )
    with (tmp_path / "log").open("w+") as log:
        command = [sys.executable, "-m", "flows.render_slideshow", str(tmp_path / "job.yaml")]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: _has_begun(tmp_path / "store"), seconds=240, what="a segment is begun")
            below = descendants(process.pid)
            assert sessions_below(process.pid)
            process.send_signal(number)
            assert process.wait(120) == code
        finally:
            process.kill()
            process.wait()
    wait_until(lambda: not [pid for pid in below if Path(f"/proc/{pid}").exists()], seconds=30, what="all gone")
    # The temporary server that Prefect started writes to the same place, also after our last word.
    ours = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("fanreel: ")]
    assert "run the same command to go on" in ours[-1]
