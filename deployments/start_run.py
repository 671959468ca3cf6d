"""Stands for the engine of a run that is a fork of its worker's fork server (engine_server.py).

`python -I -S start_run.py NAME`, the server's. It is started with each run, so it imports next to nothing. It gives the
fork its output, environment and folder, passes SIGTERM on, and ends as the fork ends. If it is killed, the server kills
the fork. Where no server answers, it becomes the engine itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 -- pathlib is slow to import
from fanreel.forks.forked_process import ForkedProcess


def main(name: str) -> int:
    """Return the exit status of a run, negative for the number of a signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until there is a process to pass it on to
    told = json.dumps({"environment": dict(os.environ), "folder": os.getcwd()}).encode()  # noqa: PTH109 -- no import
    try:
        fork = ForkedProcess(f"\0{name}", told, descriptors=(0, 1, 2))
    except OSError:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.execv(sys.executable, [sys.executable, "-m", "prefect.engine"])  # noqa: S606 -- as the worker would

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the run too, which decides what it is
    with contextlib.suppress(ProcessLookupError):  # it has ended, and its status is on its way
        process = os.pidfd_open(fork.pid)
        signal.signal(signal.SIGTERM, lambda *_: _pass_on(process))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    try:
        status = fork.wait()
    except OSError:
        status = None  # the server was killed, and its forks with it
    return -signal.SIGKILL if status is None else status


def _pass_on(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(process, signal.SIGTERM)


if __name__ == "__main__":
    status = main(sys.argv[1])
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
