"""Starts sessions, each of which is a fork of one fork server that is kept for them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection

from fanreel.errors import EncoderError, SessionLostError
from fanreel.forks.forked_process import ForkedProcess, ForkRefusedError
from fanreel.forks.server_process import ServerProcess
from fanreel.sessions.session import DeathWatch, Session
from fanreel.settings import child_environment

__all__ = ["Launcher"]

ANSWER_SECONDS = 120.0
"""How long the fork server may take to answer; its imports take 1 to 2 s, its first compilation 10 s and more."""

GONE_SECONDS = 5.0
"""How long the fork server may take to end once its socket has ended."""

_PASSING = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Why no process can be started now, though one may be later."""


class Launcher:
    """Starts sessions; thread-safe. Its fork server is started when it is first needed, and anew if it died.

    A process that forks shares none of it with its child: that one's sessions come from a fork server of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: _SessionServer | None = None
        _launchers.add(self)

    def warm(self) -> None:
        """Start the fork server now, so that its imports run while other things are done."""
        with contextlib.suppress(EncoderError):  # said when a session is asked for, if one ever is
            self._running()

    def start(self, *, locks: Sequence[int]) -> Session:
        """Return a new session that keeps copies of the descriptors `locks` open for as long as it lives.

        Raises:
            SessionLostError: The fork server died, or no process could be started.
            SessionMemoryError: The kernel killed the fork server for lack of memory.
            EncoderError: The fork server cannot run on this machine.
        """
        return self._running().start(locks)

    def close(self) -> None:
        """End the fork server and every session that it started. A later start begins with a new one."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.process.kill()

    def _running(self) -> _SessionServer:
        with self._lock:
            if self._server is None or self._server.process.wait() is not None:
                self._server = _SessionServer()
            return self._server

    def _forget(self) -> None:
        """Let go of what a forked child has copies of: they would keep the parent's fork server from seeing its end."""
        self._lock = threading.Lock()
        if self._server is not None:
            self._server.process.disown()
            self._server = None


_launchers: weakref.WeakSet[Launcher] = weakref.WeakSet()


def _forget_all() -> None:
    for launcher in list(_launchers):
        launcher._forget()


os.register_at_fork(after_in_child=_forget_all)


class _SessionServer:
    """One fork server of sessions, from its start until it is gone; its sessions go with it.

    Raises:
        SessionLostError: It cannot be started now.
        EncoderError: It cannot be started.
    """

    def __init__(self) -> None:
        try:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- as long as its words may be asked for
            weakref.finalize(self, self._stderr.close)
            self._watch = DeathWatch(self._stderr)
            # A process group of its own: the terminal's Ctrl-C is for the owner. Its standard streams lead
            # nowhere, or an encoder that lives on would keep a worker from seeing its owner's end.
            self.process = ServerProcess(
                [sys.executable, "-m", "fanreel.sessions.session_server"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                start_new_session=True,
                env=child_environment(),
            )
        except OSError as error:
            kind = SessionLostError if error.errno in _PASSING else EncoderError
            raise kind(f"the session launcher cannot be started: {error}") from error

    def start(self, locks: Sequence[int]) -> Session:
        """Return a new session; see `Launcher.start`."""
        watch = DeathWatch(self._stderr)
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as unused:
            unused.enter_context(ours)
            try:
                process = ForkedProcess(
                    self.process.address, descriptors=[theirs.fileno(), *locks], answer_seconds=ANSWER_SECONDS
                )
            except ForkRefusedError:
                words = watch.last_words() or "the launcher gave no reason"
                raise SessionLostError(f"no session could be started; {words}") from None
            except OSError as error:
                raise self.why_lost(error) from None
            unused.pop_all()
        return Session(process, Connection(ours.detach()), watch=watch, why_lost=self.why_lost)

    def why_lost(self, error: OSError) -> EncoderError:
        """Make sure that the process is gone, and return why."""
        if isinstance(error, BlockingIOError):
            self.process.kill()
            return SessionLostError(f"the session launcher did not answer for {ANSWER_SECONDS:g} s and was killed")
        self.process.wait(GONE_SECONDS)
        self.process.kill()
        return self._watch.explain("the session launcher", self.process.wait())
