"""The launcher of engines: a fork of it is to a worker what `python -m prefect.engine` is, however either ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.kills import is_running
from support.processes import descendants, environment_in, wait_until

from deployments.engine_launcher import CANNOT_FORK, EngineLauncher
from deployments.start_run import HANDED_BACK

ROOT = Path(__file__).parents[2]
SECONDS = 120

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def launcher() -> Iterator[EngineLauncher]:
    opened = EngineLauncher()
    opened.start()
    yield opened
    opened.close()


@pytest.fixture
def silent_api() -> Iterator[str]:
    """The address of a server that never answers, so that an engine waits for as long as a test needs it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/api"


@pytest.fixture
def start(launcher: EngineLauncher, silent_api: str, tmp_path: Path) -> Iterator[Start]:
    """Starts a run as a worker does, with these variables beside its own."""
    started: list[subprocess.Popen[str]] = []

    def start_one(**variables: str) -> subprocess.Popen[str]:
        own = {"PREFECT_API_URL": silent_api, "PREFECT__FLOW_RUN_ID": str(uuid.uuid4())}
        run = subprocess.Popen(
            launcher.command(),
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
    assert launcher._process is not None
    return launcher._process.pid


def await_fork(launcher: EngineLauncher) -> int:
    """Return the process of the only run, once it waits for its server."""

    def find() -> int:
        found = [pid for pid in descendants(pid_of(launcher)) if "socket:" in open_sockets(pid)]
        return found[0] if found else 0

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
    run = start(PREFECT__FLOW_RUN_ID="no id")
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    assert "Invalid flow run id. Received arguments" in said
    assert not descendants(pid_of(launcher))


def test_settings_are_those_of_the_run_s_environment(start: Start) -> None:
    run = start(PREFECT__FLOW_RUN_ID="no id", PREFECT_LOGGING_LEVEL="CRITICAL")
    said, _ = run.communicate(timeout=SECONDS)
    assert (run.returncode, said) == (1, "")


def test_it_ends_by_the_signal_that_it_is_sent(launcher: EngineLauncher, start: Start) -> None:
    run = start()
    fork = await_fork(launcher)
    run.terminate()
    run.communicate(timeout=SECONDS)
    assert run.returncode == -signal.SIGTERM
    assert not is_running(fork)


def test_a_run_that_is_handed_back_is_killed_and_reports_no_crash(launcher: EngineLauncher, start: Start) -> None:
    run = start()
    fork = await_fork(launcher)
    run.send_signal(HANDED_BACK)
    run.communicate(timeout=SECONDS)
    assert run.returncode == 0
    wait_until(lambda: not is_running(fork), seconds=SECONDS, what="the engine is killed")


def test_killed_on_the_one_side_it_ends_on_the_other(launcher: EngineLauncher, start: Start) -> None:
    run = start()
    fork = await_fork(launcher)
    run.kill()
    wait_until(lambda: not is_running(fork), seconds=SECONDS, what="the engine is killed too")

    run = start()
    os.kill(await_fork(launcher), signal.SIGKILL)
    run.communicate(timeout=SECONDS)
    assert run.returncode == -signal.SIGKILL


def test_a_launcher_that_is_killed_takes_its_runs_along_and_the_next_has_another(
    launcher: EngineLauncher, start: Start
) -> None:
    run = start()
    fork, old = await_fork(launcher), pid_of(launcher)
    os.kill(old, signal.SIGKILL)
    run.communicate(timeout=SECONDS)
    assert run.returncode == -signal.SIGKILL
    wait_until(lambda: not is_running(fork), seconds=SECONDS, what="the engine is killed too")

    wait_until(lambda: not is_running(old), seconds=SECONDS, what="it is gone")
    start()
    assert await_fork(launcher)
    assert pid_of(launcher) != old


def test_it_stays_until_its_runs_have_ended_when_its_worker_is_gone(launcher: EngineLauncher, start: Start) -> None:
    run = start()
    fork, old = await_fork(launcher), pid_of(launcher)
    launcher.close()
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(1)
    assert is_running(fork)
    run.terminate()
    run.communicate(timeout=SECONDS)
    assert run.returncode == -signal.SIGTERM
    wait_until(lambda: not is_running(old), seconds=SECONDS, what="the launcher ends too")


def test_where_an_import_begins_a_thread_nothing_is_forked(
    start: Start, launcher: EngineLauncher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boto3.py").write_text(
        "import threading, time; threading.Thread(target=time.sleep, args=[999], daemon=True).start()"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    threaded = EngineLauncher()
    threaded.start()
    assert threaded._process is not None
    assert threaded._process.wait(SECONDS) == CANNOT_FORK
    pid = threaded._process.pid
    launcher.command = threaded.command
    run = start(PREFECT__FLOW_RUN_ID="no id")
    said, _ = run.communicate(timeout=SECONDS)
    assert (run.returncode, "Invalid flow run id" in said) == (1, True)
    assert threaded._process.pid == pid, "nor is it tried again with each run"


ENDING = """
import atexit, sys
from deployments.engine_launcher import _quick_end
class Kept:
    def __del__(self):
        print("taken apart")
with _quick_end():
    kept = Kept()
    atexit.register(print, "hook")
    {body}
"""


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(4)", 4, ""),
        ("sys.exit('why')", 1, "why"),
        ("raise ValueError('why')", 1, "ValueError: why"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_it_ends_as_python_does_but_takes_nothing_apart(body: str, status: int, error: str) -> None:
    command = [sys.executable, "-c", ENDING.format(body=body)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (status, "hook\n")
    assert done.stderr.strip().endswith(error)
    assert bool(done.stderr) == bool(error)


def test_without_a_launcher_the_engine_starts_by_itself(launcher: EngineLauncher, start: Start) -> None:
    command = launcher.command()
    launcher.close()
    launcher.command = lambda: command
    run = start(PREFECT__FLOW_RUN_ID="no id")
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    assert "Invalid flow run id" in said
