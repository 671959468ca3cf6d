"""Slots of a host's limit that the server counts and nobody holds: found by the kernel's locks, and given back.

A server gives back the slots of a lease that has expired. But it may lose leases: with Prefect's default storage all of
them when it restarts, with storage in files the one that it was writing when it was killed. Their slots would stay
taken for ever, and a host with one GPU session would make no more films. So a holder of slots also holds as many locks
of this host, from before it asks the server until after it gave the slots back. When a holder is killed the kernel
frees its locks at once. Slots that the server counts beyond these locks, for longer than any lease lasts, are lost.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from fanreel.errors import FanreelError
from fanreel.sessions.gate import KernelLockGate

__all__ = ["LostSlots", "changing_gate", "gate_of_this_server", "holders_gate", "lost_slots_given_back"]

MOST_HOLDERS = 256
"""The most slots of one limit that can be held on a host."""

LOOK_SECONDS = 15.0

PATIENCE_SECONDS = 90.0
"""A lease and a half: the server itself gives slots back within 75 s after their holder died."""


def gate_of_this_server(name: str, use: str, *, capacity: int, folder: Path) -> KernelLockGate:
    """Return locks of this host for a limit of the present server; other servers have limits of the same name."""
    server = hashlib.blake2s((PREFECT_API_URL.value() or "").encode(), digest_size=8).hexdigest()
    return KernelLockGate(f"{name} {server} {use}", capacity=capacity, folder=folder)


def holders_gate(name: str, *, folder: Path) -> KernelLockGate:
    """Return the locks that holders of a limit's slots hold, one for each slot.

    They are the same for every server, for one server may have several addresses: with locks for each address, a slot
    that is held could be taken for a lost one.
    """
    return KernelLockGate(f"{name} held", capacity=MOST_HOLDERS, folder=folder)


def changing_gate(name: str, *, folder: Path) -> KernelLockGate:
    """Return the lock of a process that changes the limit itself."""
    return gate_of_this_server(name, "change", capacity=1, folder=folder)


class LostSlots:
    """Counts the slots that are certainly lost: those that were counted and not held at every look for a while.

    Args:
        patience_seconds: That while. Before, the server may give them back itself, or somebody is about to hold them.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._since: float | None = None
        self._fewest = 0

    def note(self, now: float, *, counted: int, held: int) -> int:
        """Take note of one look, and return how many slots are to be given back.

        Args:
            now: Seconds on a clock that never goes back.
            counted: Slots that are taken, according to the server.
            held: Slots that are held on this host.
        """
        excess = counted - held
        if excess <= 0:
            self._since = None
            return 0
        if self._since is None:
            self._since, self._fewest = now, excess
        self._fewest = min(self._fewest, excess)
        if now - self._since < self._patience_seconds:
            return 0
        self._since = None
        return self._fewest


@contextmanager
def lost_slots_given_back(name: str, *, folder: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Give lost slots of a limit back while the context is open; a server that is away is waited for.

    Args:
        name: The limit's name.
        folder: The folder of the host's session locks.
        warn: Called with a line when slots were given back.
    """
    end = threading.Event()
    looking = copy_context().run  # with Prefect's settings
    threading.Thread(target=looking, args=(_look_on, name, folder, warn, end), name=f"lost {name}", daemon=True).start()
    try:
        yield
    finally:
        end.set()


def _look_on(name: str, folder: Path, warn: Callable[[str], None], end: threading.Event) -> None:
    changing, holders = changing_gate(name, folder=folder), holders_gate(name, folder=folder)
    lost = LostSlots(PATIENCE_SECONDS)
    while not end.wait(LOOK_SECONDS):
        try:
            # One worker of the host at a time: two would give back the same slots.
            with changing.hold(timeout_seconds=0), get_client(sync_client=True) as client:
                limit = client.read_global_concurrency_limit_by_name(name)
                count = lost.note(time.monotonic(), counted=limit.active_slots, held=holders.slots_in_use())
                if count:
                    client.release_concurrency_slots([name], count, occupancy_seconds=PATIENCE_SECONDS)
                    warn(f"slots of the limit {name!r} were lost with their lease, and are free again: {count}")
        except (HTTPError, PrefectException, FanreelError):
            lost = LostSlots(PATIENCE_SECONDS)  # begin anew: without a look nothing is certain
