"""Stands for the engine of a flow run that is a fork of its worker's launcher (engine_launcher.py).

`python -I -S start_run.py NAME`, the launcher's. It imports next to nothing, for it is started with each run. Where no
launcher answers, it becomes the engine itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys

__all__ = ["LENGTH", "STATUS", "socket_address"]

LENGTH = struct.Struct("!I")
"""Before a request, its bytes of JSON: `environment` and `folder`. Standard input, output and error go with it."""

STATUS = struct.Struct("!i")
"""What comes back: the process id, then the exit status as `waitstatus_to_exitcode` gives it."""


def socket_address(name: str) -> str:
    """Return the address of a launcher: one that is gone with it, and that is no file."""
    return f"\0fanreel-engines-{name}"


def main(name: str) -> int:
    """Return the exit status of a run."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until there is a process to pass it on to
    launcher = socket.socket(socket.AF_UNIX)
    try:
        launcher.connect(socket_address(name))
        request = json.dumps({"environment": dict(os.environ), "folder": os.getcwd()}).encode()  # noqa: PTH109 -- no import
        sent = LENGTH.pack(len(request)) + request
        launcher.sendall(sent[socket.send_fds(launcher, [sent], [0, 1, 2]) :])
        pid = _read(launcher)
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])  # noqa: S606 -- as the worker would

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the run too, which decides what it is
    with contextlib.suppress(ProcessLookupError):  # it has ended, and its status is on its way
        process = os.pidfd_open(pid)
        signal.signal(signal.SIGTERM, lambda *_: _pass_on(process))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        return _read(launcher)
    except OSError:
        return -signal.SIGKILL  # the launcher was killed, and its runs with it


def _pass_on(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGTERM)


def _read(launcher: socket.socket) -> int:
    data = launcher.recv(STATUS.size)
    if not data:
        raise ConnectionResetError
    return STATUS.unpack(data)[0]


if __name__ == "__main__":
    status = main(sys.argv[1])
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
