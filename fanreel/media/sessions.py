"""The owner's side of session processes: start one, hear from it, be sure that it is gone."""

from __future__ import annotations

import array
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from fanreel.errors import SessionHungError, SessionLostError
from fanreel.media.launcher import END, MESSAGE_BYTES, START
from fanreel.media.session import SessionEnded, SessionFailed, SessionMessage, ShardRequest
from fanreel.settings import child_environment

__all__ = ["Launcher", "Session"]

LAST_WORDS_BYTES = 600


class Session:
    """One session process, from its start until it is certainly gone.

    Use it as a context: leaving it kills the process if it still runs, and waits for its end.
    """

    def __init__(self, launcher: Launcher, pid: int, connection: Connection) -> None:
        self.pid = pid
        self._launcher = launcher
        self._connection = connection

    def __enter__(self) -> Self:
        """Return the session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, however far it is."""
        self._connection.close()
        with contextlib.suppress(SessionLostError):
            self._launcher.end(self.pid)

    def render(self, request: ShardRequest, *, hang_seconds: float) -> Iterator[SessionMessage]:
        """Have the session make a shard; yield what it reports, until it has ended.

        Args:
            request: What to make.
            hang_seconds: The longest silence that is waited through.

        Raises:
            SessionHungError: It was silent for longer.
            SessionLostError: Its process died.
            FanreelError: It failed, for the reason that it gave.
        """
        try:
            self._connection.send(request)
            while True:
                if not self._connection.poll(hang_seconds):
                    raise SessionHungError(f"session {self.pid} made no frame for {hang_seconds:g} s and was killed")
                message: SessionMessage = self._connection.recv()
                if isinstance(message, SessionFailed):
                    raise message.error
                if isinstance(message, SessionEnded):
                    return
                yield message
        except (EOFError, ConnectionError):
            raise SessionLostError(f"session {self.pid} died: {self._launcher.explain_end(self.pid)}") from None


class Launcher:
    """Starts sessions; thread-safe. The launcher process is started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in close()
        self._statuses: dict[int, int | None] = {}

    def warm(self) -> None:
        """Start the launcher process now, so that its imports run while other things are done."""
        with self._lock:
            self._connected()

    def start(self, *, locks: Sequence[int]) -> Session:
        """Return a new session that keeps copies of the descriptors `locks` open for as long as it lives.

        Raises:
            SessionLostError: The launcher died.
        """
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            pid = self._ask(START, 0, [theirs.fileno(), *locks])
        if pid is None:
            raise SessionLostError("the launcher started no session; run the same command again")
        return Session(self, pid, Connection(ours.detach()))

    def end(self, pid: int) -> int | None:
        """Kill the session `pid` if it still runs; return its exit status, None if it would not go."""
        with self._lock:
            if pid not in self._statuses:
                self._statuses[pid] = self._ask(END, pid, [])
            return self._statuses[pid]

    def explain_end(self, pid: int) -> str:
        """Return why a session's process ended, with its last words if it had any."""
        try:
            status = self.end(pid)
        except SessionLostError as error:
            return str(error)
        if status is not None and status < 0:
            reason = f"killed by {signal.Signals(-status).name}" + (", perhaps for memory" if status == -9 else "")
        else:
            reason = f"exit status {status}"
        return f"{reason}; {words}" if (words := self._last_words()) else reason

    def close(self) -> None:
        """End the launcher and every session that it started."""
        with self._lock:
            if self._control is not None and self._process is not None:
                self._control.close()
                # It may be busy importing and hear nothing yet; its sessions die with it.
                self._process.kill()
                self._process.wait()
                self._control = self._process = None

    def _ask(self, name: str, pid: int, descriptors: Sequence[int]) -> int | None:
        control = self._connected()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            control.sendmsg([pickle.dumps((name, pid))], rights)
            answer = control.recv(MESSAGE_BYTES)
        except ConnectionError:
            answer = b""
        if not answer:
            control.close()
            self._control = None
            raise SessionLostError(f"the session launcher died; {self._last_words()}")
        return pickle.loads(answer)  # noqa: S301 -- from our own child

    def _connected(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                # A session of its own: the terminal's Ctrl-C is for the owner. Its standard streams lead
                # nowhere, or an encoder that lives on would keep a worker from seeing its owner's end.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "fanreel.media.launcher", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    start_new_session=True,
                    env=child_environment(),
                )
            self._control = ours
        return self._control

    def _last_words(self) -> str:
        size = os.fstat(self._stderr.fileno()).st_size
        start = max(0, size - LAST_WORDS_BYTES)
        return os.pread(self._stderr.fileno(), LAST_WORDS_BYTES, start).decode(errors="replace").strip()
