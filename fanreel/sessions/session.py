"""One encoder session, as its owner sees it: have it work, hear from it, be sure that it is gone."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import IO, Self

from fanreel.errors import EncoderError, SessionHungError, SessionLostError, SessionMemoryError
from fanreel.forks.forked_process import ForkedProcess, bound_silence
from fanreel.sessions.capacity import count_memory_kills, read_capacity
from fanreel.sessions.messages import MEMORY_ADVICE, SessionEnded, SessionFailed, SessionMessage, SessionRequest

__all__ = ["DeathWatch", "Session"]

log = logging.getLogger(__name__)

LAST_WORDS_BYTES = 4000

GONE_SECONDS = 5.0
"""How long a session may take to go after its launcher went: the kernel kills it."""


class DeathWatch:
    """Explains the death of a process that starts when this object is made.

    Args:
        words: The file that it writes its standard error to; others may write there too.
    """

    def __init__(self, words: IO[bytes]) -> None:
        self._words = words
        self._start_bytes = os.fstat(words.fileno()).st_size
        self._memory_kills = count_memory_kills()

    def explain(self, who: str, status: int | None, *, advice: str = "") -> EncoderError:
        """Return the error that an exit status stands for; None says that the killed process does not go.

        Args:
            who: The process, for the message.
            status: Its exit status, as `os.waitstatus_to_exitcode` gives it.
            advice: What to do where Python ended it.
        """
        if status is None:
            return SessionLostError(f"{who} died: it was killed and does not go; a device may hold it")
        if status == -signal.SIGKILL:
            if not self._memory_was_short():
                return SessionLostError(f"{who} died: killed by SIGKILL")
            allowed = f"{read_capacity().memory_bytes >> 20} MiB"
            short = f"the kernel killed it for lack of memory, of which {allowed} are allowed here; {MEMORY_ADVICE}"
            return SessionMemoryError(f"{who} died: {short}")
        words = self.last_words()
        if status > 0:
            # Python ended it, not a signal: the same request would fail in the same way.
            return EncoderError(f"{who} failed: " + "; ".join(filter(None, (f"exit status {status}", words, advice))))
        names = {known.value: known.name for known in signal.Signals}
        reason = f"killed by {names.get(-status, f'signal {-status}')}" if status else "exit status 0"
        return SessionLostError(f"{who} died: {reason}" + (f"; {words}" if words else ""))

    def last_words(self) -> str:
        """Return the last line that was written to the file since the process started; the log gets all."""
        descriptor = self._words.fileno()
        start = max(self._start_bytes, os.fstat(descriptor).st_size - LAST_WORDS_BYTES)
        words = os.pread(descriptor, LAST_WORDS_BYTES, start).decode(errors="replace").strip()
        if words:
            log.info("the session launcher or a session wrote:\n%s", words)
        return words.splitlines()[-1] if words else ""

    def _memory_was_short(self) -> bool:
        """Return whether the kernel has killed for lack of memory since; False where it does not say."""
        now = count_memory_kills()
        return now is not None and self._memory_kills is not None and now > self._memory_kills


class Session:
    """One session process, from its start until it is certainly gone.

    Use it as a context: leaving it kills the process if it still runs, and waits for its end.

    Args:
        process: The process.
        connection: Leads to it; it alone holds the other end.
        watch: Made when it was started.
        why_lost: Returns why the launcher is gone, after it has made sure of that.
    """

    def __init__(
        self,
        process: ForkedProcess,
        connection: Connection,
        *,
        watch: DeathWatch,
        why_lost: Callable[[OSError], EncoderError],
    ) -> None:
        self.pid = process.pid
        self._process, self._connection = process, connection
        self._watch, self._why_lost = watch, why_lost
        self._end: EncoderError | None = None

    def __enter__(self) -> Self:
        """Return the session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process, however far it is."""
        self._finish()
        self._process.close()
        self._connection.close()

    def render(self, request: SessionRequest, *, hang_seconds: float) -> Iterator[SessionMessage]:
        """Have the session make a shard, or look at a device; yield what it reports, until it has ended.

        Args:
            request: What to do.
            hang_seconds: The longest silence that is waited through.

        Raises:
            SessionHungError: It was silent for longer.
            SessionLostError: Its process died.
            SessionMemoryError: The kernel killed it for lack of memory.
            EncoderError: It ended by a fault in this program.
            FanreelError: It failed, for the reason that it gave.
        """
        bound_silence(self._connection.fileno(), hang_seconds)
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
            raise self._finish() from None

    def _finish(self) -> EncoderError:
        """Make sure that the process is gone, and return the error that its end stands for; asked again, the same."""
        if self._end is None:
            try:
                status = self._process.end()
            except OSError as error:
                self._end = self._lost_with_launcher(self._why_lost(error))
            else:
                self._end = self._watch.explain(f"session {self.pid}", status, advice="please report it")
        return self._end

    def _lost_with_launcher(self, error: EncoderError) -> EncoderError:
        """Wait until the kernel has closed the other end, which only the session held, and say why it died."""
        bound_silence(self._connection.fileno(), GONE_SECONDS)
        with contextlib.suppress(OSError):
            while os.read(self._connection.fileno(), 1 << 16):
                pass
        kind = SessionMemoryError if isinstance(error, SessionMemoryError) else SessionLostError
        return kind(f"session {self.pid} died: {error}")
