"""The owner's side of session processes: start one, hear from it, be sure that it is gone."""

from __future__ import annotations

import array
import contextlib
import errno
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from fanreel.errors import EncoderError, SessionHungError, SessionLostError, SessionMemoryError
from fanreel.sessions.capacity import count_memory_kills, read_capacity
from fanreel.sessions.fork_server import END, KEEP, LARGEST_DESCRIPTOR_COUNT, MESSAGE_BYTES, START
from fanreel.sessions.messages import MEMORY_ADVICE, SessionEnded, SessionFailed, SessionMessage, SessionRequest
from fanreel.settings import child_environment

__all__ = ["Launcher", "Session"]

log = logging.getLogger(__name__)

LAST_WORDS_BYTES = 4000

SHORT_MEMORY = f"the kernel killed it for want of memory, of which {{}} are allowed here; {MEMORY_ADVICE}"

ANSWER_SECONDS = 120.0
"""How long the launcher may take to answer; its imports take 1 to 2 s, its first compilation 10 s and more."""

GONE_SECONDS = 5.0
"""How long a session may take to go after the launcher went: the kernel kills it."""

_PASSING = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""Why no process can be started now, though one may be later."""


class Session:
    """One session process, from its start until it is certainly gone.

    Use it as a context: leaving it kills the process if it still runs, and waits for its end.
    """

    def __init__(self, launcher: _LauncherProcess, pid: int, connection: Connection) -> None:
        self.pid = pid
        self._launcher = launcher
        self._connection = connection
        self._words_from = launcher.words_end()
        self._end: str | None = None
        self._failed = False
        self._memory = _MemoryWatch()
        self._memory_was_short = False

    def __enter__(self) -> Self:
        """Return the session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, however far it is."""
        self._finish()
        self._connection.close()

    def render(self, request: SessionRequest, *, hang_seconds: float) -> Iterator[SessionMessage]:
        """Have the session make a shard, or look at a device; yield what it reports, until it has ended.

        Args:
            request: What to do.
            hang_seconds: The longest silence that is waited through.

        Raises:
            SessionHungError: It was silent for longer.
            SessionLostError: Its process died.
            SessionMemoryError: The kernel killed it for want of memory.
            EncoderError: It ended by a fault in this program.
            FanreelError: It failed, for the reason that it gave.
        """
        _bound_silence(self._connection.fileno(), hang_seconds)
        try:
            self._connection.send(request)
            while True:
                message: SessionMessage = self._connection.recv()
                if isinstance(message, SessionFailed):
                    raise message.error
                if isinstance(message, SessionEnded):
                    return
                yield message
        except BlockingIOError:
            raise SessionHungError(f"session {self.pid} made no frame for {hang_seconds:g} s and was killed") from None
        except (EOFError, OSError):
            reason = self._finish()
            if self._failed:
                # Python ended it, not a signal: the same request would fail in the same way.
                raise EncoderError(f"session {self.pid} failed: {reason}; please report it") from None
            if self._memory_was_short:
                raise SessionMemoryError(f"session {self.pid} died: {reason}") from None
            raise SessionLostError(f"session {self.pid} died: {reason}") from None

    def _finish(self) -> str:
        """Make sure that the process is gone, and return why it went; asked again, the same."""
        if self._end is None:
            try:
                self._end = self._explain(self._launcher.end(self.pid))
            except EncoderError as error:  # of the launcher
                self._end, self._memory_was_short = str(error), isinstance(error, SessionMemoryError)
                self._wait_until_gone()
        return self._end

    def _explain(self, status: int | None) -> str:
        if status is None:
            return "it was killed and does not go; a device may hold it"
        if status == -signal.SIGKILL:
            self._memory_was_short = self._memory.has_killed()
            return SHORT_MEMORY.format(_allowed()) if self._memory_was_short else "killed by SIGKILL"
        self._failed = status > 0
        names = {known.value: known.name for known in signal.Signals}
        reason = f"killed by {names.get(-status, f'signal {-status}')}" if status < 0 else f"exit status {status}"
        return f"{reason}; {words}" if (words := self._launcher.last_words(self._words_from)) else reason

    def _wait_until_gone(self) -> None:
        """Wait until the kernel has closed the other end, which only the session held."""
        _bound_silence(self._connection.fileno(), GONE_SECONDS)
        with contextlib.suppress(OSError):
            while os.read(self._connection.fileno(), 1 << 16):
                pass


def _fill_standard_descriptors() -> None:
    """Open nothing as those of 0, 1 and 2 that a parent closed: the child's own streams take these numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: this one


class _MemoryWatch:
    """Knows whether the kernel has killed for want of memory since this was made."""

    def __init__(self) -> None:
        self._kills = count_memory_kills()

    def has_killed(self) -> bool:
        """Return whether it has; False where the kernel does not say."""
        now = count_memory_kills()
        return now is not None and self._kills is not None and now > self._kills


def _allowed() -> str:
    return f"{read_capacity().memory_bytes >> 20} MiB"


def _bound_silence(descriptor: int, seconds: float) -> None:
    """Have every read from and write to a socket end with `BlockingIOError` after `seconds` of standstill."""
    bound = struct.pack("@ll", *divmod(max(1, round(seconds * 1e6)), 1_000_000))  # struct timeval
    with socket.socket(fileno=os.dup(descriptor)) as same:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            same.setsockopt(socket.SOL_SOCKET, option, bound)


class Launcher:
    """Starts sessions; thread-safe. The launcher process is started when it is first needed, and anew if it died.

    A process that forks shares none of it with its child: that one's sessions come from a launcher of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: _LauncherProcess | None = None
        _launchers.add(self)

    def warm(self) -> None:
        """Start the launcher process now, so that its imports run while other things are done."""
        with contextlib.suppress(EncoderError):  # said when a session is asked for, if one ever is
            self._running()

    def start(self, *, locks: Sequence[int]) -> Session:
        """Return a new session that keeps copies of the descriptors `locks` open for as long as it lives.

        Raises:
            SessionLostError: The launcher died, or no process could be started.
            SessionMemoryError: The kernel killed the launcher for want of memory.
            EncoderError: The launcher cannot run on this machine.
        """
        process = self._running()
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unused:
            unused.enter_context(ours)
            with theirs:
                pid = process.start([theirs.fileno(), *locks])
            unused.pop_all()
        return Session(process, pid, Connection(ours.detach()))

    def close(self) -> None:
        """End the launcher and every session that it started. A later start begins with a new one."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()

    def _running(self) -> _LauncherProcess:
        with self._lock:
            if self._process is None or not self._process.is_alive():
                self._process = _LauncherProcess()
            return self._process

    def _forget(self) -> None:
        """Let go of what a forked child has copies of: they would keep the parent's launcher from seeing its end."""
        self._lock = threading.Lock()
        if self._process is not None:
            self._process.let_go()
            self._process = None


_launchers: weakref.WeakSet[Launcher] = weakref.WeakSet()


def _forget_all() -> None:
    for launcher in list(_launchers):
        launcher._forget()


os.register_at_fork(after_in_child=_forget_all)


class _LauncherProcess:
    """One launcher process, from its start until it is gone; its sessions go with it.

    Raises:
        SessionLostError: It cannot be started now.
        EncoderError: It cannot be started.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # one question at a time
        self._memory = _MemoryWatch()
        try:
            _fill_standard_descriptors()
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- as long as its words may be asked for
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                # A session of its own: the terminal's Ctrl-C is for the owner. Its standard streams lead
                # nowhere, or an encoder that lives on would keep a worker from seeing its owner's end.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "fanreel.sessions.fork_server", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr,
                    start_new_session=True,
                    env=child_environment(),
                )
        except OSError as error:
            kind = SessionLostError if error.errno in _PASSING else EncoderError
            raise kind(f"the session launcher cannot be started: {error}") from error
        self._control.settimeout(ANSWER_SECONDS)
        for file in (self._control, self._stderr):
            weakref.finalize(self, file.close)

    def is_alive(self) -> bool:
        """Return whether it runs."""
        return self._process.poll() is None

    def start(self, descriptors: Sequence[int]) -> int:
        """Return the process id of a new session that was handed `descriptors`."""
        first = max(0, len(descriptors) - LARGEST_DESCRIPTOR_COUNT)
        with self._lock:
            for begin in range(0, first, LARGEST_DESCRIPTOR_COUNT):
                self._send(KEEP, 0, descriptors[begin : min(first, begin + LARGEST_DESCRIPTOR_COUNT)])
            self._send(START, 0, descriptors[first:])
            pid = self._answer()
        if pid is None:
            raise SessionLostError(f"no session could be started; {self.last_words() or 'the launcher gave no reason'}")
        return pid

    def end(self, pid: int) -> int | None:
        """Kill the session `pid` if it still runs; return its exit status, None if it would not go."""
        with self._lock:
            self._send(END, pid, [])
            return self._answer()

    def kill(self) -> None:
        """End it and, with it, its sessions."""
        # Not asked: it may be busy importing, or stopped. Whoever waits for its answer is told by the socket's end.
        self._process.kill()
        self._process.wait()
        with self._lock:
            self._control.close()

    def let_go(self) -> None:
        """Close a forked child's copy of the socket, whatever other threads did with it at the fork."""
        self._lock = threading.RLock()
        self._control.close()

    def words_end(self) -> int:
        """Return where the words of a session that starts now will begin."""
        return os.fstat(self._stderr.fileno()).st_size

    def last_words(self, start: int = 0) -> str:
        """Return the last line that it or a session wrote after `start`; the log gets all."""
        start = max(start, self.words_end() - LAST_WORDS_BYTES)
        words = os.pread(self._stderr.fileno(), LAST_WORDS_BYTES, start).decode(errors="replace").strip()
        if words:
            log.info("the session launcher or a session wrote:\n%s", words)
        return words.splitlines()[-1] if words else ""

    def _send(self, name: str, pid: int, descriptors: Sequence[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._control.sendmsg([pickle.dumps((name, pid))], rights)
        except OSError as error:
            raise self._lost(error) from None

    def _answer(self) -> int | None:
        try:
            self._control.settimeout(ANSWER_SECONDS)
            answer = self._control.recv(MESSAGE_BYTES)
        except OSError as error:
            raise self._lost(error) from None
        if not answer:
            raise self._lost(None)
        return pickle.loads(answer)  # noqa: S301 -- from our own child

    def _lost(self, error: OSError | None) -> EncoderError:
        """Make sure that it is gone and return what to say of it."""
        if isinstance(error, TimeoutError):
            self.kill()
            return SessionLostError(f"the session launcher did not answer for {ANSWER_SECONDS:g} s and was killed")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GONE_SECONDS)
        status = self._process.returncode
        self.kill()
        if status == -signal.SIGKILL and self._memory.has_killed():
            return SessionMemoryError(f"the session launcher died: {SHORT_MEMORY.format(_allowed())}")
        words = self.last_words()
        if status is not None and status > 0:
            # Python ended it, not a signal: the next one would end in the same way.
            return EncoderError(f"the session launcher failed: {words or f'exit status {status}'}")
        return SessionLostError("the session launcher died" + (f": {words}" if words else ""))
