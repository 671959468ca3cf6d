"""One process that a fork server makes: ask for it, end it, hear how it ended. Imports little, to be quick to start."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

__all__ = [
    "MOST_DESCRIPTORS",
    "NUMBER",
    "REFUSED",
    "REQUEST",
    "STUCK",
    "ForkRefusedError",
    "ForkedProcess",
    "bound_silence",
]

REQUEST = struct.Struct("!32sII")
"""What a request begins with: the server's key, how many bytes of data follow, how many descriptors come with it."""

NUMBER = struct.Struct("!i")
"""What the server answers: first the process id, then the exit status as `os.waitstatus_to_exitcode` gives it."""

REFUSED = 0
"""In place of a process id: no process could be forked."""

STUCK = 1 << 16
"""In place of an exit status: the process was killed and does not go."""

MOST_DESCRIPTORS = 250
"""How many descriptors one message carries; Linux allows 253 (SCM_MAX_FD)."""


class ForkRefusedError(OSError):
    """The server could fork no process; it goes on, and has written the reason to its standard error."""


class ForkedProcess:
    """A process that is forked for this object, and that the server kills when this object's socket ends.

    Args:
        address: The server's address and key, as `ServerProcess.address` gives it.
        data: What the new process is told.
        descriptors: What it is handed copies of; at most 10,000.
        answer_seconds: The longest silence of the server that is waited through; None waits for ever.

    Attributes:
        pid: Its process id.

    Raises:
        ForkRefusedError: The server could not fork.
        BlockingIOError: The server did not answer in time.
        OSError: The server is gone.
    """

    def __init__(
        self, address: str, data: bytes = b"", *, descriptors: Sequence[int], answer_seconds: float | None = None
    ) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            if answer_seconds is not None:
                bound_silence(self._socket.fileno(), answer_seconds)
            name, _, key = address.partition(":")
            self._socket.connect(name)
            _send(self._socket, key, data, descriptors)
            self.pid = self._hear()
            if self.pid == REFUSED:
                raise ForkRefusedError("the fork server could not fork")
        except BaseException:
            self._socket.close()
            raise

    def end(self) -> int | None:
        """Kill the process if it still runs, and return as `wait` does."""
        self._socket.shutdown(socket.SHUT_WR)
        return self.wait()

    def wait(self, *, answer_seconds: float | None = None) -> int | None:
        """Return the exit status once the process has ended; None if it was killed and does not go. Ask once.

        Args:
            answer_seconds: The longest that is waited from now on, in place of the bound given at the start.

        Raises:
            BlockingIOError: The server did not answer in time.
            OSError: The server is gone.
        """
        if answer_seconds is not None:
            bound_silence(self._socket.fileno(), answer_seconds)
        status = self._hear()
        return None if status == STUCK else status

    def close(self) -> None:
        """Close the socket; the server kills the process if it still runs, and nobody hears how it ends."""
        self._socket.close()

    def _hear(self) -> int:
        number = self._socket.recv(NUMBER.size)
        if not number:
            raise ConnectionResetError("the fork server is gone")
        return NUMBER.unpack(number)[0]


def _send(server: socket.socket, key: str, data: bytes, descriptors: Sequence[int]) -> None:
    """Send a request; descriptors beyond those of one message go with the first bytes, one byte for each message."""
    message = REQUEST.pack(key.encode(), len(data), len(descriptors)) + data
    for start in range(0, len(descriptors), MOST_DESCRIPTORS):
        batch = descriptors[start : start + MOST_DESCRIPTORS]
        message = message[socket.send_fds(server, [message[:1]], batch) :]
    server.sendall(message)


def bound_silence(descriptor: int, seconds: float) -> None:
    """Have every read from and write to a socket end with `BlockingIOError` after `seconds` of standstill."""
    bound = struct.pack("@ll", *divmod(max(1, round(seconds * 1e6)), 1_000_000))  # struct timeval
    with socket.socket(fileno=os.dup(descriptor)) as same:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            same.setsockopt(socket.SOL_SOCKET, option, bound)
