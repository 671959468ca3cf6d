"""Flows over the emulated NVENC driver, which a process must be started with: so each flow has a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.emulated_nvenc import EmulatedDriver
from support.jobs import draw_photo
from support.prefect_server import Served
from support.processes import descendants, environment_in, sessions_below, wait_until

from fanreel.publish.published import verify_film

ROOT = Path(__file__).parents[2]
SLIDES = 4

pytestmark = pytest.mark.soak

# Runs the flow within a server, and tells what became of every task run.
WATCHED = """
import json, sys, time
from pathlib import Path
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from fanreel.intake.sources import load_job
from flows.render_slideshow import render_slideshow

state = render_slideshow(load_job(Path(sys.argv[1])), return_state=True)
chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
told = {"state": state.name, "runs": {}}
with get_client(sync_client=True) as client:
    for attempt in range(100):
        runs = client.read_task_runs(flow_run_filter=chosen)
        if runs and all(run.state and run.state.is_final() for run in runs):
            break
        time.sleep(0.2)
    for run in runs:
        states = [(one.name, one.message) for one in client.read_task_run_states(run.id)]
        told["runs"][run.name] = {"count": run.run_count, "state": run.state.name, "states": states}
try:
    told["reports"] = [str(report) for report in state.result()]
except Exception as error:
    told["error"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(told), flush=True)
"""


@pytest.fixture
def gpus(tmp_path: Path) -> Iterator[EmulatedDriver]:
    (tmp_path / "photos").mkdir()
    for seed in range(SLIDES):
        draw_photo(tmp_path / "photos" / f"photo-{seed}.jpg", seed=700 + seed)
    driver = EmulatedDriver(tmp_path / "hardware", gpus=1, engines=2, microseconds_per_frame=500)
    yield driver
    wait_until(lambda: driver.open_sessions() == 0, seconds=60, what="every session is closed")


def job_in(folder: Path, **encoding: str) -> Path:
    job = {
        "size": "320x180",
        "fps": "10",
        "photos": ["photos"],
        "seconds_per_slide": 6,
        "encoding": {"preset": "draft", "quality": 30} | encoding,
        "output": "out/film.mp4",
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


def run_flow(folder: Path, gpus: EmulatedDriver, served: Served, **encoding: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(job_in(folder, **encoding))],
        cwd=ROOT,
        env=environment_in(folder) | served.client | gpus.environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told | {"log": done.stderr}


def shards(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [run for name, run in told["runs"].items() if name.startswith("render ")]


def test_a_refused_session_awaits_its_retry_and_says_the_drivers_number(
    tmp_path: Path, gpus: EmulatedDriver, served: Served
) -> None:
    gpus.set(fail_open_every=2, fail_open_code=10)  # the first open is the look at the GPU
    told = run_flow(tmp_path, gpus, served)

    assert told["state"] == "Completed", told
    assert gpus.refusals(10) >= 1
    # Which open is refused depends on which shard asks first: one may be refused twice.
    retried = [run for run in shards(told) if run["count"] > 1]
    assert retried, told
    for run in retried:
        states = [(name, message) for name, message in run["states"] if name != "Pending"]
        tries = ["AwaitingRetry", "Retrying"] * (run["count"] - 1)
        assert [name for name, _ in states] == ["Running", *tries, "Completed"]
        assert re.search(r"SessionLimitError: nvenc: .*out of memory \(10\)", states[1][1])
    assert {record.encoder for record in verify_film(tmp_path / "out/film.mp4", full=True).segments} == {"nvenc"}
    assert "START " in told["log"]
    assert "DONE " in told["log"]


def test_a_fault_that_stays_falls_back_and_is_told(tmp_path: Path, gpus: EmulatedDriver, served: Served) -> None:
    gpus.set(fail_picture=30, fail_code=20)
    told = run_flow(tmp_path, gpus, served)

    assert told["state"] == "Completed", told
    assert {run["count"] for run in shards(told)} == {3}
    assert {record.encoder for record in verify_film(tmp_path / "out/film.mp4", full=True).segments} == {"x264"}
    assert "nvenc: encode fault (20)" in told["reports"][0]
    assert "FALLBACK" in told["log"]


def test_a_fault_that_stays_fails_the_flow_where_no_fallback_is_allowed(
    tmp_path: Path, gpus: EmulatedDriver, served: Served
) -> None:
    gpus.set(fail_picture=30, fail_code=20)
    told = run_flow(tmp_path, gpus, served, encoder="nvenc")

    assert told["state"] == "Failed"
    assert re.search(r"EncodeFaultError: nvenc: .*\(20\)", told["error"])
    assert "Failed" in {run["state"] for run in shards(told)}
    assert max(run["count"] for run in shards(told)) == 3
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_killed_flow_frees_its_sessions_at_once(tmp_path: Path, gpus: EmulatedDriver, served: Served) -> None:
    gpus.set(microseconds_per_frame=20_000)
    command = [sys.executable, "-m", "flows.render_slideshow", str(job_in(tmp_path))]
    env = environment_in(tmp_path) | served.client | gpus.environment
    with (tmp_path / "log").open("w") as log:
        flow = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)
    below: dict[int, str] = {}
    try:
        wait_until(lambda: gpus.open_sessions() == 2, seconds=120, what="two sessions")
        below = descendants(flow.pid)
        assert len(sessions_below(flow.pid)) == 2
        flow.kill()
        flow.wait()
        wait_until(lambda: gpus.open_sessions() == 0, seconds=30, what="no session is open")
        ours = [pid for pid, line in below.items() if "fanreel.sessions" in line]
        wait_until(lambda: not [pid for pid in ours if Path(f"/proc/{pid}").exists()], seconds=30, what="all are gone")
    finally:
        flow.kill()
        for pid in below:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
