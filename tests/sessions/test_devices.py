"""The first look at this machine's GPUs, on the emulated driver: which of them can be used, and why not the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.emulated_nvenc import EmulatedDriver

from fanreel.codecs import Codec
from fanreel.errors import (
    EncodeFaultError,
    EncoderSettingsError,
    GpuLostError,
    NoEncodeDeviceError,
    SessionBusyError,
    SessionHungError,
)
from fanreel.host.host import open_host
from fanreel.sessions.devices import Devices
from fanreel.sessions.launcher import Launcher
from fanreel.settings import Settings

BOTH = ("nvenc", "x264")


@pytest.fixture(scope="module")
def hardware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hardware")


@pytest.fixture(scope="module")
def gpu_launcher(hardware: Path) -> Iterator[Launcher]:
    """A launcher whose sessions have the emulated driver: they load it by the environment that it is started with."""
    opened = Launcher()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in EmulatedDriver(hardware).environment.items():
            patched.setenv(name, value)
        opened.warm()
    yield opened
    opened.close()


@pytest.fixture
def gpus(hardware: Path, gpu_launcher: Launcher) -> Iterator[EmulatedDriver]:
    """New hardware, at the old place."""
    for file in hardware.iterdir():
        file.unlink()
    driver = EmulatedDriver(hardware, microseconds_per_frame=200)
    yield driver
    assert driver.open_sessions() == 0


@pytest.fixture
def look(gpus: EmulatedDriver, gpu_launcher: Launcher, tmp_path: Path) -> Callable[..., Devices]:
    """Returns what this machine has, nothing of which is known yet."""

    def look(*, hang_seconds: float = 30) -> Devices:
        settings = Settings(store=tmp_path / "store", lock_folder=tmp_path / "locks", hang_seconds=hang_seconds)
        return open_host(settings, launcher=gpu_launcher).devices

    return look


@pytest.fixture
def devices(look: Callable[..., Devices]) -> Devices:
    return look()


def used(devices: Devices, codec: Codec = Codec.H264) -> list[str]:
    """The devices that are used, by name of the encoder or the GPU."""
    return [device.gpu or device.encoder for device in devices.usable(BOTH, codec=codec)]


def test_gpus_come_first_and_are_tried_once(devices: Devices, gpus: EmulatedDriver) -> None:
    gpus.set(gpus=2)
    assert used(devices) == used(devices) == [gpus.uuid(0), gpus.uuid(1), "x264"]
    assert devices.faults() == []
    assert (gpus.opens(0), gpus.opens(1)) == (1, 1)


def test_who_asks_for_no_nvenc_looks_for_no_gpu(devices: Devices, gpus: EmulatedDriver) -> None:
    assert [device.encoder for device in devices.usable(("x264",))] == ["x264"]
    assert gpus.opens() == 0


@pytest.mark.parametrize("code", [20, 10])
def test_a_fault_that_passes_does_not_cost_the_gpu(devices: Devices, gpus: EmulatedDriver, code: int) -> None:
    gpus.set(fail_picture=3, fail_code=code, fail_picture_once=1)
    assert used(devices) == [gpus.uuid(0), "x264"]
    assert devices.faults() == []


@pytest.mark.parametrize("code", [13, 18])
def test_an_encoder_that_is_busy_at_first_is_asked_again(
    look: Callable[..., Devices], gpus: EmulatedDriver, code: int
) -> None:
    gpus.set(fail_open_every=2, fail_open_code=code)
    assert used(look()) == [gpus.uuid(0), "x264"]
    assert used(look()) == [gpus.uuid(0), "x264"], "the second open fails, and the third does not"
    assert gpus.refusals(code) == 1


def test_a_fault_that_stays_leaves_the_cpu_and_is_kept(devices: Devices, gpus: EmulatedDriver) -> None:
    gpus.set(fail_picture=3, fail_code=20)
    assert used(devices) == ["x264"]
    (fault,) = devices.faults()
    assert isinstance(fault.error, EncodeFaultError)
    assert (fault.encoder, fault.error.code, gpus.uuid(0) in fault.name) == ("nvenc", 20, True)
    assert devices.why_no_gpu() is fault.error
    assert [(device.gpu, error) for device, error in devices.found()] == [(gpus.uuid(0), fault.error)]


def test_a_driver_that_hangs_when_gpus_are_listed_is_a_fault(
    look: Callable[..., Devices], gpus: EmulatedDriver
) -> None:
    gpus.set(hang="init")
    devices = look(hang_seconds=1)
    assert used(devices) == ["x264"]
    (fault,) = devices.faults()
    assert (fault.name, fault.encoder) == ("the GPUs of this machine", "nvenc")
    assert isinstance(devices.why_no_gpu(), SessionHungError)
    assert devices.found() == []


def test_a_gpu_whose_sessions_are_all_in_use_works(devices: Devices, gpus: EmulatedDriver) -> None:
    gpus.set(fail_open_every=1, fail_open_code=10)
    assert used(devices) == [gpus.uuid(0), "x264"]
    assert devices.faults() == []


def test_a_setting_that_a_gpu_lacks_is_not_taken_for_a_missing_encoder(devices: Devices, gpus: EmulatedDriver) -> None:
    gpus.set(max_b_frames=0)
    assert used(devices) == ["x264"]
    error = devices.why_no_gpu()
    assert isinstance(error, EncoderSettingsError)
    assert "Max B-frames 2 exceed 0" in str(error)


def test_a_codec_that_a_gpu_lacks_is_no_fault_and_costs_no_other_codec(devices: Devices, gpus: EmulatedDriver) -> None:
    assert used(devices, Codec.AV1) == ["x264"], "the emulated driver makes H.264 only"
    assert used(devices) == [gpus.uuid(0), "x264"]
    assert devices.faults() == []
    assert [error for _, error in devices.found()] == [None]


def test_no_gpu_and_a_gpu_without_nvenc_are_no_faults(devices: Devices, gpus: EmulatedDriver) -> None:
    gpus.set(gpus=2)
    gpus.set_gpu(0, no_encoder=1)
    assert used(devices) == [gpus.uuid(1), "x264"]
    assert devices.faults() == []
    (works, none), (lacks, error) = devices.found()
    assert (works.gpu, none, lacks.gpu) == (gpus.uuid(1), None, gpus.uuid(0))
    assert isinstance(error, NoEncodeDeviceError)


def test_a_machine_without_a_gpu_has_no_fault(devices: Devices, gpus: EmulatedDriver) -> None:
    gpus.set(gpus=0)
    assert used(devices) == ["x264"]
    assert devices.faults() == []
    assert isinstance(devices.why_no_gpu(), NoEncodeDeviceError)


def test_a_lost_gpu_is_not_used_again(devices: Devices, gpus: EmulatedDriver) -> None:
    gpus.set(gpus=2)
    lost = devices.usable(BOTH)[0]
    error = GpuLostError("fell off the bus")
    devices.lose(lost, error)
    assert used(devices) == [gpus.uuid(1), "x264"]
    assert devices.why_no_gpu() is error
    assert [(device.gpu, why) for device, why in devices.found()] == [(gpus.uuid(1), None), (gpus.uuid(0), error)]


def test_a_refused_session_is_remembered_by_the_device_s_gate(devices: Devices, gpus: EmulatedDriver) -> None:
    (gpu,) = devices.usable(("nvenc",))
    assert gpu.limit is not None
    with gpu.gate.hold(timeout_seconds=0), gpu.gate.hold(timeout_seconds=0):
        gpu.note_refusal()
        assert gpu.limit.read() == 1
    with devices.hold([gpu], weight=1, on_wait=lambda: None, around_gpus=lambda gate: gate) as (device, slot):
        assert (device, slot.device) == (gpu, gpus.uuid(0))
        with pytest.raises(SessionBusyError), gpu.gate.hold(timeout_seconds=0):
            pass
