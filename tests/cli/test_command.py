"""The command line as people use it: exit codes, one-line errors, progress, odd names, Ctrl-C."""

import contextlib
import fcntl
import json
import os
import pty
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from support.command import kept_in
from support.jobs import draw_photo

from fanreel.cli.command import main
from fanreel.cli.terminal import LINE_SECONDS, ProgressDisplay
from fanreel.plan.film import plan_from_json
from fanreel.printable import printable
from fanreel.sessions.gate import KernelLockGate
from fanreel.store.local import LocalStore

COMMAND = Path(sys.executable).with_name("fanreel")
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")

JOB = {
    "size": "320x180",
    "fps": 8,
    "photos": ["photos"],
    "seconds_per_slide": 4,
    "encoding": {"preset": "draft", "quality": 30},
    "output": "out/film.mp4",
}
SLOW = {"size": "1280x720", "fps": 60, "seconds_per_slide": 90, "encoding": {"preset": "best"}}  # never made whole


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line]


Run = Callable[..., Said]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANREEL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("FANREEL_LOCK_FOLDER", str(tmp_path / "locks"))


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process, which saves its imports."""

    def run_here(*arguments: object) -> Said:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        return Said(code, *capfd.readouterr())

    return run_here


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished film, made by the real command."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "photos").mkdir()
    for seed in range(2):
        draw_photo(folder / "photos" / f"{seed}.jpg", seed=seed)
    job = write_job(folder)
    environment = {"FANREEL_STORE": str(folder / "store"), "FANREEL_LOCK_FOLDER": str(folder / "locks")}
    subprocess.run([COMMAND, "render", job], env=os.environ | environment, check=True, capture_output=True)
    return folder / "out" / "film.mp4"


@pytest.fixture
def film(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished film, to be damaged."""
    for source in finished.parent.iterdir():
        shutil.copy(source, tmp_path)
    return tmp_path / "film.mp4"


def write_job(folder: Path, name: str = "job.yaml", **words: object) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump(JOB | words, allow_unicode=True), encoding="utf-8")
    return path


def all_files(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*") if path.is_file())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(pid: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while new := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= new
    return found


def wait_until(condition: Callable[[], object], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(holds)


def has_begun(store: Path) -> bool:
    """Whether a session is making a segment."""
    with contextlib.suppress(FileNotFoundError):  # a scratch folder that goes while we look
        return any((store / "scratch").glob("*/*.packets"))
    return False


def someone_waits(folder: Path) -> bool:
    """Whether a process waits for an encoder session: the first one that does has the lock of the turn."""
    with contextlib.suppress(FileNotFoundError), (folder / "cpu.turn.lock").open() as turn:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class TestRequests:
    """Exit 2: one line, or one a bad thing, and nothing is written."""

    @pytest.fixture(autouse=True)
    def nothing_is_written(self, tmp_path: Path, photos: Path) -> Iterator[None]:
        yield
        written = [path for path in all_files(tmp_path) if not path.endswith((".yaml", ".json", ".jpg"))]
        assert written == []
        assert not (tmp_path / "out").exists()
        assert kept_in(tmp_path / "store") <= {"examined"}

    @pytest.mark.parametrize("command", ["render", "plan"])
    def test_no_job_file(self, run: Run, tmp_path: Path, command: str):
        said = run(command, tmp_path / "none.yaml")
        assert (said.code, said.out) == (2, "")
        assert said.err == f"fanreel: {tmp_path}/none.yaml: No such file or directory\n"

    def test_a_folder_without_photos(self, run: Run, tmp_path: Path):
        said = run("render", tmp_path)
        assert said.code == 2
        assert said.err.startswith(f"fanreel: photos: {tmp_path}: the folder holds no photo")
        assert len(said.error_lines) == 1

    @pytest.mark.parametrize("text", ["a: [1, 2", "\t: x", "- list", "", "just words", "{" * 2000, "a: 2024-13-45"])
    def test_no_yaml(self, run: Run, tmp_path: Path, text: str):
        path = tmp_path / "job.yaml"
        path.write_text(text)
        said = run("render", path)
        assert said.code == 2
        assert len(said.error_lines) == 1
        assert said.err.startswith(f"fanreel: {path}: ")

    def test_bytes_that_are_no_text(self, run: Run, tmp_path: Path):
        (tmp_path / "job.yaml").write_bytes(b"output: \xff\xfe")
        said = run("render", tmp_path / "job.yaml")
        assert said.code == 2
        assert len(said.error_lines) == 1

    def test_an_unknown_key_is_named_and_the_right_one_suggested(self, run: Run, tmp_path: Path):
        said = run("render", write_job(tmp_path, seconds_per_slid=3))
        assert said.code == 2
        assert said.err == "fanreel: seconds_per_slid: unknown key; did you mean 'seconds_per_slide'?\n"

    def test_every_wrong_value_has_its_line(self, run: Run, tmp_path: Path):
        said = run("render", write_job(tmp_path, size="321x180", fps=0, zoom=99, encoding={"quality": 70}))
        assert said.code == 2
        assert len(said.error_lines) == 4
        for key in ("size", "fps", "zoom", "encoding.quality"):
            assert f"{key}: " in said.err

    @pytest.mark.parametrize("command", ["render", "plan"])
    def test_every_missing_photo_is_listed(self, run: Run, tmp_path: Path, command: str):
        names = ["photos/photo-0.jpg", "photos/no-1.jpg", "nowhere/*.jpg", "photos/no-2.jpg"]
        said = run(command, write_job(tmp_path, photos=names))
        assert said.code == 2
        assert len(said.error_lines) == 3
        assert all(word in said.err for word in ("no-1.jpg", "no-2.jpg", "nowhere/*.jpg"))

    def test_an_empty_folder(self, run: Run, tmp_path: Path):
        (tmp_path / "empty").mkdir()
        said = run("render", write_job(tmp_path, photos=["empty"]))
        assert said.code == 2
        assert len(said.error_lines) == 1
        assert "holds no photo" in said.err

    @pytest.mark.parametrize("output", ["film.mkv", "https://films/film.mp4", ""])
    def test_an_output_that_cannot_be(self, run: Run, tmp_path: Path, output: str):
        said = run("render", write_job(tmp_path, output=output))
        assert said.code == 2
        assert len(said.error_lines) == 1
        assert "output" in said.err

    @pytest.mark.parametrize("count", ["-1", "two", "1.5", "", "1025", "99999999999999999999", "٣"])
    def test_an_odd_number_of_sessions(self, run: Run, tmp_path: Path, count: str):
        said = run("render", write_job(tmp_path), f"--sessions={count}")
        assert said.code == 2
        assert "--sessions" in said.error_lines[-1]
        assert "Traceback" not in said.err

    @pytest.mark.parametrize("arguments", [[], ["rendr"], ["render"], ["verify", "a", "b"], ["plan", "--xml", "a"]])
    def test_odd_arguments(self, run: Run, arguments: list[str]):
        said = run(*arguments)
        assert said.code == 2
        assert "usage: fanreel" in said.err
        assert "Traceback" not in said.err

    def test_a_setting_that_is_no_number(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("FANREEL_HANG_SECONDS", "soon")
        said = run("render", write_job(tmp_path))
        assert said.code == 2
        assert "FANREEL_HANG_SECONDS" in said.err


class TestMediaAndStorage:
    def test_text_that_calls_itself_a_photo(self, run: Run, tmp_path: Path, photos: Path):
        for name in ("text-1.jpg", "text-2.jpg"):
            (photos / name).write_text("no picture")
        said = run("render", write_job(tmp_path))
        assert said.code == 3
        assert len(said.error_lines) == 2
        assert "text-1.jpg" in said.err
        assert "text-2.jpg" in said.err
        assert not (tmp_path / "out").exists()

    def test_an_encoder_that_is_not_there(self, run: Run, tmp_path: Path, photos: Path):
        said = run("render", write_job(tmp_path, encoding={"encoder": "nvenc"}))
        assert said.code == 4
        assert len([line for line in said.error_lines if line.startswith("fanreel:")]) == 1
        assert "nvenc" in said.err

    def test_an_output_folder_that_is_a_file(self, run: Run, tmp_path: Path, photos: Path):
        (tmp_path / "out").write_text("")
        said = run("render", write_job(tmp_path))
        assert said.code == 5
        assert len(said.error_lines) == 1
        assert "output" in said.err

    @as_root
    def test_a_store_on_a_full_disk(
        self, run: Run, tmp_path: Path, photos: Path, mount: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ):
        disk = mount("size=64k")
        monkeypatch.setenv("FANREEL_STORE", str(disk / "store"))
        job = write_job(tmp_path)
        said = run("render", job)
        errors = [line for line in said.error_lines if line.startswith("fanreel:")]
        assert said.code == 5
        assert len(errors) == 1
        assert re.search(r"No space left on device; free some space and run the same command again$", errors[0])
        assert not list((disk / "store" / "scratch").glob("[!.]*"))
        assert run("plan", job).code == 0

    def test_a_store_on_a_read_only_disk(
        self, run: Run, tmp_path: Path, photos: Path, mount: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("FANREEL_STORE", str(mount("ro") / "store"))
        job = write_job(tmp_path)
        said = run("render", job)
        errors = [line for line in said.error_lines if line.startswith("fanreel:")]
        assert said.code == 5
        assert len(errors) == 1
        assert "Read-only file system" in errors[0]
        assert run("plan", job).code == 0
        assert "Read-only file system" in run("doctor").out

    def test_a_disk_quota_of_one_file(self, tmp_path: Path, photos: Path):
        """As `ulimit -f` sets it: no signal, no core, one line."""
        done = subprocess.run(
            [COMMAND, "render", write_job(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
        )
        assert done.returncode == 5
        assert "File too large" in done.stderr
        assert "Traceback" not in done.stderr


class TestRender:
    @pytest.fixture(autouse=True)
    def no_progress(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lines of progress come only where a film takes seconds; here they would be in the way."""
        monkeypatch.setattr("fanreel.cli.terminal.LINE_SECONDS", 3600)

    def test_pools_are_for_flows_and_that_is_said(self, run: Run, tmp_path: Path, photos: Path):
        said = run("render", write_job(tmp_path, render_on=["nvenc", "cpu"]))
        assert said.code == 0
        assert said.err.splitlines()[0].startswith("render_on names work pools, nvenc, cpu,")
        assert (tmp_path / "out/film.mp4").is_file()

    def test_says_what_is_to_be_done_and_ends_with_one_block(self, run: Run, tmp_path: Path, photos: Path):
        said = run("render", write_job(tmp_path))
        assert said.code == 0
        rows = dict(line.split(maxsplit=1) for line in said.out.splitlines())
        assert list(rows) == ["film", "photos", "length", "speed", "encoder", "segments", "verified"]
        assert rows["film"] == str(tmp_path / "out" / "film.mp4")
        assert rows["length"].startswith("16.00 s, 128 frames, 320x180")
        assert "fps" in rows["speed"]
        assert rows["encoder"].startswith("x264")
        assert re.fullmatch(r"\d+ rendered, 0 reused", rows["segments"])
        assert rows["verified"].startswith("yes")
        count = min(4, len(os.sched_getaffinity(0)))
        assert re.fullmatch(
            rf"4 photos, 16 s at 320x180 and 8 fps, {count} encoders?; makes {re.escape(str(tmp_path))}/out/film.mp4",
            *said.error_lines,
        )
        assert rows["photos"] == "4"

    def test_the_second_run_renders_nothing(self, run: Run, tmp_path: Path, photos: Path):
        job = write_job(tmp_path)
        run("render", job)
        said = run("render", job)
        assert said.code == 0
        assert re.search(r"segments +0 rendered, \d+ reused", said.out)
        assert re.search(r"fps, all \d segments kept from before; makes /", said.err)

    @pytest.mark.parametrize(("flag", "shown"), [("1", "\n1 session x"), ("0", "limited by cores")])
    def test_sessions_can_be_asked_for(self, tmp_path: Path, photos: Path, flag: str, shown: str):
        """How they were chosen is told to whoever asks for it, before or after the command."""
        job = write_job(tmp_path, sessions=1)
        for place, words in enumerate([["-v", "render", job], ["render", job, "-v"]]):
            command = [COMMAND, *words, "--sessions", flag, "-o", tmp_path / f"{place}.mp4"]
            environment = os.environ | {"FANREEL_STORE": str(tmp_path / f"store-{place}")}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            assert shown in done.stderr

    def test_a_job_given_by_a_relative_path_from_another_folder(
        self, run: Run, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Its paths start where it lies, not where the person stands."""
        write_job(tmp_path)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert run("render", "../job.yaml").code == 0
        assert (tmp_path / "out" / "film.mp4").exists()
        assert list((tmp_path / "elsewhere").iterdir()) == []

    @pytest.mark.parametrize("indent", [None, 2])
    def test_a_job_in_json(self, run: Run, tmp_path: Path, photos: Path, indent: int | None):
        path = tmp_path / "job.json"
        path.write_text(json.dumps(JOB, indent=indent))
        assert run("plan", path).code == 0

    @pytest.mark.parametrize(
        "name",
        [
            "two  words",
            'it\'s "quoted"',
            "-dash",
            "new\nline",
            "日本語 é ü",
            "$HOME `x` %s {y}",
            "[0-9]*?",
            "a\\b",
            "#1: a",
        ],
    )
    def test_odd_names(self, run: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
        folder = tmp_path / name
        (folder / name).mkdir(parents=True)
        draw_photo(folder / "photo.jpg", seed=1)
        (folder / "photo.jpg").rename(folder / name / f"{name}.jpg")
        job = write_job(folder, f"{name}.yaml", photos=[f"{name}/{name}.jpg"], output=f"{name}/{name}.mp4")
        said = run("render", job)
        assert (said.code, said.error_lines[1:]) == (0, [])
        film = folder / name / f"{name}.mp4"
        assert f"film      {printable(film)}\n" in said.out
        assert run("verify", film, "--full").code == 0
        monkeypatch.chdir(folder)
        assert run("plan", "--", f"{name}.yaml").code == 0

    def test_a_name_that_is_no_text_ends_in_no_traceback(self, tmp_path: Path, photos: Path):
        draw_photo(tmp_path / "photo.jpg", seed=5)
        os.rename(tmp_path / "photo.jpg", os.fsencode(photos) + b"/\xff.jpg")  # noqa: PTH104
        done = subprocess.run([COMMAND, "plan", write_job(tmp_path)], capture_output=True, check=False)
        assert done.returncode in (0, 2, 3)
        assert b"Traceback" not in done.stderr

    def test_a_terminal_that_lacks_letters_ends_in_no_traceback(self, tmp_path: Path, photos: Path):
        job = write_job(tmp_path, output="日本語.mp4")
        done = subprocess.run(
            [COMMAND, "plan", job], capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "ascii"}
        )
        assert (done.returncode, done.stderr) == (0, b"")


class TestPlan:
    def test_shows_every_segment_and_why_it_is_cut(self, run: Run, tmp_path: Path, photos: Path):
        said = run("plan", write_job(tmp_path))
        head, *rows = said.out.splitlines()
        slides = [row for row in rows if row.startswith("slide ")]
        rows = [row for row in rows if row not in slides]
        assert said.code == 0
        assert len(slides) == 4
        assert "128 frames, 16.00 s, 320x180 at 8 fps" in head
        assert f"{len(rows)} segments" in head
        assert all("cut" not in row for row in rows)
        assert "| cut start of the film" in run("plan", "-v", tmp_path / "job.yaml").out
        assert all("photo-" in row for row in rows)
        assert not (tmp_path / "out").exists()
        assert kept_in(tmp_path / "store") == {"examined"}

    def test_json_is_the_whole_plan(self, run: Run, tmp_path: Path, photos: Path):
        said = run("plan", write_job(tmp_path), "--json")
        assert json.loads(said.out)["name"] == "film.mp4"
        assert plan_from_json(said.out.encode()).frame_count == 128
        assert said.err == ""


@pytest.mark.parametrize("command", ["plan", "render", "batch"])
def test_no_name_commands_the_terminal(run: Run, tmp_path: Path, command: str):
    folder = tmp_path / "trip\x1b[31m"
    folder.mkdir()
    for name in ("a\x1b[2J.jpg", "b\r\n.jpg", "IMG_1\x1b.HEIC", "IMG_1\x1b.JPG"):
        draw_photo(tmp_path / "drawn.jpg", seed=1, size=(64, 48)).rename(folder / name)
    (folder / "c\x07.jxl").touch()
    words = {"photos": [folder.name, "gone\r.jpg"], "on_bad_photo": "skip", "output": "film\x1b\n.mp4"}
    job = write_job(tmp_path, size="64x64", seconds_per_slide=0.5, **words)
    table = tmp_path / "table\x1b.csv"
    table.write_text('output,photos\n"a\x1b.mp4",trip\x1b[31m\nb.mp4,gone\x1b.jpg\n')
    done = run("batch", table, "--template", job, "--continue") if command == "batch" else run(command, job)
    said = f"{done.out}{done.err}"
    assert [line for line in said.split("\n") if not line.isprintable()] == []
    assert r"\x1b" in said
    assert done.code == 0 or command == "batch"


class TestVerify:
    def test_a_sound_film(self, run: Run, film: Path):
        assert run("verify", film) == Said(0, run("verify", film).out, "")
        said = run("verify", film, "--full")
        assert said.code == 0
        assert "every frame decoded" in said.out

    def test_a_damaged_film(self, run: Run, film: Path):
        content = bytearray(film.read_bytes())
        content[-500] ^= 1
        film.write_bytes(content)
        said = run("verify", film)
        assert (said.code, said.out) == (6, "")
        assert said.err.startswith(f"fanreel: {film} is damaged:\n")
        assert "payload" in said.err

    @pytest.mark.parametrize("length", [0, 10, 5000, -1])
    def test_a_film_cut_short(self, run: Run, film: Path, length: int):
        os.truncate(film, length if length >= 0 else film.stat().st_size - 1)
        said = run("verify", film, "--full")
        assert said.code == 6
        assert "Traceback" not in said.err

    def test_no_certificate(self, run: Run, film: Path):
        film.with_name("film.mp4.certificate.json").unlink()
        said = run("verify", film)
        assert said.code == 5
        assert len(said.error_lines) == 1
        assert "no certificate beside it" in said.err

    def test_no_film(self, run: Run, tmp_path: Path):
        said = run("verify", tmp_path / "none.mp4")
        assert said.code == 5
        assert said.err == f"fanreel: could not read {tmp_path}/none.mp4: No such file or directory\n"

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"version": 1}'])
    def test_a_certificate_that_is_none(self, run: Run, film: Path, content: bytes):
        film.with_name("film.mp4.certificate.json").write_bytes(content)
        said = run("verify", film)
        assert said.code == 3
        assert len(said.error_lines) == 1
        assert "not a certificate" in said.err

    def test_a_relative_name_with_a_dash(self, run: Run, film: Path, monkeypatch: pytest.MonkeyPatch):
        film.rename(film.with_name("-f.mp4"))
        film.with_name("film.mp4.certificate.json").rename(film.with_name("-f.mp4.certificate.json"))
        monkeypatch.chdir(film.parent)
        assert run("verify", "--", "-f.mp4").code == 0


class TestDoctor:
    def test_tells_what_works_and_why_not_with_the_rest(self, run: Run):
        said = run("doctor")
        rows = {line.split()[0]: line.split()[1] for line in said.out.splitlines()}
        assert said.code == 0
        assert rows["x264"] == rows["store"] == rows["sessions"] == "yes"
        assert rows["nvenc"] in ("no", "-")
        assert rows["machine"] == rows["libraries"] == "-"

    def test_a_store_that_cannot_be_written_is_not_fine(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("FANREEL_STORE", str(tmp_path / "file"))
        said = run("doctor")
        assert said.code == 5
        assert re.search(r"^store +no ", said.out, re.MULTILINE)


class TestOutput:
    def test_a_pipe_closed_early_is_no_error(self, tmp_path: Path, photos: Path):
        job = write_job(tmp_path, photos=["photos"] * 400)
        for flags in ([], ["--json"]):
            command = subprocess.Popen(
                [COMMAND, "plan", job, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert command.stdout
            command.stdout.read(10)
            command.stdout.close()
            assert command.stderr
            assert command.stderr.read() == ""
            command.stderr.close()
            assert command.wait() == 0

    def test_a_pipe_closed_before_the_first_word_is_no_error(self, tmp_path: Path, photos: Path):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [COMMAND, "plan", write_job(tmp_path)], stdout=writer, stderr=subprocess.PIPE, check=False
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b"")

    def test_an_output_on_a_full_disk_is_one_line(self, tmp_path: Path, photos: Path):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [COMMAND, "plan", write_job(tmp_path)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert (done.returncode, done.stderr) == (5, "fanreel: the output: No space left on device\n")

    def test_without_any_streams_the_film_is_made(self, tmp_path: Path, photos: Path):
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" render "$1" <&- >&- 2>&-', COMMAND, write_job(tmp_path)], check=False
        )
        assert done.returncode == 0
        assert (tmp_path / "out" / "film.mp4").exists()

    def test_in_a_log_progress_is_a_line_now_and_then(
        self, run: Run, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
    ):
        # Shown every 10 ms, said every 100 ms: a film takes longer everywhere.
        monkeypatch.setattr("fanreel.render.here.TELL_SECONDS", 0.01)
        monkeypatch.setattr("fanreel.cli.terminal.LINE_SECONDS", 0.1)
        shown: list[object] = []
        show = ProgressDisplay.show
        monkeypatch.setattr(
            ProgressDisplay, "show", lambda self, snapshot: (shown.append(snapshot), show(self, snapshot))
        )
        job = write_job(tmp_path, size="640x360", fps=30, seconds_per_slide=6, encoding={"preset": "fast"})
        started_at = time.monotonic()
        said = run("render", job)
        form = r"\d+/\d+ segments?, \d+ %, \d+ fps(, .* left)?(, waiting for an encoder session)?"
        lines = [line for line in said.error_lines if re.fullmatch(form, line)]
        assert 1 <= len(lines) <= (time.monotonic() - started_at) / 0.1
        assert len(lines) < len(shown)
        assert len(lines) == len(said.error_lines) - 1
        assert "\r" not in said.err
        assert "\x1b" not in said.err

    def test_a_short_film_logs_no_progress(
        self, run: Run, tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
    ):
        # Short by its own clock, whatever the machine: it is just under the bound whenever it is looked at.
        clock = chain([0.0], repeat(LINE_SECONDS - 0.01))
        monkeypatch.setattr("fanreel.cli.terminal.time", SimpleNamespace(monotonic=lambda: next(clock)))
        assert len(run("render", write_job(tmp_path)).error_lines) == 1

    def test_on_a_terminal_progress_stays_in_place_and_goes(self, tmp_path: Path, photos: Path):
        ours, theirs = pty.openpty()
        job = write_job(tmp_path)
        command = subprocess.Popen([COMMAND, "render", job], stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while data := os.read(ours, 4096):
                shown += data
        os.close(ours)
        assert command.wait() == 0
        assert re.search(rb"\r\x1b\[K\d+/\d+ segments, \d+ %, \d+ fps", shown)
        before, _, block = shown.rpartition(b"\r\x1b[K")
        assert block.startswith(b"film ")
        assert b"fps" in before


class TestInterrupt:
    def start(self, job: Path, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, "render", job],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,  # type: ignore[call-overload]
        )

    def test_ctrl_c_ends_with_130_and_one_line_and_leaves_no_process(self, tmp_path: Path, photos: Path):
        command = self.start(write_job(tmp_path, **SLOW))
        assert wait_until(lambda: has_begun(tmp_path / "store"))
        family = descendants(command.pid)
        assert len(family) >= 2
        os.killpg(command.pid, signal.SIGINT)
        out, err = command.communicate(timeout=60)
        assert command.returncode == 130
        assert out == ""
        assert err.splitlines()[-1].startswith("fanreel: interrupted; finished segments are kept")
        assert "Traceback" not in err
        assert "trying again" not in err
        assert wait_until(lambda: not any(is_running(pid) for pid in family), seconds=10)
        with LocalStore(tmp_path / "store").scratch():
            pass
        assert not list((tmp_path / "store" / "scratch").glob("[!.]*"))

    def test_ctrl_c_while_it_waits_for_a_session(self, tmp_path: Path, photos: Path):
        cores = len(os.sched_getaffinity(0))
        gate = KernelLockGate("cpu", capacity=cores, folder=tmp_path / "locks")
        with gate.hold(weight=cores, timeout_seconds=5):
            command = self.start(write_job(tmp_path))
            assert command.stderr
            assert "; makes " in command.stderr.readline()
            assert wait_until(lambda: someone_waits(tmp_path / "locks"))
            os.killpg(command.pid, signal.SIGINT)
            _, err = command.communicate(timeout=60)
        assert command.returncode == 130
        assert "Traceback" not in err

    @pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
    def test_ended_by_another_signal_it_leaves_no_process(self, tmp_path: Path, photos: Path, kind: signal.Signals):
        command = self.start(write_job(tmp_path, **SLOW))
        assert wait_until(lambda: has_begun(tmp_path / "store"))
        family = descendants(command.pid)
        assert len(family) >= 2
        os.kill(command.pid, kind)
        _, err = command.communicate(timeout=60)
        assert command.returncode == -kind
        assert "Traceback" not in err
        assert wait_until(lambda: not any(is_running(pid) for pid in family), seconds=10)
