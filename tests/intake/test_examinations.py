"""What was found of photos is kept, so that no second fetch decodes them; and what ends a process ends no fetch."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.jobs import draw_photo, make_job
from support.kills import is_running
from support.photo_files import chart, deadly_heic, encoded
from support.processes import descendants

from fanreel.errors import SandboxLostError, UnreadablePhotoError
from fanreel.intake.examinations import Examinations
from fanreel.intake.sources import fetch_stills
from fanreel.photos.examination import open_sandbox
from fanreel.settings import Settings


class NoSandbox:
    """Where no process can be started."""

    def call(self, *arguments, **words):
        raise SandboxLostError("no process to read files in could be started")


@pytest.fixture
def settings(tmp_path):
    return Settings(store=tmp_path / "store")


@pytest.fixture
def examine(tmp_path, settings, monkeypatch):
    """Examines a photo, in a sandbox unless it was examined before."""
    photo = draw_photo(tmp_path / "a.jpg", seed=1)

    def examine_it(path=photo, *, settings=settings, again=False):
        if not again:
            return Examinations(settings, NoSandbox()).examine(path)
        with open_sandbox(max_megapixels=1, photo_seconds=60) as sandbox:
            return Examinations(settings, sandbox).examine(path)

    return examine_it


def records(settings):
    return sorted((settings.store / "examined").rglob("*.json"))


def test_a_photo_is_examined_once_whatever_its_name(examine, settings, tmp_path):
    found = examine(again=True)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    assert examine() == examine(tmp_path / "b.jpg") == found
    (record,) = records(settings)
    assert record.stem == found.photo.digest
    draw_photo(tmp_path / "a.jpg", seed=2)
    with pytest.raises(SandboxLostError):
        examine()


def test_its_notes_are_kept(examine, settings, tmp_path):
    data = encoded(chart(), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data[:-2] + b"\x12" * 24 + data[-2:])
    found = examine(again=True)
    assert "extraneous bytes before marker 0xd9; look at it in the film" in found.notes[0]
    assert examine() == found


@pytest.mark.parametrize("change", ["other examiner", "other photo", "no json", "other json"])
def test_a_record_of_something_else_does_not_count(examine, settings, change):
    found = examine(again=True)
    (record,) = records(settings)
    said = json.loads(record.read_bytes())
    match change:
        case "other examiner":
            said["examiner"] += "9"
        case "other photo":
            said["found"]["photo"]["digest"] = "0" * 64
        case "other json":
            said = [1]
    record.write_text("{" if change == "no json" else json.dumps(said))
    with pytest.raises(SandboxLostError):
        examine()
    assert examine(again=True) == found == examine()


def test_a_bound_that_was_lowered_holds_for_photos_examined_before(examine, settings):
    examine(again=True)
    with pytest.raises(UnreadablePhotoError, match=r"640x480 is over 0\.1 megapixels"):
        examine(settings=replace(settings, max_photo_megapixels=0.1))


def test_a_photo_that_cannot_be_used_is_not_kept(settings, tmp_path, examine):
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(UnreadablePhotoError):
        examine(again=True)
    assert records(settings) == []


def test_records_that_nobody_asks_for_are_removed(examine, settings, tmp_path, monkeypatch):
    examine(again=True)
    examine(draw_photo(tmp_path / "b.jpg", seed=2), again=True)
    old = time.time() - 15 * 86_400
    for record in records(settings):
        os.utime(record, (old, old))
    assert examine()
    examine(draw_photo(tmp_path / "c.jpg", seed=3), again=True)
    assert len(list((settings.store / "examined").glob("*/*"))) == len(records(settings)) == 2
    assert examine()
    assert examine(tmp_path / "c.jpg")


def test_where_nothing_can_be_kept_photos_are_read_all_the_same(examine, settings):
    assert examine(settings=Settings(store=Path("/proc/nowhere")), again=True).photo.width_px == 640


def test_a_note_says_which_photo_it_is_about(tmp_path, settings):
    data = encoded(chart(), "JPEG")
    draw_photo(tmp_path / "b.jpg", seed=1)
    (tmp_path / "a.jpg").write_bytes(data[:-2] + b"\x12" * 24 + data[-2:])
    fetched = fetch_stills(make_job(tmp_path, photos=["*.jpg", "a.jpg"]), settings=settings)
    assert [note.partition(" warns")[0] for note in fetched.notes] == [f"{tmp_path}/a.jpg: its decoder"]


def test_a_photo_that_ends_its_process_is_one_bad_photo_among_others(tmp_path, settings):
    (tmp_path / "b.heic").write_bytes(deadly_heic(chart()))
    (tmp_path / "d.tif").write_text("no picture")
    for name in ("a.png", "c.png"):
        Image.new("RGB", (9, 9)).save(tmp_path / name)
    with pytest.raises(UnreadablePhotoError) as caught:
        fetch_stills(make_job(tmp_path, photos=["."]), settings=settings)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [f"{tmp_path}/b.heic", f"{tmp_path}/d.tif"]
    assert "the process that decodes it died of SIG" in lines[0]
    fetched = fetch_stills(make_job(tmp_path, photos=["."], on_bad_photo="skip"), settings=settings)
    assert [Path(still.source.path).name for still in fetched.stills] == ["a.png", "c.png"]
    assert [f"photos: {line}" for line in fetched.left_out] == lines


def test_a_fetch_leaves_no_process(tmp_path, settings, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    started = []

    def open_own(**words):
        started.append(open_sandbox(**words))
        return started[0]

    monkeypatch.setattr("fanreel.intake.examinations.open_sandbox", open_own)
    before = descendants(os.getpid()).keys()
    seen = []
    examine = Examinations.examine

    def look(self, path):
        found = examine(self, path)
        seen.extend(descendants(os.getpid()).keys() - before)
        return found

    monkeypatch.setattr(Examinations, "examine", look)
    fetch_stills(make_job(tmp_path, photos=["."]), settings=settings)
    assert len(seen) == len(started) == 1
    assert not is_running(seen[0])


def test_where_no_process_can_be_started_no_photo_is_left_out(tmp_path, settings, monkeypatch):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    monkeypatch.setattr(Examinations, "__init__", replaced(Examinations.__init__))
    with pytest.raises(SandboxLostError, match="no process to read files in"):
        fetch_stills(make_job(tmp_path, photos=["."], on_bad_photo="skip"), settings=settings)


def replaced(make):
    return lambda self, settings, sandbox: make(self, settings, NoSandbox())
