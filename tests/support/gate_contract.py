"""The contract that every `SessionGate` passes."""

from __future__ import annotations

import array
import contextlib
import os
import random
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median

import pytest

from fanreel.errors import EncoderError, SessionBusyError
from fanreel.sessions.gate import SessionGate

PATIENCE_SECONDS = 60.0  # for what certainly comes
SLOWED_DOWN = 9  # questions after which the polling is as slow as it gets
MOST_TURNS = 20  # that one may have before another one that waits has its turn

GateMaker = Callable[[int], SessionGate]  # capacity -> a new gate on one and the same device


def open_files() -> list[str]:
    """Return the paths of the files that this process has open; sockets have none."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.append(os.readlink(descriptor))  # noqa: PTH115 - sockets are no paths
    return sorted(name for name in found if name.startswith("/") and not name.startswith("/proc"))


def is_free(gate: SessionGate, weight: int = 1) -> bool:
    try:
        with gate.hold(weight=weight, timeout_seconds=0):
            return True
    except SessionBusyError:
        return False


class Asked:
    """Notes when a wait has asked; give it as `on_wait`."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._count = threading.Semaphore(0)

    def __call__(self) -> None:
        self.times.append(time.monotonic())
        self._count.release()

    def wait_for(self, count: int = 1) -> None:
        """Return when it has asked so many times more."""
        assert all(self._count.acquire(timeout=PATIENCE_SECONDS) for _ in range(count))


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """Return the most spans open at one time; at equal times the one that ends goes first."""
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    return max(accumulate(change for _, change in changes))


class TestContract:
    def test_a_slot_is_held_inside_and_free_after(self, make_gate: GateMaker):
        gate = make_gate(1)
        with gate.hold(timeout_seconds=1):
            assert not is_free(make_gate(1))
        assert is_free(make_gate(1))

    def test_as_many_as_the_capacity(self, make_gate: GateMaker):
        with make_gate(2).hold(timeout_seconds=1), make_gate(2).hold(timeout_seconds=1):
            assert not is_free(make_gate(2))

    def test_one_gate_can_be_held_more_than_once(self, make_gate: GateMaker):
        gate = make_gate(2)
        with gate.hold(timeout_seconds=1):
            with gate.hold(timeout_seconds=1):
                assert not is_free(gate)
            assert is_free(gate)

    def test_free_after_the_body_raised(self, make_gate: GateMaker):
        with pytest.raises(KeyboardInterrupt), make_gate(1).hold(timeout_seconds=1):
            raise KeyboardInterrupt
        assert is_free(make_gate(1))

    def test_weight_takes_that_many(self, make_gate: GateMaker):
        with make_gate(5).hold(weight=3, timeout_seconds=1):
            assert is_free(make_gate(5), weight=2)
            assert not is_free(make_gate(5), weight=3)

    def test_weight_is_all_or_nothing(self, make_gate: GateMaker):
        with make_gate(3).hold(weight=2, timeout_seconds=1):
            with pytest.raises(SessionBusyError), make_gate(3).hold(weight=2, timeout_seconds=0.1):
                pass
            assert is_free(make_gate(3), weight=1)

    def test_weight_above_the_capacity_takes_all(self, make_gate: GateMaker):
        with make_gate(3).hold(weight=64, timeout_seconds=1):
            assert not is_free(make_gate(3))

    @pytest.mark.parametrize("weight", [0, -1])
    def test_weight_below_one_is_refused(self, make_gate: GateMaker, weight: int):
        with (
            pytest.raises(ValueError, match=f"weight is {weight}"),
            make_gate(3).hold(weight=weight, timeout_seconds=1),
        ):
            pass

    def test_a_wait_can_be_given_up(self, make_gate: GateMaker):
        asked: list[float] = []

        def give_up() -> None:
            asked.append(time.monotonic())
            if len(asked) == 3:
                raise InterruptedError

        with make_gate(1).hold(timeout_seconds=1):
            start = time.monotonic()
            with pytest.raises(InterruptedError), make_gate(1).hold(timeout_seconds=60, on_wait=give_up):
                pass
        assert time.monotonic() - start < 30
        assert is_free(make_gate(1)), "whoever gave up holds nothing"

    @pytest.mark.parametrize("timeout_seconds", [0, 0.1, 0.9])
    def test_timeout(self, make_gate: GateMaker, timeout_seconds: float):
        with make_gate(2).hold(weight=2, timeout_seconds=1):
            start = time.monotonic()
            with pytest.raises(SessionBusyError) as raised, make_gate(2).hold(timeout_seconds=timeout_seconds):
                pass
            waited_seconds = time.monotonic() - start
        assert timeout_seconds <= waited_seconds < timeout_seconds + 5
        assert isinstance(raised.value, EncoderError)
        assert raised.value.transient
        said = re.search(r"'[a-z0-9:.-]+': 1 of its 2 slots .* in ([0-9.]+) s; try again", str(raised.value))
        assert timeout_seconds <= float(said[1]) <= waited_seconds + 0.05

    def test_a_waiter_gets_the_slot_when_it_is_free(self, make_gate: GateMaker):
        with contextlib.ExitStack() as held, ThreadPoolExecutor(1) as pool:
            held.enter_context(make_gate(1).hold(timeout_seconds=1))
            asked = Asked()
            waiting = pool.submit(wait_for_slot, make_gate(1), on_wait=asked)
            asked.wait_for(SLOWED_DOWN + 5)
            freed = time.monotonic()
            held.close()
            assert freed <= waiting.result(timeout=PATIENCE_SECONDS)
        # It was seen free within one such pause; the median is the gate's own, whatever else the machine does.
        assert median(after - before for before, after in pairwise(asked.times[SLOWED_DOWN:])) < 0.5

    def test_a_waiter_for_all_slots_gets_them(self, make_gate: GateMaker):
        with contextlib.ExitStack() as held, ThreadPoolExecutor(1) as pool:
            for _ in range(3):
                held.enter_context(make_gate(3).hold(timeout_seconds=1))
            asked = Asked()
            waiting = pool.submit(wait_for_slot, make_gate(3), weight=3, on_wait=asked)
            asked.wait_for()
            held.close()
            waiting.result(timeout=PATIENCE_SECONDS)

    def test_threads_never_exceed_the_capacity(self, make_gate: GateMaker):
        def rounds(seed: int) -> list[tuple[float, float]]:
            dice, spans = random.Random(seed), []
            for _ in range(5):
                weight = dice.choice([1, 1, 2, 3])
                with make_gate(3).hold(weight=weight, timeout_seconds=60):
                    start = time.monotonic()
                    time.sleep(dice.uniform(0, 0.01))
                    spans += [(start, time.monotonic())] * weight
            return spans

        with ThreadPoolExecutor(6) as pool:
            spans = [span for found in pool.map(rounds, range(6)) for span in found]
        assert most_at_once(spans) <= 3

    def test_one_that_takes_again_and_again_does_not_shut_others_out(self, make_gate: GateMaker):
        done, taken = threading.Event(), threading.Event()
        turns: list[float] = []

        def take_again_and_again() -> None:
            while not done.is_set():
                with make_gate(1).hold(timeout_seconds=60):
                    turns.append(time.monotonic())
                    taken.set()
                    time.sleep(0.3)

        with ThreadPoolExecutor(1) as pool:
            greedy = pool.submit(take_again_and_again)
            try:
                for _ in range(3):
                    taken.clear()
                    assert taken.wait(PATIENCE_SECONDS)
                    before = len(turns)
                    got_at = wait_for_slot(make_gate(1))
                    assert sum(turn < got_at for turn in turns[before:]) <= MOST_TURNS
            finally:
                done.set()
            greedy.result(timeout=PATIENCE_SECONDS)

    def test_a_waiter_for_many_does_not_keep_one_slot_idle(self, make_gate: GateMaker):
        with contextlib.ExitStack() as held, ThreadPoolExecutor(1) as pool:
            held.enter_context(make_gate(2).hold(timeout_seconds=1))
            asked = Asked()
            waiting = pool.submit(wait_for_slot, make_gate(2), weight=2, on_wait=asked)
            asked.wait_for()
            wait_for_slot(make_gate(2))
            assert not waiting.done()
            held.close()
            waiting.result(timeout=PATIENCE_SECONDS)

    def test_descriptors_are_given_to_no_child_by_accident(self, make_gate: GateMaker):
        with make_gate(4).hold(weight=2, timeout_seconds=1) as slot:
            assert len(slot.filenos()) >= 1
            assert not any(os.get_inheritable(descriptor) for descriptor in slot.filenos())
            child = subprocess.Popen(["/bin/sleep", "60"], close_fds=False)
        try:
            # Not at once: the kernel lets the parent of a spawn go on just before it closes the child's copies.
            wait_for_slot(make_gate(4), weight=4, timeout_seconds=30)
        finally:
            child.kill()
            child.wait()

    def test_descriptors_are_closed_and_forgotten_after(self, make_gate: GateMaker):
        with make_gate(3).hold(weight=3, timeout_seconds=1) as slot:
            files = {descriptor: os.fstat(descriptor) for descriptor in slot.filenos()}
        assert files
        assert slot.filenos() == ()
        for descriptor, file in files.items():
            with contextlib.suppress(OSError):  # or by now another thread has something else under this number
                assert not os.path.samestat(os.fstat(descriptor), file)

    def test_nothing_stays_open(self, make_gate: GateMaker):
        is_free(make_gate(3))
        before = open_files()
        with make_gate(3).hold(weight=2, timeout_seconds=1):
            assert not is_free(make_gate(3), weight=3)
            assert is_free(make_gate(3))
        assert open_files() == before

    def test_a_child_that_inherited_the_slot_keeps_it(self, make_gate: GateMaker):
        with make_gate(2).hold(weight=2, timeout_seconds=1) as slot:
            child = subprocess.Popen(["/bin/sleep", "60"], pass_fds=slot.filenos())
        try:
            assert not is_free(make_gate(2))
        finally:
            child.kill()
            child.wait()
        assert is_free(make_gate(2), weight=2)

    def test_a_slot_sent_over_a_socket_is_kept(self, make_gate: GateMaker):
        near, far = socket.socketpair()
        with near, far:
            with make_gate(1).hold(timeout_seconds=1) as slot:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", slot.filenos()))
                near.sendmsg([b"slot"], [rights])
            assert not is_free(make_gate(1))
            _, received, _, _ = socket.recv_fds(far, 4, 8)
            assert not is_free(make_gate(1))
            for descriptor in received:
                os.close(descriptor)
        assert is_free(make_gate(1))


def wait_for_slot(
    gate: SessionGate,
    *,
    weight: int = 1,
    timeout_seconds: float = PATIENCE_SECONDS,
    on_wait: Callable[[], None] = lambda: None,
) -> float:
    """Return when the slot was taken."""
    with gate.hold(weight=weight, timeout_seconds=timeout_seconds, on_wait=on_wait):
        return time.monotonic()
