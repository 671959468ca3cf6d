"""Machines that give too little: memory, cores, shared memory, files, rights, letters. A right film or one clear error.

Memory limits are real control groups: a child of this process's own group, made for the test.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.command import COMMAND, ROOT, ask, assert_sound, errors_of, kept_in, write_job
from support.jobs import draw_photo
from support.prefect_server import Served
from support.processes import environment_in, wait_until

from fanreel.errors import EncoderError
from fanreel.job.encoding import Encoding
from fanreel.plan.encoding import encoder_bytes_per_pixel, plan_encoding
from fanreel.sessions.capacity import choose_sessions, count_memory_kills, read_capacity
from fanreel.sessions.gate import KernelLockGate
from fanreel.sessions.launcher import Launcher

NOBODY = 65534
MIB = 1 << 20
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user or to mount")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return environment_in(tmp_path)


@dataclass(frozen=True)
class Group:
    """A control group with a limit of memory."""

    folder: Path
    kills_file: str
    peak_file: str

    def enter(self) -> None:
        """Move the calling process into it."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    @property
    def kills(self) -> int:
        """Processes that the kernel has killed in it."""
        found = re.search(r"^oom_kill (\d+)$", (self.folder / self.kills_file).read_text(), re.MULTILINE)
        assert found
        return int(found[1])

    @property
    def peak_bytes(self) -> int:
        """The most memory that was ever in use in it."""
        return int((self.folder / self.peak_file).read_text())


GroupMaker = Callable[[int], Group]


@pytest.fixture
def memory_group() -> Iterator[GroupMaker]:
    """Makes control groups that allow so many MiB."""
    made: list[Path] = []

    def make(limit_mib: int) -> Group:
        try:
            folder, limit_file, names = _new_group(len(made))
            made.append(folder)
            (folder / limit_file).write_text(str(limit_mib * MIB))
        except OSError as error:
            pytest.skip(f"needs the right to make a control group that limits memory: {error}")
        return Group(folder, *names)

    yield make
    for folder in made:
        wait_until(lambda folder=folder: not (folder / "cgroup.procs").read_text(), seconds=60, what="an empty group")
        folder.rmdir()


def _new_group(number: int) -> tuple[Path, str, tuple[str, str]]:
    """Return a new child of this process's group, the name of its limit, and where it counts."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    name = f"fanreel-test-{os.getpid()}-{number}"
    if "memory" in own:
        folder = Path("/sys/fs/cgroup/memory") / own["memory"].lstrip("/") / name
        folder.mkdir()
        return folder, "memory.limit_in_bytes", ("memory.oom_control", "memory.max_usage_in_bytes")
    parent = Path("/sys/fs/cgroup") / own[""].lstrip("/")
    if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
        raise PermissionError("this group hands no limit of memory on to its children")
    (parent / name).mkdir()
    return parent / name, "memory.max", ("memory.events", "memory.peak")


def assert_nothing_half(folder: Path) -> None:
    assert not (folder / "out").exists() or not list((folder / "out").iterdir())
    assert not list((folder / "store" / "scratch").glob("[!.]*"))


class TestMemory:
    def test_the_owner_loads_no_compiler(self) -> None:
        """numba is 60 MB that only sessions need."""
        code = "import sys, fanreel.render.here; print('numba' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.strip() == "False"

    def test_the_limit_and_the_kills_of_a_real_group_are_read(self, memory_group: GroupMaker) -> None:
        group = memory_group(64)
        code = (
            "import subprocess, sys; from fanreel.sessions.capacity import count_memory_kills, read_capacity;"
            "before = count_memory_kills();"
            "end = subprocess.run([sys.executable, '-c', 'bytearray(200 << 20)']).returncode;"
            "print(read_capacity().memory_bytes >> 20, end, count_memory_kills() - before)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, preexec_fn=group.enter, check=True
        )
        assert done.stdout.split() == ["64", str(-signal.SIGKILL), "1"]
        assert group.kills == 1

    @pytest.mark.parametrize(
        ("path", "line"),
        [
            ("sys/fs/cgroup/memory/a/memory.oom_control", "4:memory:/a"),
            ("sys/fs/cgroup/a/memory.events", "0::/a"),
            ("proc/vmstat", "0::/"),
        ],
    )
    def test_kills_are_read_from_either_version_and_from_a_bare_host(
        self, tmp_path: Path, path: str, line: str
    ) -> None:
        file = tmp_path / path
        (tmp_path / "proc/self").mkdir(parents=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "proc/self/cgroup").write_text(f"{line}\n")
        (tmp_path / "proc/self/mountinfo").write_text(
            "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
            "31 20 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        )
        assert count_memory_kills(root=tmp_path) is None
        file.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 7\noom_group_kill 3\n")
        assert count_memory_kills(root=tmp_path) == 7

    def test_too_little_for_a_session_is_one_error_that_says_so_soon(
        self, tmp_path: Path, photos: Path, environment: dict[str, str], memory_group: GroupMaker
    ) -> None:
        group = memory_group(160)
        job = write_job(tmp_path, size="1920x1080", encoding={"preset": "best"}, sessions=1)
        done = ask([COMMAND, "render", "-v", str(job)], environment, first=group.enter)
        assert done.returncode == EncoderError.exit_code
        (error,) = errors_of(done)
        assert "the kernel killed it for lack of memory, of which 160 MiB are allowed here" in error
        assert "ask for a smaller size, a faster preset or fewer sessions" in error
        assert "1 session x" in done.stderr
        assert 2 <= group.kills <= 4  # two tries, perhaps with their launchers; the owner lives to tell
        assert done.stderr.count("; trying again in ") == 1
        assert_nothing_half(tmp_path)

    @pytest.mark.soak
    @pytest.mark.parametrize("limit_mib", [96, 128, 192, 256, 320])
    def test_whatever_the_limit_it_is_a_film_or_that_error(
        self, tmp_path: Path, photos: Path, environment: dict[str, str], memory_group: GroupMaker, limit_mib: int
    ) -> None:
        group = memory_group(limit_mib)
        job = write_job(tmp_path, size="1280x720", encoding={"preset": "fast"}, seconds_per_slide=1)
        done = ask([COMMAND, "render", str(job)], environment, first=group.enter)
        if done.returncode == 0:
            assert_sound(tmp_path / "out/film.mp4")
            assert group.kills == 0
            return
        assert done.returncode == EncoderError.exit_code
        (error,) = errors_of(done)
        assert f"for lack of memory, of which {limit_mib} MiB are allowed here" in error
        assert_nothing_half(tmp_path)

    @pytest.mark.soak
    @pytest.mark.parametrize("photo_px", [(4000, 3000), (6000, 4000)])
    def test_the_default_film_fits_into_512_mb(
        self, tmp_path: Path, environment: dict[str, str], memory_group: GroupMaker, photo_px: tuple[int, int]
    ) -> None:
        (tmp_path / "photos").mkdir()
        for seed in range(3):
            draw_photo(tmp_path / f"photos/{seed}.jpg", seed=seed, size=photo_px)
        path = tmp_path / "job.yaml"
        path.write_text("photos: [photos]\noutput: out/film.mp4\nseconds_per_slide: 3\n")
        group = memory_group(512)
        done = ask([COMMAND, "render", str(path)], environment, first=group.enter)
        assert done.returncode == 0, done.stderr
        assert "1920x1080" in done.stdout
        assert "1 session x" in done.stdout
        assert group.kills == 0
        assert group.peak_bytes < 480 * MIB
        assert_sound(tmp_path / "out/film.mp4")

    def test_one_session_is_chosen_within_512_mb_whatever_the_cores(self) -> None:
        capacity = read_capacity()
        roomy = type(capacity)(cores=16, memory_bytes=512 * MIB, reason="")
        encoding = plan_encoding(Encoding(), width_px=1920, height_px=1080, frame_rate=30)  # type: ignore[arg-type]
        plan = choose_sessions(
            roomy,
            width_px=1920,
            height_px=1080,
            segment_count=9,
            bytes_per_pixel=encoder_bytes_per_pixel(encoding),
            largest_photo_px=24_000_000,
        )
        assert plan.sessions == 1

    def test_an_address_space_too_small_for_a_library_is_one_error(
        self, tmp_path: Path, photos: Path, environment: dict[str, str]
    ) -> None:
        """As `ulimit -v` sets it; not what a container does, but a machine may."""
        limit = 200 * MIB
        done = ask(
            [COMMAND, "render", str(write_job(tmp_path))],
            environment | {"OPENBLAS_NUM_THREADS": "1"},  # which ends the process by itself, for its many threads' sake
            first=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
        assert done.returncode == EncoderError.exit_code
        assert "memory" in done.stderr
        assert_nothing_half(tmp_path)


class TestScarce:
    @as_root
    def test_all_at_once(self, tmp_path: Path, photos: Path, environment: dict[str, str]) -> None:
        """One core, no shared memory, no folder for temporary files, no home, no locale, 64 open files."""

        def starve() -> None:
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            _allow_files(64)

        bare = {name: value for name, value in environment.items() if name not in ("HOME", "LANG", "LC_ALL")}
        command = _without_shared_memory([COMMAND, "render", str(write_job(tmp_path))])
        done = ask(command, bare | {"TMPDIR": str(tmp_path / "nowhere"), "LANG": "C"}, first=starve)
        assert done.returncode == 0, done.stderr
        assert "1 session x 1 thread" in done.stdout
        assert_sound(tmp_path / "out/film.mp4")

    @pytest.mark.soak
    def test_one_core_is_one_session_of_one_thread(
        self, tmp_path: Path, photos: Path, environment: dict[str, str]
    ) -> None:
        core = min(os.sched_getaffinity(0))
        done = ask(
            [COMMAND, "render", str(write_job(tmp_path))], environment, first=lambda: os.sched_setaffinity(0, {core})
        )
        assert done.returncode == 0, done.stderr
        assert "1 session x 1 thread" in done.stdout
        assert_sound(tmp_path / "out/film.mp4")

    def test_too_few_open_files_are_named(self, tmp_path: Path, photos: Path, environment: dict[str, str]) -> None:
        job = write_job(tmp_path)
        done = ask([COMMAND, "render", str(job)], environment, first=lambda: _allow_files(12))
        assert done.returncode in (4, 5)
        assert "open files" in errors_of(done)[-1]
        assert_nothing_half(tmp_path)

    @as_root
    @pytest.mark.soak
    def test_without_shared_memory(self, tmp_path: Path, photos: Path, environment: dict[str, str]) -> None:
        done = ask(_without_shared_memory([COMMAND, "render", str(write_job(tmp_path))]), environment)
        assert done.returncode == 0, done.stderr
        assert_sound(tmp_path / "out/film.mp4")

    @as_root
    @pytest.mark.soak
    def test_the_flow_without_shared_memory(
        self, tmp_path: Path, photos: Path, environment: dict[str, str], served: Served
    ) -> None:
        flow = [sys.executable, "-m", "flows.render_slideshow", str(write_job(tmp_path))]
        done = ask(_without_shared_memory(flow), environment | served.client)
        assert done.returncode == 0, done.stderr
        assert_sound(tmp_path / "out/film.mp4")

    @pytest.mark.soak
    def test_no_folder_for_temporary_files_and_no_home(
        self, tmp_path: Path, photos: Path, environment: dict[str, str]
    ) -> None:
        bare = {name: value for name, value in environment.items() if name != "HOME"}
        done = ask([COMMAND, "render", str(write_job(tmp_path))], bare | {"TMPDIR": str(tmp_path / "nowhere")})
        assert done.returncode == 0, done.stderr
        assert_sound(tmp_path / "out/film.mp4")

    def test_a_launcher_that_cannot_run_is_said_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        launcher = Launcher()
        with pytest.raises(EncoderError, match=r"cannot be started: .*/nowhere/python") as caught:
            launcher.start(locks=[])
        assert not caught.value.transient

    def test_waiting_for_a_session_is_said(self, tmp_path: Path, photos: Path, environment: dict[str, str]) -> None:
        job = write_job(tmp_path)
        folder = Path(environment["FANREEL_LOCK_FOLDER"])
        gate = KernelLockGate("cpu", capacity=read_capacity().cores, folder=folder)
        with (tmp_path / "log").open("w+") as log:
            with gate.hold(weight=gate.capacity, timeout_seconds=1):
                process = subprocess.Popen([COMMAND, "render", job], env=environment, stdout=log, stderr=log)
                with contextlib.ExitStack() as end:
                    end.callback(process.kill)
                    said = "0 %, 0 fps, waiting for an encoder session"
                    wait_until(lambda: said in (tmp_path / "log").read_text(), seconds=120, what="a word of the wait")
                    end.pop_all()
            assert process.wait(120) == 0
        assert_sound(tmp_path / "out/film.mp4")


class TestLetters:
    @pytest.mark.parametrize(
        "locale", ["C", *(pytest.param(name, marks=pytest.mark.soak) for name in ("C.UTF-8", "POSIX"))]
    )
    def test_names_in_other_scripts_whatever_the_locale(
        self, tmp_path: Path, environment: dict[str, str], locale: str
    ) -> None:
        (tmp_path / "фото").mkdir()
        draw_photo(tmp_path / "фото.jpg", seed=1).rename(tmp_path / "фото/снимок-1.jpg")
        job = write_job(tmp_path, photos=["фото"], output="out/фильм-日本.mp4", seconds_per_slide=1)
        plain = {name: value for name, value in environment.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
        done = ask([COMMAND, "render", str(job)], plain | {"LANG": locale, "LC_ALL": locale})
        assert done.returncode == 0, done.stderr
        assert_sound(tmp_path / "out/фильм-日本.mp4")

    def test_a_locale_without_the_letters_is_one_error(self, tmp_path: Path, environment: dict[str, str]) -> None:
        (tmp_path / "фото").mkdir()
        draw_photo(tmp_path / "фото.jpg", seed=1).rename(tmp_path / "фото/снимок-1.jpg")
        job = write_job(tmp_path, photos=["фото"])
        ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        for command in ([COMMAND, "render", str(job)], [COMMAND, "plan", str(job)]):
            done = ask(command, environment | ascii_only)
            assert done.returncode == 2
            (error,) = errors_of(done)
            assert "PYTHONUTF8=1" in error
            assert_nothing_half(tmp_path)
        # The flow and any other caller of the engine get an error of the job.
        code = (
            "import sys; from pathlib import Path; from fanreel.errors import InvalidJobError\n"
            "from fanreel.intake.sources import fetch_stills, load_job; from fanreel.settings import Settings\n"
            "try: fetch_stills(load_job(Path(sys.argv[1])), settings=Settings(store=Path()))\n"
            "except InvalidJobError as error: print(ascii(str(error)))"
        )
        done = ask([sys.executable, "-c", code, str(job)], environment | ascii_only)
        assert "photos: " in done.stdout, done.stderr
        assert "PYTHONUTF8=1" in done.stdout


@as_root
class TestAnotherUser:
    """Nobody has no home, and may write neither the program's folder nor Python's."""

    @pytest.mark.soak
    def test_makes_a_film_where_it_may_write(self, open_folder: Path, environment: dict[str, str]) -> None:
        done = self._render(open_folder, environment, writable="work")
        assert done.returncode == 0, done.stderr
        assert_sound(open_folder / "work/out/film.mp4")
        kept = open_folder / "work/store/compiled"
        assert kept.stat().st_mode & 0o777 == 0o700
        assert list(kept.rglob("*.nbi"))

    def test_is_refused_before_anything_is_rendered(self, open_folder: Path, environment: dict[str, str]) -> None:
        done = self._render(open_folder, environment, writable="store")
        assert done.returncode == 5
        assert done.stderr == (
            f"fanreel: output: {open_folder}/work/out cannot be written; choose another folder or change its rights\n"
        )
        assert kept_in(open_folder / "store") == set()

    @pytest.mark.soak
    def test_without_a_store_it_is_told_how_to_name_one(self, open_folder: Path, environment: dict[str, str]) -> None:
        done = self._render(open_folder, environment | {"FANREEL_STORE": "/root/store"}, writable="work")
        assert done.returncode == 5
        (error,) = errors_of(done)
        assert "/root/store" in error
        assert "Permission denied" in error
        assert_nothing_half(open_folder / "work")

    def _render(self, folder: Path, environment: dict[str, str], *, writable: str) -> subprocess.CompletedProcess[str]:
        work = folder / "work"
        (work / "photos").mkdir(parents=True)
        (folder / "store").mkdir()
        for seed in range(2):
            draw_photo(work / f"photos/{seed}.jpg", seed=seed)
        job = write_job(work)
        (folder / writable).chmod(0o777)
        store = {"FANREEL_STORE": str(work / "store" if writable == "work" else folder / "store")}
        given = environment if environment["FANREEL_STORE"].startswith("/root") else environment | store
        named = given | {"HOME": "/nonexistent", "FANREEL_LOCK_FOLDER": str(folder / writable / "locks")}
        named.pop("XDG_CACHE_HOME", None)
        return ask(_as_nobody([COMMAND, "render", str(job)]), named)


def _allow_files(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def _without_shared_memory(command: list[str]) -> list[str]:
    script = 'mount -t tmpfs -o ro,size=4k none /dev/shm && ! touch /dev/shm/x 2>/dev/null && exec "$@"'
    return ["unshare", "--mount", "bash", "-c", script, "bash", *command]


def _as_nobody(command: list[str]) -> list[str]:
    """Return a command that runs as nobody; a Python inside root's home is shown to it alone, in a private mount."""
    python = Path(sys.base_prefix).resolve()
    closed = next((part for part in reversed([python, *python.parents]) if not part.stat().st_mode & 0o001), None)
    become = f'exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --bounding-set=-all -- "$@"'
    if closed is None:
        return ["bash", "-c", become, "bash", *command]
    script = (
        f"set -e; kept=$(mktemp -d); mount --bind {python} $kept; mount -t tmpfs -o mode=755 none {closed};"
        f" mkdir -p {python}; mount --move $kept {python} || mount --bind $kept {python}; {become}"
    )
    return ["unshare", "--mount", "bash", "-c", script, "bash", *command]
