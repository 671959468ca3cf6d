"""Doctor over the emulated driver: what it says of GPUs that work, that do not, and that others use."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.emulated_nvenc import DEVICE_NAME, EmulatedDriver
from support.jobs import draw_photo
from support.nvenc_workplace import Workplace, other_program
from support.processes import wait_until


@dataclass(frozen=True)
class Found:
    """What doctor said."""

    code: int
    rows: tuple[tuple[str, str, str], ...]

    def row(self, subject: str) -> tuple[str, str]:
        (found,) = [(usable, finding) for name, usable, finding in self.rows if name == subject]
        return found

    def usable(self, subject: str) -> str:
        return self.row(subject)[0]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    (tmp_path / "place").mkdir()
    made = Workplace(tmp_path / "place", EmulatedDriver(tmp_path / "hardware", engines=2))
    yield made
    made.check_nothing_is_left()


def doctor(place: Workplace, **environment: str) -> Found:
    command = [sys.executable, "-m", "fanreel", "doctor"]
    done = subprocess.run(
        command, env=place.env(**environment), capture_output=True, text=True, timeout=120, check=False
    )
    found = re.findall(r"^(.{10}) (yes|no|-) +(.*)$", done.stdout, re.MULTILINE)
    return Found(done.returncode, tuple((name.strip(), usable, finding) for name, usable, finding in found))


def test_a_gpu_that_works(place: Workplace) -> None:
    found = doctor(place)
    uuid = place.gpus.uuid(0)
    assert found.code == 0
    assert found.row("nvenc") == ("yes", "1 GPU encoded test frames")
    facts = f"{DEVICE_NAME} ({uuid}), driver 610.10.00, 300 of 24576 MiB in use, 2 NVENC engines"
    assert found.row("gpu") == ("yes", facts)
    assert found.row("h264") == ("yes", f"{uuid}: encoded test frames")
    for codec in ("hevc", "av1"):
        assert found.usable(codec) == "no"
        assert "Codec not supported" in found.row(codec)[1]
    assert "no encoder session now" in found.row("in use")[1]
    assert "2 sessions at once (not calibrated: 2 a GPU)" in found.row("allowed")[1]


@pytest.mark.soak
class TestWhatIsWrong:
    @pytest.mark.parametrize("code", [1, 2])
    def test_no_encoder_is_recognised_and_no_fault(self, place: Workplace, code: int) -> None:
        place.gpus.set(no_encoder=1, no_encoder_code=code)
        found = doctor(place)
        assert (found.code, found.usable("nvenc"), found.usable("gpu")) == (0, "no", "-")
        said = found.row("gpu")[1]
        assert "it has no encoder that can be used" in said
        assert f"({code})" in said

    def test_a_driver_that_is_too_old_is_named(self, place: Workplace) -> None:
        place.gpus.set(api_version="10.0")
        found = doctor(place)
        assert (found.usable("nvenc"), found.usable("gpu")) == ("no", "no")
        assert "570" in found.row("gpu")[1]
        assert "update the NVIDIA driver" in found.row("gpu")[1]

    @pytest.mark.parametrize("missing", ["libcuda.so.1", "libnvidia-encode.so.1"])
    def test_a_driver_that_is_not_there(self, place: Workplace, missing: str) -> None:
        place.gpus = place.gpus.without(missing)
        found = doctor(place)
        assert (found.code, found.usable("nvenc")) == (0, "no")
        assert any(missing in finding for _, _, finding in found.rows)

    def test_without_nvml_the_gpu_works(self, place: Workplace) -> None:
        place.gpus = place.gpus.without("libnvidia-ml.so.1")
        found = doctor(place)
        assert (found.usable("nvenc"), found.usable("nvml")) == ("yes", "-")
        assert "driver of unknown version" in found.row("gpu")[1]
        assert "not known" in found.row("in use")[1]

    def test_no_gpu_at_all(self, place: Workplace) -> None:
        place.gpus.set(gpus=0)
        found = doctor(place)
        assert (found.code, found.usable("nvenc")) == (0, "no")
        assert "CUDA_ERROR_NO_DEVICE" in found.row("nvenc")[1]

    def test_a_gpu_that_hangs_is_left_after_its_time(self, place: Workplace) -> None:
        place.gpus.set(hang="open")
        found = doctor(place, FANREEL_HANG_SECONDS="2")
        assert (found.usable("nvenc"), found.usable("gpu")) == ("no", "no")
        assert "was killed" in found.row("gpu")[1]


@pytest.mark.soak
class TestWhose:
    def test_instances_and_the_gpu_they_are_of(self, place: Workplace) -> None:
        place.gpus.set(mig=1, mig_instances=1)
        found = doctor(place)
        gpus = {finding for name, _, finding in found.rows if name == "gpu"}
        assert any(place.gpus.uuid(0, 0) in said and "a MIG instance" in said for said in gpus)
        assert f"{DEVICE_NAME} ({place.gpus.uuid(0)}): split into instances (MIG)" in gpus

    def test_a_gpu_that_is_not_shown(self, place: Workplace) -> None:
        place.gpus.set(gpus=2)
        found = doctor(place, CUDA_VISIBLE_DEVICES="0")
        assert found.row("nvenc")[1] == "1 GPU encoded test frames"
        hidden = [said for name, _, said in found.rows if name == "gpu" and place.gpus.uuid(1) in said]
        assert "not shown to this process" in hidden[0]

    def test_gpus_that_are_named_wrongly(self, place: Workplace) -> None:
        for names in ("0,0", "GPU-no-such"):
            found = doctor(place, CUDA_VISIBLE_DEVICES=names)
            assert (found.code, found.usable("nvenc")) == (0, "no")
            assert "CUDA_VISIBLE_DEVICES, if it is set, has to name each once" in found.row("nvenc")[1]
            assert "not shown to this process" in found.row("gpu")[1]

    def test_another_program_s_sessions_are_named(self, place: Workplace) -> None:
        with other_program(place, sessions=2):
            said = doctor(place).row("in use")[1]
        assert re.search(r"2 encoder sessions now: 1 of ffmpeg\S* \(pid \d+\), 1 of ffmpeg\S* \(pid \d+\)", said), said

    def test_ours_are_ours(self, place: Workplace) -> None:
        (place.folder.parent / "photos").mkdir()
        for seed in range(4):
            draw_photo(place.folder.parent / f"photos/photo-{seed}.jpg", seed=seed, size=(400, 300))
        place.gpus.set(microseconds_per_frame=300_000)
        film = place.start(sessions=1)
        try:
            wait_until(lambda: place.gpus.pictures() > 10, seconds=60, what="the film has begun")
            wait_until(lambda: place.gpus.open_sessions() == 1, seconds=60, what="its session")
            found = doctor(place, FANREEL_GPU_SESSIONS="1")
        finally:
            film.send_signal(signal.SIGINT)
            film.wait(60)
        assert "1 encoder session now: 1 of fanreel" in found.row("in use")[1]
        assert found.usable("h264") == "-"
        assert "not tried, every session is in use now" in found.row("h264")[1]
