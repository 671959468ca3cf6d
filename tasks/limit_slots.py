"""Slots of a Prefect concurrency limit: taken, kept and given back by a thread of their own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import copy_context
from enum import Enum

from httpx import HTTPError, HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound, PrefectException

from fanreel.errors import FanreelError, SessionBusyError
from fanreel.sessions.gate import SessionGate

__all__ = ["ANSWER_SECONDS", "LEASE_SECONDS", "Answer", "LimitSlots"]

LEASE_SECONDS = 60
"""Slots of a process that was killed come back after so long. The least that a Prefect server takes."""

ANSWER_SECONDS = 10.0
"""A server that does not answer for so long does not answer; Prefect's client alone would ask it for a minute."""

_LOOK_SECONDS = 0.25
_GIVE_BACK_SECONDS = 3.0  # above the 2 s for which Prefect waits for its renewal, when the server is gone

# Whoever has the turn asks the server twice a second at most, so that all others together do not ask it more often
# than that: they wait for the turn, and ask without it after `_TURN_SECONDS`, then every few seconds.
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 0.5
_TURN_SECONDS = 0.75
_LAST_TURN_SECONDS = 4.0

_TAKEN_MEANWHILE = (422, 423)  # the limit was turned down below what was asked for; others were faster


class Answer(Enum):
    """What became of asking for slots."""

    HELD = "held"
    """They are ours until they are given back."""
    NO_LIMIT = "no limit"
    """Nobody made such a limit, or an operator switched it off."""
    BUSY = "busy"
    """They did not become free in time."""
    SILENCE = "silence"
    """The server cannot be asked."""


class _GivenUpError(Exception):
    """Nobody waits for the slots any more."""


class LimitSlots:
    """Slots of one limit, asked for from the moment this is made until `give_back`.

    Prefect's client tries again for a minute when a server does not answer. Only the thread in here waits for that.
    While slots are taken the server is only read; it is asked for slots when it has some.

    Args:
        name: Of the limit.
        weight: Slots to take; more than the limit has takes all of them.
        timeout_seconds: How long to wait for them; 0 tries once.
        turn: Has one slot for all who wait for this limit on this host: who comes later lets the first one try
            first, so that a process that takes a slot again and again cannot shut others out.
        holders: Has a slot for each of the limit's that is held on this host (`tasks.lost_slots`).

    Attributes:
        reason: Why the server cannot be used, or the slots were not given back; empty if all is well.
        slot_count: Slots that the limit had when it was last read.
    """

    def __init__(
        self, name: str, *, weight: int, timeout_seconds: float, turn: SessionGate, holders: SessionGate
    ) -> None:
        self.reason = ""
        self.slot_count = 0
        self._name, self._weight, self._turn, self._holders = name, weight, turn, holders
        self._deadline = time.monotonic() + timeout_seconds
        self._answer = Answer.SILENCE
        self._error: FanreelError | None = None
        self._asked_at: float | None = None
        self._answered, self._let_go = threading.Event(), threading.Event()
        # The context holds Prefect's settings and the run for whose log and leases this is.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name=f"slots of {name}", daemon=True
        )
        self._thread.start()

    def wait(self, on_wait: Callable[[], None]) -> Answer:
        """Return what became of it.

        Args:
            on_wait: Called several times a second; what it raises ends the wait.

        Raises:
            StorageError: The lock of the turn cannot be used.
        """
        while not self._answered.wait(_LOOK_SECONDS):
            asked_at = self._asked_at
            if asked_at is not None and time.monotonic() - asked_at > ANSWER_SECONDS:
                self.reason = f"it did not answer within {ANSWER_SECONDS:g} s"
                return Answer.SILENCE
            on_wait()
        if self._error is not None:
            raise self._error
        if self._answer is Answer.SILENCE:
            self.reason = self.reason or "its client failed"
        return self._answer

    def give_back(self) -> None:
        """Give the slots back, or ask for them no more. Waits a moment for the server, not for one that is silent."""
        self._let_go.set()
        if not self.reason:
            self._thread.join(_GIVE_BACK_SECONDS)
            if self._thread.is_alive():
                self.reason = f"it did not take slots back within {_GIVE_BACK_SECONDS:g} s"

    def _run(self) -> None:
        try:
            self._answer = self._ask_and_keep()
        except _GivenUpError:
            pass
        except FanreelError as error:
            self._error = error
        except (HTTPError, PrefectException, ConcurrencySlotAcquisitionError) as error:
            self.reason = f"{type(error).__name__}: {error}"
        finally:
            self._answered.set()  # whatever happened, nobody waits for ever

    def _ask_and_keep(self) -> Answer:
        with ExitStack() as asking:
            for client in self._attempts(asking):
                limit = self._read(client)
                if limit is None or not limit.active:
                    return Answer.NO_LIMIT
                self.slot_count = limit.limit
                slots = min(self._weight, limit.limit)
                if slots and limit.active_slots + slots <= limit.limit and self._keep(slots, asking):
                    return Answer.HELD
        return Answer.BUSY

    def _read(self, client: SyncPrefectClient) -> GlobalConcurrencyLimitResponse | None:
        self._asked_at = time.monotonic()
        try:
            return client.read_global_concurrency_limit_by_name(self._name)
        except ObjectNotFound:
            return None
        finally:
            self._asked_at = None

    def _keep(self, slots: int, asking: ExitStack) -> bool:
        """Take slots and keep them until they are to be given back; return whether they could be had."""
        self._asked_at = time.monotonic()
        try:
            with (
                self._holders.hold(weight=slots, timeout_seconds=_LOOK_SECONDS),  # whoever counts them is quick
                concurrency(
                    self._name,
                    occupy=slots,
                    max_retries=0,  # Prefect would sleep for as long as sessions last, and all of our process with it
                    lease_duration=LEASE_SECONDS,
                    strict=True,
                    raise_on_lease_renewal_failure=False,
                ),
            ):
                self._asked_at = None
                self._answer = Answer.HELD
                asking.close()
                self._answered.set()
                self._let_go.wait()
        except SessionBusyError:  # more than anyone thought of hold slots here
            return False
        except ConcurrencySlotAcquisitionError as error:
            if _is_taken_meanwhile(error):
                return False
            raise
        finally:
            self._asked_at = None
        return True

    def _attempts(self, asking: ExitStack) -> Iterator[SyncPrefectClient]:
        """Yield for every time that the server may be asked; the last time is when the timeout is over."""
        client = asking.enter_context(get_client(sync_client=True))
        has_turn, pause_seconds, turn_seconds = False, 0.0, _TURN_SECONDS
        while True:
            left_seconds = max(0.0, self._deadline - time.monotonic())
            if has_turn:
                self._let_go.wait(min(left_seconds, pause_seconds * random.uniform(0.5, 1)))
                pause_seconds = min(pause_seconds * 1.4, _LAST_PAUSE_SECONDS)
            else:
                has_turn = self._take_turn(asking, min(left_seconds, turn_seconds))
                pause_seconds, turn_seconds = _FIRST_PAUSE_SECONDS, min(turn_seconds * 1.4, _LAST_TURN_SECONDS)
            if self._let_go.is_set():
                raise _GivenUpError
            yield client
            if time.monotonic() >= self._deadline:
                return

    def _take_turn(self, asking: ExitStack, timeout_seconds: float) -> bool:
        try:
            asking.enter_context(self._turn.hold(timeout_seconds=timeout_seconds, on_wait=self._end_if_given_up))
        except SessionBusyError:
            return False
        return True

    def _end_if_given_up(self) -> None:
        if self._let_go.is_set():
            raise _GivenUpError


def _is_taken_meanwhile(error: ConcurrencySlotAcquisitionError) -> bool:
    cause = error.__cause__
    if cause is None:
        return True  # the limit was deleted since it was read
    return isinstance(cause, HTTPStatusError) and cause.response.status_code in _TAKEN_MEANWHILE
