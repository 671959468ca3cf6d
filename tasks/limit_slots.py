"""Slots of a Prefect concurrency limit: taken, kept and given back by a thread of their own.

Prefect's `concurrency()` is not used. While it waits it sleeps for up to half a minute, with every waiter of the
process, and it does not tell a refusal from a failure. The client's own requests answer with an HTTP status.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import copy_context
from enum import Enum
from uuid import UUID

from httpx import HTTPError, HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse, GlobalConcurrencyLimitResponse
from prefect.exceptions import ObjectNotFound, PrefectException

from fanreel.errors import FanreelError, SessionBusyError
from fanreel.sessions.gate import SessionGate

__all__ = ["ANSWER_SECONDS", "LEASE_SECONDS", "Answer", "LimitSlots"]

LEASE_SECONDS = 60
"""The slots of a killed process come back after so long: the least that a Prefect server accepts."""

ANSWER_SECONDS = 10.0
"""A server that is silent for so long counts as away; Prefect's client alone would ask it for a minute."""

RENEW_SECONDS = LEASE_SECONDS / 3
"""How often the lease is renewed: one renewal may fail, and the next one is still in time."""

_LOOK_SECONDS = 0.25
_GIVE_BACK_SECONDS = 3.0

# One waiter of the host has the turn, and asks the server up to twice a second. The others wait for the turn; without
# it they ask after `_TURN_SECONDS`, and then every few seconds.
_FIRST_PAUSE_SECONDS = 0.1
_LAST_PAUSE_SECONDS = 0.5
_TURN_SECONDS = 0.75
_LAST_TURN_SECONDS = 4.0

_TAKEN_MEANWHILE = (422, 423)  # an operator lowered the limit; others were faster


class Answer(Enum):
    """The answer to a request for slots."""

    HELD = "held"
    """They are ours until they are given back."""
    NO_LIMIT = "no limit"
    """There is no such limit, or an operator switched it off."""
    BUSY = "busy"
    """They did not become free in time."""
    SILENCE = "silence"
    """The server cannot be asked."""


class _GivenUpError(Exception):
    """Nobody waits for the slots any longer."""


class LimitSlots:
    """Slots of one limit, asked for from the moment this is made until `give_back`.

    Prefect's client tries again for a minute when a server does not answer; only the thread in here waits for that.
    While all slots are taken the limit is only read.

    Args:
        name: Of the limit.
        weight: Slots to take; more than the limit has takes all of them.
        timeout_seconds: How long to wait for them; 0 tries once.
        turn: A gate of one slot, for all who wait for this limit on this host: the first one to wait asks first, so
            that a process that takes a slot again and again cannot shut others out.
        holders: The gate whose slots stand for those of the limit that are held on this host (`tasks.lost_slots`).

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
        except (HTTPError, PrefectException) as error:
            self.reason = f"{type(error).__name__}: {error}"
        finally:
            self._answered.set()  # whatever happened, nobody waits for ever

    def _ask_and_keep(self) -> Answer:
        with get_client(sync_client=True) as client, ExitStack() as asking:
            for _ in self._attempts(asking):
                limit = self._read(client)
                if limit is None or not limit.active:
                    return Answer.NO_LIMIT
                self.slot_count = limit.limit
                slots = min(self._weight, limit.limit)
                if slots and limit.active_slots + slots <= limit.limit and self._keep(client, slots, asking):
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

    def _keep(self, client: SyncPrefectClient, slots: int, asking: ExitStack) -> bool:
        """Take slots and keep them until they are to be given back; return whether they could be had."""
        try:
            # A slot of the holders first: whoever counts them to find lost slots holds them all, for a moment.
            with self._holders.hold(weight=slots, timeout_seconds=_LOOK_SECONDS):
                lease = self._take(client, slots)
                if lease is None:
                    return False
                try:
                    self._answer = Answer.HELD
                    asking.close()
                    self._answered.set()
                    self._renew_until_let_go(client, lease)
                finally:
                    client.release_concurrency_slots_with_lease(lease)
        except SessionBusyError:
            return False
        return True

    def _take(self, client: SyncPrefectClient, slots: int) -> UUID | None:
        """Take slots; return their lease, or None if they are not free any more, or the limit was deleted."""
        self._asked_at = time.monotonic()
        try:
            answer = client.increment_concurrency_slots_with_lease([self._name], slots, "concurrency", LEASE_SECONDS)
        except HTTPStatusError as error:
            if error.response.status_code in _TAKEN_MEANWHILE:
                return None
            raise
        finally:
            self._asked_at = None
        taken = ConcurrencyLimitWithLeaseResponse.model_validate(answer.json())
        return taken.lease_id if taken.limits else None

    def _renew_until_let_go(self, client: SyncPrefectClient, lease: UUID) -> None:
        """Renew the lease; where that fails the session goes on, for the host's own locks count it too."""
        failure = ""
        while not self._let_go.wait(RENEW_SECONDS):
            try:
                client.renew_concurrency_lease(lease, LEASE_SECONDS)
                failure = ""
            except (HTTPError, PrefectException) as error:
                failure = f"it did not renew the lease of slots: {type(error).__name__}: {error}"
        self.reason = failure

    def _attempts(self, asking: ExitStack) -> Iterator[None]:
        """Yield whenever the server may be asked; for the last time when the timeout is over."""
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
            yield
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
