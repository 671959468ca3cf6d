"""What NVENC's clients say, as error classes; the texts are those of PyAV 18.1 and ffmpeg 9, as facts about them."""

from __future__ import annotations

import contextlib
import pickle
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fanreel import errors
from fanreel.encode.nvenc_faults import classify_fault
from fanreel.errors import (
    DriverError,
    EncodeFaultError,
    EncoderBusyError,
    EncoderSettingsError,
    GpuLostError,
    NoEncodeDeviceError,
    SessionBusyError,
    SessionHungError,
    SessionLimitError,
    SessionLostError,
)
from fanreel.policy import POLICIES, Otherwise, is_worth_another_device, is_worth_retrying
from fanreel.sessions.gate import FirstFreeGate, KernelLockGate
from fanreel.sessions.learned_limit import LEARNED_SECONDS, LearnedLimit

NONE_CAPABLE = "No capable devices found"
OLD = "Driver does not support the required nvenc API version. Required: 13.0 Found: 10.0"
MINIMUM = "The minimum required Nvidia driver for nvenc is 570.0 or newer"
SMALL = "InitializeEncoder failed: invalid param (8): Frame Dimension less than the minimum supported value."

SAID = [
    (["Cannot load libcuda.so.1"], DriverError, 0),
    (["Cannot load libnvidia-encode.so.1", MINIMUM], DriverError, 0),
    (["dl_fn->cuda_dl->cuInit(0) failed -> CUDA_ERROR_NO_DEVICE: no CUDA-capable device"], NoEncodeDeviceError, 1),
    (["OpenEncodeSessionEx failed: unsupported device (2): (no details)", NONE_CAPABLE], NoEncodeDeviceError, 2),
    (["OpenEncodeSessionEx failed: no encode device (1): (no details)", NONE_CAPABLE], NoEncodeDeviceError, 1),
    (["OpenEncodeSessionEx failed: out of memory (10): (no details)", NONE_CAPABLE], SessionLimitError, 10),
    (["OpenEncodeSessionEx failed: incompatible client key (21): (no details)", NONE_CAPABLE], SessionLimitError, 21),
    ([OLD, MINIMUM], DriverError, 15),
    (["Cannot load cuDeviceGetUuid_v2"], DriverError, 15),
    (["cuInit(0) failed -> CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: unsupported display driver"], DriverError, 15),
    (["cuInit(0) failed -> CUDA_ERROR_UNKNOWN: unknown error"], GpuLostError, 5),
    (["OpenEncodeSessionEx failed: invalid version (15): (no details)"], DriverError, 15),
    ([SMALL], EncoderSettingsError, 8),
    (["Codec not supported", "Provided device doesn't support required NVENC features"], EncoderSettingsError, 12),
    (["Width 5000 exceeds 4096", NONE_CAPABLE], EncoderSettingsError, 12),
    (["10 bit encode not supported"], EncoderSettingsError, 12),
    (["Max B-frames 2 exceed 0", NONE_CAPABLE], EncoderSettingsError, 12),
    (["Provided device doesn't support required NVENC features", NONE_CAPABLE], EncoderSettingsError, 12),
    (["Cannot get the preset configuration: unsupported param (12): (no details)"], EncoderSettingsError, 12),
    (["Failed locking bitstream buffer: out of memory (10): "], SessionLimitError, 10),
    (["OpenEncodeSessionEx failed: lock busy (13): (no details)"], EncoderBusyError, 13),
    (["EncodePicture failed!: encoder busy (18): "], EncoderBusyError, 18),
    (["EncodePicture failed!: generic error (20): "], EncodeFaultError, 20),
    (["EncodePicture failed!: device does not exist (5): "], GpuLostError, 5),
    (["cuCtxCreate(...) failed -> CUDA_ERROR_DEVICE_UNAVAILABLE: device busy", NONE_CAPABLE], GpuLostError, 5),
    ([NONE_CAPABLE], NoEncodeDeviceError, 2),
    (["something nobody has seen before"], EncodeFaultError, 0),
]


@pytest.mark.parametrize(("said", "kind", "code"), SAID, ids=lambda value: str(value)[:40])
def test_each_text_is_its_class_with_the_drivers_number(said: list[str], kind: type[Exception], code: int) -> None:
    error = classify_fault("640x360", said)
    assert (type(error), error.code) == (kind, code)
    assert said[0].removesuffix(": (no details)").rstrip(": ") in str(error)
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.code) == (kind, str(error), code)


def test_the_driver_needed_is_named() -> None:
    assert "570" in str(classify_fault("640x360", [OLD, MINIMUM]))


def test_the_first_cause_counts() -> None:
    said = ["OpenEncodeSessionEx failed: out of memory (10): (no details)", "DestroyEncoder failed: generic error (20)"]
    assert classify_fault("640x360", said).code == 10


class TestPolicy:
    def test_every_fault_of_an_encoder_has_one(self) -> None:
        kinds = {type(classify_fault("x", said)) for said, _, _ in SAID} | {SessionHungError, SessionLostError}
        assert kinds <= set(POLICIES)
        assert {POLICIES[kind].otherwise for kind in kinds} == {Otherwise.ELSEWHERE}

    @pytest.mark.parametrize("kind", [kind for kind in POLICIES if issubclass(kind, errors.FanreelError)])
    @pytest.mark.parametrize("retries", range(5))
    def test_an_error_is_tried_again_or_made_elsewhere_or_fails(self, kind: type[Exception], retries: int) -> None:
        again = is_worth_retrying(kind("x"), retries=retries)
        elsewhere = is_worth_another_device(kind("x"), retries=retries)
        assert again == (retries < POLICIES[kind].retries)
        assert elsewhere == (not again and POLICIES[kind].otherwise is Otherwise.ELSEWHERE)

    def test_what_cannot_pass_is_not_waited_for(self) -> None:
        for kind in (GpuLostError, NoEncodeDeviceError, DriverError, EncoderSettingsError):
            assert POLICIES[kind].retries == 0
        for kind in (SessionLimitError, EncoderBusyError):
            assert POLICIES[kind].retries == 3


class TestLearnedLimit:
    def test_nothing_is_known_at_first_or_of_a_damaged_file(self, tmp_path: Path) -> None:
        limit = LearnedLimit(tmp_path / "gpu.limit")
        assert limit.read() is None
        for text in (b"", b"{", b"[]", b'{"sessions": 2}', b'{"sessions": "x", "until": 1e18}', b"\xff\xfe"):
            limit.path.write_bytes(text)
            assert limit.read() is None

    def test_the_lowest_refusal_holds_for_everyone_for_a_minute(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limit, other = LearnedLimit(tmp_path / "gpu.limit"), LearnedLimit(tmp_path / "gpu.limit")
        for sessions, known in ((5, 5), (3, 3), (4, 3)):
            limit.learn(sessions)
            assert other.read() == known
        limit.learn(0)
        assert other.read() == 1, "one is always tried"
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + LEARNED_SECONDS + 1)
        assert other.read() is None

    def test_a_folder_that_cannot_be_written_is_no_error(self, tmp_path: Path) -> None:
        limit = LearnedLimit(tmp_path / "nowhere" / "gpu.limit")
        limit.learn(3)
        assert limit.read() is None


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
