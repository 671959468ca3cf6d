"""Who may hold an encoder session: slots of a device, kept by the kernel's file locks."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from fanreel.errors import SessionBusyError
from fanreel.sessions.lock_file import try_lock

__all__ = ["FirstFreeGate", "KernelLockGate", "SessionGate", "SessionSlot"]

_FIRST_POLL_SECONDS = 0.02
_LAST_POLL_SECONDS = 0.25
_TURN_SECONDS = 2 * _LAST_POLL_SECONDS  # within this, whoever has the turn has polled at least once
_OPEN_MARK = b"open\n"  # in a slot's file, true as long as the slot is held


def _wait_on() -> None:
    """Nobody looks on."""


class SessionSlot(Protocol):
    """What a gate hands out: the right to run one encoder session.

    Attributes:
        device: On which device: "cpu" or a GPU's UUID.
    """

    device: str

    def filenos(self) -> tuple[int, ...]:
        """Return the locks' descriptors, for the session's process to inherit; () once released.

        They are close-on-exec: pass them on explicitly (``pass_fds``, ``SCM_RIGHTS``). The slot is held until every
        copy is closed: it stays taken until the session's process is really dead, even if its owner dies first.
        Never unlock them: ``LOCK_UN`` on one copy frees the slot for all.
        """
        ...

    def mark_open(self) -> None:
        """Mark the session as open, for all who look at the slots: from now on the driver counts it."""
        ...


class SessionGate(Protocol):
    """Lets as many encoder sessions through as a device can bear."""

    def hold(
        self, *, weight: int = 1, timeout_seconds: float, on_wait: Callable[[], None] = _wait_on
    ) -> AbstractContextManager[SessionSlot]:
        """Return a context in which `weight` slots are held, all or none of them; entering it waits.

        Args:
            weight: Slots to take, at least 1 (a CPU session's threads); more than there are takes all of them.
            timeout_seconds: How long to wait; 0 tries once.
            on_wait: Called several times a second while waiting; what it raises ends the wait.

        Raises:
            SessionBusyError: The slots did not become free in time.
            StorageError: The locks cannot be used.
        """
        ...


class LockedSlot:
    """A `SessionSlot` whose locks are open files."""

    def __init__(self, device: str, locks: list[int]) -> None:
        self.device = device
        self._locks = locks

    def filenos(self) -> tuple[int, ...]:
        """See `SessionSlot.filenos`."""
        return tuple(self._locks)

    def mark_open(self) -> None:
        """See `SessionSlot.mark_open`."""
        for lock in self._locks:
            os.pwrite(lock, _OPEN_MARK, 0)

    def release(self) -> None:
        """Close the locks; they are not unlocked, so that a session that inherited copies keeps the slot."""
        while self._locks:
            os.close(self._locks.pop())


@dataclass(frozen=True, slots=True)
class KernelLockGate:
    """A gate whose slots are locked files: ``<device>.<k>.lock`` for every k below `capacity`.

    A lock belongs to the open file description: it ends with the last process that has a copy, also by SIGKILL, and
    threads of one process compete as processes do.

    Waiting is polling. One waiter at a time has the turn, which is a lock of its own. Later waiters let it try first
    for half a second: a process that takes a slot again and again cannot shut others out, and a waiter for many slots
    does not keep one slot idle for long.

    `allowed` may give less than `capacity` for a while. Then only the first slots are taken, and they are kept only if
    no more than that many are in use in all. Two processes that take slots at once both count each other, so at least
    one of them gives way. `allowed` is asked before the slots are taken and again afterwards: while the slot of a
    session that has ended is not free yet, that session still counts as ours and hides one of another program.
    """

    device: str  # "cpu" or a GPU's UUID
    _: KW_ONLY
    capacity: int  # slots, at least 1; everyone on the host has to use the same number
    folder: Path  # on a local file system; made when missing; its files must not be deleted while sessions run
    turn: str = ""  # whose waiters wait their turn together; the device's own if empty
    allowed: Callable[[int], int] | None = None  # given how many of our sessions are open, how many there may be now

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity of {self.device!r} is {self.capacity}; it has to be at least 1")

    @contextmanager
    def hold(
        self, *, weight: int = 1, timeout_seconds: float, on_wait: Callable[[], None] = _wait_on
    ) -> Iterator[SessionSlot]:
        """See `SessionGate.hold`."""
        with FirstFreeGate((self,)).hold(weight=weight, timeout_seconds=timeout_seconds, on_wait=on_wait) as slot:
            yield slot

    def slots_in_use(self) -> int:
        """Return how many slots anyone holds at this moment; raises `StorageError` as `hold` does."""
        return len(self._held_slots())

    def _held_slots(self) -> list[int]:
        return [k for k in range(self.capacity) if self._is_held(k)]

    def _is_held(self, slot: int) -> bool:
        lock = try_lock(self._lock_path(slot), shared=True)  # shared: two who look do not count each other
        if lock is None:
            return True
        os.close(lock)
        return False

    def _open_among(self, held: Sequence[int]) -> int:
        """Return how many of these slots, all in use, are marked: their sessions are certainly open."""
        with suppress(FileNotFoundError):
            return sum(self._lock_path(k).stat().st_size > 0 for k in held)
        return 0

    def _count_allowed(self) -> tuple[int, int]:
        """Return how many slots are in use and how many may be, both of one moment; 0 in use where none is counted."""
        if self.allowed is None:
            return 0, self.capacity
        held = self._held_slots()
        return len(held), max(1, min(self.allowed(self._open_among(held)), self.capacity))

    def try_take(self, weight: int) -> LockedSlot | None:
        """Return `weight` slots, or as many as there may be; None if so many are not free, and then none is taken."""
        _, allowed = self._count_allowed()
        weight = min(weight, allowed)
        with ExitStack() as taken:
            locks: list[int] = []
            for k in range(allowed):
                # Stopping once it cannot succeed keeps two heavy takers from blocking each other.
                if len(locks) == weight or len(locks) + allowed - k < weight:
                    break
                lock = try_lock(self._lock_path(k))
                if lock is not None:
                    taken.callback(os.close, lock)
                    os.ftruncate(lock, 0)  # at once: a former holder's mark would count as an open session
                    locks.append(lock)
            if len(locks) == weight and self._is_allowed():
                taken.pop_all()
                return LockedSlot(self.device, locks)
        return None

    def _is_allowed(self) -> bool:
        in_use, allowed = self._count_allowed()
        return in_use <= allowed

    def try_turn(self) -> int | None:
        """Return the descriptor of the lock that one waiter has at a time; None if another waiter has it."""
        return try_lock(self._path(self.turn or self.device, "turn"))

    def _lock_path(self, slot: int) -> Path:
        return self._path(self.device, slot)

    def _path(self, name: str, part: int | str) -> Path:
        return self.folder / f"{quote(name, safe='', errors='surrogatepass')}.{part}.lock"


@dataclass(frozen=True, slots=True)
class FirstFreeGate:
    """A gate over several devices: it lets a session through to the first one that has slots free.

    Attributes:
        gates: At least one, all with the same turn; the one with the most free slots is tried first.
    """

    gates: tuple[KernelLockGate, ...]

    @contextmanager
    def hold(
        self, *, weight: int = 1, timeout_seconds: float, on_wait: Callable[[], None] = _wait_on
    ) -> Iterator[SessionSlot]:
        """See `SessionGate.hold`; the slots are all of one device."""
        if weight < 1:
            raise ValueError(f"weight is {weight}; it has to be at least 1")
        slot = _acquire(self.gates, weight, timeout_seconds, on_wait)
        try:
            yield slot
        finally:
            slot.release()


def _acquire(
    gates: Sequence[KernelLockGate], weight: int, timeout_seconds: float, on_wait: Callable[[], None]
) -> LockedSlot:
    turn: int | None = None
    waited_seconds = 0.0
    with ExitStack() as held:
        for waited_seconds in _attempts(timeout_seconds):
            if turn is None:
                turn = gates[0].try_turn()
                if turn is not None:
                    held.callback(os.close, turn)
            if turn is not None or waited_seconds >= min(_TURN_SECONDS, timeout_seconds):
                for gate in _by_free_slots(gates):
                    slot = gate.try_take(weight)
                    if slot is not None:
                        return slot
            on_wait()
    places, slots = " and ".join(repr(gate.device) for gate in gates), sum(gate.capacity for gate in gates)
    raise SessionBusyError(
        f"no free encoder session on {places}: {weight} of its {slots} slots did not become free "
        f"in {waited_seconds:.1f} s; try again when other renders have ended, or allow a longer wait"
    )


def _by_free_slots(gates: Sequence[KernelLockGate]) -> list[KernelLockGate]:
    if len(gates) == 1:
        return list(gates)
    return sorted(gates, key=lambda gate: gate.slots_in_use() - gate.capacity)


def _attempts(timeout_seconds: float) -> Iterator[float]:
    """Yield the seconds waited so far: at once, then after growing pauses, last when the timeout is over."""
    start_seconds = time.monotonic()
    pause_seconds = _FIRST_POLL_SECONDS
    yield 0.0
    while (left_seconds := start_seconds + timeout_seconds - time.monotonic()) > 0:
        time.sleep(min(left_seconds, pause_seconds * random.uniform(0.5, 1)))
        yield time.monotonic() - start_seconds
        pause_seconds = min(pause_seconds * 1.5, _LAST_POLL_SECONDS)
