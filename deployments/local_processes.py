"""Processes that go on after the command that started them, and the certain end of exactly those.

A process is known by its number and by when it started, so that a number which the kernel gave to another one since
is never mistaken for it. All that is started carries a mark in its environment, and whatever it starts inherits it:
so nothing below is missed, even if what was in between is dead. Linux only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["Process", "end_all", "marked", "read_process", "start_process"]

_MARK = "FANREEL_STARTED_BY"
_POLL_SECONDS = 0.1
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, for as long as it lives.

    Attributes:
        pid: Its number.
        start_ticks: When it started, in the kernel's ticks since the machine did.
        boot: Since which start of the machine.
    """

    pid: int
    start_ticks: int
    boot: str

    def is_running(self) -> bool:
        """Return whether it still is the one with that number, and no corpse that nobody collected."""
        return self == look_at(self.pid)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, and nobody else; nothing if it is gone."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.is_running():
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def start_process(
    command: Sequence[str], *, mark: str, record: Path, log: Path, folder: Path, environment: Mapping[str, str]
) -> Process:
    """Start a command in a session of its own, without a terminal, and return it.

    Args:
        command: Program and arguments; the program as a path, or to be found in PATH.
        mark: What it and all below it are known by.
        record: File that says afterwards which process it is; `read_process` reads it.
        log: File that has what it writes, from now on.
        folder: Its working directory.
        environment: Beside that of this process; an empty value takes the variable away.
    """
    taken = [part for name, value in environment.items() if not value for part in ("-u", name)]
    given = [f"{name}={value}" for name, value in {**environment, _MARK: mark}.items() if value]
    arguments = ["env", *taken, *given, *command]
    read_end, write_end = os.pipe()  # closed by exec: the process has its own command line from then on
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.chdir(folder)
            for descriptor, path, flags in (
                (0, os.devnull, os.O_RDONLY),
                (1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND),
            ):
                os.dup2(os.open(path, flags, 0o600), descriptor)
            os.dup2(1, 2)
            os.execvp(arguments[0], arguments)  # noqa: S606 -- no shell is wanted
        finally:
            os._exit(127)
    os.close(write_end)
    os.read(read_end, 1)
    os.close(read_end)
    process = look_at(pid) or Process(pid, 0, _boot())
    record.write_text(json.dumps(asdict(process)), encoding="utf-8")
    return process


def read_process(record: Path) -> Process | None:
    """Return the process that a file names, if it still runs."""
    try:
        process = Process(**json.loads(record.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return process if process.is_running() else None


def marked(mark: str) -> list[Process]:
    """Return all processes that carry the mark: those that were started with it, and all below them."""
    wanted = f"{_MARK}={mark}".encode()
    found: list[Process] = []
    for folder in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0") and (process := look_at(int(folder.name))):
                found.append(process)
    return found


def end_all(processes: Iterable[Process], *, mark: str, grace_seconds: float) -> int:
    """End some processes and all that carry the mark; return how many there were.

    Args:
        processes: Those asked first, by SIGTERM; they may end those below them in good order.
        mark: Whatever carries it is killed when the first ones are gone, or the time is over.
        grace_seconds: How long that is.
    """
    asked = [process for process in processes if process.is_running()]
    known = {*asked, *marked(mark)}
    for process in asked:
        process.send(signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while any(process.is_running() for process in asked) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    while left := {process for process in (*asked, *marked(mark)) if process.is_running()}:
        known |= left
        for process in left:
            process.send(signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return len(known)


def look_at(pid: int) -> Process | None:
    """Return the process that has this number now; None if there is none but a corpse."""
    try:
        # The second field, the name, may hold anything, spaces and brackets too; state is the third, start the 22nd.
        fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]), _boot())


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
