"""Films through NVENC: sessions, limits and faults, across processes, with the emulated driver below all of it.

Everything above the driver's ABI is real: the command, its launcher and sessions, PyAV, the kernel's locks.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from support.emulated_nvenc import DEVICE_NAME, EmulatedDriver
from support.jobs import draw_photo
from support.nvenc_workplace import (
    ENGINES,
    FRAMES_A_SLIDE,
    SLIDES,
    Rendered,
    Workplace,
    encoders,
    errors,
    other_program,
)
from support.processes import descendants, wait_until

from fanreel.join.certificate import certificate_path, read_certificate

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvenc")
    (folder / "photos").mkdir()
    for seed in range(SLIDES):
        draw_photo(folder / "photos" / f"photo-{seed:02d}.jpg", seed=500 + seed, size=(400, 300))
    return folder


@pytest.fixture
def place(photos: Path, request: pytest.FixtureRequest) -> Iterator[Workplace]:
    folder = photos / re.sub(r"\W+", "-", request.node.name)
    folder.mkdir()
    made = Workplace(folder, EmulatedDriver(folder / "hardware", gpus=1, engines=ENGINES, microseconds_per_frame=500))
    yield made
    made.check_nothing_is_left()
    shutil.rmtree(folder)


class TestFilm:
    def test_a_film_is_made_by_sessions_side_by_side_and_says_on_what(self, place: Workplace) -> None:
        done = place.render().check()

        certificate = place.sound_film()
        assert encoders(certificate) == {"nvenc": SLIDES}
        uuid = place.gpus.uuid(0)
        assert {record.event.device for record in certificate.segments} == {f"{DEVICE_NAME} ({uuid})"}
        assert not any(record.event.fallback for record in certificate.segments)
        assert f"nvenc ({SLIDES} segments)" in done.out
        assert "fallback" not in done.out
        assert done.most_at_once() == place.gpus.most_sessions() == 2
        assert re.search(rf"^START .*, nvenc on {re.escape(DEVICE_NAME)} \({uuid}\), after \d+ ms", done.err, re.M)
        assert re.search(r"^DONE .*, \d+ frames in \d+ ms$", done.err, re.M)
        assert place.gpus.refusals(10) == place.gpus.refusals(21) == 0

    @pytest.mark.soak
    @pytest.mark.parametrize("cap", ["environment", "job", "command"])
    def test_a_cap_of_one_session_is_never_two(self, place: Workplace, cap: str) -> None:
        command = place.command(**({"sessions": 1} if cap == "job" else {}))
        env = place.env(FANREEL_GPU_SESSIONS=3, **({"NUM_NVENC_STREAMS": 1} if cap == "environment" else {}))
        command += ["--sessions", "1"] if cap == "command" else []
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
        rendered = Rendered(done.returncode, done.stdout, done.stderr).check()

        assert rendered.most_at_once() == place.gpus.most_sessions() == 1
        assert len(rendered.spans()) >= 2

    @pytest.mark.soak
    def test_several_gpus_are_all_used(self, place: Workplace) -> None:
        place.gpus.set(gpus=2)
        done = place.render(sessions=1).check()

        devices = [record.event.device for record in place.sound_film().segments]
        assert {device.rsplit("(", 1)[1].rstrip(")") for device in devices} == {place.gpus.uuid(0), place.gpus.uuid(1)}
        assert (place.gpus.most_sessions(0), place.gpus.most_sessions(1)) == (1, 1)
        assert done.most_at_once() == 2

    @pytest.mark.soak
    def test_only_visible_gpus_are_used(self, place: Workplace) -> None:
        place.gpus.set(gpus=2)
        place.render(environment={"CUDA_VISIBLE_DEVICES": "1"}).check()
        assert place.gpus.opens(0) == 0
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}

    @pytest.mark.soak
    def test_a_mixed_film_joins_and_every_frame_decodes_elsewhere(self, place: Workplace) -> None:
        done = mixed_film(place)

        certificate = place.sound_film()
        made = encoders(certificate)
        assert min(made["nvenc"], made["x264"]) >= 1
        nvenc, x264 = ({r.parameter_sets for r in certificate.segments if r.encoder == name} for name in made)
        assert not nvenc & x264, "the two encoders' streams differ, or this proves nothing"
        many = "" if made["x264"] == 1 else "s"
        assert f"fallback  {made['x264']} segment{many}; nvenc: encode fault (20)" in done.out
        ffmpeg = [
            imageio_ffmpeg.get_ffmpeg_exe(),
            "-v",
            "error",
            "-xerror",
            "-i",
            str(place.film),
            "-f",
            "framecrc",
            "-",
        ]
        decoded = subprocess.run(ffmpeg, capture_output=True, text=True, timeout=60, check=False)
        assert (decoded.returncode, decoded.stderr) == (0, "")
        rows = [line.split(",") for line in decoded.stdout.splitlines() if not line.startswith("#")]
        assert [int(row[2]) for row in rows] == list(range(SLIDES * FRAMES_A_SLIDE))


def mixed_film(place: Workplace) -> Rendered:
    """Make a film of which the first segment in store is x264's and the rest NVENC's, by a fault in its session."""
    place.gpus.set(fail_picture=20, fail_code=20)
    first = place.render(photos=[str(place.folder.parent / "photos/photo-00.jpg")], name="first").check()
    place.gpus.set(fail_picture=0)
    place.render().check()
    return Rendered(0, place.render().check().out, first.err)


@pytest.mark.soak
class TestChoice:
    """Which encoder makes a film, and which segments it takes."""

    def test_nvenc_asked_for_and_not_there_is_one_error(self, place: Workplace) -> None:
        place.gpus.set(no_encoder=1)
        done = place.render(encoding={"encoder": "nvenc"})
        assert done.code == 4
        assert len(errors(done)) == 1
        assert "(2)" in errors(done)[0]
        assert not place.film.exists()

    def test_a_gpu_without_an_encoder_is_no_fault(self, place: Workplace) -> None:
        place.gpus.set(no_encoder=1)
        done = place.render().check()
        assert encoders(place.sound_film()) == {"x264": SLIDES}
        assert "fallback" not in done.out

    def test_after_a_fallback_x264_does_not_satisfy_who_insists_on_nvenc(self, place: Workplace) -> None:
        place.gpus.set(fail_picture=20, fail_code=8)
        fallen = place.render().check()
        assert encoders(place.sound_film()) == {"x264": SLIDES}
        assert f"fallback  {SLIDES} segments; nvenc: encoder settings (8)" in fallen.out

        refused = place.render(encoding={"encoder": "nvenc"})
        assert refused.code == 4
        assert "(8)" in errors(refused)[-1]

        place.gpus.set(fail_picture=0)
        place.render(encoding={"encoder": "nvenc"}).check()
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}

    def test_a_fallback_can_be_forbidden(self, place: Workplace) -> None:
        place.gpus.set(fail_picture=20, fail_code=8)
        done = place.render(encoding={"fallback": "never"})
        assert done.code == 4
        assert "(8)" in errors(done)[-1]
        assert not place.film.exists()

    def test_a_film_too_small_for_nvenc_is_made_by_the_cpu(self, place: Workplace) -> None:
        done = place.render(size="128x96").check()
        assert encoders(place.sound_film()) == {"x264": SLIDES}
        assert "nvenc: encoder settings (8)" in done.out


@pytest.mark.soak
class TestDrivers:
    """What is found before a film is begun."""

    def test_too_old_is_said_and_recorded(self, place: Workplace) -> None:
        place.gpus.set(api_version="10.0")
        done = place.render().check()
        assert encoders(place.sound_film()) == {"x264": SLIDES}
        assert f"fallback  {SLIDES} segments; nvenc: driver (15)" in done.out
        assert "570" in done.err

        refused = place.render(encoding={"encoder": "nvenc"})
        assert refused.code == 4
        (said,) = errors(refused)
        assert "Required: 13.0 Found: 10.0" in said
        assert "570" in said

    @pytest.mark.parametrize("missing", ["libcuda.so.1", "libnvidia-encode.so.1"])
    def test_missing_is_said(self, place: Workplace, missing: str) -> None:
        place.gpus = place.gpus.without(missing)
        place.render().check()
        assert encoders(place.sound_film()) == {"x264": SLIDES}
        refused = place.render(encoding={"encoder": "nvenc"})
        assert refused.code == 4
        (said,) = errors(refused)
        assert missing in said

    def test_without_nvml_films_are_made_all_the_same(self, place: Workplace) -> None:
        place.gpus = place.gpus.without("libnvidia-ml.so.1")
        place.render().check()
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}
        assert place.gpus.most_sessions() == 2

    def test_with_an_nvml_that_hangs_films_are_made_all_the_same(self, place: Workplace) -> None:
        place.gpus.set(hang="nvml")
        done = place.render().check()
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}
        assert re.search(r"NVML .* does not answer", done.err)

    def test_instances_of_a_partitioned_gpu_are_devices(self, place: Workplace) -> None:
        place.gpus.set(mig=1, mig_instances=1)
        place.render().check()
        certificate = place.sound_film()
        assert encoders(certificate) == {"nvenc": SLIDES}
        assert all(place.gpus.uuid(0, 0) in record.event.device for record in certificate.segments)

    def test_a_partitioned_gpu_without_an_encoder_is_recognised(self, place: Workplace) -> None:
        place.gpus.set(mig=1, mig_instances=1, no_encoder=1)
        place.render().check()
        assert encoders(place.sound_film()) == {"x264": SLIDES}


@pytest.mark.soak
class TestSessionLimits:
    """More sessions wanted than the driver allows."""

    @pytest.mark.parametrize("code", [10, 21])
    def test_twelve_wanted_three_allowed(self, place: Workplace, code: int) -> None:
        place.gpus.set(session_limit=3, limit_code=code, microseconds_per_frame=4000)
        done = place.render(sessions=12).check()

        assert encoders(place.sound_film()) == {"nvenc": SLIDES}
        assert place.gpus.most_sessions() == 3
        assert place.gpus.refusals(code) >= 1
        assert "trying again" in done.err
        assert f"({code})" in done.err

    def test_another_program_holds_two_of_three(self, place: Workplace) -> None:
        place.gpus.set(session_limit=3)
        with other_program(place, sessions=2):
            place.render(sessions=3).check()
            assert place.gpus.open_sessions() == 2, "ours are gone, the others' are not"
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}
        assert place.gpus.most_sessions() == 3
        assert place.gpus.refusals(21) == 0, "NVML counted them, so that none of ours was refused"

    def test_another_program_holds_all_of_them(self, place: Workplace) -> None:
        place.gpus.set(session_limit=2, limit_code=10)
        with other_program(place, sessions=2):
            done = place.render(sessions=2, photos=[str(place.folder.parent / "photos/photo-00.jpg")]).check()
        assert encoders(place.sound_film()) == {"x264": 1}
        assert "fallback  1 segment; nvenc: session limit (10)" in done.out

    def test_the_limit_falls_in_mid_film(self, place: Workplace) -> None:
        place.gpus.set(microseconds_per_frame=5000)
        command = place.start(sessions=4)
        wait_until(lambda: place.gpus.pictures() > 100, seconds=60, what="the film has begun")
        before = place.gpus.most_sessions()
        place.gpus.set(session_limit=1, limit_code=10, microseconds_per_frame=500)
        assert command.wait(200) == 0, (place.folder / "film.log").read_text()
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}
        assert before > 1
        assert place.gpus.refusals(10) >= 1

    def test_two_commands_share_what_there_is(self, place: Workplace) -> None:
        place.gpus.set(session_limit=2, limit_code=21, microseconds_per_frame=2000)
        commands = [place.start(name=name, encoding={"quality": quality}) for name, quality in (("a", 30), ("b", 31))]
        assert [command.wait(200) for command in commands] == [0, 0]
        assert all(encoders(place.sound_film(name)) == {"nvenc": SLIDES} for name in "ab")
        assert place.gpus.most_sessions() == 2
        assert place.gpus.refusals(21) == 0, "the locks of the host held them apart"


@pytest.mark.soak
class TestFaults:
    """What fails while a film is made."""

    @pytest.mark.parametrize("code", [20, 10])
    def test_once(self, place: Workplace, code: int) -> None:
        place.gpus.set(fail_picture=20, fail_code=code, fail_picture_once=1)
        done = place.render().check()
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}
        assert f"({code})" in done.err
        assert "trying again" in done.err
        retries = [record.event.retries for record in place.sound_film().segments]
        assert sorted(set(retries)) == [0, 1]

    @pytest.mark.parametrize(("every", "code"), [(7, 10), (3, 13), (3, 18)])
    def test_every_so_many_opens_fail(self, place: Workplace, every: int, code: int) -> None:
        place.gpus.set(fail_open_every=every, fail_open_code=code)
        done = place.render().check()
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}
        assert done.err.count("trying again") == place.gpus.refusals(code) >= 1

    def test_always_ends_in_the_cpu(self, place: Workplace) -> None:
        place.gpus.set(fail_picture=20, fail_code=20)
        done = place.render(photos=[str(place.folder.parent / "photos/photo-00.jpg")]).check()
        assert encoders(place.sound_film()) == {"x264": 1}
        assert "fallback  1 segment; nvenc: encode fault (20)" in done.out
        (record,) = read_certificate(certificate_path(place.film)).segments
        assert (record.event.fallback, record.event.retries) == ("nvenc: encode fault (20)", 2)

    @pytest.mark.parametrize("where", ["open", "encode"])
    def test_a_hang_is_bounded_and_tried_again(self, place: Workplace, where: str) -> None:
        place.environment = {"FANREEL_HANG_SECONDS": "3"}
        place.gpus.set(microseconds_per_frame=2000)
        command = place.start()
        wait_until(lambda: place.gpus.pictures() > 60, seconds=60, what="the film has begun")
        place.gpus.set(hang=where, hang_once=1, hang_picture=30)
        assert command.wait(200) == 0
        said = (place.folder / "film.log").read_text()
        assert "made no frame for 3 s and was killed; trying again" in said
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}

    def test_a_driver_that_hangs_from_the_start_is_left(self, place: Workplace) -> None:
        place.environment = {"FANREEL_HANG_SECONDS": "3"}
        place.gpus.set(hang="open")
        refused = place.render(encoding={"fallback": "never"})
        assert refused.code == 4
        assert "was killed" in errors(refused)[-1]

        done = place.render().check()
        assert encoders(place.sound_film()) == {"x264": SLIDES}
        assert "nvenc: session hung" in done.out

    def test_a_lost_gpu_takes_only_its_own_shards(self, place: Workplace) -> None:
        place.gpus.set(gpus=2, microseconds_per_frame=3000)
        command = place.start(sessions=1)
        wait_until(lambda: min(place.gpus.pictures(0), place.gpus.pictures(1)) > 40, seconds=60, what="both work")
        opens = place.gpus.opens(1)
        place.gpus.set_gpu(0, lost=1)
        assert command.wait(200) == 0
        certificate = place.sound_film()
        assert encoders(certificate) == {"nvenc": SLIDES}
        assert not any(record.event.fallback for record in certificate.segments)
        assert place.gpus.opens(1) > opens

    def test_the_only_gpu_lost_leaves_the_cpu(self, place: Workplace) -> None:
        place.gpus.set(microseconds_per_frame=3000)
        command = place.start()
        wait_until(lambda: place.gpus.pictures() > 250, seconds=60, what="the film has begun")
        place.gpus.set(lost=1)
        assert command.wait(200) == 0
        certificate = place.sound_film()
        made = encoders(certificate)
        assert made["nvenc"] >= 1
        assert made["x264"] >= 1
        fallbacks = {record.event.fallback for record in certificate.segments if record.encoder == "x264"}
        assert fallbacks == {"nvenc: gpu lost (5)"}

    def test_a_lost_gpu_and_none_left_is_one_error_for_who_insists(self, place: Workplace) -> None:
        place.gpus.set(fail_picture=20, fail_code=5)
        for encoding in ({"encoder": "nvenc"}, {"fallback": "never"}):
            refused = place.render(encoding=encoding)
            assert refused.code == 4
            (said,) = errors(refused)
            assert "(5)" in said
            assert not place.film.exists()

    def test_a_killed_session_is_tried_again(self, place: Workplace) -> None:
        place.gpus.set(microseconds_per_frame=3000)
        command = place.start()
        encoding = wait_until(
            lambda: place.gpus.pictures() > 60 and place.gpus.pids(), seconds=60, what="a session encodes"
        )
        os.kill(encoding[0], signal.SIGKILL)
        assert command.wait(200) == 0
        assert "killed by SIGKILL; trying again" in (place.folder / "film.log").read_text()
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}

    def test_a_killed_command_frees_the_sessions_at_once(self, place: Workplace) -> None:
        place.gpus.set(microseconds_per_frame=3000)
        command = place.start()
        wait_until(lambda: place.gpus.open_sessions() == 2, seconds=60, what="two sessions")
        below = descendants(command.pid)
        command.kill()
        command.wait()
        wait_until(lambda: place.gpus.open_sessions() == 0, seconds=10, what="no session is open")
        wait_until(lambda: not [p for p in below if Path(f"/proc/{p}").exists()], seconds=10, what="all are gone")
        assert not place.film.exists()
        place.gpus.set(microseconds_per_frame=500)
        place.render().check()
        assert encoders(place.sound_film()) == {"nvenc": SLIDES}


@pytest.mark.soak
@pytest.mark.alone
def test_engines_that_are_the_bottleneck_are_kept_busy(place: Workplace) -> None:
    """The emulator's engines keep a timetable and take no CPU; what its pictures cost is x264's time beside it."""
    _, pictures_a_second = watch_engines(place, name="fast", encoding={"quality": 31})
    # Engines are the bottleneck where the cores, however many they are and whatever else they do, make much more.
    microseconds = max(16_000, round(ENGINES * 4e6 / pictures_a_second))
    place.gpus.set(microseconds_per_frame=microseconds)
    share, _ = watch_engines(place, name="film")
    assert share >= 0.95, f"at {microseconds} us a picture, after {pictures_a_second:.0f} pictures a second"


def watch_engines(place: Workplace, *, name: str, **words: Any) -> tuple[float, float]:
    """Make a film; return which share of their time the engines were busy, and the pictures a second."""
    before = place.gpus.pictures()
    command = place.start(sessions=4, name=name, **words)
    wait_until(lambda: place.gpus.pictures() > before + 10, seconds=60, what="the first pictures")
    if name == "film":
        time.sleep(1)
    since, first = place.gpus.snapshot(), place.gpus.pictures()
    # Until the last shards are begun: then engines have nothing to do because there is nothing left.
    wanted = before + SLIDES * FRAMES_A_SLIDE * 3 // 4
    wait_until(lambda: place.gpus.pictures() > wanted, seconds=120, what="three quarters of the film")
    until, last = place.gpus.snapshot(), place.gpus.pictures()
    share = place.gpus.busy_share(since, until)
    assert command.wait(100) == 0
    assert encoders(place.sound_film(name)) == {"nvenc": SLIDES}
    return share, (last - first) / ((until.at_ns - since.at_ns) / 1e9)


@pytest.mark.soak
def test_it_keeps_the_contract_of_every_encoder(place: Workplace) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "tests/encode/test_encoder.py"]
    env = place.env(FANREEL_TEST_ENCODERS="nvenc")
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=280, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert place.gpus.opens() > 50
