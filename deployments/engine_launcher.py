"""Starts Prefect's engine for the runs of a worker: each is a fork of a launcher, which has imported it already.

To import Prefect and what our flows need of packages takes 3 to 4 s of a core, which each of a film's child runs would
pay. A worker keeps one launcher. For a run it starts `start_run.py` in place of the engine, which has the launcher fork
one and stands for it: it gives it its output, its environment and its folder, passes signals on, and ends as it ends.

Of our own code nothing is imported before the fork, so that a run is of the checkout as it is when it starts. Nothing
that cannot be forked may exist here, threads above all: if an import begins one, the launcher ends for good, and runs
start without it. When its worker goes, the launcher stays until its runs have ended, as they go on without a worker;
when it is killed itself, the kernel kills them, and the next run gets a new launcher.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import secrets
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deployments.start_run import LENGTH, STATUS, socket_address

__all__ = ["PRELOADED", "EngineLauncher"]

PRELOADED = (
    *("prefect", "prefect.main", "prefect.engine", "prefect.flow_engine", "prefect.task_engine", "prefect.artifacts"),
    *("prefect.runner.storage", "prefect.deployments.steps.core", "prefect._internal.metrics"),
    *("numpy", "cv2", "av", "PIL.Image", "pi_heif", "blake3", "pydantic", "yaml", "boto3", "pynvml"),
)
"""What runs import of packages, as far as it is there."""

CANNOT_FORK = 3
"""Exit status of a launcher that has threads, so that another one would have them too."""

REQUEST_SECONDS = 10.0
"""How long a request may take to arrive whole, once somebody has begun it."""

_ROOT = Path(__file__).parents[1]
_PR_SET_PDEATHSIG = 1
_CREDENTIALS = struct.Struct("iII")  # process, user, group


class EngineLauncher:
    """The launcher of a worker, in a process of its own."""

    def __init__(self) -> None:
        self._name = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._owner: socket.socket | None = None

    def start(self) -> None:
        """Start it, if it does not run and can. A run that comes before it has imported everything waits for it."""
        if self._process is not None and self._process.poll() in (None, CANNOT_FORK):
            return
        self.close()
        self._name = secrets.token_hex(16)
        self._owner, other = socket.socketpair()
        with other, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(socket_address(self._name))
            listener.listen(128)
            passed = (other.fileno(), listener.fileno())
            command = [sys.executable, "-c", f"from deployments.engine_launcher import main; main{passed}"]
            self._process = subprocess.Popen(command, cwd=_ROOT, pass_fds=passed)

    def command(self) -> list[str]:
        """Return the command that is a run's engine."""
        self.start()
        return [sys.executable, "-I", "-S", str(_ROOT / "deployments/start_run.py"), self._name]

    def close(self) -> None:
        """Have it end when its runs have."""
        if self._owner is not None:
            self._owner.close()


def main(owner: int, listener: int) -> None:
    """Be the launcher; in a fork, be the engine of a run.

    Args:
        owner: Descriptor of a socket that ends when the worker does.
        listener: Descriptor of the socket where runs are asked for.
    """
    with _quick_end():
        for name in PRELOADED:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        if threading.active_count() > 1:
            print(f"runs start without a launcher: an import began {threading.enumerate()[1:]}", file=sys.stderr)
            sys.exit(CANNOT_FORK)
        gc.collect()
        gc.freeze()  # never collected, so that its memory stays shared
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the worker and for the runs
        request = _serve(socket.socket(fileno=owner), socket.socket(fileno=listener))
        if request is not None:
            _be_engine(request)


@contextlib.contextmanager
def _quick_end() -> Iterator[None]:
    """End this process, and its forks, soon after the context: nothing that was imported is taken apart.

    Python does so once threads have ended and the hooks of `atexit` were called. It takes a run 0.7 to 1 s of a core,
    for which its worker waits, and copies the memory that it shares with the launcher.
    """
    status = 1  # of any other exception

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
                stream.flush()
        if status < 0:
            signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        os._exit(status)

    atexit.register(leave)  # before all others, so that it is called after them
    try:
        yield
        status = 0
    except SystemExit as end:
        status = end.code & 0xFF if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:
        status = -signal.SIGINT
        raise


def _serve(owner: socket.socket, listener: socket.socket) -> dict[str, Any] | None:
    """Start runs and say how they end; return None when there is no more to do, and in a fork what it is to be."""
    with selectors.DefaultSelector() as selector:
        selector.register(owner, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while selector.get_map():
            key, _ = selector.select()[0]  # one at a time: to look at one may be the end of another
            if key.fileobj is owner:
                selector.unregister(owner)
                selector.unregister(listener)
                listener.close()
            elif key.fileobj is listener:
                client, _ = listener.accept()
                request = _start(client, selector)
                if request is not None:
                    for other in list(selector.get_map().values()):
                        _close(other.fileobj)
                    return request
            else:
                _look(key, selector)
    return None


def _start(client: socket.socket, selector: selectors.BaseSelector) -> dict[str, Any] | None:
    """Fork a run; return in the fork what it is to be."""
    request, descriptors = _receive(client) if _is_ours(client) else (None, [])
    launcher, pid = os.getpid(), -1
    if request is not None and len(descriptors) == 3:
        with contextlib.suppress(OSError):  # no process or no memory left: its client becomes the engine
            pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:
            os._exit(1)
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
    for descriptor in descriptors:
        if descriptor > 2:
            os.close(descriptor)
    if pid <= 0:
        client.close()
        return request if pid == 0 else None
    process = os.pidfd_open(pid)
    _say(client, pid)
    # Whichever comes first: the end of the run, or of its client, which is to end the run.
    selector.register(process, selectors.EVENT_READ, (pid, client, process))
    selector.register(client, selectors.EVENT_READ, (pid, client, process))
    return None


def _is_ours(client: socket.socket) -> bool:
    """Whether somebody is this user: the address is no file, so that anybody may ask. Source: unix(7), SO_PEERCRED."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(credentials)[1] == os.geteuid()


def _say(client: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it is gone, which is seen next
        client.send(STATUS.pack(number))


def _receive(client: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Return a request, None if it does not come whole, and the descriptors that came with it."""
    descriptors: list[int] = []
    data = b""
    client.settimeout(REQUEST_SECONDS)
    with contextlib.suppress(OSError):
        while len(data) < LENGTH.size or len(data) < LENGTH.size + LENGTH.unpack_from(data)[0]:
            part, found, _, _ = socket.recv_fds(client, 1 << 16, 3)
            descriptors += found
            if not part:
                return None, descriptors
            data += part
        client.setblocking(False)
        return json.loads(data[LENGTH.size :]), descriptors
    return None, descriptors


def _look(key: selectors.SelectorKey, selector: selectors.BaseSelector) -> None:
    """Say that a run has ended, or end one whose client is gone."""
    pid, client, process = key.data
    if key.fileobj is client:
        selector.unregister(client)
        signal.pidfd_send_signal(process, signal.SIGKILL)
        return
    _, status = os.waitpid(pid, 0)
    selector.unregister(process)
    os.close(process)
    if client in selector.get_map():
        selector.unregister(client)
    _say(client, os.waitstatus_to_exitcode(status))
    client.close()


def _close(file: Any) -> None:  # noqa: ANN401 -- what a selector has
    if isinstance(file, int):
        os.close(file)
    else:
        file.close()


def _be_engine(request: dict[str, Any]) -> None:
    """Be what `python -m prefect.engine` is in the environment and the folder of the request."""
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]
    sys.argv[1:] = []
    refresh_global_settings_context()
    setup_logging()
    del sys.modules["prefect.engine"]
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
