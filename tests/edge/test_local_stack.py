"""`make up` and `make down`: what they start, what they say, and that exactly that ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.prefect_server import copy_checkout, give_database
from support.processes import wait_until

from deployments import local_stack
from deployments.local_processes import _send, end_all, environment_of, leaders, marked, start_process

MARK = f"test-{os.getpid()}"


@pytest.fixture
def alien() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is nobody's business here."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def _start(folder: Path, script: str, **environment: str) -> int:
    return start_process(["sh", "-c", script], mark=MARK, log=folder / "it.log", folder=folder, environment=environment)


def test_a_process_goes_on_with_what_it_was_given(tmp_path: Path) -> None:
    started = _start(tmp_path, 'echo "$GIVEN/$PATH_TAKEN" "$PWD"; exec sleep 600', GIVEN="a b", PATH_TAKEN="")
    wait_until(lambda: (tmp_path / "it.log").read_text() == f"a b/ {tmp_path}\n", seconds=30, what="it has written")
    assert leaders(MARK) == [started]  # of a session of its own: no terminal ends it
    assert end_all([MARK], grace_seconds=30) == 1
    assert environment_of(started) == {}


def test_all_below_ends_even_if_its_parent_is_dead(tmp_path: Path, alien: subprocess.Popen[bytes]) -> None:
    # The grandchild is in a session of its own and nobody's child any more, and it heeds no SIGTERM.
    stubborn = "trap '' TERM; while :; do sleep 0.1; done"
    started = _start(tmp_path, f'(setsid sh -c "{stubborn}" &) ; exec sleep 600')
    wait_until(lambda: len(marked(MARK)) >= 2, seconds=30, what="the grandchild is there")
    os.kill(started, signal.SIGKILL)
    wait_until(lambda: not environment_of(started), seconds=30, what="the process is dead")
    assert end_all([MARK], grace_seconds=1) >= 1
    assert marked(MARK) == []
    assert alien.poll() is None


def test_a_number_that_another_process_has_now_is_nobody_of_ours(alien: subprocess.Popen[bytes]) -> None:
    _send(alien.pid, MARK, signal.SIGKILL)
    assert end_all([MARK], grace_seconds=0) == 0
    assert alien.poll() is None


def test_a_port_that_is_taken_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert local_stack.main(["up", "--port", str(port), "--folder", str(tmp_path / "up")]) == 1
    told = capsys.readouterr()
    assert f"port {port} of 127.0.0.1 cannot be used" in told.err
    assert "PORT=4300 make up" in told.err
    assert not local_stack.Stack(tmp_path / "up").is_running("server")


def test_down_without_up_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert local_stack.main(["down", "--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "Nothing runs.\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_up_starts_all_once_and_down_ends_all_of_it(tmp_path: Path, alien: subprocess.Popen[bytes]) -> None:
    checkout, folder, port = copy_checkout(tmp_path / "a checkout"), tmp_path / "up", _free_port()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "FANREEL_"))}
    env = kept | {"PREFECT_HOME": str(tmp_path / "home"), "FANREEL_LOCK_FOLDER": str(tmp_path / "locks")}
    give_database(tmp_path / "home")

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "deployments.local_stack", *arguments, "--folder", str(folder)]
        done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=800, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    try:
        first = run("up", "--port", str(port))
        assert first.startswith("PostgreSQL: started\nserver: started")
        for pool in ("control", "cpu", "local"):
            assert f"worker {pool}: started" in first
        assert f"The UI is at http://127.0.0.1:{port}" in first
        stack = local_stack.Stack(folder)
        names = ["postgresql", "server", "worker-control", "worker-cpu", "worker-local"]
        assert all(map(stack.is_running, names))
        assert not list(folder.rglob("prefect.db"))

        (cpu,) = leaders(stack.mark("worker-cpu"))
        os.kill(cpu, signal.SIGKILL)
        wait_until(lambda: not environment_of(cpu), seconds=30, what="the worker is dead")
        for pid in marked(stack.mark("postgresql")):
            os.kill(pid, signal.SIGKILL)
        again = run("up", "--port", str(port + 1))
        assert again.startswith("PostgreSQL: started\n")
        assert f"server: runs already, on port {port}" in again
        assert "Nothing to change" in again
        assert "worker control: runs already" in again
        assert "worker cpu: started" in again
    finally:
        ended = run("down")
    assert ended.startswith("Ended ")
    assert not [pid for name in ("postgresql", "server", *local_stack.WORKERS) for pid in marked(stack.mark(name))]
    assert not stack.database.is_ready()
    assert alien.poll() is None
    local_stack._refuse_taken(port)  # the port is free again
