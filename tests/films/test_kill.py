"""kill -9 at any moment: nothing is left behind, nothing half is published, nothing whole is made twice.

`make soak` has one trial of each kind, at a moment that a step of the film defines; `make chaos` has all moments.
"""

import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from support.jobs import draw_photo
from support.kills import is_running, kill_at_work, open_files, state_and_parent

from fanreel.join.certificate import Certificate
from fanreel.plan.film import FilmPlan, plan_from_json
from fanreel.publish.published import verify_film
from fanreel.segments.record import SegmentRecord
from fanreel.store.local import LocalStore

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

COMMAND = Path(sys.executable).with_name("fanreel")
PHOTO_COUNT = 20
GONE_SECONDS = 10.0
MOMENTS = 10
SEED = 20261121

STEPS = {
    "render": "store/segments/*/*.json",
    "join": "store/scratch/*/film.mp4",
    "joined": "store/scratch/*/film.mp4.certificate.json",
    "publish": "out/.*.next",
}
"""What is there when the film is rendered, joined or published."""

STOPPED_AT = """
import glob, os, signal, sys
pattern, *arguments = sys.argv[1:]
def look(event, _):
    if event in ("open", "os.rename") and glob.glob(pattern):
        os.kill(os.getpid(), signal.SIGSTOP)
sys.addaudithook(look)
from fanreel.cli.command import main
sys.exit(main(arguments))
"""
"""The command, which stops itself before the next file that it opens or renames once something is there."""


@dataclass(frozen=True)
class Workplace:
    """A folder with photos, jobs, and a store and locks of its own."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "FANREEL_STORE": str(self.folder / "store"),
            "FANREEL_LOCK_FOLDER": str(self.folder / "locks"),
        }

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "store")

    def job(self, name: str = "film", **words: object) -> Path:
        path = self.folder / f"{name}.yaml"
        values = {
            "size": "320x180",
            "fps": 16,
            "photos": ["photos"],
            "seconds_per_slide": 4,
            "encoding": {"preset": "fast", "quality": 30},
            "output": f"out/{name}.mp4",
        }
        path.write_text(yaml.safe_dump(values | words))
        return path

    def film(self, name: str = "film") -> Path:
        return self.folder / "out" / f"{name}.mp4"

    def plan(self, job: Path) -> FilmPlan:
        done = subprocess.run([COMMAND, "plan", job, "--json"], capture_output=True, env=self.environment, check=True)
        return plan_from_json(done.stdout)

    def start(self, job: Path, *, stop_at: str = "") -> subprocess.Popen[str]:
        stopping = [sys.executable, "-c", STOPPED_AT, str(self.folder / STEPS[stop_at])] if stop_at else [COMMAND]
        return subprocess.Popen(
            [*stopping, "render", job],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            start_new_session=True,
        )

    def finish(self, job: Path) -> tuple[int, int]:
        """Run the command to its end; return how many segments it rendered and reused."""
        return ended(self.start(job))

    def stored(self, plan: FilmPlan) -> dict[str, SegmentRecord]:
        """The segments that are whole."""
        found = {segment.address: self.store.find_verified(segment.address) for segment in plan.segments}
        return {address: record for address, record in found.items() if record is not None}

    def records(self) -> list[Path]:
        return list((self.folder / "store" / "segments").rglob("*.json"))

    def has_begun(self) -> bool:
        """Whether a session is making a segment."""
        with contextlib.suppress(FileNotFoundError):  # a scratch folder that goes while we look
            return any((self.folder / "store" / "scratch").glob("*/*.packets"))
        return False

    def clear(self) -> None:
        shutil.rmtree(self.folder / "store", ignore_errors=True)
        shutil.rmtree(self.folder / "out", ignore_errors=True)

    def scratch(self) -> list[Path]:
        """What is in the scratch folder after the next one who uses it has come and gone."""
        with self.store.scratch():
            pass
        return list((self.folder / "store" / "scratch").glob("[!.]*"))

    def half_segments(self) -> list[Path]:
        """Records whose segment is not whole."""
        return [path for path in self.records() if self.store.find_verified(path.stem.split(".")[0]) is None]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("kill"))
    (place.folder / "photos").mkdir()
    for seed in range(PHOTO_COUNT):
        draw_photo(place.folder / "photos" / f"{seed}.jpg", seed=seed)
    yield place
    assert place.scratch() == []


@pytest.fixture(autouse=True)
def clean(workplace: Workplace) -> None:
    workplace.clear()


def ended(command: subprocess.Popen[str]) -> tuple[int, int]:
    out, err = command.communicate(timeout=600)
    assert command.returncode == 0, err
    found = re.search(r"^segments +(\d+) rendered, (\d+) reused$", out, re.MULTILINE)
    assert found, out
    return int(found[1]), int(found[2])


def children(pid: int) -> list[int]:
    """The running children of a process, whichever of its threads made them."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return [child for child in found if is_running(child)]


def sessions_of(command: subprocess.Popen[str]) -> list[int]:
    return [session for launcher in children(command.pid) for session in children(launcher)]


def sessions_at_work(commands: list[subprocess.Popen[str]]) -> set[int]:
    """Those that make a segment; one that looks for GPUs, or that is on its way out, makes none."""
    sessions = itertools.chain(*map(sessions_of, commands))
    return {session for session in sessions if any(Path(name).suffix == ".packets" for name in open_files(session))}


def wait_until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while (left := {pid for pid in pids if is_running(pid)}) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def kill(command: subprocess.Popen[str]) -> None:
    """kill -9 the command; whatever it had started is gone soon."""
    launchers = set(children(command.pid))
    family = launchers | {session for launcher in launchers for session in children(launcher)}
    command.kill()
    command.communicate()
    # A session that was being started while we looked has the launcher's process as its parent.
    family |= {session for launcher in launchers for session in children(launcher)}
    wait_until_gone(family)


def wait_until_stopped(command: subprocess.Popen[str]) -> None:
    while (state := state_and_parent(command.pid)[0]) != "T":
        assert state not in "ZX", "it ended and never stopped"
        time.sleep(0.005)


def check_after_kill(workplace: Workplace, job: Path, plan: FilmPlan, old: str | None) -> None:
    assert workplace.half_segments() == []
    film = workplace.film()
    if film.exists():
        assert verify_film(film, full=True).plan != ""
    else:
        assert old is None
    whole = workplace.stored(plan)
    rendered, reused = workplace.finish(job)
    assert (rendered, reused) == (len(plan.segments) - len(whole), len(whole))
    proven = verify_film(film, full=True)
    assert proven.frame_count == plan.frame_count
    # What was whole is in the film as it was: not a byte of it was made again.
    kept = {record.address: record for record in proven.segments if record.address in whole}
    assert kept == whole
    assert workplace.scratch() == []


def moments(duration_seconds: float) -> list[float | str]:
    """Ten moments over a run: seven anywhere in it, three while it joins and publishes."""
    choose = random.Random(SEED)
    spread = [duration_seconds * (n + choose.random()) / (MOMENTS - 3) for n in range(MOMENTS - 3)]
    return [*spread, "join", "joined", "publish"]


class TestCommand:
    @pytest.mark.parametrize("step", ["render", "publish"])
    def test_killed_at_a_step_the_next_run_renders_what_is_missing(self, workplace: Workplace, step: str):
        job = workplace.job()
        plan = workplace.plan(job)
        old = self.publish_another(workplace)
        command = workplace.start(job, stop_at=step)
        wait_until_stopped(command)
        kill(command)
        assert verify_film(workplace.film()).plan == old
        check_after_kill(workplace, job, plan, old)

    @pytest.mark.chaos
    def test_killed_at_any_moment_the_next_run_renders_what_is_missing(self, workplace: Workplace):
        job = workplace.job()
        plan = workplace.plan(job)
        assert len(plan.segments) >= 12
        self.publish_another(workplace)  # so that nothing is compiled in the run that is timed
        started_at = time.monotonic()
        workplace.finish(job)
        duration = time.monotonic() - started_at
        killed = published = 0
        for number, moment in enumerate(moments(duration)):
            workplace.clear()
            old = self.publish_another(workplace) if number % 2 else None
            if isinstance(moment, str):
                command = workplace.start(job, stop_at=moment)
                wait_until_stopped(command)
            else:
                command = workplace.start(job)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    command.wait(timeout=moment)
            killed += command.poll() is None
            kill(command)
            published += workplace.film().exists() and verify_film(workplace.film()).plan != old
            check_after_kill(workplace, job, plan, old)
        assert killed > len(STEPS)
        assert published < MOMENTS

    def publish_another(self, workplace: Workplace) -> str:
        """Publish an older film in the place of the one that is to be made; return its plan."""
        workplace.finish(workplace.job("old", photos=["photos/0.jpg"], output="out/film.mp4"))
        return verify_film(workplace.film()).plan

    @pytest.mark.chaos
    def test_killed_again_and_again_it_gets_there(self, workplace: Workplace):
        """Every run keeps what the ones before it made."""
        job = workplace.job(fps=60, encoding={"preset": "fast", "quality": 31})
        plan = workplace.plan(job)
        whole = killed = 0
        while killed < 5:
            command = workplace.start(job)
            # A segment more than before, and it goes.
            while command.poll() is None and len(workplace.records()) <= whole:
                time.sleep(0.002)
            if command.poll() is not None:
                break
            kill(command)
            killed += command.returncode == -signal.SIGKILL
            assert len(workplace.stored(plan)) > whole
            whole = len(workplace.stored(plan))
        assert killed >= 2
        rendered, reused = ended(command) if killed < 5 else workplace.finish(job)
        assert reused == whole
        assert rendered + reused == len(plan.segments)
        verify_film(workplace.film(), full=True)


class TestSessions:
    def test_killed_at_work_the_film_is_finished(self, workplace: Workplace):
        job = workplace.job(fps=30)
        killed, certificate = self.run_and_kill_one(workplace, job, workplace.plan(job), 0.0)
        assert killed
        assert 1 in {record.event.retries for record in certificate.segments}

    @pytest.mark.chaos
    def test_killed_at_any_moment_the_film_is_finished(self, workplace: Workplace):
        choose = random.Random(SEED)
        job = workplace.job(fps=30)
        plan = workplace.plan(job)
        workplace.finish(job)
        duration = seconds_of_sessions(workplace.stored(plan).values())
        retries: set[int] = set()
        for number in range(5):
            # The next run may be faster, and its sessions gone by then: it is tried until one was killed.
            for _ in range(10):
                moment = duration * 0.9 * (number + choose.random()) / 5
                killed, certificate = self.run_and_kill_one(workplace, job, plan, moment)
                if killed:
                    break
                duration = min(duration, seconds_of_sessions(certificate.segments))
            assert killed
            retries |= {record.event.retries for record in certificate.segments}
        assert retries == {0, 1}

    def run_and_kill_one(
        self, workplace: Workplace, job: Path, plan: FilmPlan, moment: float
    ) -> tuple[int | None, Certificate]:
        """Kill a session at work, so many seconds after the first one has begun; return its process, if one was."""
        workplace.clear()
        command = workplace.start(job)
        while command.poll() is None and not workplace.has_begun():
            time.sleep(0.002)
        time.sleep(moment)
        killed = None
        while command.poll() is None and killed is None:
            killed = next((session for session in sessions_at_work([command]) if kill_at_work(session)), None)
        rendered, reused = ended(command)
        assert rendered + reused == len(plan.segments)
        assert workplace.half_segments() == []
        certificate = verify_film(workplace.film(), full=True)
        assert {record.event.retries for record in certificate.segments} <= {0, 1}
        assert killed is None or not is_running(killed)
        return killed, certificate


def seconds_of_sessions(segments: Collection[SegmentRecord]) -> float:
    """Return how long sessions made segments, from the first one's start to the last one's end."""
    events = [record.event for record in segments]
    return max(event.ended_at for event in events) - min(event.started_at for event in events)


class TestTwoAtOnce:
    def run_both(self, workplace: Workplace, jobs: list[Path]) -> list[tuple[int, int]]:
        """Run the jobs at once; count their sessions all the time."""
        cores = len(os.sched_getaffinity(0))
        commands = [workplace.start(job) for job in jobs]
        most = 0
        while any(command.poll() is None for command in commands):
            # One after the other is looked at; who was there on both rounds was there between them.
            most = max(most, len(sessions_at_work(commands) & sessions_at_work(commands)))
            time.sleep(0.005)
        reports = [ended(command) for command in commands]
        assert 1 <= most <= cores
        assert workplace.half_segments() == []
        return reports

    def test_the_same_job(self, workplace: Workplace):
        job = workplace.job()
        plan = workplace.plan(job)
        reports = self.run_both(workplace, [job, job])
        assert all(sum(report) == len(plan.segments) for report in reports)
        assert verify_film(workplace.film(), full=True).frame_count == plan.frame_count
        assert workplace.finish(job) == (0, len(plan.segments))

    def test_different_jobs_that_share_segments(self, workplace: Workplace):
        photos = [f"photos/{n}.jpg" for n in range(PHOTO_COUNT)]
        jobs = [workplace.job("one", photos=photos), workplace.job("two", photos=[*photos[:9], *photos[10:]])]
        self.run_both(workplace, jobs)
        for name in ("one", "two"):
            verify_film(workplace.film(name), full=True)

    def test_the_same_job_over_and_over_while_it_is_verified(self, workplace: Workplace):
        """Whoever looks sees a film that is whole and proven, whoever publishes meanwhile."""
        jobs = [workplace.job(), workplace.job("other", output="out/film.mp4", photos=["photos/1.jpg"])]
        for job in jobs:
            workplace.finish(job)
        commands = [workplace.start(job) for job in jobs * 2]
        while any(command.poll() is None for command in commands):
            with workplace.film().open("rb") as film:
                assert film.read(8)[4:] == b"ftyp"
            time.sleep(0.01)
        for command in commands:
            ended(command)
        verify_film(workplace.film(), full=True)
