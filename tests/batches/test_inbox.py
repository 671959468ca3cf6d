"""Inboxes: what becomes a film, what has to wait, what is done already, and what is told of the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.jobs import draw_photo
from support.processes import in_fork, wait_until
from support.s3_server import S3Server, serve_s3

from fanreel.batches.inbox import CompleteWhen, InboxFile, InboxFolder, list_inbox, reason_to_wait
from fanreel.batches.inbox_films import FilmState, InboxOrder, InboxRow, look_into_inbox, order_inbox
from fanreel.batches.inbox_job import name_photos
from fanreel.batches.inbox_records import RECORDS_FOLDER, LocalRecords, MadeFilm
from fanreel.errors import FanreelError, InvalidJobError, NotAllowedError, StorageError, UnreadablePhotoError
from fanreel.host.host import Host, open_host
from fanreel.intake.sources import fetch_stills
from fanreel.job.slideshow import SlideshowJob
from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.join.verify import find_damage
from fanreel.remote import s3 as s3_module
from fanreel.render.here import render_job
from fanreel.render.inbox import make_inbox_film
from fanreel.report.film_report import FilmReport
from fanreel.sessions.launcher import Launcher
from fanreel.settings import Settings

SMALL = {"size": "64x64", "fps": "8", "seconds_per_slide": 1, "encoding": {"preset": "draft", "quality": 40}}
NOBODY = 65534


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Host:
    """One host, and one store, for all films of this module."""
    folder = tmp_path_factory.mktemp("host")
    return open_host(Settings(store=folder / "store", lock_folder=folder / "locks"), launcher=launcher)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("drawn")
    return [draw_photo(folder / f"{seed}.jpg", seed=seed, size=(120, 90)).read_bytes() for seed in range(3)]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "in box"
    folder.mkdir()
    return folder


Fill = Callable[..., Path]


@pytest.fixture
def fill(inbox: Path, drawn: list[bytes]) -> Fill:
    """Makes a sub-folder: two photos, a small job, a marker; `words` are the job's."""

    def fill_one(name: str, *, photos: tuple[str, ...] = ("a.jpg", "b.jpg"), ready: bool = True, **words: Any) -> Path:
        folder = inbox / name
        folder.mkdir()
        for seed, photo in enumerate(photos):
            (folder / photo).parent.mkdir(exist_ok=True)
            (folder / photo).write_bytes(drawn[seed % len(drawn)])
        (folder / "job.yaml").write_text(yaml.safe_dump(SMALL | words), encoding="utf-8")
        if ready:
            (folder / ".ready").touch()
        return folder

    return fill_one


class Made:
    """Runs over an inbox and notes the jobs that were rendered."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.jobs: list[SlideshowJob] = []

    def render(self, job: SlideshowJob) -> FilmReport:
        self.jobs.append(job)
        return render_job(job, host=self.host)[0]

    def run(self, inbox: Path | str, **words: Any) -> dict[str, InboxRow]:
        order = order_inbox(str(inbox), **words)
        self.jobs.clear()
        rows, _ = look_into_inbox(order, settings=self.host.settings)
        made = [make_inbox_film(row, order, render=self.render) for row in rows]
        assert len({row.name for row in made}) == len(made)
        return {row.name: row for row in made}

    def states(self, inbox: Path | str, **words: Any) -> dict[str, FilmState]:
        return {name: row.state for name, row in self.run(inbox, **words).items()}


@pytest.fixture
def made(host: Host) -> Made:
    return Made(host)


def wait_for_a_later_change(folder: Path, before: float) -> None:
    """Wait until what changes now is stamped later than `before`: the clock of file systems has coarse ticks."""
    probe = folder.parent / ".probe"

    def is_later() -> bool:
        probe.write_bytes(b"")
        return probe.stat().st_ctime > before

    wait_until(is_later, seconds=20, what="the file system's clock has gone on")


def assert_sound(film: Path, *, frames: int) -> None:
    certificate = read_certificate(certificate_path(film))
    assert certificate.frame_count == frames
    assert find_damage(film, certificate, full=True) == ()


class TestFilms:
    def test_each_sub_folder_becomes_a_film_beside_it(self, inbox: Path, fill: Fill, made: Made):
        fill("trip")
        fill("Zoë & Jürgen's 2nd trip", photos=("a.jpg", "b.jpg", "c.jpg"))
        (inbox / "note.txt").touch()
        (inbox / "loose.jpg").touch()
        rows = made.run(inbox)

        assert {name: row.state for name, row in rows.items()} == {
            "trip": FilmState.RENDERED,
            "Zoë & Jürgen's 2nd trip": FilmState.RENDERED,
        }
        assert rows["trip"].detail == str(inbox / "trip.mp4")
        assert_sound(inbox / "trip.mp4", frames=2 * 8)
        assert_sound(inbox / "Zoë & Jürgen's 2nd trip.mp4", frames=3 * 8)

    def test_without_a_job_file_the_defaults_hold(self, inbox: Path, fill: Fill, host: Host):
        (fill("trip") / "job.yaml").unlink()
        (row,), _ = look_into_inbox(order_inbox(str(inbox), render_on="nvenc, cpu"), settings=host.settings)

        assert row.film is not None
        assert row.film.job == SlideshowJob(
            photos=[f"{inbox}/trip/"],
            output=str(inbox / "trip.mp4"),
            base=str(inbox / "trip"),
            render_on=["nvenc", "cpu"],
        )

    def test_a_job_file_has_the_last_word(self, inbox: Path, fill: Fill, made: Made):
        fill("trip", photos=("a.jpg", "raw/b.jpg"), output="done/film.mp4")
        (inbox / "trip/job.yaml").write_text(
            yaml.safe_dump(SMALL | {"photos": ["raw", "."], "output": "done/film.mp4", "render_on": "here"})
        )
        row = made.run(inbox, render_on="cpu")["trip"]

        assert (row.state, row.detail) == (FilmState.RENDERED, str(inbox / "trip/done/film.mp4"))
        assert made.jobs[0].machines.render_on == ["here"]
        assert_sound(inbox / "trip/done/film.mp4", frames=2 * 8)

    def test_json_is_as_good(self, inbox: Path, fill: Fill, made: Made):
        folder = fill("trip")
        (folder / "job.yaml").unlink()
        (folder / "job.json").write_text(json.dumps(SMALL | {"seconds_per_slide": 2}))
        assert made.states(inbox) == {"trip": FilmState.RENDERED}
        assert_sound(inbox / "trip.mp4", frames=2 * 16)

    def test_photos_are_shown_in_the_order_that_people_expect(self, inbox: Path, fill: Fill, host: Host):
        fill("trip", photos=("p10.jpg", "p9.jpg", "P1.JPG", "p9 (1).jpg"))
        (row,), _ = look_into_inbox(order_inbox(str(inbox)), settings=host.settings)
        assert row.film is not None
        assert list(row.film.folder.photos) == ["P1.JPG", "p9.jpg", "p9 (1).jpg", "p10.jpg"]
        stills = fetch_stills(row.film.job, settings=host.settings).stills
        assert [Path(still.source.path).name for still in stills] == list(row.film.folder.photos)

    def test_of_a_phone_s_picture_one_file_is_shown_and_that_is_told(self, inbox: Path, fill: Fill, made: Made):
        fill("trip", photos=("IMG_1.HEIC", "IMG_1.JPG", "IMG_E1.HEIC", "raw/b.jpg"))
        row = made.run(inbox)["trip"]
        assert_sound(inbox / "trip.mp4", frames=8)
        assert [note.partition(": ")[2][:12] for note in row.notes] == ["1 photo is t", "a sub-folder"]

    def test_films_may_go_elsewhere(self, inbox: Path, fill: Fill, made: Made, tmp_path: Path):
        fill("trip")
        before = sorted(inbox.rglob("*"))
        assert made.states(inbox, films=str(tmp_path / "films")) == {"trip": FilmState.RENDERED}
        assert_sound(tmp_path / "films/trip.mp4", frames=2 * 8)
        assert sorted(inbox.rglob("*")) == before

    def test_films_may_go_into_a_folder_of_the_inbox(self, inbox: Path, fill: Fill, made: Made):
        fill("trip")
        films = str(inbox / "films") + "/"
        assert made.states(inbox, films=films) == {"trip": FilmState.RENDERED}
        assert made.states(inbox, films=films) == {"trip": FilmState.DONE}

    def test_music_is_noted_and_not_used(self, inbox: Path, fill: Fill, made: Made):
        (fill("trip") / "song.MP3").touch()
        row = made.run(inbox)["trip"]
        assert row.state is FilmState.RENDERED
        assert row.notes == ("song.MP3: not used yet; films have no sound so far",)

    def test_photos_that_were_left_out_are_told(self, inbox: Path, fill: Fill, made: Made):
        (fill("trip", on_bad_photo="skip") / "bad.jpg").write_bytes(b"no photo")
        row = made.run(inbox)["trip"]
        assert row.state is FilmState.RENDERED
        assert len(row.notes) == 1
        assert "bad.jpg" in row.notes[0]

    def test_photos_are_named_by_their_folder(self, tmp_path: Path):
        files = (InboxFile("1.jpg", 1, 1.0), InboxFile("raw/1.jpg", 1, 1.0))
        local = InboxFolder("trip", str(tmp_path / "trip"), files, 1.0)
        remote = replace(local, location="s3://films/in/trip")
        assert name_photos(local) == [f"{tmp_path}/trip/"]
        assert name_photos(remote) == ["s3://films/in/trip/"]
        # Where the folder would mean more than these photos, each is named.
        assert name_photos(replace(local, ignored=("link.jpg: leads out",))) == [f"{tmp_path}/trip/1.jpg"]


class TestDone:
    def test_a_done_one_is_skipped(self, inbox: Path, fill: Fill, made: Made):
        fill("trip")
        made.run(inbox)
        published = (inbox / "trip.mp4").stat()
        row = made.run(inbox)["trip"]

        assert (row.state, row.detail) == (FilmState.DONE, str(inbox / "trip.mp4"))
        assert made.jobs == []
        assert (inbox / "trip.mp4").stat() == published

    def test_it_stays_done_while_nothing_is_complete(self, inbox: Path, fill: Fill, made: Made):
        folder = fill("trip")
        made.run(inbox)
        (folder / ".ready").unlink()
        assert made.states(inbox) == {"trip": FilmState.DONE}

    def test_a_photo_that_comes_later_makes_it_anew(self, inbox: Path, fill: Fill, made: Made, drawn: list[bytes]):
        folder = fill("trip")
        made.run(inbox)
        (folder / "c.jpg").write_bytes(drawn[2])
        assert made.states(inbox) == {"trip": FilmState.RENDERED}
        assert_sound(inbox / "trip.mp4", frames=3 * 8)
        assert made.states(inbox) == {"trip": FilmState.DONE}

    def test_so_does_one_that_goes(self, inbox: Path, fill: Fill, made: Made):
        folder = fill("trip")
        made.run(inbox)
        (folder / "a.jpg").unlink()
        assert made.states(inbox) == {"trip": FilmState.RENDERED}
        assert_sound(inbox / "trip.mp4", frames=8)

    def test_so_does_another_photo_of_the_same_name_size_and_time(self, inbox: Path, fill: Fill, made: Made):
        folder = fill("trip")
        made.run(inbox)
        before = (folder / "a.jpg").stat()
        content = bytearray((folder / "a.jpg").read_bytes())
        content[-20] ^= 1
        (folder / "a.jpg").write_bytes(content)
        os.utime(folder / "a.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert made.states(inbox) == {"trip": FilmState.RENDERED}

    def test_one_that_was_only_touched_does_not(self, inbox: Path, fill: Fill, made: Made):
        folder = fill("trip")
        made.run(inbox)
        (folder / "a.jpg").touch()
        (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes())
        listing = LocalRecords(inbox / RECORDS_FOLDER).read("trip")
        assert made.states(inbox) == {"trip": FilmState.DONE}
        noted = LocalRecords(inbox / RECORDS_FOLDER).read("trip")
        assert listing is not None
        assert noted is not None
        assert noted.listing != listing.listing
        assert replace(noted, listing="") == replace(listing, listing="")

    def test_a_film_that_was_deleted_is_made_again(self, inbox: Path, fill: Fill, made: Made):
        fill("trip")
        made.run(inbox)
        (inbox / "trip.mp4").unlink()
        assert made.states(inbox) == {"trip": FilmState.RENDERED}
        assert_sound(inbox / "trip.mp4", frames=2 * 8)

    def test_a_film_that_was_written_over_is_made_again_where_its_job_allows_that(
        self, inbox: Path, fill: Fill, made: Made
    ):
        fill("trip")
        made.run(inbox)
        (inbox / "trip.mp4").write_bytes(b"another one")
        assert made.states(inbox) == {"trip": FilmState.BROKEN}
        assert (inbox / "trip.mp4").read_bytes() == b"another one"
        (inbox / "trip/job.yaml").write_text(yaml.safe_dump(SMALL | {"overwrite": True}))
        assert made.states(inbox) == {"trip": FilmState.RENDERED}
        assert_sound(inbox / "trip.mp4", frames=2 * 8)

    @pytest.mark.parametrize(
        ("words", "state"),
        [
            ({"seconds_per_slide": 2}, FilmState.RENDERED),
            ({"encoding": {"preset": "draft", "quality": 41}}, FilmState.RENDERED),
            ({"photos": ["b.jpg", "a.jpg"]}, FilmState.RENDERED),
            ({"output": "../other.mp4"}, FilmState.RENDERED),
            ({"sessions": 1, "strategy": "film", "render_on": "here"}, FilmState.DONE),
            ({"move": "auto", "zoom": 1.3, "film": "slideshow"}, FilmState.DONE),
        ],
    )
    def test_other_words_make_it_anew_if_they_are_to_be_seen(
        self, inbox: Path, fill: Fill, made: Made, words: dict[str, Any], state: FilmState
    ):
        folder = fill("trip")
        made.run(inbox)
        (folder / "job.yaml").write_text("# a comment\n" + yaml.safe_dump(SMALL | words))
        assert made.states(inbox) == {"trip": state}

    def test_the_whole_inbox_may_move(self, inbox: Path, fill: Fill, made: Made, tmp_path: Path):
        fill("trip")
        made.run(inbox)
        inbox.rename(tmp_path / "moved")
        assert made.states(tmp_path / "moved") == {"trip": FilmState.DONE}

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 99}', b"\xff"])
    def test_a_note_that_is_none_is_none(self, inbox: Path, fill: Fill, made: Made, content: bytes):
        fill("trip")
        made.run(inbox)
        note = inbox / RECORDS_FOLDER / "trip.json"
        note.write_bytes(content)
        assert made.states(inbox) == {"trip": FilmState.RENDERED}
        assert made.states(inbox) == {"trip": FilmState.DONE}

    def test_a_longer_note_is_written_over(self, tmp_path: Path):
        records = LocalRecords(tmp_path)
        for film in ("a" * 200, "b"):
            made = MadeFilm(film=film, size_bytes=1, job_digest="", listing="", content="")
            records.write("trip", made)
            assert records.read("trip") == made

    def test_a_note_has_the_keys_that_earlier_releases_wrote(self, tmp_path: Path):
        records = LocalRecords(tmp_path)
        made = MadeFilm(film="a.mp4", size_bytes=1, job_digest="j", listing="l", content="c")
        records.write("trip", made)
        stored = '{"film":"a.mp4","size_bytes":1,"words":"j","listing":"l","content":"c","version":1}'
        assert (tmp_path / "trip.json").read_text() == stored
        assert records.read("trip") == made


class TestComplete:
    def test_a_half_uploaded_one_waits(self, inbox: Path, fill: Fill, made: Made):
        folder = fill("trip", ready=False)
        row = made.run(inbox)["trip"]
        assert row.state is FilmState.WAITING
        assert row.detail.startswith("waiting for .ready, or for 60 s without a change; the last one was ")
        assert not (inbox / "trip.mp4").exists()
        (folder / ".ready").touch()
        assert made.states(inbox) == {"trip": FilmState.RENDERED}

    def test_one_that_is_quiet_is_complete(self, inbox: Path, fill: Fill, made: Made):
        folder = fill("trip", ready=False)
        # However old the photos say they are: that they were copied a moment ago is what counts.
        for path in folder.iterdir():
            os.utime(path, (0, 0))
        assert made.states(inbox, quiet_seconds=3600) == {"trip": FilmState.WAITING}
        assert made.states(inbox, quiet_seconds=0) == {"trip": FilmState.RENDERED}

    @pytest.mark.parametrize("change", ["new.jpg.part", ".rsync.tmp", "raw/deep.jpg"])
    def test_any_change_within_counts(self, inbox: Path, fill: Fill, change: str):
        folder = fill("trip", ready=False)
        (before,) = list_inbox(str(inbox)).folders
        wait_for_a_later_change(folder, before.changed_at)
        (folder / change).parent.mkdir(exist_ok=True)
        (folder / change).touch()
        (after,) = list_inbox(str(inbox)).folders
        assert after.changed_at > before.changed_at

    def test_so_does_a_file_that_went(self, inbox: Path, fill: Fill):
        folder = fill("trip", photos=("a.jpg", "raw/b.jpg"))
        for gone in ("a.jpg", "raw/b.jpg"):
            (before,) = list_inbox(str(inbox)).folders
            wait_for_a_later_change(folder, before.changed_at)
            (folder / gone).unlink()
            assert list_inbox(str(inbox)).folders[0].changed_at > before.changed_at

    @pytest.mark.parametrize(
        ("when", "marked", "quiet_for", "complete"),
        [
            (CompleteWhen.EITHER, True, 0, True),
            (CompleteWhen.EITHER, False, 61, True),
            (CompleteWhen.EITHER, False, 59, False),
            (CompleteWhen.EITHER, False, -3600, False),
            (CompleteWhen.MARKER, True, 0, True),
            (CompleteWhen.MARKER, False, 1e6, False),
            (CompleteWhen.QUIET, True, 59, False),
            (CompleteWhen.QUIET, False, 61, True),
        ],
    )
    def test_what_counts_can_be_chosen(self, when: CompleteWhen, marked: bool, quiet_for: float, complete: bool):
        files = (InboxFile("DONE", 0, 0.0),) if marked else ()
        folder = InboxFolder("trip", "/in/trip", files, changed_at=1000.0)
        reason = reason_to_wait(
            folder, marker="DONE", complete_when=when, quiet_seconds=60, now=folder.changed_at + quiet_for
        )
        assert (reason == "") is complete
        assert complete or reason.startswith("waiting for ")

    def test_one_without_photos_waits_for_them(self, inbox: Path, fill: Fill, made: Made):
        (inbox / "empty").mkdir()
        fill("nested", photos=("raw/a.jpg",), ready=False)
        rows = made.run(inbox, quiet_seconds=0)
        assert {row.state for row in rows.values()} == {FilmState.WAITING}
        assert rows["empty"].detail == "no photos in it"
        assert "if a job.yaml says so" in rows["nested"].detail

    def test_one_that_is_marked_without_photos_is_broken(self, inbox: Path, made: Made):
        (inbox / "empty").mkdir()
        (inbox / "empty/.ready").touch()
        row = made.run(inbox)["empty"]
        assert row.state is FilmState.BROKEN
        assert row.detail == ".ready says that it is complete, and there are no photos in it"

    def test_half_a_job_file_waits_too(self, inbox: Path, fill: Fill, made: Made):
        folder = fill("trip", ready=False)
        (folder / "job.yaml").write_text("size: [64x")
        assert made.states(inbox) == {"trip": FilmState.WAITING}
        assert made.states(inbox, quiet_seconds=0) == {"trip": FilmState.BROKEN}


class TestBroken:
    def test_the_others_go_on_and_it_is_tried_again_next_time(
        self, inbox: Path, fill: Fill, made: Made, drawn: list[bytes]
    ):
        (fill("bad photo") / "c.jpg").write_bytes(b"no photo")
        fill("bad words", sise="64x64")
        fill("good")
        rows = made.run(inbox)

        assert {name: row.state for name, row in rows.items()} == {
            "bad photo": FilmState.BROKEN,
            "bad words": FilmState.BROKEN,
            "good": FilmState.RENDERED,
        }
        assert isinstance(rows["bad photo"].error, UnreadablePhotoError)
        assert "c.jpg" in rows["bad photo"].detail
        assert rows["bad words"].detail == "job.yaml: sise: unknown key; did you mean 'size'?"
        assert len(made.jobs) == 2  # none twice

        (inbox / "bad photo/c.jpg").write_bytes(drawn[2])
        assert made.states(inbox) == {
            "bad photo": FilmState.RENDERED,
            "bad words": FilmState.BROKEN,
            "good": FilmState.DONE,
        }

    def test_a_film_that_was_good_stays_when_it_breaks(self, inbox: Path, fill: Fill, made: Made):
        folder = fill("trip")
        made.run(inbox)
        (folder / "c.jpg").write_bytes(b"no photo")
        assert made.states(inbox) == {"trip": FilmState.BROKEN}
        assert_sound(inbox / "trip.mp4", frames=2 * 8)

    @pytest.mark.parametrize("text", ["- list", "a: [", "\xff", "film: speed-up", "photos: [nowhere.jpg]", "zoom: 99"])
    def test_words_that_cannot_be(self, inbox: Path, fill: Fill, made: Made, text: str):
        (fill("trip") / "job.yaml").write_text(text, encoding="latin-1")
        row = made.run(inbox)["trip"]
        assert row.state is FilmState.BROKEN
        assert isinstance(row.error, FanreelError)
        assert len(row.detail.splitlines()) == 1

    def test_two_job_files_are_one_too_many(self, inbox: Path, fill: Fill, made: Made):
        (fill("trip") / "job.json").write_text("{}")
        assert made.run(inbox)["trip"].detail.startswith("job.json and job.yaml: a sub-folder has one job file")

    def test_two_films_of_one_name(self, inbox: Path, fill: Fill, made: Made):
        fill("a", output="../film.mp4")
        (inbox / "twin").symlink_to(".")
        others = {"b": "../film.mp4", "c": ".././film.mp4", "d": "../twin/a/../film.mp4", "e": f"{inbox}//film.mp4"}
        for name, output in others.items():
            fill(name, output=output)
        fill("f", output="../Film.mp4")
        rows = made.run(inbox)
        assert {name for name, row in rows.items() if row.state is FilmState.BROKEN} == set(others)
        assert (rows["a"].state, rows["f"].state) == (FilmState.RENDERED, FilmState.RENDERED)
        assert rows["b"].detail.startswith(f"output: {inbox}/film.mp4 is the film of a too")

    def test_a_name_that_is_no_text(self, inbox: Path, fill: Fill, made: Made):
        fill("trip").rename(os.fsdecode(os.fsencode(inbox) + b"/\xff"))
        row = made.run(inbox)["\\xff"]
        assert row.state is FilmState.BROKEN
        assert "not UTF-8" in row.detail

    def test_a_name_that_leaves_no_room_for_the_film_s(self, inbox: Path, fill: Fill, made: Made):
        fill("ä" * 127)
        row = made.run(inbox)["ä" * 127]
        assert row.state is FilmState.BROKEN
        assert "File name too long" in row.detail

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
    def test_one_that_may_not_be_read(self, open_folder: Path):
        for name in ("good", "locked", "nested/locked"):
            (open_folder / name).mkdir(parents=True)
            (open_folder / name / "a.jpg").touch()
        for name in ("locked", "nested/locked"):
            (open_folder / name).chmod(0)

        def look() -> None:
            found = [(one.name, one.photos, one.refused) for one in list_inbox(str(open_folder)).folders]
            assert found == [
                ("good", ("a.jpg",), ""),
                ("locked", (), f"could not read {open_folder}/locked: Permission denied"),
                ("nested", (), f"could not read {open_folder}/nested/locked: Permission denied"),
            ]

        in_fork(look, uid=NOBODY)

    @pytest.mark.parametrize("problem", ["missing", "a file"])
    def test_no_inbox(self, tmp_path: Path, made: Made, problem: str):
        place = tmp_path / "none"
        if problem == "a file":
            place.touch()
        with pytest.raises(InvalidJobError, match=rf"inbox: {place}: (No such file|Not a directory)"):
            made.run(place)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ({"inbox": "photos"}, "inbox: 'photos' is not allowed; an absolute folder"),
            ({"inbox": "https://host/in/"}, "inbox: 'https://host/in/' is not allowed"),
            ({"inbox": "/in", "films": "out"}, "output: 'out' is not allowed"),
            ({"inbox": "/in", "marker": ""}, "ready: '' is not allowed"),
            ({"inbox": "/in", "marker": "../x"}, "ready: '../x' is not allowed"),
            ({"inbox": "/in", "render_on": "here, cpu"}, "render_on: "),
            ({"inbox": "/in", "render_on": "../cpu"}, "render_on.0: "),
        ],
    )
    def test_orders_that_cannot_be(self, words: dict[str, str], message: str):
        with pytest.raises(InvalidJobError) as caught:
            order_inbox(**words)
        assert str(caught.value).startswith(message)


class TestOutside:
    def test_hidden_names_and_links_that_lead_out(self, inbox: Path, fill: Fill, made: Made, tmp_path: Path):
        folder = fill("trip")
        fill(".hidden")
        (folder / "._a.jpg").write_bytes(b"a note of another system")
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere/secret.jpg").write_bytes(b"secret")
        (inbox / "out").symlink_to(tmp_path / "elsewhere")
        (inbox / "self").symlink_to(inbox)
        (folder / "secret.jpg").symlink_to(tmp_path / "elsewhere/secret.jpg")
        (folder / "inner").symlink_to(tmp_path / "elsewhere")
        found = list_inbox(str(inbox))

        assert [one.name for one in found.folders] == ["trip"]
        assert found.folders[0].photos == ("a.jpg", "b.jpg")
        assert found.ignored == tuple(f"{inbox}/{name}: a link that leads out of the inbox" for name in ("out", "self"))
        assert set(found.folders[0].ignored) == {
            f"{folder}/{name}: a link that leads out of the inbox" for name in ("secret.jpg", "inner")
        }
        row = made.run(inbox)["trip"]
        assert row.state is FilmState.RENDERED
        assert set(row.notes) == set(found.folders[0].ignored)

    def test_links_within_are_followed(self, inbox: Path, fill: Fill, made: Made):
        fill("trip", photos=("a.jpg", "b.jpg", "raw/d.jpg"))
        (inbox / "alias").symlink_to("trip")
        (inbox / "trip/c.jpg").symlink_to("raw/d.jpg")
        assert made.states(inbox) == {"alias": FilmState.RENDERED, "trip": FilmState.RENDERED}
        assert_sound(inbox / "trip.mp4", frames=3 * 8)

    def test_a_link_to_nowhere_is_a_photo_that_is_missing(self, inbox: Path, fill: Fill, made: Made):
        (fill("trip") / "c.jpg").symlink_to("nowhere.jpg")
        row = made.run(inbox)["trip"]
        assert row.state is FilmState.BROKEN
        assert "c.jpg: no such file" in row.detail

    def test_a_job_file_that_is_a_link_out_is_not_read(self, inbox: Path, fill: Fill, tmp_path: Path):
        folder = fill("trip")
        (folder / "job.yaml").rename(tmp_path / "job.yaml")
        (folder / "job.yaml").symlink_to(tmp_path / "job.yaml")
        assert list_inbox(str(inbox)).folders[0].job_files == ()

    def test_places_stay_inside_the_host_s_roots(self, inbox: Path, fill: Fill, host: Host, tmp_path: Path):
        fill("good")
        fill("bad", output=str(tmp_path / "film.mp4"))
        settings = replace(host.settings, roots=(str(inbox),))
        rows, _ = look_into_inbox(order_inbox(str(inbox)), settings=settings)
        assert {row.name: row.state for row in rows} == {"good": FilmState.TO_MAKE, "bad": FilmState.BROKEN}
        for words in ({"inbox": str(tmp_path)}, {"inbox": str(inbox), "films": str(tmp_path)}):
            with pytest.raises(NotAllowedError, match="FANREEL_ROOTS"):
                look_into_inbox(order_inbox(**words), settings=settings)

    def test_hundreds_of_sub_folders_are_listed_at_once(self, inbox: Path, host: Host):
        for index in range(300):
            (inbox / f"trip {index}").mkdir()
            (inbox / f"trip {index}/a.jpg").touch()
        rows, _ = look_into_inbox(order_inbox(str(inbox), quiet_seconds=0), settings=host.settings)
        assert [row.name for row in rows] == [f"trip {index}" for index in range(300)]
        assert {row.state for row in rows} == {FilmState.TO_MAKE}


HOLDER = """
import sys, pathlib
from fanreel.batches.inbox_records import LocalRecords
with LocalRecords(pathlib.Path(sys.argv[1])).claim("trip") as is_ours:
    print(is_ours, flush=True)
    sys.stdin.read()
"""


class TestTwoRuns:
    def test_a_film_that_another_process_makes_is_left_to_it(self, inbox: Path, fill: Fill, made: Made):
        fill("trip")
        fill("other")
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(inbox / RECORDS_FOLDER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "True\n"
            rows = made.run(inbox)
            assert (rows["trip"].state, rows["other"].state) == (FilmState.WAITING, FilmState.RENDERED)
            assert rows["trip"].detail == "another run is making it"
        finally:
            holder.kill()  # without a word: its lock goes with it
            holder.communicate()
        assert made.states(inbox) == {"trip": FilmState.RENDERED, "other": FilmState.DONE}

    def test_what_became_done_meanwhile_is_not_made_again(self, inbox: Path, fill: Fill, made: Made, host: Host):
        fill("trip")
        order = order_inbox(str(inbox))
        (seen,), _ = look_into_inbox(order, settings=host.settings)
        made.run(inbox)
        assert made.jobs
        assert make_inbox_film(seen, order, render=_never).state is FilmState.DONE

    def test_a_photo_that_comes_while_it_is_made_makes_it_anew(
        self, inbox: Path, fill: Fill, made: Made, drawn: list[bytes], host: Host
    ):
        folder = fill("trip")
        order = order_inbox(str(inbox))
        (seen,), _ = look_into_inbox(order, settings=host.settings)

        def render(job: SlideshowJob) -> FilmReport:
            (folder / "a.jpg").write_bytes(drawn[2])
            return made.render(job)

        assert make_inbox_film(seen, order, render=render).state is FilmState.RENDERED
        assert made.states(inbox) == {"trip": FilmState.RENDERED}
        assert made.states(inbox) == {"trip": FilmState.DONE}

    def test_a_note_that_cannot_be_written_breaks_its_film_only(self, inbox: Path, fill: Fill, made: Made):
        fill("trip")
        fill("other")
        (inbox / RECORDS_FOLDER / "trip.json").mkdir(parents=True)
        rows = made.run(inbox)
        assert (rows["trip"].state, rows["other"].state) == (FilmState.BROKEN, FilmState.RENDERED)
        assert isinstance(rows["trip"].error, StorageError)


def _never(job: SlideshowJob) -> FilmReport:
    raise AssertionError(f"{job.output} is made twice")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with serve_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


class TestS3:
    @pytest.fixture(autouse=True)
    def _client(self, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        server.use(monkeypatch)

    @pytest.fixture
    def prefix(self, server: S3Server, request: pytest.FixtureRequest) -> str:
        server.requests.clear()
        return f"s3://films/{request.node.name.replace('[', '-').replace(']', '')}/in box"

    def put(self, url: str, content: bytes = b"") -> None:
        s3_module.s3().write(content, s3_module.parse_s3_uri(url), content_type="application/octet-stream")

    def fill(self, prefix: str, name: str, drawn: list[bytes], *, marked: bool = True, **words: Any) -> None:
        for photo, content in zip(("a.jpg", "raw/b.jpg", "c.jpg"), drawn, strict=True):
            self.put(f"{prefix}/{name}/{photo}", content)
        self.put(f"{prefix}/{name}/job.yaml", yaml.safe_dump(SMALL | words).encode())
        if marked:
            self.put(f"{prefix}/{name}/.ready", b".")

    def states(self, made: Made, prefix: str, **words: Any) -> dict[str, FilmState]:
        return made.states(f"{prefix}/", **words)

    def test_a_prefix_s_folders_become_films(self, prefix: str, drawn: list[bytes], made: Made, tmp_path: Path):
        films = str(tmp_path / "films")
        self.fill(prefix, "Zoë's trip", drawn)
        self.fill(prefix, ".hidden", drawn)
        self.put(f"{prefix}/loose.jpg", drawn[0])

        assert self.states(made, prefix, films=films) == {"Zoë's trip": FilmState.RENDERED}
        assert made.jobs[0].photos == [f"{prefix}/Zoë's trip/"]
        assert_sound(tmp_path / "films/Zoë's trip.mp4", frames=2 * 8)
        assert self.states(made, prefix, films=films) == {"Zoë's trip": FilmState.DONE}
        self.put(f"{prefix}/Zoë's trip/d.jpg", drawn[1])
        assert self.states(made, prefix, films=films) == {"Zoë's trip": FilmState.RENDERED}

    def test_hundreds_of_folders_are_one_listing(self, prefix: str, server: S3Server, host: Host, tmp_path: Path):
        folder = server.bucket / prefix.removeprefix("s3://films/")
        for index in range(300):
            (folder / f"trip {index}").mkdir(parents=True)
            (folder / f"trip {index}/a.jpg").write_bytes(b"a photo")
        order = order_inbox(prefix, films=str(tmp_path / "films"), quiet_seconds=0)
        rows, _ = look_into_inbox(order, settings=host.settings)
        assert len(rows) == 300
        assert {row.state for row in rows} == {FilmState.TO_MAKE}
        # What time it is there, and what lies there; no note, for none is in S3.
        assert len(server.requests) == 2

    def test_half_uploaded_ones_wait(self, prefix: str, drawn: list[bytes], made: Made, tmp_path: Path):
        self.fill(prefix, "trip", drawn, marked=False)
        films = str(tmp_path / "films")
        assert self.states(made, prefix, films=films, quiet_seconds=3600) == {"trip": FilmState.WAITING}
        assert self.states(made, prefix, films=films, complete_when=CompleteWhen.MARKER) == {"trip": FilmState.WAITING}
        assert self.states(made, prefix, films=films, quiet_seconds=0) == {"trip": FilmState.RENDERED}

    def test_names_of_a_job_file_start_at_its_folder(self, prefix: str, drawn: list[bytes], host: Host, tmp_path: Path):
        words = {
            "photos": ["raw/", "*.jpg", "https://host/x.jpg", "[x].jpg"],
            "output": "film.mp4",
        }
        self.fill(prefix, "trip", drawn, **words)
        self.fill(prefix, "up", drawn, photos=["../trip/a.jpg"])
        self.fill(prefix, "slides", drawn, base="raw", slides=[{"photo": "b.jpg"}, "d.jpg"])
        self.fill(prefix, "[2020]", drawn, photos="*.jpg")
        rows, _ = look_into_inbox(order_inbox(prefix, films=str(tmp_path / "films")), settings=host.settings)
        by_name = {row.name: row for row in rows}

        trip, slides = by_name["trip"].film, by_name["slides"].film
        assert trip is not None
        assert slides is not None
        assert trip.job.photos == [
            f"{prefix}/trip/raw/",
            f"{prefix}/trip/*.jpg",
            "https://host/x.jpg",
            f"{prefix}/trip/[x].jpg",
        ]
        assert trip.output == f"{prefix}/trip/film.mp4"
        assert [slide.photo for slide in slides.job.slides] == [f"{prefix}/slides/raw/{name}.jpg" for name in "bd"]
        brackets = by_name["[2020]"].film
        assert brackets is not None
        stills = fetch_stills(brackets.job, settings=host.settings).stills
        assert [still.source.path for still in stills] == [f"{prefix}/[2020]/{name}.jpg" for name in "ac"]
        assert "`..` is not allowed in S3" in by_name["up"].detail

    def test_films_and_notes_lie_beside_the_folders(self, prefix: str, drawn: list[bytes], made: Made):
        self.fill(prefix, "trip", drawn)
        assert self.states(made, prefix) == {"trip": FilmState.RENDERED}
        assert s3_module.s3().head(s3_module.parse_s3_uri(f"{prefix}/trip.mp4")) is not None
        assert s3_module.s3().head(s3_module.parse_s3_uri(f"{prefix}/{RECORDS_FOLDER}/trip.json")) is not None
        assert self.states(made, prefix) == {"trip": FilmState.DONE}
        s3_module.s3().delete(s3_module.parse_s3_uri(f"{prefix}/trip.mp4"))
        assert self.states(made, prefix) == {"trip": FilmState.RENDERED}

    def test_a_bad_photo_and_a_bad_job_are_told(self, prefix: str, drawn: list[bytes], made: Made, tmp_path: Path):
        self.fill(prefix, "bad photo", drawn)
        self.put(f"{prefix}/bad photo/x.jpg", b"no photo")
        self.fill(prefix, "bad words", drawn, sise=1)
        self.fill(prefix, "good", drawn)
        rows = made.run(prefix, films=str(tmp_path / "films"))
        assert rows["good"].state is FilmState.RENDERED
        assert "x.jpg" in rows["bad photo"].detail
        assert rows["bad words"].detail == "job.yaml: sise: unknown key; did you mean 'size'?"

    def test_no_bucket_is_told(self, made: Made, tmp_path: Path):
        with pytest.raises(StorageError, match="nowhere"):
            made.run("s3://nowhere/in/", films=str(tmp_path))


def test_rows_are_lines_for_people(inbox: Path):
    order = InboxOrder(str(inbox), str(inbox))
    assert order.render_on == ("here",)
    assert str(InboxRow("trip", FilmState.DONE, "/films/trip.mp4")) == "done before trip  /films/trip.mp4"
