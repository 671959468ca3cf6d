"""The Prefect limit around a gate: the same contract, what the server shows of it, and what happens without it."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.context import SyncClientContext
from prefect.settings import (
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_API_URL,
    temporary_settings,
)
from support import gate_contract
from support.gate_contract import PATIENCE_SECONDS, Asked, GateMaker, is_free, wait_for_slot
from support.prefect_server import harness
from support.processes import wait_until

from fanreel.errors import SessionBusyError, SessionLostError
from fanreel.host.host import current_host
from fanreel.sessions.gate import KernelLockGate, SessionGate
from tasks import limit_slots
from tasks.prefect_limit import HostLimit, limit_name
from tasks.retries import RETRIED
from tasks.watch import host_watcher, watch_flow

_numbers = itertools.count()

pytestmark = pytest.mark.soak  # a Prefect server of its own


class Proxy:
    """Between the clients of this process and the server: counts the requests, and can go silent or away."""

    def __init__(self, url: str) -> None:
        self.target = (urlsplit(url).hostname, urlsplit(url).port)
        self.requests: list[str] = []
        self.is_silent = False
        self._open: list[socket.socket] = []
        self._port = 0
        self.come_back()
        self.url = f"http://127.0.0.1:{self._port}/api"

    def come_back(self) -> None:
        self.is_silent = False
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def go_away(self) -> None:
        """Refuse connections from now on, and cut those there are."""
        for end in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self.target)
                self._open += [near, far]
                for source, sink, is_request in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass_on, args=(source, sink, is_request), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_request: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                if is_request:
                    lines = chunk.decode("latin-1").split("\r\n")
                    self.requests += [line for line in lines if line.endswith("HTTP/1.1")]
                if not self.is_silent:
                    sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module", autouse=True)
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    # One address for all tests, also those without the server: Prefect's services for events and slots keep the
    # first one that this process has.
    with contextlib.ExitStack() as last, harness(tmp_path_factory.mktemp("prefect")):
        opened = Proxy(PREFECT_API_URL.value())
        last.callback(opened.go_away)  # after the harness, which sends what was logged: for a minute, if it cannot
        # Without TLS there is nothing to verify, and reading the CA certificates takes 45 ms for every client.
        with temporary_settings({PREFECT_API_URL: opened.url, PREFECT_API_TLS_INSECURE_SKIP_VERIFY: True}):
            yield opened


@pytest.fixture(autouse=True)
def _one_client() -> Iterator[None]:
    """As in a task run, which has one client for all that it asks."""
    with SyncClientContext.get_or_create():
        yield


@pytest.fixture
def proxy(_server: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What the server is reached through; it is there again after the test, which is not to last long."""
    monkeypatch.setattr(limit_slots, "_GIVE_BACK_SECONDS", 0.5)
    _server.requests.clear()
    yield _server
    _server.go_away()
    _server.come_back()


class Operator:
    """What a person sees and changes in the Prefect UI."""

    def __init__(self, client: SyncPrefectClient, name: str) -> None:
        self.client, self.name = client, name

    def make(self, limit: int) -> None:
        self.client.upsert_global_concurrency_limit_by_name(self.name, limit)

    def change(self, **words: int | bool) -> None:
        self.client.update_global_concurrency_limit(self.name, GlobalConcurrencyLimitUpdate(**words))

    def delete(self) -> None:
        self.client.delete_global_concurrency_limit_by_name(self.name)

    def read(self) -> GlobalConcurrencyLimitResponse:
        return self.client.read_global_concurrency_limit_by_name(self.name)

    @property
    def in_use(self) -> int:
        return self.read().active_slots


@pytest.fixture
def operator() -> Iterator[Operator]:
    """Whose limit no other test has."""
    with get_client(sync_client=True) as client:
        yield Operator(client, limit_name(f"test-{next(_numbers)}"))


@pytest.fixture
def make_gate(operator: Operator, tmp_path: Path) -> GateMaker:
    makes_limit, making = [True], threading.Lock()

    def make(capacity: int) -> SessionGate:
        with making:
            if makes_limit:
                operator.make(capacity)
                makes_limit.clear()
        return around(operator.name, tmp_path, capacity=capacity)

    return make


def around(
    name: str, folder: Path, *, capacity: int = 2, warn: Callable[[str], None] = pytest.fail, device: str = "GPU-0a1b"
) -> SessionGate:
    """Return the limit of this name around a GPU's kernel locks; it must not warn unless it is told whom."""
    limit = HostLimit(name, folder=folder / "locks", warn=warn)
    return limit.around(KernelLockGate(device, capacity=capacity, folder=folder / "locks"))


def inner_slots_in_use(folder: Path, *, capacity: int = 2) -> int:
    return KernelLockGate("GPU-0a1b", capacity=capacity, folder=folder / "locks").slots_in_use()


class TestContract(gate_contract.TestContract):
    """The contract of every gate; two of its tests take a while with a server."""

    @pytest.mark.soak
    def test_threads_never_exceed_the_capacity(self, make_gate: GateMaker) -> None:
        super().test_threads_never_exceed_the_capacity(make_gate)

    @pytest.mark.soak
    def test_one_that_takes_again_and_again_does_not_shut_others_out(self, make_gate: GateMaker) -> None:
        super().test_one_that_takes_again_and_again_does_not_shut_others_out(make_gate)


class TestName:
    def test_it_is_the_host_s(self) -> None:
        assert limit_name() == limit_name(os.uname().nodename)
        assert limit_name("render-3.example.org") == "nvenc:render-3.example.org"

    def test_it_is_one_that_prefect_takes(self, operator: Operator) -> None:
        operator.name = limit_name("a/b%c&d<e>f g\u00e9?#")
        operator.make(2)
        assert operator.read().limit == 2
        operator.delete()


class TestOperator:
    def test_sees_the_sessions_in_use(self, operator: Operator, make_gate: GateMaker) -> None:
        gate = make_gate(3)
        assert operator.in_use == 0
        with gate.hold(timeout_seconds=5):
            assert operator.in_use == 1
            with gate.hold(weight=2, timeout_seconds=5):
                assert operator.in_use == 3
        assert operator.in_use == 0

    def test_turns_them_down_while_they_are_in_use(self, operator: Operator, make_gate: GateMaker) -> None:
        gate = make_gate(2)
        with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
            first.enter_context(gate.hold(timeout_seconds=5))
            second.enter_context(gate.hold(timeout_seconds=5))
            operator.change(limit=1)
            first.close()
            assert not is_free(gate), "one is still in use, and there may be but one"
            second.close()
            with gate.hold(timeout_seconds=5):
                assert not is_free(gate)
        operator.change(limit=2)
        with gate.hold(timeout_seconds=5):
            assert is_free(gate)

    def test_who_asks_for_more_than_there_may_be_takes_all(self, operator: Operator, make_gate: GateMaker) -> None:
        gate = make_gate(3)
        operator.change(limit=2)
        with gate.hold(weight=3, timeout_seconds=5):
            assert operator.in_use == 2
        assert operator.in_use == 0

    def test_lets_none_start(self, operator: Operator, make_gate: GateMaker) -> None:
        gate = make_gate(2)
        operator.change(limit=0)
        with pytest.raises(SessionBusyError, match=r"1 of its 0 slots .* turn up the Prefect concurrency limit"):
            wait_for_slot(gate, timeout_seconds=0.3)
        with ThreadPoolExecutor(1) as pool:
            asked = Asked()
            waiting = pool.submit(copy_context().run, wait_for_slot, gate, on_wait=asked)
            asked.wait_for()
            operator.change(limit=1)
            waiting.result(timeout=PATIENCE_SECONDS)

    def test_switches_the_limit_off(self, operator: Operator, make_gate: GateMaker, tmp_path: Path) -> None:
        gate = make_gate(1)
        operator.change(active=False)
        with gate.hold(timeout_seconds=5):
            assert inner_slots_in_use(tmp_path, capacity=1) == 1
            operator.change(active=True)
            assert operator.in_use == 0
        assert operator.in_use == 0

    def test_deletes_it_while_it_is_used(self, operator: Operator, make_gate: GateMaker, tmp_path: Path) -> None:
        gate = make_gate(1)
        with gate.hold(timeout_seconds=5):
            operator.delete()
            assert not is_free(gate), "the host's own locks are the truth"
        assert is_free(gate)


class TestWithoutLimit:
    def test_the_inner_gate_alone_counts(self, operator: Operator, tmp_path: Path) -> None:
        gate = around(operator.name, tmp_path, capacity=1)
        with gate.hold(timeout_seconds=5):
            assert not is_free(gate)
        assert is_free(gate)

    def test_the_inner_gate_s_slots_are_waited_for_too(self, operator: Operator, tmp_path: Path) -> None:
        operator.make(2)
        gate = around(operator.name, tmp_path, capacity=1)
        asked: list[int] = []
        with KernelLockGate("GPU-0a1b", capacity=1, folder=tmp_path / "locks").hold(timeout_seconds=1):
            with (
                pytest.raises(SessionBusyError, match="GPU-0a1b"),
                gate.hold(timeout_seconds=0.7, on_wait=lambda: asked.append(1)),
            ):
                pass
            assert operator.in_use == 0, "who got no session gives its slot back"
        assert asked


@pytest.fixture
def _host(tmp_path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FANREEL_STORE", str(tmp_path / "store"))
        patch.setenv("FANREEL_LOCK_FOLDER", str(tmp_path / "locks"))
        current_host.cache_clear()
        yield
        current_host().launcher.close()
        current_host.cache_clear()


@pytest.mark.usefixtures("_host")
def test_a_task_run_that_awaits_its_retry_holds_nothing(operator: Operator, tmp_path: Path) -> None:
    operator.name = limit_name()  # what a film's watch takes by itself
    operator.make(2)
    gpu = KernelLockGate("GPU-0a1b", capacity=2, folder=tmp_path / "locks")
    seen: list[tuple[int, int]] = []

    @task(**RETRIED)
    def render_once_in_vain() -> None:
        around_gpus = host_watcher("film.mp4").around_gpus
        with around_gpus(gpu).hold(timeout_seconds=10):
            seen.append((operator.in_use, gpu.slots_in_use()))
            if len(seen) == 1:
                raise SessionLostError("killed")

    @flow
    def film_flow() -> set[tuple[int, int]]:
        with watch_flow():
            running = render_once_in_vain.submit()
            wait_until(lambda: seen, seconds=60, what="a session")
            between = set()
            while len(seen) < 2:
                between.add((operator.in_use, gpu.slots_in_use()))
            running.result()
            return between

    assert (0, 0) in film_flow()
    assert seen == [(1, 1), (1, 1)]
    assert operator.in_use == 0
    operator.delete()


@pytest.mark.soak
class TestServer:
    def test_waiting_asks_it_seldom(self, operator: Operator, make_gate: GateMaker, proxy: Proxy) -> None:
        gate = make_gate(1)
        with gate.hold(timeout_seconds=5):
            proxy.requests.clear()
            with ThreadPoolExecutor(6) as pool:
                waiting = [pool.submit(copy_context().run, is_refused, gate, 3.0) for _ in range(6)]
                assert all(one.result() for one in waiting)
        assert {line.split()[0] for line in proxy.requests} <= {"GET", "POST"}
        taken = [line for line in proxy.requests if "increment" in line]
        assert taken == [], "it is asked for slots only when it has some"
        assert 6 <= len(proxy.requests) <= 45, "six who wait for 3 s"

    def test_it_is_away(
        self, operator: Operator, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limit_slots, "ANSWER_SECONDS", 1.0)
        operator.make(1)
        proxy.go_away()
        warnings: list[str] = []
        asked: list[str] = []

        def ask(name: str, **words: Any) -> limit_slots.LimitSlots:
            asked.append(name)
            return limit_slots.LimitSlots(name, **words)

        monkeypatch.setattr("tasks.prefect_limit.LimitSlots", ask)
        gate = around(operator.name, tmp_path, capacity=1, warn=warnings.append)
        with gate.hold(timeout_seconds=60):
            assert inner_slots_in_use(tmp_path, capacity=1) == 1
            assert not is_free(gate)
        assert is_free(gate)
        assert len(asked) == 1, "it is not asked again at once"
        assert len(warnings) == 1
        assert f"limit {operator.name!r}" in warnings[0]

    def test_it_is_silent(
        self, operator: Operator, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limit_slots, "ANSWER_SECONDS", 3.0)
        operator.make(1)
        proxy.is_silent = True
        warnings: list[str] = []
        asked: list[int] = []
        gate = around(operator.name, tmp_path, warn=warnings.append)
        start = time.monotonic()
        with gate.hold(timeout_seconds=60, on_wait=lambda: asked.append(1)):
            assert 3 <= time.monotonic() - start < 20
        assert len(asked) >= 3
        assert len(warnings) == 1
        assert "did not answer within 3 s" in warnings[0]

    def test_a_wait_for_a_silent_one_can_be_given_up(self, operator: Operator, proxy: Proxy, tmp_path: Path) -> None:
        operator.make(1)
        proxy.is_silent = True

        def give_up() -> None:
            raise InterruptedError

        start = time.monotonic()
        gate = around(operator.name, tmp_path, warn=lambda line: None)
        with pytest.raises(InterruptedError), gate.hold(timeout_seconds=60, on_wait=give_up):
            pass
        assert time.monotonic() - start < 20
        assert inner_slots_in_use(tmp_path) == 0

    def test_a_lease_is_renewed_for_as_long_as_a_session_runs(
        self, operator: Operator, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limit_slots, "RENEW_SECONDS", 0.1)
        operator.make(1)
        with around(operator.name, tmp_path).hold(timeout_seconds=5):
            wait_until(lambda: len(renewed_leases(proxy)) >= 3, seconds=PATIENCE_SECONDS, what="three renewals")
            assert operator.in_use == 1
        assert operator.in_use == 0

    def test_a_lease_that_was_lost_ends_no_session_and_is_told_of(
        self, operator: Operator, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limit_slots, "RENEW_SECONDS", 0.1)
        operator.make(1)
        warnings: list[str] = []
        with around(operator.name, tmp_path, warn=warnings.append).hold(timeout_seconds=5):
            lease = wait_until(lambda: renewed_leases(proxy), seconds=PATIENCE_SECONDS, what="a renewal")[0]
            operator.client.release_concurrency_slots_with_lease(UUID(lease))
            count = len(renewed_leases(proxy))
            wait_until(
                lambda: len(renewed_leases(proxy)) > count + 1, seconds=PATIENCE_SECONDS, what="a renewal in vain"
            )
            assert not warnings
        assert len(warnings) == 1
        assert "it did not renew the lease of slots" in warnings[0]

    def test_it_goes_away_while_a_session_runs(self, operator: Operator, proxy: Proxy, tmp_path: Path) -> None:
        operator.make(1)
        warnings: list[str] = []
        gate = around(operator.name, tmp_path, warn=warnings.append)
        with gate.hold(timeout_seconds=5):
            proxy.go_away()
            assert not warnings
        assert len(warnings) == 1
        assert inner_slots_in_use(tmp_path) == 0
        with gate.hold(timeout_seconds=5), gate.hold(timeout_seconds=5):
            assert inner_slots_in_use(tmp_path) == 2
        assert len(warnings) == 1


def renewed_leases(proxy: Proxy) -> list[str]:
    """Return the lease of every renewal that was asked for."""
    return [found[1] for line in proxy.requests if (found := re.search(r"/leases/([0-9a-f-]+)/renew ", line))]


def is_refused(gate: SessionGate, timeout_seconds: float) -> bool:
    with contextlib.suppress(SessionBusyError), gate.hold(timeout_seconds=timeout_seconds):
        return False
    return True
