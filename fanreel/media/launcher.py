"""Starts session processes, ends them, and never lets one outlive its owner.

The launcher is a small process of its own that has imported everything a session needs and compiled the
resampler: a session is a fork of it and starts in milliseconds, sharing its memory. (A spare process kept
ready would cost 1.2 s of imports a session instead of a film.) It opens no encoder and touches no GPU, so
nothing that cannot be forked exists in it. When its owner goes, by whatever signal, its socket ends; it
then kills its sessions and exits. When it is killed itself, the kernel kills its sessions.
"""

from __future__ import annotations

import array
import ctypes
import importlib
import os
import pickle
import select
import signal
import socket
import sys
import time
from multiprocessing.connection import Connection

__all__ = ["END", "MESSAGE_BYTES", "START", "serve"]

START, END = "start", "end"
MESSAGE_BYTES = 4096
LARGEST_DESCRIPTOR_COUNT = 250
"""Linux passes at most 253 descriptors in one message (SCM_MAX_FD)."""

END_SECONDS = 5.0
"""How long a killed session may take to go; one that is stuck inside a driver cannot be waited for."""

_PR_SET_PDEATHSIG = 1


def serve(control: socket.socket) -> None:
    """Obey the owner at the other end of `control` until it goes.

    Requests are pickled pairs: `(START, 0)` with descriptors - the session's connection first, then locks
    that it keeps open - is answered with its process id; `(END, pid)` with the exit status, as
    `waitstatus_to_exitcode` gives it, or None if it would not go.
    """
    children: set[int] = set()
    try:
        while True:
            request, descriptors = _receive(control)
            if request is None:
                return
            name, pid = request
            if name == START:
                pid = _fork_session(control, descriptors)
                children.add(pid)
                control.send(pickle.dumps(pid))
            else:
                children.discard(pid)
                control.send(pickle.dumps(_end(pid)))
    finally:
        for pid in children:
            _end(pid)


def _receive(control: socket.socket) -> tuple[tuple[str, int] | None, list[int]]:
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(LARGEST_DESCRIPTOR_COUNT * descriptors.itemsize)
    try:
        data, ancillary, _, _ = control.recvmsg(MESSAGE_BYTES, space)
    except ConnectionError:
        return None, []
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return (pickle.loads(data) if data else None), list(descriptors)  # noqa: S301 -- from our own parent


def _fork_session(control: socket.socket, descriptors: list[int]) -> int:
    launcher = os.getpid()
    pid = os.fork()
    if pid:
        for descriptor in descriptors:
            os.close(descriptor)
        return pid
    status = 1
    try:
        _die_with(launcher)
        control.close()
        from fanreel.media.session import run_session

        with Connection(descriptors[0]) as connection:
            run_session(connection)
        status = 0
    finally:
        # Neither atexit hooks nor buffers of the launcher are this process's to run or flush.
        os._exit(status)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends: the launcher's only thread."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _end(pid: int) -> int | None:
    """Kill a session that may have ended already, and return its exit status."""
    deadline = time.monotonic() + END_SECONDS
    ended, status = os.waitpid(pid, os.WNOHANG)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    while not ended and time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        select.select([], [], [], 0 if ended else 0.002)
    return os.waitstatus_to_exitcode(status) if ended else None


def main() -> None:
    """Import and compile what sessions need, then serve the socket whose number is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the owner, who decides
    control = socket.socket(fileno=int(sys.argv[1]))
    importlib.import_module("fanreel.media.session")
    importlib.import_module("cv2").setNumThreads(1)
    importlib.import_module("fanreel.media.resample").warm()
    serve(control)


if __name__ == "__main__":
    main()
