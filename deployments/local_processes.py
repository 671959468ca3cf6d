"""Processes that go on after the command that started them, and the certain end of exactly those.

Each is started with a mark in its environment, which everything below it inherits. So none is missed whose parent is
dead, a number that the kernel gave to another process since is no mistake, and no file keeps account. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["end_all", "environment_of", "leaders", "marked", "start_process"]

_MARK = "FANREEL_STARTED_BY"
_POLL_SECONDS = 0.1


def start_process(command: Sequence[str], *, mark: str, log: Path, folder: Path, environment: Mapping[str, str]) -> int:
    """Start a command in a session of its own, without a terminal, and return its process id.

    Args:
        command: Program and arguments; the program as a path, or to be found in PATH.
        mark: What it and all below it are known by.
        log: File for its output, which is emptied first.
        folder: Its working directory.
        environment: Beside that of this process; an empty value takes the variable away.
    """
    variables = {**os.environ, **environment, _MARK: mark}
    variables = {name: value for name, value in variables.items() if value or name not in environment}
    with log.open("wb") as output:
        started = subprocess.Popen(
            command,
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while not _carries(started.pid, mark) and started.poll() is None:
        time.sleep(0.001)  # the kernel gives it its environment a moment after its start
    return started.pid


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with; nothing if it is dead, or another user's."""
    with contextlib.suppress(OSError):
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return {}


def marked(mark: str) -> list[int]:
    """Return all processes that carry the mark: those that were started with it, and all below them."""
    return [pid for folder in Path("/proc").glob("[0-9]*") if _carries(pid := int(folder.name), mark)]


def leaders(mark: str) -> list[int]:
    """Return those that carry the mark and lead a session, as what `start_process` starts does."""
    found: list[int] = []
    for pid in marked(mark):
        with contextlib.suppress(ProcessLookupError):
            found += [pid] if os.getsid(pid) == pid else []
    return found


def end_all(marks: Sequence[str], *, grace_seconds: float) -> int:
    """End all processes that carry one of the marks; return how many there were.

    Args:
        marks: Those that lead a session are asked first, by SIGTERM; they may end those below them in good order.
        grace_seconds: How long they have. Whatever carries a mark then is killed.
    """
    known = {pid for mark in marks for pid in marked(mark)}
    asked = [(pid, mark) for mark in marks for pid in leaders(mark)]
    for pid, mark in asked:
        _send(pid, mark, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while any(_carries(pid, mark) for pid, mark in asked) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    while left := [(pid, mark) for mark in marks for pid in marked(mark)]:
        known |= {pid for pid, _ in left}
        for pid, mark in left:
            _send(pid, mark, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return len(known)


def _carries(pid: int, mark: str) -> bool:
    return environment_of(pid).get(_MARK) == mark


def _send(pid: int, mark: str, number: signal.Signals) -> None:
    """Send a process a signal, unless the number is another's by now."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if _carries(pid, mark):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
