"""What a command says to the person at the terminal: on standard error, because programs read standard output."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

from fanreel.printable import printable

if TYPE_CHECKING:
    from fanreel.errors import FanreelError
    from fanreel.report.progress import Snapshot

__all__ = ["ProgressDisplay", "abandon_output", "say"]

LINE_SECONDS = 5.0
"""How often progress becomes a line where it cannot stay in place: in a log."""


def say(text: str) -> None:
    """Print lines to standard error, if there is one; a film does not fail because nobody reads it."""
    _write("\n".join(map(printable, text.split("\n"))))


def _write(text: str, *, end: str = "\n") -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, end=end, file=sys.stderr, flush=True)


def abandon_output() -> None:
    """Redirect standard output to nowhere: writing what is left in its buffer would fail again at the program's end."""
    with open(os.devnull, "w") as nowhere, contextlib.suppress(OSError, ValueError):  # noqa: PTH123
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


class ProgressDisplay:
    """Shows progress: in place on a terminal, as a line now and then elsewhere."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._said_at = time.monotonic()

    def show(self, snapshot: Snapshot) -> None:
        """Show the progress of the film."""
        if self._on_terminal:
            _write(f"\r\x1b[K{snapshot}", end="")
        elif time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            say(str(snapshot))

    def show_retry(self, error: FanreelError, delay_seconds: float) -> None:
        """Say which error is followed by another try, and when."""
        self.clear()
        say(f"fanreel: {error}; trying again in {delay_seconds:.0f} s")

    def clear(self) -> None:
        """Remove the progress from the terminal, so that a line can be printed."""
        if self._on_terminal:
            _write("\r\x1b[K", end="")
