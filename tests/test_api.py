"""The library's door: `import fanreel`, what it offers, what it raises, and the README's example."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import assert_sound
from support.jobs import draw_photo

import fanreel
from fanreel.api import render
from fanreel.job.slideshow import SlideshowJob
from fanreel.job.slideshow import SlideshowJob as Job

ROOT = Path(__file__).parents[1]
SMALL = {"size": "320x180", "fps": "8", "encoding": {"preset": "draft", "quality": 30}}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos, which is the current one."""
    monkeypatch.setenv("FANREEL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("FANREEL_LOCK_FOLDER", str(tmp_path / "locks"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestDoor:
    def test_what_it_offers_is_there_and_is_all_that_it_shows(self):
        assert set(fanreel.__all__) <= set(dir(fanreel))
        assert all(getattr(fanreel, name) is not None for name in fanreel.__all__)
        assert fanreel.SlideshowJob is SlideshowJob
        with pytest.raises(AttributeError, match="has no attribute 'rendr'"):
            fanreel.rendr  # type: ignore[attr-defined] # noqa: B018

    def test_importing_it_loads_nothing_that_takes_long(self):
        heavy = {"av", "cv2", "numba", "numpy", "PIL", "boto3", "pydantic", "yaml", "fanreel.settings"}
        program = f"import sys, fanreel; print(sorted({heavy!r} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    @pytest.mark.parametrize("first", ["fanreel.render.here", "fanreel.plan.film", "fanreel.job.slideshow"])
    def test_rooms_of_the_same_names_are_rooms_still_and_can_be_called(self, first: str):
        """Whichever is imported first, and however."""
        program = (
            f"import {first}, fanreel.render.here as here\n"
            "from fanreel import plan, render\nfrom fanreel.plan import film\nimport fanreel.plan.film\n"
            "assert fanreel.render.here is here and fanreel.plan.film is film\n"
            "assert callable(render) and render is fanreel.render and plan is fanreel.plan\n"
            "try:\n    plan({})\nexcept fanreel.InvalidJobError as error:\n    print(error)"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "output: missing; " in done.stdout

    def test_the_example_of_the_readme_makes_a_film(self, place: Path):
        (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
        for photo in list((place / "photos").iterdir())[1:]:
            photo.unlink()
        done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        film = place / "out" / "film.mp4"
        assert done.stdout == f"{film} 4.0\n"
        assert_sound(film)


class TestRender:
    def test_it_returns_a_report_for_each_film_and_tells_how_far_it_is(self, place: Path):
        told: list[fanreel.Snapshot] = []
        job = fanreel.SlideshowJob.model_validate({"photos": ["photos"], "output": "film.mp4", **SMALL})
        (report,) = fanreel.render(job, on_progress=told.append)
        assert isinstance(report, fanreel.FilmReport)
        assert (report.film, report.photo_count, report.seconds) == (str(place / "film.mp4"), 4, 16.0)
        assert told[-1].segments_done == told[-1].segment_count > 0
        assert_sound(place / "film.mp4")
        (plan,) = fanreel.plan(job)
        assert isinstance(plan, fanreel.FilmPlan)
        assert plan.frame_count == report.frame_count
        (place / "film.mp4").write_bytes(b"mine")
        with pytest.raises(fanreel.OutputExistsError):
            fanreel.render(job)

    @pytest.mark.parametrize("kind", ["job", "mapping", "file", "text"])
    def test_where_relative_paths_start(self, place: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
        values = {"photos": [Path("photos")], "output": Path("film.mp4")}
        (place / "job.yaml").write_text("photos: [photos]\noutput: film.mp4\n")
        jobs = {"job": Job(**values), "mapping": values, "file": place / "job.yaml", "text": "job.yaml"}
        assert fanreel.plan(jobs[kind])[0].output == str(place / "film.mp4")
        monkeypatch.chdir("/")
        if kind in ("job", "mapping"):
            based = Job(**values, base=str(place)) if kind == "job" else {**values, "base": place}
            assert fanreel.plan(based)[0].output == str(place / "film.mp4")
        if kind == "file":
            assert fanreel.plan(jobs[kind])[0].output == str(place / "film.mp4")


class TestErrors:
    """Every error is ours, with a line for each mistake; pydantic's own come only from its own methods."""

    WRONG = (
        "size: '321x180' is not allowed; width and height must be even, for example 320x180",
        "sze: unknown key; did you mean 'size'?",
    )

    @pytest.mark.parametrize(
        "ask",
        [
            lambda: fanreel.SlideshowJob(photos=["a"], output="a.mp4", size="321x180", sze=1),  # type: ignore[call-arg]
            lambda: fanreel.render({"photos": ["a"], "output": "a.mp4", "size": "321x180", "sze": 1}),
            lambda: fanreel.plan({"photos": ["a"], "output": "a.mp4", "size": "321x180", "sze": 1}),
        ],
    )
    def test_a_wrong_job(self, ask: Callable[[], object]):
        with pytest.raises(fanreel.InvalidJobError) as caught:
            ask()
        assert str(caught.value).splitlines() == list(self.WRONG)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize(
        ("ask", "said"),
        [
            (lambda: fanreel.Encoding(quality=99), "quality: 99 is not allowed; "),
            (lambda: fanreel.Slide(photo=""), "photo: '' is not allowed; "),
            (lambda: setattr(fanreel.Encoding(), "quality", 3), "quality: the values of a job do not change"),
            (lambda: fanreel.render(3), "a job, a mapping of its keys, or the path of a job file is needed, not int"),  # type: ignore[arg-type]
            (lambda: fanreel.render({"base": 3, "photos": ["a.jpg"], "output": "a.mp4"}), "base: 3 is not allowed; "),
            (lambda: fanreel.plan("gone.yaml"), "gone.yaml: No such file or directory"),
        ],
    )
    def test_other_mistakes(self, ask: Callable[[], object], said: str):
        with pytest.raises(fanreel.InvalidJobError) as caught:
            ask()
        assert str(caught.value).startswith(said)

    def test_a_photo_that_is_not_there(self):
        with pytest.raises(fanreel.PhotoNotFoundError, match=r"/gone\.jpg: no such file"):
            render(fanreel.SlideshowJob(photos=["gone.jpg"], output="a.mp4"))

    def test_a_photo_that_is_none(self, place: Path):
        (place / "none.jpg").write_text("no picture")
        with pytest.raises(fanreel.UnreadablePhotoError, match=r"none\.jpg"):
            render(fanreel.SlideshowJob(photos=["none.jpg"], output="a.mp4"))

    def test_jobs_in_jobs(self, photos: Path):
        draw_photo(photos / "a.jpg", seed=9)
        slide = fanreel.Slide(photo="photos/a.jpg", seconds=2, move="still")
        job = fanreel.SlideshowJob(slides=[slide], output="a.mp4", encoding=fanreel.Encoding(quality=30))
        assert fanreel.plan(job)[0].seconds == 2.0
