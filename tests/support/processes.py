"""Processes that tests start: who descends from whom, and their certain end."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def environment_in(folder: Path) -> dict[str, str]:
    """Return this process's environment without a Prefect server: a flow starts a temporary one in `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "FANREEL_STORE": str(folder / "store"),
        "FANREEL_LOCK_FOLDER": str(folder / "locks"),
        "FANREEL_CALIBRATION": str(folder / "calibration.json"),
    }


def descendants(pid: int) -> dict[int, str]:
    """Return the command line of every live process below `pid`."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(stat.parent.name)] = int(parent)
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        above = waiting.pop()
        for child in [child for child, parent in parents.items() if parent == above]:
            waiting.append(child)
            with contextlib.suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ").strip()
    return found


def sessions_below(pid: int) -> list[int]:
    """Return the encoder sessions below `pid`: forks of a launcher, so they carry its command line."""
    below = descendants(pid)
    launchers = [child for child, command in below.items() if "fanreel.sessions.session_server" in command]
    return [child for launcher in launchers for child in descendants(launcher)]


def wait_until(read: Callable[[], T], *, seconds: float, what: str, pause_seconds: float = 0.05) -> T:
    """Return the first true value that `read` gives; what costs more than a look is read less often."""
    deadline = time.monotonic() + seconds
    while not (value := read()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(pause_seconds)
    return value


@contextlib.contextmanager
def running(command: list[str], *, log: Path, env: dict[str, str], cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command for as long as the context lasts; then end it and everything below it."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=cwd)
    try:
        yield process
    finally:
        below = descendants(process.pid)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for pid in [*below, process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(20)


def killed_at(step: int, body: Callable[[], object]) -> bool:
    """Run `body` in a forked process that is killed before its step of this number, from 0; return whether it was.

    A step is a call that opens, locks, renames, makes, lists or removes a file: what others see changes by one of
    them. So every state that a killed process can leave is met, however fast the machine is.
    """
    pid = os.fork()
    if pid == 0:
        exit_code = 1
        steps = itertools.count()

        def look(event: str, _: object) -> None:
            if event.startswith(("open", "os.", "fcntl.")) and next(steps) == step:
                signal.raise_signal(signal.SIGKILL)

        try:
            sys.addaudithook(look)
            body()
            exit_code = 0
        finally:  # the child must not return into pytest
            os._exit(exit_code)
    end = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert end in (0, -signal.SIGKILL)
    return end != 0


def in_fork(body: Callable[[], object], *, uid: int | None = None) -> None:
    """Run `body` in a forked process, as another user if asked; it must not raise."""
    pid = os.fork()
    if pid == 0:
        exit_code = 1
        try:
            if uid is not None:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            body()
            exit_code = 0
        finally:  # the child must not return into pytest
            if exit_code:
                traceback.print_exc(file=sys.__stderr__)
            os._exit(exit_code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def own_tracebacks(said: str) -> list[str]:
    """Return the lines of tracebacks in our code; Prefect's temporary server sometimes ends with one of its own."""
    folder = Path(__file__).parents[2]
    return [
        line for line in said.splitlines() if re.match(rf' *File "{folder}/(deployments|fanreel|flows|tasks)/', line)
    ]
