"""What NVENC's clients say, as error classes; the texts are those of PyAV 18.1 and ffmpeg 9, as facts about them."""

from __future__ import annotations

import pickle

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
    SessionHungError,
    SessionLimitError,
    SessionLostError,
)
from fanreel.policy import POLICIES, Otherwise, is_worth_another_device, is_worth_retrying

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
