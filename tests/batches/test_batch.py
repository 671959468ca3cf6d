"""`fanreel batch`: tables as people and spreadsheets write them, every mistake with its place, a film a row."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.jobs import draw_photo

from fanreel.batches.batch import Batch, read_batch
from fanreel.cli.command import main
from fanreel.errors import InvalidJobError
from fanreel.job.slideshow import Move, SlideshowJob
from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.join.verify import find_damage
from fanreel.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "batch"
COMMAND = Path(sys.executable).with_name("fanreel")
SMALL = {"size": "64x64", "fps": 8, "seconds_per_slide": 1, "encoding": {"preset": "draft", "quality": 40}}

Read = Callable[..., Batch]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FANREEL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("FANREEL_LOCK_FOLDER", str(tmp_path / "locks"))


def write_files(folder: Path, table: str | bytes, **words: Any) -> tuple[Path, Path]:
    path, template = folder / "films.csv", folder / "job.yaml"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    template.write_text(yaml.safe_dump(SMALL | words, allow_unicode=True), encoding="utf-8")
    return path, template


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_one(table: str | bytes, *, settings: Settings | None = None, **words: Any) -> Batch:
        path, template = write_files(tmp_path, table, **words)
        return read_batch(path, template=template, settings=settings or Settings(store=tmp_path / "store"))

    return read_one


def jobs(batch: Batch) -> list[SlideshowJob]:
    assert batch.failures == ()
    return [row.job for row in batch.rows]


def mistakes(batch: Batch) -> list[str]:
    return [str(failure) for failure in batch.failures]


class TestCells:
    def test_cells_override_the_template(self, read: Read, tmp_path: Path):
        batch = read("output,photos,seconds_per_slide,encoding.quality\na.mp4,p.jpg,2.5,33\nb.mp4,q.jpg,,\n", zoom=2)
        first, second = jobs(batch)

        assert first.photos == ["p.jpg"]
        assert (first.seconds_per_slide, first.zoom) == (2.5, 2)
        assert (first.encoding.quality, first.encoding.preset) == (33, "draft")
        assert (second.seconds_per_slide, second.encoding.quality) == (1, 40)
        assert [row.number for row in batch.rows] == [2, 3]
        assert [row.output for row in batch.rows] == [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]

    def test_every_plain_key_of_the_job_may_be_a_column(self, read: Read):
        table = (
            "film,photos,output,base,size,fps,move,zoom,on_bad_photo,sessions,strategy,render_on,encoding.codec,"
            "encoding.encoder,encoding.fallback,encoding.preset\n"
            "slideshow,p.jpg,/a.mp4,/b,640x360,30000/1001,zoom-in,1.5,skip,2,film,nvenc|cpu,hevc,x265,never,best\n"
        )
        (job,) = jobs(read(table))
        assert job == SlideshowJob.model_validate(
            {
                **{"photos": ["p.jpg"], "output": "/a.mp4", "base": "/b", "size": "640x360", "fps": "30000/1001"},
                **{"move": Move.ZOOM_IN, "zoom": 1.5, "on_bad_photo": "skip", "sessions": 2, "strategy": "film"},
                "render_on": ["nvenc", "cpu"],
                "seconds_per_slide": 1,
                "encoding": {
                    **{"codec": "hevc", "encoder": "x265", "fallback": "never", "preset": "best", "quality": 40},
                },
            }
        )

    @pytest.mark.parametrize(
        "cell", ["a.jpg|b c.jpg", " a.jpg | b c.jpg |", '"a.jpg\nb c.jpg"', '"a.jpg\r\n\r\nb c.jpg"']
    )
    def test_lists_are_parted_by_bars_or_lines(self, read: Read, cell: str):
        (job,) = jobs(read(f"output,photos\nf.mp4,{cell}\n"))
        assert job.photos == ["a.jpg", "b c.jpg"]

    def test_either_spelling_of_what_machines_hold_goes_before_either_of_the_template_s(self, read: Read):
        for template in ({"strategy": "film"}, {"machines": {"strategy": "film"}}):
            for name in ("render_on", "machines.render_on"):
                (job,) = jobs(read(f"output,photos,{name},strategy\na.mp4,p.jpg,cpu,segments\n", **template))
                assert (job.pools, job.strategy) == (("cpu",), "segments")
        (line,) = mistakes(read("output,photos,sessions\na.mp4,p.jpg,many\n"))
        assert line.startswith("row 2, column sessions: 'many' is not allowed; ")

    def test_cells_do_not_leak_into_the_next_row(self, read: Read):
        table = "output,photos,encoding.preset\na.mp4,a.jpg,best\nb.mp4,b.jpg,\n"
        assert [job.encoding.preset for job in jobs(read(table))] == ["best", "draft"]

    def test_relative_paths_start_where_the_template_s_do(self, read: Read, tmp_path: Path):
        batch = read("output,photos\nout/a.mp4,p.jpg\n", base="films")
        assert batch.rows[0].output == str(tmp_path / "films/out/a.mp4")
        assert batch.rows[0].job.base == str(tmp_path / "films")
        batch = read("output,photos,base\nout/a.mp4,p.jpg,other\n", base="films")
        assert batch.rows[0].output == str(tmp_path / "other/out/a.mp4")

    def test_a_template_s_slides_serve_every_row(self, read: Read):
        batch = read("output,move\na.mp4,still\nb.mp4,\n", slides=[{"photo": "p.jpg", "seconds": 2}])
        assert [job.move for job in jobs(batch)] == [Move.STILL, Move.AUTO]


class TestForms:
    """What spreadsheets make of a table."""

    FILMS = ("Zoë; 1.mp4", "b, 2.mp4")

    def table(self, delimiter: str, newline: str) -> str:
        rows = [["output", "photos", "zoom"], [self.FILMS[0], "ä.jpg", "1.5"], [self.FILMS[1], "b.jpg", "2"]]
        lines = [delimiter.join(f'"{cell}"' if set(cell) & set(",;\t") else cell for cell in row) for row in rows]
        return newline.join(lines) + newline

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    def test_any_of_them_is_read(self, read: Read, delimiter: str, newline: str, encoding: str):
        batch = read(self.table(delimiter, newline).encode(encoding))
        assert [job.output for job in jobs(batch)] == list(self.FILMS)
        assert [job.photos for job in jobs(batch)] == [["ä.jpg"], ["b.jpg"]]
        assert [job.zoom for job in jobs(batch)] == [1.5, 2]

    def test_excel_s_own_first_line(self, read: Read):
        batch = read('sep=;\r\n"output";photos\r\na.mp4;p.jpg\r\nb.mp4;\r\n')
        assert batch.rows[0].job.output == "a.mp4"
        assert [line[:7] for line in mistakes(batch)] == ["row 3: "]

    def test_a_comma_in_numbers_where_semicolons_part_columns(self, read: Read):
        (job,) = jobs(read("output;photos;seconds_per_slide;zoom;fps\na.mp4;p.jpg;2,5;1,25;29,97\n"))
        assert (job.seconds_per_slide, job.zoom, job.fps) == (2.5, 1.25, "29.97")
        assert "column zoom" in mistakes(read('output,photos,zoom\na.mp4,p.jpg,"1,25"\n'))[0]

    def test_empty_lines_and_columns_are_no_rows(self, read: Read):
        batch = read("output,photos,,\n\n,,,\na.mp4,p.jpg,,\n  ,,\nb.mp4,p.jpg\n\n")
        assert [row.number for row in batch.rows] == [4, 6]
        assert batch.failures == ()

    def test_rows_are_counted_as_a_spreadsheet_does(self, read: Read):
        batch = read('output,photos,zoom\na.mp4,"a.jpg\nb.jpg\nc.jpg",1\n\nb.mp4,b.jpg,99\n')
        assert mistakes(batch)[0].startswith("row 4, column zoom: '99' is not allowed")

    def test_quotes_within_quotes(self, read: Read):
        (job,) = jobs(read('output,photos\n"a ""b"".mp4",p.jpg\n'))
        assert job.output == 'a "b".mp4'

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (b"", "films.csv: empty; "),
            (b"\n\n", "films.csv: empty; "),
            (b"output,photos\n\n", "films.csv: no row below the header"),
            ("output\nä.mp4\n".encode("latin-1"), "films.csv: line 2: not UTF-8"),
            (b"output\n\xff\xfe", "films.csv: line 2: not UTF-8"),
            (b"\xff\xfe\x00", "films.csv: line 1: not UTF-8"),
            (b"PK\x03\x04\x00\x00", "films.csv: not a text"),
            (b'output,photos\n"a.mp4,p.jpg\n', "films.csv: line "),
            (b'output,photos\n"a"b,p.jpg\n', "films.csv: line 2: not CSV"),
        ],
    )
    def test_what_is_no_table(self, read: Read, table: bytes, message: str):
        with pytest.raises(InvalidJobError) as caught:
            read(table)
        assert message in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    def test_no_table_and_no_template(self, tmp_path: Path):
        path, template = write_files(tmp_path, "output\na.mp4\n")
        for wrong in ((tmp_path / "none.csv", template), (path, tmp_path / "none.yaml")):
            with pytest.raises(InvalidJobError, match=r"none\.(csv|yaml): No such file"):
                read_batch(wrong[0], template=wrong[1], settings=Settings(store=tmp_path))


class TestMistakes:
    def test_every_one_is_told_with_its_row_and_column(self, read: Read):
        batch = read(
            "output,photos,zoom,encoding.quality,move\n"
            "a.mp4,p.jpg,99,70,\n"
            "b.mp4,p.jpg,,,sideways\n"
            "c.mkv,p.jpg,,,\n"
            "d.mp4,p.jpg,,,\n"
            ",p.jpg,,,\n"
        )
        assert [row.job.output for row in batch.rows] == ["d.mp4"]
        told = mistakes(batch)
        assert [line.partition(": ")[0] for line in told] == [
            "row 2, column zoom",
            "row 2, column encoding.quality",
            "row 3, column move",
            "row 4, column output",
            "row 6",
        ]
        assert "'99' is not allowed" in told[0]
        assert told[4].startswith("row 6: output: missing; ")

    def test_a_list_s_entry_belongs_to_its_column(self, read: Read):
        batch = read("output,photos,render_on\na.mp4,p.jpg,cpu|../x\n")
        assert mistakes(batch)[0].startswith("row 2, column render_on.1: '../x' is not allowed")

    def test_two_rows_with_one_film(self, read: Read, tmp_path: Path):
        (tmp_path / "link").symlink_to("out")
        batch = read(
            "output,photos\nout/a.mp4,p.jpg\nb.mp4,p.jpg\nout/../out/a.mp4,p.jpg\nlink/a.mp4,p.jpg\nout/A.mp4,p.jpg\n"
        )
        assert [row.number for row in batch.rows] == [2, 3, 6]
        assert mistakes(batch) == [
            f"row 4, column output: {tmp_path}/out/a.mp4 is the film of row 2 too",
            f"row 5, column output: {tmp_path}/link/a.mp4 is the film of row 2 too",
        ]

    def test_the_header_is_judged_once(self, read: Read, tmp_path: Path):
        with pytest.raises(InvalidJobError) as caught:
            read("output,photo,output,slides,encoding,encoding.qualty,size.x,zoom\na.mp4,,,,,,,\n")
        lines = str(caught.value).splitlines()
        assert all(line.startswith(f"{tmp_path}/films.csv: row 1, column ") for line in lines)
        told = [line.partition(", column ")[2] for line in lines]
        assert told[0] == "photo: unknown key; did you mean 'photos'?"
        assert told[1].startswith("slides: does not fit into a cell; give photos")
        assert told[2].startswith("encoding: holds several keys; name one, such as codec")
        assert told[3] == "encoding.qualty: unknown key; did you mean 'quality'?"
        assert told[4].startswith("size.x: no such key; keys within others are encoding.codec, ")
        assert told[5:] == ["output: twice in the header"]

    def test_the_template_s_are_told_once_and_as_its_own(self, read: Read, tmp_path: Path):
        batch = read("output,photos\na.mp4,p.jpg\nb.mp4,p.jpg\n", sise="64x64", zoom=99)
        assert batch.rows == ()
        assert mistakes(batch) == [
            f"{tmp_path}/job.yaml: zoom: 99 is not allowed; input should be less than or equal to 8",
            f"{tmp_path}/job.yaml: sise: unknown key; did you mean 'size'?",
        ]

    def test_a_template_whose_key_is_no_mapping(self, read: Read, tmp_path: Path):
        batch = read("output,photos,encoding.quality\na.mp4,p.jpg,20\n", encoding="fast")
        assert mistakes(batch) == [
            f"{tmp_path}/job.yaml: encoding: 'fast' is not allowed; a mapping is needed, with keys such as codec, "
            "encoder, fallback, preset, quality"
        ]

    def test_cells_beyond_the_header(self, read: Read):
        batch = read("output,photos,\na.mp4,p.jpg,,extra\nb.mp4,p.jpg,unnamed\nc.mp4,p.jpg,,\n")
        assert [row.number for row in batch.rows] == [4]
        assert mistakes(batch) == [
            "row 2: 4 cells, and 3 columns in the header",
            "row 3: 'unnamed' stands in a column that has no name in the header",
        ]

    def test_photos_beside_a_template_s_slides(self, read: Read):
        batch = read("output,photos\na.mp4,p.jpg\n", slides=[{"photo": "p.jpg"}])
        assert len(batch.failures) == 1
        assert "give either photos or slides, not both" in mistakes(batch)[0]

    def test_films_stay_inside_the_host_s_roots(self, read: Read, tmp_path: Path):
        settings = Settings(store=tmp_path / "store", roots=(str(tmp_path / "films"),))
        batch = read("output,photos\nfilms/a.mp4,p.jpg\n/elsewhere/b.mp4,p.jpg\n", settings=settings)
        assert [row.number for row in batch.rows] == [2]
        assert "row 3" in mistakes(batch)[0]
        assert "FANREEL_ROOTS" in mistakes(batch)[0]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in this process, on two photos."""
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        draw_photo(tmp_path / "photos" / f"{seed}.jpg", seed=seed, size=(120, 90))

    def run_here(table: str, *arguments: str, **words: Any) -> Said:
        path, template = write_files(tmp_path, table, **words)
        code = main(["batch", str(path), "--template", str(template), *arguments])
        return Said(code, *capfd.readouterr())

    return run_here


def films(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.mp4"))


def assert_sound(film: Path, *, frames: int) -> None:
    certificate = read_certificate(certificate_path(film))
    assert certificate.frame_count == frames
    assert find_damage(film, certificate, full=True) == ()


class TestCommand:
    def test_a_film_a_row(self, run: Run, tmp_path: Path):
        said = run("output,photos,seconds_per_slide\na.mp4,photos,\nb.mp4,photos/1.jpg,2\n")
        assert said.code == 0
        assert [line.split()[1] for line in said.out.splitlines() if line.startswith("film ")] == [
            str(tmp_path / "a.mp4"),
            str(tmp_path / "b.mp4"),
        ]
        assert said.err.splitlines()[-1] == "2 of 2 films made"
        assert_sound(tmp_path / "a.mp4", frames=16)
        assert_sound(tmp_path / "b.mp4", frames=16)

    def test_nothing_is_rendered_while_any_row_is_wrong(self, run: Run, tmp_path: Path):
        said = run("output,photos,zoom\na.mp4,photos,\nb.mp4,photos,99\nc.mp4,photos/2.jpg|photos/3.jpg,\n")
        assert (said.code, said.out) == (2, "")
        lines = said.err.splitlines()
        assert [line.partition(": ")[0] for line in [lines[0].removeprefix("fanreel: "), *lines[1:]]] == [
            "row 3, column zoom",
            "row 4, column photos",
            "row 4, column photos",
        ]
        assert "2.jpg: no such file" in lines[1]
        assert films(tmp_path) == []

    def test_continue_leaves_the_wrong_ones_out(self, run: Run, tmp_path: Path):
        (tmp_path / "bad.jpg").write_bytes(b"no photo")
        said = run("output,photos,zoom\na.mp4,bad.jpg,\nb.mp4,photos,99\nc.mp4,photos,\n", "--continue")
        assert said.code == 3  # the first row's, a bad photo
        assert "row 2, column photos" in said.err
        assert said.err.splitlines()[-1] == "1 of 3 films made; not: row 2, row 3"
        assert films(tmp_path) == ["c.mp4"]

    def test_a_dry_run_checks_photos_and_renders_nothing(self, run: Run, tmp_path: Path):
        before = sorted(tmp_path.rglob("*.jpg"))
        said = run("output,photos\na.mp4,photos\nb.mp4,photos/1.jpg\n", "--dry-run")
        assert said == Said(
            0,
            f"row 2: {tmp_path}/a.mp4: 2.00 s, 1 segment\nrow 3: {tmp_path}/b.mp4: 1.00 s, 1 segment\n",
            "",
        )
        said = run("output,photos\na.mp4,photos\nb.mp4,none.jpg\n", "--dry-run")
        assert said.code == 2
        assert "row 3, column photos: " in said.err
        assert sorted(tmp_path.rglob("*.jpg")) == before
        assert films(tmp_path) == []

    def test_one_that_fails_while_it_is_made_does_not_stop_the_others(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        # All is well while the rows are checked; the second film's photo changes before its turn comes.
        from fanreel.render import here

        render_job = here.render_job

        def spoil_then_render(job: SlideshowJob, **words: Any) -> Any:
            if job.output == "b.mp4":
                (tmp_path / "later.jpg").write_bytes(b"no photo")
            return render_job(job, **words)

        monkeypatch.setattr(here, "render_job", spoil_then_render)
        (tmp_path / "later.jpg").write_bytes((tmp_path / "photos/0.jpg").read_bytes())
        said = run("output,photos\na.mp4,photos\nb.mp4,later.jpg\nc.mp4,photos/1.jpg\n")

        assert said.code == 3
        assert films(tmp_path) == ["a.mp4", "c.mp4"]
        assert "fanreel: row 3, column photos: " in said.err
        assert said.err.splitlines()[-1] == "2 of 3 films made; not: row 3"

    def test_run_again_it_renders_nothing_anew(self, run: Run):
        table = "output,photos\na.mp4,photos\nb.mp4,photos/1.jpg\n"
        run(table)
        again = run(table)
        assert again.code == 0
        assert again.out.count(" 0 rendered, ") == 2

    def test_what_cannot_be_published_is_told_before(self, run: Run, tmp_path: Path):
        (tmp_path / "folder.mp4").mkdir()
        (tmp_path / "file").touch()
        said = run("output,photos\na.mp4,photos\nfile/b.mp4,photos\n")
        assert said.code == 5
        assert said.err.startswith(f"fanreel: row 3, column output: {tmp_path}/file cannot be written")
        assert films(tmp_path) == ["folder.mp4"]

    def test_the_two_ways_exclude_each_other(self, run: Run):
        with pytest.raises(SystemExit) as end:
            run("output,photos\na.mp4,photos\n", "--continue", "--dry-run")
        assert end.value.code == 2

    def test_ctrl_c_says_how_to_go_on(self, run: Run, tmp_path: Path):
        path, template = write_files(
            tmp_path,
            "output,photos\na.mp4,photos\nb.mp4,photos/1.jpg\n",
            **{"size": "1280x720", "fps": 60, "seconds_per_slide": 90, "encoding": {"preset": "best"}},
        )
        command = subprocess.Popen(
            [COMMAND, "batch", path, "--template", template],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert command.stderr is not None
        assert command.stderr.readline() == f"row 2: {tmp_path}/a.mp4\n"
        os.killpg(command.pid, signal.SIGINT)
        out, err = command.communicate(timeout=60)
        assert (command.returncode, out) == (130, "")
        assert err.splitlines()[-1].startswith("fanreel: interrupted; finished segments are kept")


class TestExample:
    def test_it_is_sound_and_names_photos_that_the_demo_draws(self, tmp_path: Path):
        sys.path.append(str(ROOT / "examples"))
        from draw_photos import PHOTOS

        folder = tmp_path / ".demo/photos"
        folder.mkdir(parents=True)
        for number, photo in enumerate(PHOTOS, start=1):
            draw_photo(folder / f"{number:02d}-{photo.name}.jpg", seed=number, size=(60, 40))
        (tmp_path / "examples/batch").mkdir(parents=True)
        for name in ("job.yaml", "films.csv"):
            (tmp_path / "examples/batch" / name).write_bytes((EXAMPLE / name).read_bytes())
        table, template = tmp_path / "examples/batch/films.csv", tmp_path / "examples/batch/job.yaml"
        batch = read_batch(table, template=template, settings=Settings(store=tmp_path))

        assert [os.path.relpath(row.output, tmp_path) for row in batch.rows] == [
            f".demo/films/{name}.mp4" for name in ("nature", "towns", "all")
        ]
        assert batch.failures == ()
        assert main(["batch", str(table), "--template", str(template), "--dry-run"]) == 0

    def test_its_table_is_one_that_spreadsheets_read(self):
        with (EXAMPLE / "films.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 3
        assert all(None not in row for row in rows)
