"""Calibration: the knee, the file, and what is measured with the emulated driver below.

The emulated driver's engines are made the bottleneck, so that where the knee has to be is known. What it says of speed
is true of no GPU.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image
from support.emulated_nvenc import DEVICE_NAME, EmulatedDriver
from support.jobs import draw_photo
from support.nvenc_workplace import Rendered, Workplace, encoders, other_program
from support.processes import environment_in

from fanreel.errors import StorageError
from fanreel.host.calibration import (
    Calibration,
    CurvePoint,
    DeviceCalibration,
    calibration_from_json,
    calibration_to_json,
    find_knee,
    read_calibration,
    write_calibration,
)
from fanreel.host.calibration_picture import draw_calibration
from fanreel.host.calibration_report import calibration_rows, calibration_table, keep_calibration
from fanreel.host.session_load import _throughput
from fanreel.sessions.gate import KernelLockGate
from fanreel.settings import read_settings

SMALL = ["--size", "320x180", "--seconds", "0.5"]


def measured(
    *rates: float, device: str = "GPU-1", driver: str = "570.1", limit: int | None = None
) -> DeviceCalibration:
    curve = tuple(CurvePoint(sessions, fps, 130 << 20, 60 << 20) for sessions, fps in enumerate(rates, 1))
    return DeviceCalibration(
        device=device,
        name="A GPU",
        encoder="nvenc",
        driver=driver,
        pyav="18.1.0",
        measured_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        film="1920x1080 at 30 fps, h264 fast",
        curve=curve,
        knee=find_knee(curve),
        limit=limit,
        tried=len(curve),
        engines=2,
    )


class TestKnee:
    @pytest.mark.parametrize(
        ("rates", "knee"),
        [
            ([100], 1),
            ([100, 200, 202, 201], 2),
            ([100, 94, 93], 1),
            ([100, 190, 200], 2),
            ([100, 189, 200], 3),
            ([100, 180, 260, 330], 4),
            ([200, 100, 208], 1),
        ],
    )
    def test_is_the_fewest_sessions_within_5_percent_of_the_best(self, rates: list[float], knee: int) -> None:
        assert measured(*rates).knee == knee

    @pytest.mark.parametrize(("limit", "sessions"), [(None, 3), (1, 1), (2, 2), (3, 3), (12, 3)])
    def test_a_limit_below_it_comes_first(self, limit: int | None, sessions: int) -> None:
        assert measured(100, 200, 300, limit=limit).sessions == sessions

    def test_a_session_s_memory_is_the_mean_of_the_most_of_them(self) -> None:
        assert measured(100, 200).gpu_bytes_a_session == 65 << 20
        without = replace(measured(100), curve=(CurvePoint(1, 100.0),))
        assert without.gpu_bytes_a_session is None


class TestThroughput:
    def test_counts_what_all_make_while_all_run(self) -> None:
        early, late = [(0.0, 0), (1.0, 100), (2.0, 200), (3.0, 300)], [(1.5, 0), (2.0, 20), (4.0, 100)]
        # From 1.5 to 3.0: 150 frames of the first; of the second 20, and half of 80.
        assert _throughput([early, late]) == pytest.approx((150 + 20 + 40) / 1.5)

    def test_what_did_not_run_together_is_no_measurement(self) -> None:
        with pytest.raises(Exception, match="measure for longer"):
            _throughput([[(0.0, 1), (1.0, 2)], [(2.0, 1), (3.0, 2)]])


class TestFile:
    def test_goes_around(self, tmp_path: Path) -> None:
        calibration = Calibration("host", (measured(100, 200.5), measured(9, device="cpu", driver="")), ("why",))
        assert calibration_from_json(calibration_to_json(calibration)) == calibration
        write_calibration(calibration, tmp_path / "a" / "c.json")
        assert read_calibration(tmp_path / "a" / "c.json") == calibration
        assert [path.name for path in (tmp_path / "a").iterdir()] == ["c.json"]

    def test_is_none_where_there_is_none(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        assert read_calibration(None) is None
        assert read_calibration(tmp_path / "no" / "c.json") is None
        assert not caplog.messages

    @pytest.mark.parametrize("damage", ["", "{", "[]", "knee=0", "curve=[]", "format=9", "sessions=-1", "\xff"])
    def test_damaged_it_counts_as_none_and_is_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
    ) -> None:
        values = json.loads(calibration_to_json(Calibration("host", (measured(100, 200),))))
        key, _, value = damage.partition("=")
        if key in ("knee", "curve"):
            values["devices"][0][key] = json.loads(value)
        elif key == "sessions":
            values["devices"][0]["curve"][0][key] = int(value)
        elif value:
            values[key] = json.loads(value)
        path = tmp_path / "c.json"
        path.write_bytes(json.dumps(values).encode() if value else damage.encode("latin-1"))
        assert read_calibration(path) is None
        assert "fanreel calibrate" in caplog.text

        write_calibration(Calibration("host", (measured(100),)), path)
        assert read_calibration(path) == Calibration("host", (measured(100),))

    def test_what_was_measured_of_other_devices_stays(self, tmp_path: Path) -> None:
        path = tmp_path / "c.json"
        write_calibration(Calibration("host", (measured(100), measured(100, device="GPU-2"))), path)
        write_calibration(Calibration("host", (measured(100, 200), measured(9, device="cpu", driver=""))), path)
        kept = read_calibration(path)
        assert kept
        assert {each.device: each.knee for each in kept.devices} == {"GPU-1": 2, "GPU-2": 1, "cpu": 1}
        assert kept.devices[-1].device == "cpu"

    def test_another_driver_s_is_not_found(self) -> None:
        calibration = Calibration("host", (measured(100, 200),))
        assert calibration.find("GPU-1", driver="570.1") == measured(100, 200)
        assert calibration.find("GPU-1", driver="580.1") is None
        assert calibration.find("GPU-2", driver="570.1") is None

    def test_a_folder_that_cannot_be_written_is_said(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="FANREEL_CALIBRATION"):
            write_calibration(Calibration("host", (measured(1),)), tmp_path / "file" / "c.json")

    def test_many_gpus_fit_without_their_curves(self) -> None:
        many = Calibration("host", tuple(measured(*range(100, 900, 100), device=f"GPU-{i:036}") for i in range(8)))
        assert len(calibration_to_json(many)) > 5000
        short = many.without_curves()
        assert len(calibration_to_json(short)) < 5000
        assert [each.sessions for each in short.devices] == [each.sessions for each in many.devices]

    def test_where_it_is(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        monkeypatch.delenv("FANREEL_CALIBRATION", raising=False)
        monkeypatch.delenv("FANREEL_GPU_SESSIONS", raising=False)
        assert read_settings().calibration == tmp_path / "fanreel" / "calibration.json"
        assert read_settings().gpu_sessions is None
        monkeypatch.setenv("FANREEL_CALIBRATION", str(tmp_path / "c.json"))
        assert read_settings().calibration == tmp_path / "c.json"


class TestShown:
    CALIBRATION = Calibration("host", (measured(100, 200, 201, limit=3), measured(88, device="cpu", driver="")))

    def test_as_a_table(self) -> None:
        said = calibration_table(self.CALIBRATION)
        assert re.search(r"^ +2 +200 +100 +130 MiB +60 MiB +knee$", said, re.MULTILINE)
        assert "knee at 2, the driver allows 3: films get 2 sessions at once" in said
        assert [row["sessions"] for row in calibration_rows(self.CALIBRATION)] == ["1", "2", "3", "1"]

    @pytest.mark.parametrize("devices", [1, 2, 12])
    def test_as_a_picture(self, tmp_path: Path, devices: int) -> None:
        many = [measured(*range(100, 100 + 50 * n, 50), device=f"GPU-{n}") for n in range(1, devices + 1)]
        picture = Image.open(io.BytesIO(draw_calibration(Calibration("host", tuple(many)))))
        assert (picture.size, picture.format) == ((960, 540), "PNG")
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
        assert (0x0B, 0x6E, 0x4F) in colours, "the first device's line"

    def test_both_are_kept(self, tmp_path: Path) -> None:
        assert keep_calibration(self.CALIBRATION, None) == ()
        kept = keep_calibration(self.CALIBRATION, tmp_path / "c.json")
        assert [path.name for path in kept] == ["c.json", "c.png"]
        assert all(path.stat().st_mode & 0o777 == 0o644 for path in kept)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    folder = tmp_path / "place"
    folder.mkdir()
    gpus = EmulatedDriver(folder / "hardware", engines=2, keep_engine=1)
    made = Workplace(folder, gpus)
    yield made
    made.check_nothing_is_left()


def calibrate(place: Workplace, *arguments: str, **environment: str) -> Rendered:
    # So slow that it is the engines, and never the CPU, that are the bottleneck.
    place.gpus.set(microseconds_per_frame=40_000)
    command = [sys.executable, "-m", "fanreel", "calibrate", *SMALL, *arguments]
    done = subprocess.run(
        command, env=place.env(**environment), capture_output=True, text=True, timeout=250, check=False
    )
    return Rendered(done.returncode, done.stdout, done.stderr)


def kept(place: Workplace) -> dict[str, DeviceCalibration]:
    found = read_calibration(place.folder / "calibration.json")
    return {each.device: each for each in found.devices} if found else {}


def render(place: Workplace, **environment: str) -> Rendered:
    """Make a film with as many sessions as the host is said to bear, on engines that nobody measures."""
    place.gpus.set(microseconds_per_frame=4000)
    photos = place.folder.parent / "photos"
    if not photos.exists():
        photos.mkdir()
        for seed in range(12):
            draw_photo(photos / f"photo-{seed:02d}.jpg", seed=700 + seed, size=(400, 300))
    done = subprocess.run(
        place.command(), env=place.env(**environment), capture_output=True, text=True, timeout=250, check=False
    )
    return Rendered(done.returncode, done.stdout, done.stderr).check()


class TestMeasured:
    @pytest.mark.soak
    @pytest.mark.alone
    def test_the_knee_is_at_the_engines_and_the_limit_is_found(self, place: Workplace) -> None:
        place.gpus.set(session_limit=3)
        # Long enough that what one report more or less brings is far below the 5 % that decide about the knee.
        done = calibrate(place, "--ceiling", "--seconds", "3").check()

        gpu = kept(place)[place.gpus.uuid(0)]
        assert (gpu.name, gpu.driver, gpu.engines) == (DEVICE_NAME, "610.10.00", 2)
        assert (gpu.knee, gpu.limit, gpu.sessions) == (2, 3, 2), gpu.curve
        assert [point.fps for point in gpu.curve[:2]] == pytest.approx([25, 50], rel=0.15)
        assert [point.gpu_bytes for point in gpu.curve] == [n * 130 << 20 for n in (1, 2, 3)]
        assert all(10 << 20 < (point.session_bytes or 0) < 300 << 20 for point in gpu.curve)
        assert place.gpus.most_sessions() == 3
        assert "knee at 2, the driver allows 3" in done.out
        picture = re.findall(r"^kept in (.*\.png)$", done.out, re.MULTILINE)
        assert Image.open(picture[0]).size == (960, 540)
        cpu = kept(place)["cpu"]
        assert (cpu.curve[0].sessions, cpu.limit) == (1, None)
        assert cpu.curve[-1].sessions <= len(os.sched_getaffinity(0))


@pytest.mark.soak
class TestFromThenOn:
    def test_a_film_gets_as_many_sessions_as_were_measured(self, place: Workplace) -> None:
        place.gpus.set(engines=3)
        assert "GPU sessions: 2 (not calibrated: 2 a GPU)" in render(place).err
        gpu = measured(25, 50, 75, 75, device=place.gpus.uuid(0), driver="610.10.00")
        write_calibration(Calibration("host", (gpu,)), place.folder / "calibration.json")

        done = render(place, FANREEL_STORE=str(place.folder / "store-2"))
        assert "GPU sessions: 3 (calibrated)" in done.err
        assert done.most_at_once() == 3
        assert encoders(place.sound_film()) == {"nvenc": 12}

        said = render(place, FANREEL_STORE=str(place.folder / "store-3"), FANREEL_GPU_SESSIONS="1")
        assert "GPU sessions: 1 (FANREEL_GPU_SESSIONS)" in said.err
        assert said.most_at_once() == 1

        place.gpus.set(driver_version="999.1")
        said = render(place, FANREEL_STORE=str(place.folder / "store-4"))
        assert "GPU sessions: 2 (not calibrated: 2 a GPU)" in said.err

    def test_a_damaged_file_is_no_reason_to_fail(self, place: Workplace) -> None:
        (place.folder / "calibration.json").write_text('{"host": 1}')
        said = render(place)
        assert "GPU sessions: 2 (not calibrated: 2 a GPU)" in said.err
        assert "run `fanreel calibrate` again" in said.err


@pytest.mark.soak
class TestCeiling:
    def test_none_up_to_16(self, place: Workplace) -> None:
        done = calibrate(place, "--ceiling", "--most", "1").check()
        gpu = kept(place)[place.gpus.uuid(0)]
        assert (gpu.limit, gpu.tried) == (None, 16)
        assert place.gpus.most_sessions() == 16
        assert "the driver refused none of 16" in done.out

    @pytest.mark.alone
    @pytest.mark.parametrize("code", [10, 21])
    def test_is_found_by_the_curve_too(self, place: Workplace, code: int) -> None:
        place.gpus.set(session_limit=1, limit_code=code)
        calibrate(place).check()
        gpu = kept(place)[place.gpus.uuid(0)]
        assert (gpu.knee, gpu.limit) == (1, 1)

    def test_is_not_looked_for_where_nobody_knows_who_else_has_one(self, place: Workplace) -> None:
        place.gpus = place.gpus.without("libnvidia-ml.so.1")
        done = calibrate(place, "--ceiling", "--most", "2")
        assert done.code == 4
        assert "NVML does not say" in done.err
        assert place.gpus.most_sessions() == 2
        assert kept(place)[place.gpus.uuid(0)].limit is None
        assert "(calibrated)" in render(place).err, "nor is the driver's version known then, before and after"


@pytest.mark.soak
class TestNotAlone:
    def test_another_program_s_session_is_named_and_nothing_is_opened(self, place: Workplace) -> None:
        with other_program(place, sessions=1):
            opens = place.gpus.opens()
            done = calibrate(place, "--ceiling")
            assert place.gpus.opens() <= opens + 1, "but the one that looked whether NVENC works"
        assert done.code == 4
        assert re.search(r"is not calibrated: other programs hold encoder sessions .*ffmpeg.* \(pid \d+\)", done.err)
        assert list(kept(place)) == ["cpu"]

    @pytest.mark.parametrize("device", ["cpu", "gpu"])
    def test_a_film_that_is_being_made_is_not_disturbed(self, place: Workplace, device: str) -> None:
        name = "cpu" if device == "cpu" else place.gpus.uuid(0)
        gate = KernelLockGate(name, capacity=1, folder=place.folder / "locks")
        with gate.hold(timeout_seconds=0):
            done = calibrate(place)
        assert done.code == 4
        assert "no free encoder session" in done.err
        assert not kept(place)

    def test_a_gpu_that_fails_is_said_and_the_rest_is_kept(self, place: Workplace) -> None:
        place.gpus.set(gpus=2)
        place.gpus.set_gpu(0, fail_picture=30)
        done = calibrate(place, "--most", "1")
        assert done.code == 4
        assert re.search(rf"{place.gpus.uuid(0)}\) is not calibrated: .*\(20\)", done.err)
        assert set(kept(place)) == {place.gpus.uuid(1), "cpu"}

    @pytest.mark.parametrize("arguments", [["--seconds", "0"], ["--most", "0"], ["--size", "small"], ["--size", "3x3"]])
    def test_what_makes_no_sense_is_refused(self, place: Workplace, arguments: list[str]) -> None:
        assert calibrate(place, *arguments).code == 2


@pytest.mark.soak
def test_a_machine_without_a_gpu_measures_its_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fanreel", "calibrate", *SMALL]
    done = subprocess.run(
        command, env=environment_in(tmp_path), capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    found = read_calibration(tmp_path / "calibration.json")
    assert found
    assert "cpu" in [each.device for each in found.devices]
