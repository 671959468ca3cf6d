"""The Prefect limit around a host's GPU sessions: it shows how many are in use, and lets operators turn them down."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fanreel.errors import SessionBusyError
from fanreel.sessions.gate import KernelLockGate, SessionGate, SessionSlot
from tasks.limit_slots import Answer, LimitSlots
from tasks.lost_slots import holders_gate

__all__ = ["HostLimit", "PrefectLimitGate", "limit_name"]

QUIET_SECONDS = 60.0
"""A server that did not answer is not asked again for so long."""


def limit_name(host: str = "") -> str:
    """Return the name of the limit on GPU sessions of a host, by default of this one.

    Prefect takes no name with one of ``/ % & < >``.
    """
    return f"nvenc:{re.sub(r'[^A-Za-z0-9._-]', '-', host or platform.node())}"


class HostLimit:
    """A limit as the sessions of one film share it, in any thread.

    Args:
        name: Of the limit.
        folder: Where the host's session locks are.
        warn: Told, once in a while, that the server cannot be used.
    """

    def __init__(self, name: str, *, folder: Path, warn: Callable[[str], None]) -> None:
        self._name, self._warn = name, warn
        self._turn = KernelLockGate(f"{name} next", capacity=1, folder=folder)
        self._holders = holders_gate(name, folder=folder)
        self._ask_again_at = 0.0
        self._has_warned = False

    def around(self, gate: SessionGate) -> PrefectLimitGate:
        """Return a gate of which this limit is the outer part."""
        return PrefectLimitGate(gate, self)

    @contextmanager
    def hold(self, *, weight: int, timeout_seconds: float, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold slots of the limit; nothing if nobody made one, or if the server cannot be used.

        Raises:
            SessionBusyError: The slots did not become free in time.
        """
        if time.monotonic() < self._ask_again_at:
            yield
            return
        slots = LimitSlots(
            self._name, weight=weight, timeout_seconds=timeout_seconds, turn=self._turn, holders=self._holders
        )
        asked_at = time.monotonic()
        try:
            answer = slots.wait(on_wait)
            if answer is Answer.BUSY:
                raise SessionBusyError(
                    f"no free encoder session on {self._name!r}: {weight} of its {slots.slot_count} slots did not "
                    f"become free in {time.monotonic() - asked_at:.1f} s; try again when other renders have ended, "
                    "or turn up the Prefect concurrency limit of this name"
                )
            if answer is Answer.SILENCE:
                self._note_silence(slots.reason)
            yield
        finally:
            slots.give_back()
            if slots.reason:
                self._note_silence(slots.reason)

    def _note_silence(self, reason: str) -> None:
        self._ask_again_at = time.monotonic() + QUIET_SECONDS
        if not self._has_warned:
            self._has_warned = True
            self._warn(
                f"the Prefect server could not be used for the limit {self._name!r}; "
                f"sessions are counted by this host's locks alone for now ({reason})"
            )


@dataclass(frozen=True, slots=True)
class PrefectLimitGate:
    """A gate of two: the limit on the server first, then the one on the host, which is the truth.

    The limit never ends a film. Where it is missing, is switched off or cannot be asked for, the inner gate alone
    counts; when its lease cannot be renewed, the session goes on. A session whose process is killed frees the inner
    slot at once and that of the limit a minute later, when the lease ends.
    """

    inner: SessionGate
    limit: HostLimit

    @contextmanager
    def hold(
        self, *, weight: int = 1, timeout_seconds: float, on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[SessionSlot]:
        """See `SessionGate.hold`; the timeout is for both together."""
        if weight < 1:
            raise ValueError(f"weight is {weight}; it has to be at least 1")
        deadline = time.monotonic() + timeout_seconds
        with self.limit.hold(weight=weight, timeout_seconds=timeout_seconds, on_wait=on_wait):
            left_seconds = max(0.0, deadline - time.monotonic())
            with self.inner.hold(weight=weight, timeout_seconds=left_seconds, on_wait=on_wait) as slot:
                yield slot
