"""Sandboxes: a function is called in a process of its own, which may crash, hang or take too much and harms nobody."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from fanreel import errors
from fanreel.errors import FanreelError, SandboxDeathError, SandboxLostError
from fanreel.forks.forked_process import ForkedProcess, ForkRefusedError
from fanreel.forks.server_process import ServerProcess
from fanreel.printable import printable
from fanreel.sandbox.call import MEMORY_RAN_OUT, MOST_WRITTEN_BYTES, Bounds, encode_call
from fanreel.settings import child_environment

__all__ = ["Answer", "Sandbox"]

Result = TypeVar("Result")

SERVER_SECONDS = 120.0
"""How long the fork server may take to fork; before the first one it imports, for half a second on an idle machine."""

GONE_SECONDS = 5.0
"""How long the fork server may take to end once its socket has ended."""

_PROGRAM = """
import sys
folder = sys.argv.pop(1)
sys.path[:0] = [] if folder in sys.path else [folder]
from fanreel.sandbox.sandbox_server import main
main()
"""
_FOLDER = str(Path(errors.__file__).parents[1])
"""Where the server finds this package, wherever its owner found it."""

WORDS_BYTES = 4000
"""How much is read of what a call printed: its beginning, or its end if the call died."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[Result]):
    """What a call came to.

    Attributes:
        value: What the function returned.
        words: The lines that it, or C code below it, wrote to its standard error; all of their letters can be printed.
    """

    value: Result
    words: tuple[str, ...]


class Sandbox:
    """Calls functions, each call in a process of its own. Use it as a context; thread-safe.

    Its fork server is started by the first call, and ends with the context or with this process. Nothing of this
    process is forked, and no signal handled in it.

    Args:
        warm: A function of a module, called once in the server: what is imported and made ready there, no call has to.
        bounds: What each call may use.
    """

    def __init__(self, warm: Callable[[], None], *, bounds: Bounds) -> None:
        self._warm, self._bounds = warm, bounds
        self._lock, self._alone = threading.Lock(), threading.Lock()
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        """Return the sandbox itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the server, and every call that still runs."""
        with self._lock:
            if self._server is not None:
                self._server.process.kill()

    def call(
        self,
        function: Callable[..., Any],
        *arguments: object,
        descriptors: Sequence[int] = (),
        returns: TypeAdapter[Result],
    ) -> Answer[Result]:
        """Return what `function(*arguments, *descriptors)` returns in another process.

        Args:
            function: A function of a module, found there by its name.
            arguments: What JSON can hold.
            descriptors: Open files; the function is given its own copies.
            returns: Makes the value of the answer's JSON.

        Raises:
            SandboxDeathError: The call crashed, failed, or took too much; the message begins in mid-sentence, with
                what it did.
            SandboxLostError: No process can be started for it.
            FanreelError: The function raised it.
        """
        call = encode_call(function, arguments, self._bounds)
        made = self._make(call, descriptors)
        if made.status == -signal.SIGKILL:
            # So the kernel does where memory runs out, perhaps for all that is read at the same time.
            with self._alone:
                made = self._make(call, descriptors)
        if made.status != 0:
            raise SandboxDeathError(self._reason(made))
        kind, _, text = made.answer.partition(b"\n")
        if kind:
            raise self._error(kind.decode(errors="replace"), printable(text.decode(errors="replace")))
        try:
            return Answer(returns.validate_json(text), made.words)
        except ValidationError:
            raise SandboxDeathError("gave an answer that is none") from None

    def _make(self, call: bytes, descriptors: Sequence[int]) -> _Made:
        """Make a call; a second time, on a new server, if the first one goes meanwhile."""
        with contextlib.suppress(SandboxLostError):
            return self._running().make(call, descriptors, wall_seconds=self._bounds.wall_seconds)
        return self._running().make(call, descriptors, wall_seconds=self._bounds.wall_seconds)

    def _running(self) -> _Server:
        with self._lock:
            if self._server is None or self._server.process.wait() is not None:
                self._server = _Server(self._warm)
            return self._server

    def _reason(self, made: _Made) -> str:
        """Return what a process did that ended without an answer."""
        match made.status:
            case None:
                return f"did not end within {self._bounds.wall_seconds:g} s"
            case status if status == -signal.SIGXCPU:
                return f"took over {self._bounds.cpu_seconds:g} s of a core"
            case status:
                names = {known.value: known.name for known in signal.Signals}
                how = f"died of {names.get(-status, f'signal {-status}')}" if status < 0 else "failed"
                return f"{how} ({made.words[-1]})" if made.words else how

    def _error(self, kind: str, message: str) -> FanreelError:
        if kind == MEMORY_RAN_OUT:
            return SandboxDeathError(f"needs over {self._bounds.memory_bytes / 1e6:g} MB of memory")
        found = getattr(errors, kind, None)
        if isinstance(found, type) and issubclass(found, FanreelError):
            return found(message)
        return SandboxDeathError("gave an error that is none")


@dataclass(frozen=True, slots=True)
class _Made:
    """A call that has ended: its exit status, None if it was ended for its time; what it printed and answered."""

    status: int | None
    words: tuple[str, ...]
    answer: bytes


class _Server:
    """One fork server, from its start until it is gone.

    Raises:
        SandboxLostError: It cannot be started.
    """

    def __init__(self, warm: Callable[[], None]) -> None:
        try:
            self._words = os.memfd_create("words")
            weakref.finalize(self, os.close, self._words)
            # A process group of its own: the terminal's Ctrl-C is for the owner.
            self.process = ServerProcess(
                [sys.executable, "-c", _PROGRAM, _FOLDER, warm.__module__, warm.__qualname__],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._words,
                start_new_session=True,
                env=child_environment(),
            )
        except OSError as error:
            raise SandboxLostError(f"no process to read files in could be started: {error}") from error

    def make(self, call: bytes, descriptors: Sequence[int], *, wall_seconds: float) -> _Made:
        """Make a call in a new process and wait for its end.

        Raises:
            SandboxLostError: There is no such process, or the server is gone.
        """
        with contextlib.ExitStack() as opened:
            try:
                words, answer = (_memory_file(name, opened) for name in ("words", "answer"))
                process = ForkedProcess(
                    self.process.address, call, descriptors=[words, answer, *descriptors], answer_seconds=SERVER_SECONDS
                )
                opened.callback(process.close)
                try:
                    status = process.wait(answer_seconds=wall_seconds)
                except BlockingIOError:
                    status = None
            except ForkRefusedError:
                raise self._lost("it could not fork") from None
            except OSError as error:
                # No answer, or a socket that ended: whatever is left of the server is of no use.
                self.process.wait(GONE_SECONDS if isinstance(error, ConnectionError) else 0.0)
                self.process.kill()
                raise self._lost(str(error)) from None
            return _Made(status, _lines(words, last=status != 0), os.pread(answer, MOST_WRITTEN_BYTES, 0))

    def _lost(self, reason: str) -> SandboxLostError:
        words = _lines(self._words, last=True)[-1:] or (printable(reason),)
        return SandboxLostError(f"no process to read files in could be started; its server says: {words[0]}")


def _memory_file(name: str, opened: contextlib.ExitStack) -> int:
    descriptor = os.memfd_create(name)
    opened.callback(os.close, descriptor)
    return descriptor


def _lines(descriptor: int, *, last: bool) -> tuple[str, ...]:
    """Return the first or the last lines of what was printed."""
    start = max(0, os.fstat(descriptor).st_size - WORDS_BYTES) if last else 0
    text = os.pread(descriptor, WORDS_BYTES, start).decode(errors="replace")
    return tuple(printable(line) for line in text.splitlines() if line.strip())
