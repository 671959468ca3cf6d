"""The owner's side of a fork server: start it, and be sure that it is gone."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import weakref
from collections.abc import Sequence
from typing import Any

__all__ = ["ServerProcess"]

BACKLOG = 128
"""How many requests wait while the server imports; those beyond wait to be connected."""


class ServerProcess:
    """The process of a fork server, from its start until it is gone. It sees by its owner's socket when that one goes.

    A process that forks is the owner, and its child is not.

    Args:
        command: Starts it; its program makes a `ForkServer.from_arguments`.
        options: Passed to `subprocess.Popen`.

    Attributes:
        address: Where processes are asked for (`ForkedProcess`), with the key that a request must have: the address is
            no file, so that whoever shares the network namespace may see it and connect.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:  # noqa: ANN401 -- Popen's own
        _fill_standard_descriptors()
        name, key = f"\0fanreel-forks-{secrets.token_hex(16)}", secrets.token_hex(16)
        self.address = f"{name}:{key}"
        self._owner, other = socket.socketpair()
        weakref.finalize(self, self._owner.close)
        _servers.add(self)
        with other, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(name)
            listener.listen(BACKLOG)
            passed = (other.fileno(), listener.fileno())
            self._process = subprocess.Popen([*command, key, *map(str, passed)], pass_fds=passed, **options)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait(self, timeout_seconds: float = 0.0) -> int | None:
        """Return its exit status, as `os.waitstatus_to_exitcode` gives it; None if it runs on for so long."""
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None

    def disown(self) -> None:
        """Have it end: at once with its forks, or once they have ended, as its program decided."""
        self._owner.close()

    def kill(self) -> None:
        """End it and, with it, its forks. It is not asked, for it may be busy importing, or stopped."""
        self._process.kill()
        self._process.wait()
        self._owner.close()


_servers: weakref.WeakSet[ServerProcess] = weakref.WeakSet()


def _disown_all() -> None:
    """Close a forked child's copies of the sockets: they would keep the servers from seeing their owner's end."""
    for server in list(_servers):
        server.disown()


os.register_at_fork(after_in_child=_disown_all)


def _fill_standard_descriptors() -> None:
    """Open nothing as those of 0, 1 and 2 that a parent closed: the child's own streams take these numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: this one
