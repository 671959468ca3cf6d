"""What a GPU's first look, its locks and NVML do when something is wrong there, before any film of it is begun."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest
from support.emulated_nvenc import EmulatedDriver
from support.jobs import draw_photo
from support.nvenc_workplace import Workplace, encoders, errors, other_program

from fanreel.errors import SessionBusyError
from fanreel.sessions import gpus
from fanreel.sessions.gate import KernelLockGate
from fanreel.sessions.learned_limit import LearnedLimit


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    (tmp_path / "photos").mkdir()
    draw_photo(tmp_path / "photos/photo.jpg", seed=900, size=(400, 300))
    (tmp_path / "place").mkdir()
    made = Workplace(tmp_path / "place", EmulatedDriver(tmp_path / "hardware", microseconds_per_frame=200))
    yield made
    made.check_nothing_is_left()


@pytest.mark.soak
class TestFirstLook:
    @pytest.mark.parametrize("code", [20, 10])
    def test_a_fault_that_passes_does_not_cost_the_gpu(self, place: Workplace, code: int) -> None:
        place.gpus.set(fail_picture=3, fail_code=code, fail_picture_once=1)
        done = place.render(encoding={"encoder": "nvenc"}).check()
        assert encoders(place.sound_film()) == {"nvenc": 1}
        assert "fallback" not in done.out

    @pytest.mark.parametrize("code", [13, 18])
    def test_an_encoder_that_is_busy_at_first_is_asked_again(self, place: Workplace, code: int) -> None:
        place.gpus.set(fail_open_every=2, fail_open_code=code)
        with other_program(place, sessions=1):  # the first open; ours are the second, third and so on
            place.render(encoding={"encoder": "nvenc"}).check()
        assert encoders(place.sound_film()) == {"nvenc": 1}
        assert place.gpus.refusals(code) >= 1

    def test_a_fault_that_stays_is_left_and_recorded(self, place: Workplace) -> None:
        place.gpus.set(fail_picture=3, fail_code=20)
        done = place.render().check()
        assert encoders(place.sound_film()) == {"x264": 1}
        assert "nvenc: encode fault (20)" in done.out

    def test_a_driver_that_hangs_at_the_look_for_gpus_is_a_fault(self, place: Workplace) -> None:
        place.environment = {"FANREEL_HANG_SECONDS": "3"}
        place.gpus.set(hang="init")
        refused = place.render(encoding={"fallback": "never"})
        assert refused.code == 4
        assert "was killed" in errors(refused)[-1]

        done = place.render().check()
        assert encoders(place.sound_film()) == {"x264": 1}
        assert "nvenc: session hung" in done.out

    def test_a_lost_gpu_and_none_left_is_one_error_for_who_insists(self, place: Workplace) -> None:
        place.gpus.set(fail_picture=20, fail_code=5)
        for encoding in ({"encoder": "nvenc"}, {"fallback": "never"}):
            refused = place.render(encoding=encoding)
            assert refused.code == 4
            assert len(errors(refused)) == 1
            assert "(5)" in errors(refused)[0]
            assert not place.film.exists()

    def test_b_frames_that_a_gpu_lacks_are_not_taken_for_a_missing_encoder(self, place: Workplace) -> None:
        place.gpus.set(max_b_frames=0)
        refused = place.render(encoding={"encoder": "nvenc"})
        assert refused.code == 4
        assert "Max B-frames 2 exceed 0" in errors(refused)[0]
        assert "has no NVENC" not in errors(refused)[0]


class TestNvmlThatHangs:
    def test_it_is_asked_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked, go_on = [], threading.Event()

        def hang(uuid: str) -> None:
            asked.append(uuid)
            go_on.wait(60)

        monkeypatch.setattr(gpus, "_nvml", gpus._Nvml())
        monkeypatch.setattr(gpus, "NVML_SECONDS", 0.2)
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", hang)
        try:
            assert gpus.nvml_is_open()
            assert gpus.count_sessions("GPU-1") is None
            assert not gpus.nvml_is_open()
            assert gpus.count_sessions("GPU-1") is None
            assert asked == ["GPU-1"]
        finally:
            go_on.set()

    def test_its_start_is_bounded_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        go_on = threading.Event()
        monkeypatch.setattr(gpus, "_nvml", gpus._Nvml())
        monkeypatch.setattr(gpus, "NVML_SECONDS", 0.2)
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: go_on.wait(60))
        try:
            assert not gpus.nvml_is_open()
        finally:
            go_on.set()

    @pytest.mark.soak
    def test_a_film_is_made_all_the_same(self, place: Workplace) -> None:
        place.gpus.set(hang="nvml")
        done = place.render().check()
        assert encoders(place.sound_film()) == {"nvenc": 1}
        assert re.search(r"NVML .* does not answer", done.err)


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


class TestLearnedLimitOfMany:
    def test_a_planted_link_is_neither_written_nor_opened_to_all(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine"
        mine.write_text("precious")
        mine.chmod(0o600)
        folder = tmp_path / "locks"
        folder.mkdir()
        limit = LearnedLimit(folder / "gpu.limit")
        for planted in (limit.path, folder / f".gpu.limit.{os.getpid()}"):
            planted.symlink_to(mine)
        limit.learn(2)
        assert (mine.read_text(), mine.stat().st_mode & 0o777) == ("precious", 0o600)

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
    def test_another_user_learns_after_the_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = Path("/tmp") / f"fanreel-test-{os.getpid()}-limits"
        folder.mkdir()
        folder.chmod(0o1777)
        limit = LearnedLimit(folder / "gpu.limit")
        try:
            limit.learn(5)
            assert limit.read() == 5
            child = os.fork()
            if child == 0:
                try:
                    os.setgid(65534)
                    os.setuid(65534)
                    limit.learn(3)
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            assert limit.read() == 3
        finally:
            shutil.rmtree(folder)

    def test_what_is_read_while_others_learn_is_whole(self, tmp_path: Path) -> None:
        limit, end = LearnedLimit(tmp_path / "gpu.limit"), time.monotonic() + 0.3
        limit.learn(7)

        def learn() -> None:
            while time.monotonic() < end:
                limit.learn(7)

        threads = [threading.Thread(target=learn) for _ in range(3)]
        for thread in threads:
            thread.start()
        read = set()
        while time.monotonic() < end:
            read.add(limit.read())
        for thread in threads:
            thread.join()
        assert read == {7}
