"""What runs in a fork server: import, then fork a process for each request, and say how each of them ended.

A fork starts in milliseconds and shares the memory of what was imported. Nothing that cannot be forked may exist in
the server, threads above all. Its forks end with it: the kernel kills them, by whatever signal the server goes.

A client connects to the listening socket, and sends its request: data and descriptors. It is answered with the process
id, and with the exit status once the process has ended. A client that hangs up has its process killed.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import os
import select
import selectors
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from hmac import compare_digest
from pathlib import Path
from typing import Self

from fanreel.forks.forked_process import MOST_DESCRIPTORS, NUMBER, REFUSED, REQUEST, STUCK

__all__ = ["ForkRequest", "ForkServer", "end_quickly", "offer_to_the_memory_killer"]

REQUEST_SECONDS = 10.0
"""How long a request may take to arrive whole, once somebody has begun it."""

LOOK_MILLISECONDS = 20
"""How often the server looks for its owner while it imports."""

END_SECONDS = 5.0
"""How long a killed process may take to go; one that is stuck inside a driver cannot be waited for."""

_PR_SET_PDEATHSIG = 1
_CREDENTIALS = struct.Struct("iII")  # process, user, group


@dataclass(frozen=True, slots=True)
class ForkRequest:
    """What a fork is told.

    Attributes:
        data: Whatever its client sent.
        descriptors: Its own copies of those that its client sent, in order.
    """

    data: bytes
    descriptors: tuple[int, ...]


class ForkServer:
    """A fork server; made once, first thing in its process, which ignores SIGINT from then on: Ctrl-C is its owner's.

    Args:
        owner: A socket that ends when the owner does.
        listener: Where clients connect.
        key: What each request must have.
    """

    def __init__(self, owner: socket.socket, listener: socket.socket, *, key: str) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._owner, self._listener, self._key = owner, listener, key.encode()
        self._clients: dict[int, socket.socket] = {}  # by the process id of the fork

    @classmethod
    def from_arguments(cls) -> Self:
        """Return the server of a process that `ServerProcess` has started: key and sockets are the last arguments."""
        owner, listener = (socket.socket(fileno=int(argument)) for argument in sys.argv[-2:])
        return cls(owner, listener, key=sys.argv[-3])

    @contextlib.contextmanager
    def end_with_owner(self) -> Iterator[None]:
        """End this process when the owner goes inside the context, which is too busy to listen for seconds.

        The thread that looks has ended when the context is left.
        """
        ready = threading.Event()

        def look() -> None:
            owner = select.poll()
            owner.register(self._owner, 0)  # POLLHUP always comes
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

    def serve(self, *, outlive_owner: bool = False) -> ForkRequest | None:
        """Fork a process for each request: return its request in the fork, and None in the server at the end.

        Args:
            outlive_owner: When the owner goes, stay until every fork has ended. Otherwise the forks end at once, for
                the caller then ends this process.
        """
        gc.collect()
        gc.freeze()  # never collected, so that its memory stays shared
        with selectors.PollSelector() as selector, _ends_of_children() as ends:
            for each in (self._owner, self._listener, ends):
                selector.register(each, selectors.EVENT_READ)
            is_owned = True
            while is_owned or self._clients:
                for key, _ in selector.select()[:1]:  # one at a time: to serve one may be the end of another
                    if key.fileobj is self._owner:
                        if not outlive_owner:
                            return None
                        is_owned = False
                        selector.unregister(self._owner)
                        selector.unregister(self._listener)
                        self._listener.close()
                    elif key.fileobj is self._listener:
                        if request := self._accept(selector):
                            return request
                    elif key.fileobj is ends:
                        ends.recv(1 << 12)
                        for pid in list(self._clients):
                            self._report(pid, _exit_status(pid), selector)
                    else:
                        self._report(key.data, _kill(key.data), selector)
        return None

    def _accept(self, selector: selectors.BaseSelector) -> ForkRequest | None:
        """Fork the process that a client asks for, if that can be; return the request in the fork alone."""
        client, _ = self._listener.accept()
        request = _receive(client, self._key) if _is_ours(client) else None
        server, pid = os.getpid(), None
        if request is not None:
            try:
                pid = os.fork()
            except OSError:  # no process or no memory left: this one cannot be, the others go on
                traceback.print_exc()
        if pid == 0:
            _die_with(server)
            for each in (self._owner, self._listener, client, *self._clients.values()):
                each.close()
            return request
        for descriptor in request.descriptors if request else ():
            os.close(descriptor)
        _say(client, pid or REFUSED)
        if pid:
            self._clients[pid] = client
            selector.register(client, selectors.EVENT_READ, pid)
        else:
            client.close()
        return None

    def _report(self, pid: int, status: int | None, selector: selectors.BaseSelector) -> None:
        """Tell a client how its process has ended; None says that it has not."""
        if status is not None:
            client = self._clients.pop(pid)
            selector.unregister(client)
            _say(client, status)
            client.close()


@contextlib.contextmanager
def _ends_of_children() -> Iterator[socket.socket]:
    """Yield a socket that has something to read when a child has ended."""
    ends, signalled = socket.socketpair()
    with ends, signalled:
        signalled.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only a signal that is handled is written to the socket
        signal.set_wakeup_fd(signalled.fileno(), warn_on_full_buffer=False)
        try:
            yield ends
        finally:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _exit_status(pid: int) -> int | None:
    """Return the exit status of a child; None if it runs."""
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _kill(pid: int) -> int:
    """Kill a child, which may have ended already; return its exit status, `STUCK` if it does not go."""
    deadline = time.monotonic() + END_SECONDS
    status = _exit_status(pid)
    if status is None:
        os.kill(pid, signal.SIGKILL)  # not waited for yet, so that the number is still its own
    while status is None and time.monotonic() < deadline:
        time.sleep(0.002)
        status = _exit_status(pid)
    return STUCK if status is None else status


def _die_with(server: int) -> None:
    """Have the kernel kill this process when the thread that forked it ends: the server's only thread."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)


def _is_ours(client: socket.socket) -> bool:
    """Return whether the client is this user's. Source: unix(7), SO_PEERCRED."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(credentials)[1] == os.geteuid()


def _receive(client: socket.socket, key: bytes) -> ForkRequest | None:
    """Return a client's request; None if it does not come whole, or lacks the key."""
    data, descriptors = b"", list[int]()
    client.settimeout(REQUEST_SECONDS)
    with contextlib.suppress(OSError):
        while len(data) < REQUEST.size or len(data) < REQUEST.size + REQUEST.unpack_from(data)[1]:
            part, found, _, _ = socket.recv_fds(client, 1 << 16, MOST_DESCRIPTORS)
            descriptors += found
            data += part
            if not part:
                break
        else:
            given, _, count = REQUEST.unpack_from(data)
            if not compare_digest(given, key):
                print("a request without the key was refused", file=sys.stderr)
            elif count == len(descriptors):
                return ForkRequest(data[REQUEST.size :], tuple(descriptors))
            else:  # a session that lacks a lock would be one that nobody counts
                print("descriptors were lost on the way; raise the limit of open files (ulimit -n)", file=sys.stderr)
    for descriptor in descriptors:
        os.close(descriptor)
    return None


def _say(client: socket.socket, number: int) -> None:
    with contextlib.suppress(OSError):  # it has hung up, which is seen next
        client.send(NUMBER.pack(number))


@contextlib.contextmanager
def end_quickly() -> Iterator[None]:
    """End this process, and its forks, soon after the context: nothing that was imported is taken apart.

    Python does so once threads have ended and the hooks of `atexit` were called. With large packages it takes 0.7 to
    1 s of a core, and copies the memory that a fork shares with its server.
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


def offer_to_the_memory_killer(offer: int) -> None:
    """Have the kernel, where memory runs out, rather kill this process than its owner, who can say what happened.

    Source: proc_pid_oom_score_adj(5); raising it needs no privilege.

    Args:
        offer: By how many thousandths of the memory there is this process looks larger than it is.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(offer))
