"""Disks that fill and photos that go while a film is made: one clear error, no half film, and the next run goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.command import COMMAND, ROOT, ask, assert_sound, errors_of, write_job
from support.jobs import draw_photo, make_job
from support.prefect_server import Served
from support.processes import environment_in, wait_until

from fanreel.host.host import Host
from fanreel.render.draft import join_film
from fanreel.render.here import plan_job, render_job
from fanreel.sessions.capacity import read_capacity
from fanreel.sessions.gate import KernelLockGate

__all__ = ["environment"]

Mount = Callable[[str], Path]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return environment_in(tmp_path)


def _resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


def _used_kib(disk: Path) -> int:
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize // 1024


def _segments(store: Path) -> list[Path]:
    """Return the records of the segments that are stored."""
    return sorted((store / "segments").rglob("*.json"))


def _reused(said: str) -> int:
    found = re.search(r"segments +\d+ rendered, (\d+) reused", said)
    assert found, said
    return int(found[1])


def _assert_full(done: subprocess.CompletedProcess[str], *, path: Path) -> None:
    assert done.returncode == 5
    (error,) = errors_of(done)
    assert str(path) in error
    assert "No space left on device; free some space and run the same command again" in error


class TestFullDisks:
    def test_of_the_store_in_mid_film(
        self, tmp_path: Path, photos: Path, environment: dict[str, str], mount: Mount
    ) -> None:
        disk = mount("size=300k")
        store = disk / "store"
        given = environment | {"FANREEL_STORE": str(store)}
        job = write_job(tmp_path, sessions=1)
        done = ask([COMMAND, "render", str(job)], given)
        _assert_full(done, path=store)
        kept = len(_segments(store))
        assert 1 <= kept < 4
        assert not list((store / "scratch").glob("[!.]*"))
        assert not (tmp_path / "out").exists()

        _resize(disk, "16m")
        done = ask([COMMAND, "render", str(job)], given | {"FANREEL_SLOW_JOIN_MB_PER_SECOND": "9e8"})
        assert done.returncode == 0, done.stderr
        assert "which is slow" in done.stderr  # said without --verbose
        assert _reused(done.stdout) == kept
        assert_sound(tmp_path / "out/film.mp4")

    def test_of_the_store_and_of_the_output_when_the_film_is_joined(
        self, tmp_path: Path, photos: Path, environment: dict[str, str], mount: Mount
    ) -> None:
        disk, far = mount("size=16m"), mount("size=48k")
        store = disk / "store"
        given = environment | {"FANREEL_STORE": str(store)}
        job = write_job(tmp_path, output=str(far / "out/film.mp4"))

        done = ask([COMMAND, "render", str(job)], given)
        _assert_full(done, path=far / "out/film.mp4")
        assert not list((far / "out").iterdir())
        assert not list((store / "scratch").glob("[!.]*"))
        count = len(_segments(store))
        assert count > 1

        _resize(far, "16m")
        _resize(disk, f"{_used_kib(disk) + 60}k")
        done = ask([COMMAND, "render", str(job)], given)
        assert done.returncode == 5
        (error,) = errors_of(done)
        assert str(store) in error
        assert "No space left on device; free some space" in error
        assert not (far / "out/film.mp4").exists()
        assert not list((store / "scratch").glob("[!.]*"))

        _resize(disk, "16m")
        done = ask([COMMAND, "render", str(job)], given)
        assert done.returncode == 0, done.stderr
        assert _reused(done.stdout) == count
        assert_sound(far / "out/film.mp4")


class TestPhotosThatGo:
    """Four clips in three shards; the last photo goes or changes once the first segment is stored."""

    @pytest.mark.parametrize("fault", ["deleted", pytest.param("changed", marks=pytest.mark.soak)])
    def test_while_the_command_renders(
        self, tmp_path: Path, photos: Path, environment: dict[str, str], fault: str
    ) -> None:
        job = write_job(tmp_path, fps=30, size="640x360", seconds_per_slide=6, sessions=1)
        done = self._spoil(tmp_path, environment, [COMMAND, "render", str(job)], fault)
        assert done.returncode == 3, done.stderr
        (error,) = errors_of(done)
        assert "photo-3.jpg: " in error
        assert ("gone" if fault == "deleted" else "changed") in error
        assert "; trying again" not in done.stderr
        kept = len(_segments(tmp_path / "store"))
        assert kept >= 1
        assert not (tmp_path / "out").exists()
        assert not list((tmp_path / "store/scratch").glob("[!.]*"))

        draw_photo(tmp_path / "photos/photo-3.jpg", seed=33)
        done = ask([COMMAND, "render", str(job)], environment)
        assert done.returncode == 0, done.stderr
        assert _reused(done.stdout) >= kept
        assert_sound(tmp_path / "out/film.mp4")

    @pytest.mark.soak
    @pytest.mark.parametrize("fault", ["deleted", "changed"])
    def test_while_the_flow_renders(
        self, tmp_path: Path, photos: Path, environment: dict[str, str], fault: str, served: Served
    ) -> None:
        job = write_job(tmp_path, fps=30, size="640x360", seconds_per_slide=6, sessions=1)
        flow = [sys.executable, "-m", "flows.render_slideshow", str(job)]
        done = self._spoil(tmp_path, environment | served.client, flow, fault)
        assert done.returncode == 3, done.stderr
        assert "photo-3.jpg: " in errors_of(done)[-1]
        assert "Finished in state Failed(" in done.stderr
        assert "AwaitingRetry" not in done.stderr
        assert _segments(tmp_path / "store")
        assert not (tmp_path / "out").exists()

    def _spoil(
        self, folder: Path, environment: dict[str, str], command: list[str], fault: str
    ) -> subprocess.CompletedProcess[str]:
        photo = folder / "photos/photo-3.jpg"
        gate = KernelLockGate("cpu", capacity=read_capacity().cores, folder=folder / "locks")
        with (folder / "log").open("w+") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            with contextlib.ExitStack() as end:
                end.callback(process.kill)
                wait_until(gate.slots_in_use, seconds=240, what="a session")
                # Whoever waits is next: no other shard has a session while the photo is spoiled.
                with gate.hold(weight=gate.capacity, timeout_seconds=240):
                    assert 1 <= len(_segments(folder / "store")) < 4
                    if fault == "deleted":
                        photo.unlink()
                    else:
                        draw_photo(photo, seed=77)
                code = process.wait(240)
                end.pop_all()
        said = (folder / "log").read_text()
        assert "Traceback" not in said
        return subprocess.CompletedProcess(command, code, "", said)


class TestJoinLog:
    def _join(self, host: Host, folder: Path) -> None:
        (plan,) = plan_job(make_job(folder, seconds_per_slide=1), host=host)
        with host.store.scratch() as scratch:
            join_film(plan, host=host, folder=scratch)

    def test_says_how_much_in_what_time_and_warns_when_slow(
        self, tmp_path: Path, photos: Path, host: Host, caplog: pytest.LogCaptureFixture
    ) -> None:
        render_job(make_job(tmp_path, seconds_per_slide=1), host=host)
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="fanreel.render.draft"):
            # No disk needs seconds for a kilobyte, and none writes a terabyte within a millisecond.
            self._join(replace(host, settings=replace(host.settings, slow_join_mb_per_second=1e-3)), tmp_path)
            self._join(replace(host, settings=replace(host.settings, slow_join_mb_per_second=9e8)), tmp_path)
        quick, slow = caplog.records
        said = r"joined \d+ segments?, \d+\.\d MB in \d+\.\d\d s \(\d+ MB/s\)"
        assert quick.levelno == logging.INFO
        assert re.fullmatch(said, quick.getMessage())
        assert slow.levelno == logging.WARNING
        assert re.fullmatch(said + ", which is slow: is the disk full, busy or far away[?]", slow.getMessage())

    @pytest.mark.chaos
    @pytest.mark.timeout(1800)
    def test_a_film_of_1080_segments(
        self, tmp_path: Path, photos: Path, host: Host, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Two contents, each shown 540 times: what a join opens, copies and checks does not depend on that."""
        names = sorted(str(path) for path in photos.iterdir())[:2]
        slides = [{"photo": name, "seconds": 10, "move": "still"} for _ in range(540) for name in names]
        job = make_job(tmp_path, photos=[], slides=slides, fps="24", size="640x360", encoding={"quality": 32})
        with caplog.at_level(logging.INFO, logger="fanreel.render.draft"):
            render_job(job, host=host)
        (joined,) = [record for record in caplog.records if record.name == "fanreel.render.draft"]
        assert joined.getMessage().startswith("joined 1080 segments, ")
        assert joined.levelno == logging.INFO
