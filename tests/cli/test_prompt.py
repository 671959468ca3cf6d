"""The prompt as people use it for the first time: photos and folders, outputs, a first job file, mistakes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from support.command import COMMAND, ROOT, assert_sound, errors_of, write_job
from support.jobs import draw_photo

SMALL = {"size": "320x180", "fps": 8, "encoding": {"preset": "draft", "quality": 30}}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """A store of the module's own, so that each segment is made once."""
    folder = tmp_path_factory.mktemp("machine")
    return os.environ | {"FANREEL_STORE": str(folder / "store"), "FANREEL_LOCK_FOLDER": str(folder / "locks")}


@pytest.fixture
def trip(tmp_path: Path) -> Path:
    """A folder that holds a folder of two photos."""
    (tmp_path / "trip" / "photos").mkdir(parents=True)
    for seed in range(2):
        draw_photo(tmp_path / "trip" / "photos" / f"IMG_{seed}.jpg", seed=seed)
    return tmp_path / "trip"


def ask(
    *arguments: object, folder: Path, environment: Mapping[str, str], text: str | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=folder,
        env=dict(environment),
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def planned(*arguments: object, folder: Path, environment: Mapping[str, str]) -> str:
    """Return where the film of some sources would go."""
    done = ask("plan", *arguments, folder=folder, environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.partition(": ")[0]


class TestPhotos:
    def test_a_folder_becomes_a_film_beside_it(self, trip: Path, environment: Mapping[str, str]):
        done = ask("render", "photos", folder=trip, environment=environment)
        assert done.returncode == 0
        first = done.stderr.splitlines()[0]
        assert first.startswith("2 photos, 8 s at 1080p30, ")
        assert first.endswith(f"; makes {trip}/photos.mp4")
        assert sorted(path.name for path in trip.iterdir()) == ["photos", "photos.mp4", "photos.mp4.certificate.json"]
        assert_sound(trip / "photos.mp4")
        assert "photos    2\n" in done.stdout
        # The film is of no further run of the same command.
        again = ask("render", "photos", folder=trip, environment=environment)
        assert "2 photos, 8 s at 1080p30, all 1 segment kept from before" in again.stderr

    @pytest.mark.parametrize(
        ("sources", "where", "film"),
        [
            (["photos/"], ".", "photos.mp4"),
            (["."], "photos", "photos.mp4"),
            (["photos/IMG_0.jpg", "photos/IMG_1.jpg"], ".", "photos.mp4"),
            (["IMG_0.jpg", "IMG_1.jpg"], "photos", "photos.mp4"),
            (["photos/IMG_1.jpg"], ".", "photos/IMG_1.mp4"),
            (["photos/*.jpg"], ".", "photos.mp4"),
            (["photos", "photos"], ".", "photos.mp4"),
            (["photos", "-o", "a/b.mp4"], ".", "a/b.mp4"),
            (["photos", "-o", "new/"], ".", "new/photos.mp4"),
            (["photos", "-o", "."], ".", "photos.mp4"),
            (["photos", "--output=../up.mp4"], ".", "../up.mp4"),
        ],
    )
    def test_where_the_film_goes(
        self, trip: Path, environment: Mapping[str, str], sources: list[str], where: str, film: str
    ):
        found = planned(*sources, folder=trip / where, environment=environment)
        assert found == os.path.normpath(trip / film)
        assert sorted(path.name for path in trip.rglob("*")) == ["IMG_0.jpg", "IMG_1.jpg", "photos"]

    def test_a_name_with_brackets_is_a_name(self, trip: Path, environment: Mapping[str, str]):
        (trip / "photos").rename(trip / "[1] a*b")
        assert planned("[1] a*b", folder=trip, environment=environment) == str(trip / "[1] a*b.mp4")

    def test_a_folder_with_a_job_file_is_rendered_as_that_says(self, trip: Path, environment: Mapping[str, str]):
        (trip / "photos" / "job.yaml").write_text(yaml.safe_dump({"photos": ["IMG_1.jpg"], "output": "mine.mp4"}))
        done = ask("plan", "photos", folder=trip, environment=environment)
        assert (done.returncode, done.stderr) == (0, "photos/job.yaml says how\n")
        assert done.stdout.startswith(f"{trip}/photos/mine.mp4: ")

    @pytest.mark.parametrize("name", ["film.mp4", "RAW.dat", "no-suffix"])
    def test_what_is_neither_a_job_nor_a_photo_is_told(self, trip: Path, environment: Mapping[str, str], name: str):
        (trip / name).write_bytes(b"\0\0\0\x18ftypmp42" + bytes(range(256)))
        done = ask("render", name, folder=trip, environment=environment)
        assert done.returncode == 2
        assert errors_of(done) == [
            f"fanreel: {name}: neither a job file (YAML or JSON) nor a photo that fanreel can read"
        ]

    def test_a_job_file_among_photos_is_told(self, trip: Path, environment: Mapping[str, str]):
        done = ask("render", "photos", write_job(trip), folder=trip, environment=environment)
        assert done.returncode == 2
        assert "one job file is taken, or any number of photos and folders, but not both" in done.stderr

    def test_every_photo_that_is_not_there_is_told(self, trip: Path, environment: Mapping[str, str]):
        done = ask("render", "photos", "a.jpg", "b.jpg", folder=trip, environment=environment)
        assert done.returncode == 2
        assert [line.rpartition("/")[2] for line in done.stderr.splitlines()] == [
            "a.jpg: no such file",
            "b.jpg: no such file",
        ]


class TestJobs:
    def test_a_job_on_standard_input_starts_here(self, trip: Path, environment: Mapping[str, str]):
        text = yaml.safe_dump({"photos": ["photos"], "output": "out/film.mp4", **SMALL})
        done = ask("render", "-", folder=trip, environment=environment, text=text)
        assert done.returncode == 0
        assert_sound(trip / "out" / "film.mp4")

    @pytest.mark.parametrize("text", ["", "photos: [", "- a", "just words"])
    def test_standard_input_that_is_no_job_is_told_by_its_name(
        self, trip: Path, environment: Mapping[str, str], text: str
    ):
        done = ask("render", "-", folder=trip, environment=environment, text=text)
        assert done.returncode == 2
        assert len(errors_of(done)) == 1
        assert "fanreel: standard input: " in done.stderr

    def test_a_file_of_something_else_is_told_in_one_line(self, trip: Path, environment: Mapping[str, str]):
        (trip / "other.yaml").write_text("name: a\non: b\njobs: c\nsteps: d\n")
        done = ask("render", "other.yaml", folder=trip, environment=environment)
        assert done.returncode == 2
        assert errors_of(done) == [
            "fanreel: other.yaml: no job: it has none of the keys of one; `fanreel init` writes one to begin with"
        ]

    def test_the_prompt_s_output_goes_before_the_job_s(self, trip: Path, environment: Mapping[str, str]):
        """It starts where the person stands; the job needs none of its own."""
        job = write_job(trip, output="unused.mp4")
        (trip / "here").mkdir()
        assert planned("../job.yaml", "-o", "x.mp4", folder=trip / "here", environment=environment) == str(
            trip / "here" / "x.mp4"
        )
        assert planned(job, "-o", f"{trip}/new/", folder=trip, environment=environment) == f"{trip}/new/unused.mp4"
        job.write_text("photos: [photos]")
        assert planned(job, "-o", "x.mp4", folder=trip, environment=environment) == str(trip / "x.mp4")

    @pytest.mark.parametrize("content", [b"a film of someone else"])
    def test_a_foreign_file_is_replaced_only_if_that_is_said(
        self, trip: Path, environment: Mapping[str, str], content: bytes
    ):
        job = write_job(trip, output="film.mp4")
        (trip / "film.mp4").write_bytes(content)
        done = ask("render", job, folder=trip, environment=environment)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, "it is told before anything is rendered"
        assert "film.mp4 is a file that fanreel did not make (22 bytes, " in done.stderr
        assert "--overwrite" in done.stderr
        assert (trip / "film.mp4").read_bytes() == content
        done = ask("render", job, "--overwrite", folder=trip, environment=environment)
        assert done.returncode == 0
        assert "replaced  a file that fanreel did not make (22 bytes, " in done.stdout
        # The film that is there now is ours.
        done = ask("render", write_job(trip, output="film.mp4", fps=10), folder=trip, environment=environment)
        assert done.returncode == 0
        assert "replaced  the film of 20" in done.stdout
        assert ", 8.00 s long\n" in done.stdout


class TestInit:
    def test_what_it_writes_renders_as_it_stands(self, trip: Path, environment: Mapping[str, str]):
        done = ask("init", folder=trip, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert "fanreel render job.yaml" in done.stdout
        text = (trip / "job.yaml").read_text()
        values = yaml.safe_load(text)
        assert values["photos"] == ["photos"]
        assert values["output"] == "photos.mp4"
        assert planned("job.yaml", folder=trip, environment=environment) == str(trip / "photos.mp4")
        (trip / "job.yaml").write_text(text.replace("1920x1080", "320x180").replace('"30"', '"8"'))
        assert ask("render", "job.yaml", folder=trip, environment=environment).returncode == 0
        assert_sound(trip / "photos.mp4")

    def test_every_key_is_explained(self, trip: Path, environment: Mapping[str, str]):
        ask("init", folder=trip, environment=environment)
        lines = (trip / "job.yaml").read_text().splitlines()
        keys = [number for number, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
        assert len(keys) > 15
        assert all(lines[number - 1].lstrip().startswith("# ") for number in keys)

    @pytest.mark.parametrize(
        ("arguments", "where", "photos", "film"),
        [
            ([], "photos", ["."], "photos.mp4"),
            (["photos/IMG_1.jpg"], ".", ["photos/IMG_1.jpg"], "IMG_1.mp4"),
            (["../trip/photos/"], ".", ["../trip/photos"], "photos.mp4"),
            (["photos/IMG_0.jpg", "photos/IMG_1.jpg"], ".", ["photos/IMG_0.jpg", "photos/IMG_1.jpg"], "trip.mp4"),
        ],
    )
    def test_it_names_the_photos_that_are_meant(
        self,
        trip: Path,
        environment: Mapping[str, str],
        arguments: list[str],
        where: str,
        photos: list[str],
        film: str,
    ):
        assert ask("init", *arguments, folder=trip / where, environment=environment).returncode == 0
        values = yaml.safe_load((trip / where / "job.yaml").read_text())
        assert (values["photos"], values["output"]) == (photos, film)
        planned("job.yaml", folder=trip / where, environment=environment)

    def test_it_replaces_no_job(self, trip: Path, environment: Mapping[str, str]):
        (trip / "job.yaml").write_text("mine")
        done = ask("init", folder=trip, environment=environment)
        assert done.returncode == 2
        assert "job.yaml is there already and stays" in done.stderr
        assert (trip / "job.yaml").read_text() == "mine"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "there are no photos here; say where they are: fanreel init PHOTOS"),
            (["empty"], "empty: the folder holds no photo"),
            (["gone"], "gone: no such file or folder"),
        ],
    )
    def test_it_needs_photos(self, tmp_path: Path, environment: Mapping[str, str], arguments: list[str], said: str):
        (tmp_path / "empty").mkdir()
        done = ask("init", *arguments, folder=tmp_path, environment=environment)
        assert (done.returncode, done.stderr) == (2, f"fanreel: {said}\n")
        assert not (tmp_path / "job.yaml").exists()


class TestMistakes:
    @pytest.mark.parametrize("command", [[], ["store"]])
    def test_a_bare_command_shows_its_help(self, tmp_path: Path, environment: Mapping[str, str], command: list[str]):
        done = ask(*command, folder=tmp_path, environment=environment)
        assert (done.returncode, done.stdout) == (2, "")
        assert "show this help message" in done.stderr

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("rendr photos", "there is no command 'rendr'; did you mean render?"),
            ("store lss", "there is no command 'lss'; did you mean ls?"),
            ("render --sesions 1 photos", "there is no option --sesions; did you mean --sessions?"),
            ("plan --jsn job.yaml", "there is no option --jsn; did you mean --json?"),
            ("plan --zzzzz job.yaml", "error: there is no option --zzzzz\n"),
            ("verify a.mp4 b.mp4", "'b.mp4' is one argument too many"),
            ("render @", "argument SOURCE: it is empty; was a variable of the shell not set?"),
            ("render photos -o @", "argument -o/--output: it is empty"),
            ("render", "the following arguments are required: SOURCE"),
        ],
    )
    def test_what_is_misspelt_is_named(self, tmp_path: Path, environment: Mapping[str, str], words: str, said: str):
        given = [word.replace("@", "") for word in words.split()]
        done = ask(*given, folder=tmp_path, environment=environment)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        command = " ".join(["fanreel", *(word for word in words.split()[:1] if word in ("store", "render", "verify"))])
        assert f"usage: {command} " in done.stderr or words.startswith("plan")

    def test_the_release(self, tmp_path: Path, environment: Mapping[str, str]):
        done = ask("--version", folder=tmp_path, environment=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "fanreel 0.1.0\n"

    def test_as_a_module(self, tmp_path: Path, environment: Mapping[str, str]):
        command = [sys.executable, "-m", "fanreel", "--version"]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout == b"fanreel 0.1.0\n"


class TestStart:
    def test_help_and_completion_load_nothing_heavy(self, tmp_path: Path, environment: Mapping[str, str]):
        heavy = {"av", "cv2", "numba", "numpy", "PIL", "boto3", "pydantic", "yaml", "urllib3", "argcomplete", "asyncio"}
        program = (
            "import sys\nfrom fanreel.cli.command import main\n"
            "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            f"print(sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=True
        )
        assert done.stderr == "[]\n"

    @pytest.mark.parametrize(
        ("typed", "offered"),
        [
            ("fanreel re", ["render"]),
            ("fanreel render --ov", ["--overwrite"]),
            ("fanreel store p", ["prune"]),
            ("fanreel render ph", ["photos/"]),
        ],
    )
    def test_the_shell_is_told_how_it_may_go_on(
        self, trip: Path, environment: Mapping[str, str], typed: str, offered: list[str]
    ):
        if shutil.which("bash") is None:
            pytest.skip("needs bash, for names of files")
        asked = {"_ARGCOMPLETE": "1", "COMP_LINE": typed, "COMP_POINT": str(len(typed)), "_ARGCOMPLETE_IFS": "\n"}
        answer = trip.parent / "answer"
        done = subprocess.run(
            [COMMAND], cwd=trip, env={**environment, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(answer)}, check=False
        )
        assert done.returncode == 0
        assert [word.strip() for word in answer.read_text().split("\n")] == offered
