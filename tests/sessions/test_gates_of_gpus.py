"""The gates of GPUs: one over several devices, and as many sessions as a GPU allows at the moment."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fanreel.errors import SessionBusyError
from fanreel.sessions.gate import FirstFreeGate, KernelLockGate


def gates(folder: Path, *capacities: int, **words: object) -> tuple[KernelLockGate, ...]:
    return tuple(
        KernelLockGate(f"GPU-{n}", capacity=capacity, folder=folder, turn="nvenc", **words)  # type: ignore[arg-type]
        for n, capacity in enumerate(capacities)
    )


class TestGates:
    def test_the_gpu_with_the_most_free_slots_comes_first(self, tmp_path: Path) -> None:
        both = gates(tmp_path, 2, 3)
        gate = FirstFreeGate(both)
        with contextlib.ExitStack() as held:
            devices = [held.enter_context(gate.hold(timeout_seconds=0)).device for _ in range(5)]
            with pytest.raises(SessionBusyError, match="'GPU-0' and 'GPU-1'"), gate.hold(timeout_seconds=0.1):
                pass
        assert sorted(devices) == ["GPU-0"] * 2 + ["GPU-1"] * 3
        assert devices[0] == "GPU-1"
        assert [one.slots_in_use() for one in both] == [0, 0]

    @pytest.mark.parametrize("allowed", [1, 2, 3])
    def test_never_more_than_allowed_whoever_takes_at_once(self, tmp_path: Path, allowed: int) -> None:
        (gate,) = gates(tmp_path, 6, allowed=lambda ours: allowed)
        now, most, lock, full = 0, 0, threading.Lock(), threading.Event()

        def take(seed: int) -> None:
            nonlocal now, most
            for _ in range(3):
                with gate.hold(timeout_seconds=60):
                    with lock:
                        now += 1
                        most = max(most, now)
                        if now >= allowed:
                            full.set()
                    assert full.wait(60), "as many as allowed are in at once"
                    time.sleep(random.Random(seed).uniform(0, 0.02))
                    with lock:
                        now -= 1

        threads = [threading.Thread(target=take, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == allowed

    def test_slots_above_the_allowed_ones_count(self, tmp_path: Path) -> None:
        limits = [4]
        (gate,) = gates(tmp_path, 4, allowed=lambda ours: limits[0])
        with gate.hold(weight=2, timeout_seconds=0), gate.hold(timeout_seconds=0) as third:
            limits[0] = 2
            with pytest.raises(SessionBusyError), gate.hold(timeout_seconds=0):
                pass
            assert third.filenos()
        with gate.hold(timeout_seconds=0):
            pass

    def test_allowed_is_told_which_sessions_are_open(self, tmp_path: Path) -> None:
        told: list[int] = []

        def allowed(ours: int) -> int:
            told.append(ours)
            return 3

        (gate,) = gates(tmp_path, 3, allowed=allowed)
        with gate.hold(timeout_seconds=0) as first, gate.hold(timeout_seconds=0):
            first.mark_open()
            with gate.hold(timeout_seconds=0):
                pass
        with gate.hold(timeout_seconds=0):
            assert told == [0, 0, 0, 0, 1, 1, 0, 0], "before and after each is taken; a mark ends with its slot"

    def test_others_that_a_dying_session_hid_are_counted_when_its_slot_is_free(self, tmp_path: Path) -> None:
        """Three sessions in all, two of them another program's; ours has ended, but its slot is not free yet."""
        dying, others, limit = contextlib.ExitStack(), 2, 3
        looks: list[int] = []

        def allowed(ours: int) -> int:
            looks.append(ours)
            found = limit - max(0, others - ours)
            if len(looks) == 1:  # between a look and what is taken by it
                beside.enter_context(gates(tmp_path, 3)[0].hold(timeout_seconds=0))
                dying.close()
            return found

        (gate,) = gates(tmp_path, 3, allowed=allowed)
        with dying, contextlib.ExitStack() as beside:
            dying.enter_context(gates(tmp_path, 3)[0].hold(timeout_seconds=0)).mark_open()
            with pytest.raises(SessionBusyError), gate.hold(timeout_seconds=0):
                pass
            assert looks == [1, 0]

    @pytest.mark.parametrize("make", [lambda gate: gate, lambda gate: FirstFreeGate((gate,))])
    def test_at_least_one_is_always_allowed(self, tmp_path: Path, make: Callable) -> None:
        (gate,) = gates(tmp_path, 3, allowed=lambda ours: -5)
        with make(gate).hold(weight=3, timeout_seconds=0) as slot:
            assert len(slot.filenos()) == 1


class TestMarks:
    def test_one_that_a_former_holder_left_is_never_seen(self, tmp_path: Path) -> None:
        seen: list[int] = []
        gate = KernelLockGate("GPU-0", capacity=2, folder=tmp_path, allowed=lambda ours: seen.append(ours) or 1)
        with gate.hold(timeout_seconds=0) as former:
            former.mark_open()
            with pytest.raises(SessionBusyError), gate.hold(timeout_seconds=0):
                pass
        with gate.hold(timeout_seconds=0):
            assert seen == [0, 0, 1, 0, 0], "before and after each is taken, and before none is"
