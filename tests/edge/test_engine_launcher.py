"""Contract with Prefect 3.8.8: a fork of the engines' server is to a worker what `python -m prefect.engine` is.

If a test fails after an upgrade of Prefect, look at what that command does now: `if __name__ == "__main__"` in
prefect/engine.py, the variables and signals that prefect/runner/_starter_engine.py gives it. Mend
deployments/engine_server.py, or end `--fork-engines`: workers do without it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.kills import is_running
from support.processes import descendants, environment_in, wait_until

from deployments.engine_launcher import EngineLauncher
from deployments.engine_server import CANNOT_FORK

ROOT = Path(__file__).parents[2]
SECONDS = 120

pytestmark = pytest.mark.soak  # each launcher imports Prefect

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def launcher() -> Iterator[EngineLauncher]:
    """A launcher that tests share which leave it alive."""
    opened = EngineLauncher()
    opened.start()
    yield opened
    opened.close()


@pytest.fixture
def doomed() -> Iterator[EngineLauncher]:
    """A launcher of a test that ends it."""
    opened = EngineLauncher()
    yield opened
    opened.close()


@pytest.fixture
def silent_api() -> Iterator[str]:
    """The address of a server that never answers, so that an engine waits for as long as a test needs it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api"


@pytest.fixture
def start(silent_api: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a run by a command, as a worker does, with these variables beside its own."""
    started: list[subprocess.Popen[str]] = []

    def start_one(command: list[str], **variables: str) -> subprocess.Popen[str]:
        own = {"PREFECT_API_URL": silent_api, "PREFECT__FLOW_RUN_ID": str(uuid.uuid4())}
        run = subprocess.Popen(
            command,
            env=environment_in(tmp_path) | own | variables,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(run)
        return run

    yield start_one
    for run in started:
        run.kill()
        run.communicate()


def pid_of(launcher: EngineLauncher) -> int:
    assert launcher._server is not None
    return launcher._server.pid


def await_fork(launcher: EngineLauncher) -> int:
    """Return the process of the only run, once it waits for its server."""

    def find() -> int:
        below = list(descendants(pid_of(launcher)))  # that of an earlier test may not be gone yet
        return below[0] if len(below) == 1 and "socket:" in open_sockets(below[0]) else 0

    return wait_until(find, seconds=SECONDS, what="the engine has been forked")


def open_sockets(pid: int) -> str:
    names = []
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            names.append(str(link.readlink()))
        except OSError:
            continue
    return " ".join(names)


def test_a_run_has_its_environment_folder_and_output_and_its_status_is_told(
    launcher: EngineLauncher, start: Start
) -> None:
    run = start(launcher.command(), PREFECT__FLOW_RUN_ID="no id")
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    assert "Invalid flow run id. Received arguments" in said
    wait_until(lambda: not descendants(pid_of(launcher)), seconds=SECONDS, what="its process is gone")


def test_settings_are_those_of_the_run_s_environment(launcher: EngineLauncher, start: Start) -> None:
    run = start(launcher.command(), PREFECT__FLOW_RUN_ID="no id", PREFECT_LOGGING_LEVEL="CRITICAL")
    said, _ = run.communicate(timeout=SECONDS)
    assert (run.returncode, said) == (1, "")


def test_it_ends_by_the_signal_that_it_is_sent(launcher: EngineLauncher, start: Start) -> None:
    run = start(launcher.command())
    fork = await_fork(launcher)
    run.terminate()
    run.communicate(timeout=SECONDS)
    assert run.returncode == -signal.SIGTERM
    assert not is_running(fork)


def test_killed_on_the_one_side_it_ends_on_the_other(launcher: EngineLauncher, start: Start) -> None:
    run = start(launcher.command())
    fork = await_fork(launcher)
    run.kill()
    wait_until(lambda: not is_running(fork), seconds=SECONDS, what="the engine is killed too")

    run = start(launcher.command())
    os.kill(await_fork(launcher), signal.SIGKILL)
    run.communicate(timeout=SECONDS)
    assert run.returncode == -signal.SIGKILL


def test_a_launcher_that_is_killed_takes_its_runs_along_and_the_next_has_another(
    doomed: EngineLauncher, start: Start
) -> None:
    run = start(doomed.command())
    fork, old = await_fork(doomed), pid_of(doomed)
    os.kill(old, signal.SIGKILL)
    run.communicate(timeout=SECONDS)
    assert run.returncode == -signal.SIGKILL
    wait_until(lambda: not is_running(fork), seconds=SECONDS, what="the engine is killed too")

    wait_until(lambda: not is_running(old), seconds=SECONDS, what="it is gone")
    start(doomed.command())
    assert await_fork(doomed)
    assert pid_of(doomed) != old


def test_it_stays_until_its_runs_have_ended_when_its_worker_is_gone(doomed: EngineLauncher, start: Start) -> None:
    run = start(doomed.command())
    fork, old = await_fork(doomed), pid_of(doomed)
    doomed.close()
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(1)
    assert is_running(fork)
    run.terminate()
    run.communicate(timeout=SECONDS)
    assert run.returncode == -signal.SIGTERM
    wait_until(lambda: not is_running(old), seconds=SECONDS, what="the launcher ends too")


def test_where_an_import_begins_a_thread_nothing_is_forked(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boto3.py").write_text(
        "import threading, time; threading.Thread(target=time.sleep, args=[999], daemon=True).start()"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    threaded = EngineLauncher()
    server = threaded.start()
    assert server.wait(SECONDS) == CANNOT_FORK
    run = start(threaded.command(), PREFECT__FLOW_RUN_ID="no id")
    said, _ = run.communicate(timeout=SECONDS)
    assert (run.returncode, "Invalid flow run id" in said) == (1, True)
    assert threaded.start() is server, "nor is it tried again with each run"


def test_without_a_launcher_the_engine_starts_by_itself(doomed: EngineLauncher, start: Start) -> None:
    command = doomed.command()
    doomed.close()
    run = start(command, PREFECT__FLOW_RUN_ID="no id")
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    assert "Invalid flow run id" in said
