"""Who may hold an encoder session: slots of a device, kept by the kernel's file locks."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from fanreel.errors import SessionBusyError, storage_error

__all__ = ["FirstFreeGate", "KernelLockGate", "SessionGate", "SessionSlot", "open_shared"]

_FIRST_POLL_SECONDS = 0.02
_LAST_POLL_SECONDS = 0.25
_TURN_SECONDS = 2 * _LAST_POLL_SECONDS  # within this, whoever has the turn has polled at least once
_OPEN_MARK = b"open\n"  # in a slot's file, true as long as the slot is held
_OPEN_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


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

        They are close-on-exec: pass them on by name (``pass_fds``, ``SCM_RIGHTS``). The slot is held until every
        copy is closed, so it stays taken until that process is really dead, whoever else dies before.
        Never unlock them: ``LOCK_UN`` on one copy frees the slot for all.
        """
        ...

    def mark_open(self) -> None:
        """Tell whoever looks at the slots that the session is open: a device that counts sessions counts it now."""
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


class _LockedSlot:
    def __init__(self, device: str, descriptors: list[int]) -> None:
        self.device = device
        self._descriptors = descriptors

    def filenos(self) -> tuple[int, ...]:
        return tuple(self._descriptors)

    def mark_open(self) -> None:
        for descriptor in self._descriptors:
            os.pwrite(descriptor, _OPEN_MARK, 0)

    def release(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())  # not unlocked: a session that inherited a copy keeps the slot


@dataclass(frozen=True, slots=True)
class KernelLockGate:
    """A gate whose slots are locked files: ``<device>.<k>.lock`` for every k below `capacity`.

    The lock belongs to the open file description, so it ends with the last process that has it, also by SIGKILL,
    and threads of one process compete as processes do. Waiting is polling. One waiter at a time has the turn (a
    lock of its own); those who come later let it try first for half a second, so that a process that takes a slot
    again and again cannot shut others out, while a waiter for many slots does not keep one slot idle for long.

    `allowed` may say less than `capacity` for a while. Only the first slots are then taken, and kept only if no more
    than so many are in use in all: two who take at once both count each other, and at least one of them gives way.
    It is asked again once they are taken, of the slots that are counted: a session that has ended and whose slot is
    not free yet makes others' look fewer, which holds for as long as its slot counts too, and not a moment longer.
    """

    device: str  # "cpu" or a GPU's UUID
    _: KW_ONLY
    capacity: int  # slots, at least 1; everyone on the host has to use the same number
    folder: Path  # on a local file system; made when missing; its files must not be deleted while sessions run
    turn: str = ""  # whose waiters wait their turn together; the device's own if empty
    allowed: Callable[[int], int] | None = None  # from our sessions that are open to how many there may be, now

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

    def _open_among(self, held: Sequence[int]) -> int:
        """Return how many of some slots in use are marked: their sessions are open for certain."""
        with suppress(FileNotFoundError):
            return sum(self._path(k).stat().st_size > 0 for k in held)
        return 0

    def _count_allowed(self) -> tuple[int, int]:
        """Return how many slots are in use, and how many may be, of one look; without `allowed` nobody looks."""
        if self.allowed is None:
            return 0, self.capacity
        held = self._held_slots()
        return len(held), max(1, min(self.allowed(self._open_among(held)), self.capacity))

    def _held_slots(self) -> list[int]:
        with ExitStack() as looked_at:
            # Shared, so that two who look do not count each other.
            return [k for k in range(self.capacity) if not self._lock(k, looked_at, kind=fcntl.LOCK_SH)]

    def _try_slots(self, weight: int) -> list[int]:
        """Return the descriptors of `weight` locked files, or of as many as there may be; [] and nothing locked."""
        _, allowed = self._count_allowed()
        weight = min(weight, allowed)
        descriptors: list[int] = []
        with ExitStack() as taken:
            for k in range(allowed):
                # Stopping once it cannot succeed keeps two heavy takers from blocking each other.
                if len(descriptors) + allowed - k < weight:
                    break
                for descriptor in self._lock(k, taken):
                    os.ftruncate(descriptor, 0)  # at once: a former holder's mark would count as an open session
                    descriptors.append(descriptor)
                if len(descriptors) == weight:
                    in_use, still_allowed = self._count_allowed()
                    if in_use > still_allowed:
                        break
                    taken.pop_all()
                    return descriptors
        return []

    def _path(self, part: int | str) -> Path:
        name = self.turn if part == "turn" and self.turn else self.device
        return self.folder / f"{quote(name, safe='', errors='surrogatepass')}.{part}.lock"

    def _lock(self, part: int | str, stack: ExitStack, *, kind: int = fcntl.LOCK_EX) -> list[int]:
        """Return the descriptor of a file now locked, which `stack` will close, or [] when it is taken."""
        path = self._path(part)
        with ExitStack() as opened:
            try:
                descriptor = _open_lock(path)
                opened.callback(os.close, descriptor)
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                # A file that was deleted meanwhile is locked in vain: the next taker makes another one.
                if os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor)):
                    stack.push(opened.pop_all())
                    return [descriptor]
            except OSError as error:
                if not isinstance(error, (BlockingIOError, FileNotFoundError)):
                    raise storage_error(error, doing=f"use {path} as a lock that all users share") from error
        return []


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
) -> _LockedSlot:
    with ExitStack() as turn:
        has_turn, waited_seconds = False, 0.0
        for waited_seconds in _attempts(timeout_seconds):
            has_turn = has_turn or bool(gates[0]._lock("turn", turn))
            if has_turn or waited_seconds >= min(_TURN_SECONDS, timeout_seconds):
                for gate in _by_free_slots(gates):
                    if descriptors := gate._try_slots(min(weight, gate.capacity)):
                        return _LockedSlot(gate.device, descriptors)
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


def _open_lock(path: Path) -> int:
    """Return a descriptor of the lock file; it and its folder are made where missing, open to every user at once."""
    with suppress(FileNotFoundError):
        return open_shared(path, make=False)
    if not path.parent.is_dir():
        _make_folder(path.parent)
    return open_shared(path, make=True)


def open_shared(path: Path, *, make: bool) -> int:
    """Return a descriptor, to read and write, of a file that all users of a folder share.

    Args:
        path: A regular file; a link is refused, whoever planted it.
        make: Make it where it is missing, open to every user at once.

    Raises:
        OSError: It is missing, no regular file, or not open to this user.
    """
    if not make:
        return _open_existing(path)
    with suppress(FileNotFoundError):
        return _open_existing(path)
    descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        os.fchmod(descriptor, 0o666)
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.close(descriptor)
        Path(name).unlink()
    return _open_existing(path)


def _open_existing(path: Path) -> int:
    # Without O_CREAT, which fs.protected_regular refuses on another user's file in a sticky folder.
    descriptor = os.open(path, _OPEN_FLAGS)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file; delete it")
    return descriptor


def _make_folder(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        made.chmod(0o1777)
        made.rename(folder)
    except OSError:
        made.rmdir()
        if not folder.is_dir():
            raise
