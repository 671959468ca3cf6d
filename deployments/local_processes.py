"""Processes that go on after the command that started them, and the certain end of exactly those.

Each process is started with a mark in its environment, a random text that everything below it inherits. So a process is
recognised even if the kernel gave its number to another one since, and none is missed whose parent is dead. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Process", "end_all", "marked", "read_process", "start_process"]

_MARK = "FANREEL_STARTED_BY"
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Process:
    """A process that carries a mark.

    Attributes:
        pid: Its number.
        mark: The mark in its environment.
    """

    pid: int
    mark: str

    def is_running(self) -> bool:
        """Return whether it still runs; a dead process that nobody has waited for has no environment."""
        with contextlib.suppress(OSError):
            return f"{_MARK}={self.mark}".encode() in Path(f"/proc/{self.pid}/environ").read_bytes().split(b"\0")
        return False

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it is gone."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.is_running():
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def start_process(
    command: Sequence[str], *, record: Path, log: Path, folder: Path, environment: Mapping[str, str]
) -> Process:
    """Start a command in a session of its own, without a terminal, and return it.

    Args:
        command: Program and arguments; the program as a path, or to be found in PATH.
        record: File that says afterwards which process it is; `read_process` reads it.
        log: File for its output, which is emptied first.
        folder: Its working directory.
        environment: Beside that of this process; an empty value takes the variable away.
    """
    earlier = read_process(record)
    mark = earlier.mark if earlier else secrets.token_hex(8)  # what is left of a dead one is ended with this one
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
    process = Process(started.pid, mark)
    while not process.is_running() and started.poll() is None:
        time.sleep(0.001)  # the kernel gives it its environment a moment after its start
    record.write_text(json.dumps(asdict(process)), encoding="utf-8")
    return process


def read_process(record: Path) -> Process | None:
    """Return the process that a file names, whether it runs or not; None if the file names none."""
    try:
        return Process(**json.loads(record.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def marked(marks: Collection[str]) -> list[Process]:
    """Return all processes that carry one of the marks: those that were started with it, and all below them."""
    numbers = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    found = [Process(number, mark) for number in numbers for mark in marks]
    return [process for process in found if process.is_running()]


def end_all(processes: Iterable[Process], *, grace_seconds: float) -> int:
    """End some processes, and all that carry their marks; return how many there were.

    Args:
        processes: Those that are asked first, by SIGTERM; they may end those below them in good order.
        grace_seconds: How long they have. Whatever carries their marks then is killed.
    """
    asked = list(processes)
    marks = {process.mark for process in asked}
    known = {*marked(marks)}
    for process in asked:
        process.send(signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while any(process.is_running() for process in asked) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    while left := marked(marks):
        known |= {*left}
        for process in left:
            process.send(signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return len(known)
