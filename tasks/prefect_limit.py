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
"""A server that did not answer is asked again only after so long."""


def limit_name(host: str = "") -> str:
    """Return the name of the limit on a host's GPU sessions, by default of this host's.

    Prefect refuses names with one of ``/ % & < >``.
    """
    return f"nvenc:{re.sub(r'[^A-Za-z0-9._-]', '-', host or platform.node())}"


class HostLimit:
    """A limit, for all sessions of one film; any thread may use it.

    Args:
        name: The limit's name.
        folder: The folder of the host's session locks.
        warn: Called once with a line when the server cannot be used.
    """

    def __init__(self, name: str, *, folder: Path, warn: Callable[[str], None]) -> None:
        self._name, self._warn = name, warn
        self._turn = KernelLockGate(f"{name} next", capacity=1, folder=folder)
        self._holders = holders_gate(name, folder=folder)
        self._ask_again_at = 0.0
        self._has_warned = False

    def around(self, gate: SessionGate) -> PrefectLimitGate:
        """Return a gate that takes a slot of this limit, and then one of `gate`."""
        return PrefectLimitGate(gate, self)

    @contextmanager
    def hold(self, *, weight: int, timeout_seconds: float, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold slots of the limit; hold nothing if there is no such limit, or if the server cannot be used.

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
    """Two gates: the limit on the server, and inside it the host's own gate, which alone is relied on.

    The limit never ends a film. Where it is missing, is switched off or cannot be asked for, only the inner gate
    counts; where its lease cannot be renewed, the session goes on. When a session's process is killed, its inner slot
    is free at once, and its slot of the limit a minute later, when the lease expires.
    """

    inner: SessionGate
    limit: HostLimit

    @contextmanager
    def hold(
        self, *, weight: int = 1, timeout_seconds: float, on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[SessionSlot]:
        """See `SessionGate.hold`; the timeout is for both gates together."""
        if weight < 1:
            raise ValueError(f"weight is {weight}; it has to be at least 1")
        deadline = time.monotonic() + timeout_seconds
        with self.limit.hold(weight=weight, timeout_seconds=timeout_seconds, on_wait=on_wait):
            left_seconds = max(0.0, deadline - time.monotonic())
            with self.inner.hold(weight=weight, timeout_seconds=left_seconds, on_wait=on_wait) as slot:
                yield slot
