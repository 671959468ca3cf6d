"""Starts session processes, ends them, and never lets one outlive its owner.

The launcher is a small process of its own that has imported everything a session needs and compiled the
resampler: a session is a fork of it and starts in milliseconds, sharing its memory. (A spare process kept
ready would cost 1.2 s of imports a session instead of a film.) It opens no encoder and touches no GPU, so
nothing that cannot be forked exists in it. When its owner goes, by whatever signal, its socket ends; it
then kills its sessions and exits. When it is killed itself, the kernel kills its sessions.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import importlib
import os
import pickle
import select
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from fanreel.settings import read_settings

__all__ = ["END", "KEEP", "LARGEST_DESCRIPTOR_COUNT", "MESSAGE_BYTES", "START", "serve"]

KEEP, START, END = "keep", "start", "end"
MESSAGE_BYTES = 4096
LARGEST_DESCRIPTOR_COUNT = 250
"""Linux passes at most 253 descriptors in one message (SCM_MAX_FD)."""

LOOK_MILLISECONDS = 20
"""How often the owner is looked for while this process imports."""

END_SECONDS = 5.0
"""How long a killed session may take to go; one that is stuck inside a driver cannot be waited for."""

LAUNCHER_OFFER, SESSION_OFFER = 200, 400
"""By how many thousandths of the memory there is a process looks larger to the kernel than it is.

Enough that an owner of 150 MB outlives the others within 512 MB; a process that really fills a host still goes first.
"""

_PR_SET_PDEATHSIG = 1


def serve(control: socket.socket) -> None:
    """Obey the owner at the other end of `control` until it goes.

    Requests are pickled pairs: `(START, 0)` with descriptors - the session's connection first, then locks
    that it keeps open - is answered with its process id, or None if there can be no process; `(END, pid)`
    with the exit status, as `waitstatus_to_exitcode` gives it, or None if it would not go. `(KEEP, 0)`, not
    answered, brings descriptors for the next start, before its own.
    """
    children: set[int] = set()
    kept: list[int] = []
    try:
        while True:
            request, descriptors = _receive(control)
            if request is None:
                return
            name, pid = request
            kept += descriptors
            if name == START:
                started = _fork_session(control, kept)
                kept = []
                children |= {started} if started is not None else set()
                control.send(pickle.dumps(started))
            elif name == END:
                children.discard(pid)
                control.send(pickle.dumps(_end(pid)))
    except ConnectionError:
        return
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)  # none has been waited for, so each number is still its own
        for pid in children:
            _end(pid)


def _receive(control: socket.socket) -> tuple[tuple[str, int] | None, list[int]]:
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(LARGEST_DESCRIPTOR_COUNT * descriptors.itemsize)
    try:
        data, ancillary, flags, _ = control.recvmsg(MESSAGE_BYTES, space)
    except ConnectionError:
        return None, []
    if flags & socket.MSG_CTRUNC:
        # A session that lacks a lock would be one that nobody counts.
        sys.exit("descriptors were lost on the way to the launcher; raise the limit of open files (ulimit -n)")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return (pickle.loads(data) if data else None), list(descriptors)  # noqa: S301 -- from our own parent


def _fork_session(control: socket.socket, descriptors: list[int]) -> int | None:
    launcher = os.getpid()
    try:
        pid = os.fork()
    except OSError:  # no process or no memory left: this session cannot be, the others go on
        traceback.print_exc()
        pid = None
    if pid != 0:
        for descriptor in descriptors:
            os.close(descriptor)
        return pid
    status = 1
    try:
        _die_with(launcher)
        _offer_to_the_memory_killer(SESSION_OFFER)
        control.close()
        from fanreel.sessions.session_process import run_session

        # Left open: the owner takes its end for this process's, and kills what has not exited by then.
        connection = Connection(descriptors[0])
        run_session(connection)
        status = 0
    except BaseException:
        traceback.print_exc()  # the owner quotes it
        raise
    finally:
        # Neither atexit hooks nor buffers of the launcher are this process's to run or flush.
        os._exit(status)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends: the launcher's only thread."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _offer_to_the_memory_killer(offer: int) -> None:
    """Have the kernel, where memory runs out, rather kill this process than its owner, who can say what happened.

    Source: proc_pid_oom_score_adj(5); raising it needs no privilege.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(offer))


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
    _offer_to_the_memory_killer(LAUNCHER_OFFER)
    control = socket.socket(fileno=int(sys.argv[1]))
    with _gone_with_the_owner(control):
        importlib.import_module("fanreel.sessions.session_process")
        importlib.import_module("cv2").setNumThreads(1)
        _compile()
    serve(control)


def _compile() -> None:
    """Compile the kernels, once for all sessions, or load what an earlier run compiled.

    numba refuses to compile where it may keep nothing: neither beside the program nor in the user's cache.
    The store is then another place.
    """
    try:
        importlib.import_module("fanreel.draw.planes").warm()
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        with _private_folder(read_settings().store / "compiled") as folder:
            importlib.import_module("numba").config.CACHE_DIR = str(folder)
            importlib.import_module("fanreel.draw.planes").warm()


@contextlib.contextmanager
def _private_folder(folder: Path) -> Iterator[Path]:
    """Return `folder` if nobody else can write it, because what lies in it is run; otherwise one for this context."""
    if _is_private(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fanreel-") as temporary:
        yield Path(temporary)


def _is_private(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
    return False


@contextlib.contextmanager
def _gone_with_the_owner(control: socket.socket) -> Iterator[None]:
    """End this process when the owner goes inside the context, which is too busy to listen for seconds.

    The thread that looks has ended when the context is left: what forks afterwards has one thread only.
    """
    ready = threading.Event()

    def look() -> None:
        owner = select.poll()
        owner.register(control, 0)  # POLLHUP always comes
        while not ready.is_set():
            if owner.poll(LOOK_MILLISECONDS):
                os._exit(0)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield
    finally:
        ready.set()
        looker.join()


if __name__ == "__main__":
    main()
