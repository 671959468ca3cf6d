"""What a job's entries lead to: which files of a folder, what is left out, links, names in another composition."""

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from fanreel.errors import InvalidJobError, NotAllowedError, PhotoNotFoundError
from fanreel.intake import folders
from fanreel.intake.sources import fetch_stills
from fanreel.job.parse import parse_job
from fanreel.settings import Settings

ANYWHERE = Settings(store=Path("/proc/nowhere"))  # where nothing can be kept
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Été") for form in ("NFC", "NFD"))


def photo(path):
    """Write a tiny photo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (len(str(path)) % 256, 90, 30)).save(path, "PNG")
    return path


def fill(folder, *names):
    for name in names:
        photo(folder / name)


def fetch(base, *photos, settings=ANYWHERE, **words):
    values = {"photos": list(photos), "output": "film.mp4", "base": str(base)} | words
    return fetch_stills(parse_job({key: value for key, value in values.items() if value != []}), settings=settings)


def names(base, *photos, **words):
    """Paths of the stills that a job has, relative to its base."""
    return [os.path.relpath(still.source.path, base) for still in fetch(base, *photos, **words).stills]


def refusal(kind, base, *photos, **words):
    with pytest.raises(kind) as caught:
        fetch(base, *photos, **words)
    return str(caught.value)


# Links


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("link", "to"), [("a/loop", ".."), ("self", "."), ("a/b/up", "../.."), ("a/twin", "../a")])
def test_a_link_to_a_folder_above_is_not_followed_for_ever(tmp_path, link, to):
    fill(tmp_path / "in", "1.jpg", "a/2.jpg", "a/b/3.jpg", "c/4.jpg")
    (tmp_path / "in" / link).symlink_to(to)
    assert names(tmp_path, "in/**/*.jpg") == ["in/1.jpg", "in/a/2.jpg", "in/a/b/3.jpg", "in/c/4.jpg"]
    assert names(tmp_path, "in/**") == names(tmp_path, "in/**/**/*.jpg")
    assert names(tmp_path, "in") == ["in/1.jpg"]
    assert names(tmp_path, "in/**/a/**/*.jpg")[0] == "in/a/2.jpg"


def test_a_link_to_another_folder_is_followed_once(tmp_path):
    fill(tmp_path / "album", "1.jpg", "deep/2.jpg")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b").symlink_to(tmp_path / "album")
    (tmp_path / "in" / "a").symlink_to(tmp_path / "album" / "deep")
    assert names(tmp_path, "in/**/*.jpg") == ["in/a/2.jpg", "in/b/1.jpg"]


def test_a_file_of_a_folder_with_several_names_is_shown_once_under_its_own(tmp_path):
    fill(tmp_path / "in", "b.jpg", "d.jpg", "x/e.jpg")
    (tmp_path / "in" / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "in" / "c.jpg").hardlink_to(tmp_path / "in" / "b.jpg")
    (tmp_path / "in" / "y").symlink_to("x")
    for entry in ("in", "in/*", "in/*.jpg"):
        assert names(tmp_path, entry) == ["in/b.jpg", "in/d.jpg"], entry
    assert names(tmp_path, "in/*/*.jpg") == ["in/x/e.jpg"]


def test_files_that_are_named_are_shown_as_often_as_they_are_named(tmp_path):
    fill(tmp_path, "b.jpg")
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    assert names(tmp_path, "a.jpg", "b.jpg", "*.jpg") == ["a.jpg", "b.jpg", "b.jpg"]


def test_a_link_to_itself_is_a_missing_file(tmp_path):
    fill(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("b.jpg")
    assert "b.jpg: " in refusal(Exception, tmp_path, "*.jpg")
    (tmp_path / "b.jpg").rename(tmp_path / "b")
    assert names(tmp_path, "**") == ["a.jpg"]


def test_a_tree_is_not_looked_into_where_the_host_does_not_allow_it(tmp_path):
    fill(tmp_path / "out", "secret.jpg")
    fill(tmp_path / "in", "a.jpg", "deep/b.jpg")
    bounded = Settings(store=tmp_path / "store", roots=(str(tmp_path / "in"),))
    assert names(tmp_path, "in/**", settings=bounded) == ["in/a.jpg", "in/deep/b.jpg"]
    (tmp_path / "in" / "door").symlink_to(tmp_path / "out")
    for entry in ("in/**", "in/**/*.jpg", "in/*/*.jpg"):
        assert "secret" not in refusal(NotAllowedError, tmp_path, entry, settings=bounded)
    fetched = fetch(tmp_path, "in", settings=bounded)
    assert fetched.left_out == (f"{tmp_path}/in/deep: a sub-folder with 1 photo; in/** takes all",)


# What is taken, and what is left out


def test_jpegs_are_taken_whatever_their_suffix_is(tmp_path):
    wanted = ["a.jfif", "b.jpe", "c.pjpeg", "d.jpg ", "e.JPG"]
    fill(tmp_path / "in", *wanted)
    fetched = fetch(tmp_path, "in")
    assert [Path(still.source.path).name for still in fetched.stills] == wanted
    assert fetched.left_out == fetched.notes == ()


def test_pictures_that_are_not_read_are_named_and_videos_counted(tmp_path):
    fill(tmp_path / "in", "a.jpg", "sub/b.jpg", "sub/deep/c.jpg", "empty/notes.txt", ".hidden/d.jpg")
    for name in ("b.jxl", "c.dng", "d.psd", "e.svg", "1.MOV", "2.mp4", "notes.txt", ".f.jxl", "IMG_1.AAE", "Thumbs.db"):
        (tmp_path / "in" / name).touch()
    fetched = fetch(tmp_path, "in")
    assert len(fetched.stills) == 1
    assert fetched.left_out == (
        f"{tmp_path}/in/b.jxl: JPEG XL; save it as JPEG, PNG or TIFF",
        f"{tmp_path}/in/c.dng: a RAW photo; *.dng shows its preview, if that is large enough, or develop it to "
        "JPEG or TIFF",
        f"{tmp_path}/in/d.psd: an editor's own file; save it as JPEG, PNG or TIFF",
        f"{tmp_path}/in/e.svg: a drawing; save it as JPEG, PNG or TIFF",
        f"{tmp_path}/in: 2 videos; not in a slideshow yet",
        f"{tmp_path}/in/sub: a sub-folder with 2 photos; in/** takes all",
    )
    assert fetch(tmp_path, "in", "in").left_out == fetched.left_out


def test_two_stars_take_all_photos_below_and_nothing_else(tmp_path):
    fill(tmp_path / "in", "a.jpg", "sub/b.jpg", "sub/deep/c.heif", ".hidden/d.jpg", "sub/._b.jpg")
    for name in ("notes.txt", "sub/1.mov", "sub/d.jxl"):
        (tmp_path / "in" / name).touch()
    fetched = fetch(tmp_path, "in/**")
    assert names(tmp_path, "in/**") == ["in/a.jpg", "in/sub/b.jpg", "in/sub/deep/c.heif"]
    assert fetched.left_out == (
        f"{tmp_path}/in/sub/d.jxl: JPEG XL; save it as JPEG, PNG or TIFF",
        f"{tmp_path}/in/**: 1 video; not in a slideshow yet",
    )


def test_a_pattern_that_names_a_suffix_means_it(tmp_path):
    fill(tmp_path / "in", "a.dat", "b.jpg")
    assert names(tmp_path, "in/*.dat") == ["in/a.dat"]
    assert names(tmp_path, "in/*") == names(tmp_path, "in/*.*") == ["in/b.jpg"]


def test_a_folder_without_photos_says_what_it_holds(tmp_path):
    fill(tmp_path / "in", "sub/a.jpg", "sub/b.jpg")
    for name in ("1.dng", "2.dng", "3.mov"):
        (tmp_path / "in" / name).touch()
    text = refusal(PhotoNotFoundError, tmp_path, "in")
    assert text.startswith(f"photos: {tmp_path}/in: the folder holds no photo (.avif, ")
    assert f"; left out: {tmp_path}/in/1.dng: a RAW photo" in text
    assert text.endswith("; 1 more")
    assert refusal(PhotoNotFoundError, tmp_path, "in/*").startswith(f"photos: {tmp_path}/in/*: matches no photo; left")
    assert refusal(PhotoNotFoundError, tmp_path, "in/x*") == f"photos: {tmp_path}/in/x*: matches no file"


def test_photos_of_a_sub_folder_are_counted_up_to_a_bound(tmp_path, monkeypatch):
    fill(tmp_path / "in", "a.jpg", *(f"sub/{number}.jpg" for number in range(9)))
    monkeypatch.setattr(folders, "MOST_COUNTED", 5)
    assert fetch(tmp_path, "in").left_out == (f"{tmp_path}/in/sub: a sub-folder with 5 photos; in/** takes all",)


def test_names_with_orders_for_a_terminal_are_shown_harmless(tmp_path):
    fill(tmp_path / "in", "a.jpg", "sub\x1b[31m/b.jpg", "IMG_1\r.HEIC", "IMG_1\r.JPG")
    (tmp_path / "in" / "c\x1b[2J\n.jxl").touch()
    fetched = fetch(tmp_path, "in")
    assert len(fetched.left_out) == 2
    assert len(fetched.notes) == 1
    for line in (*fetched.left_out, *fetched.notes):
        assert line.isprintable()
    assert refusal(PhotoNotFoundError, tmp_path, "gone\x1b[31m.jpg").isprintable()


# Pairs


ROLL = ["IMG_1.HEIC", "IMG_1.JPG", "IMG_2.JPG", "IMG_E1.HEIC"]


def test_of_a_picture_in_several_files_one_is_shown(tmp_path):
    fill(tmp_path / "in", *ROLL)
    for name in ("IMG_1.AAE", "IMG_1.MOV", "IMG_2.DNG"):
        (tmp_path / "in" / name).touch()
    for entry in ("in", "in/*", "in/**"):
        fetched = fetch(tmp_path, entry)
        assert names(tmp_path, entry) == ["in/IMG_2.JPG", "in/IMG_E1.HEIC"]
        assert fetched.notes == (
            f"{tmp_path}/in: 2 photos are there in several files, of which one is shown (IMG_E1.HEIC, not IMG_1.HEIC "
            "or IMG_1.JPG; IMG_2.JPG, not IMG_2.DNG); `pairs: all` shows all",
        )
        assert [line.partition(": ")[2] for line in fetched.left_out] == ["1 video; not in a slideshow yet"]


def test_every_file_is_shown_where_the_job_says_so(tmp_path):
    fill(tmp_path / "in", *ROLL)
    (tmp_path / "in" / "IMG_2.DNG").touch()
    assert names(tmp_path, "in", pairs="all") == [f"in/{name}" for name in ROLL]
    fetched = fetch(tmp_path, "in", pairs="all")
    assert fetched.notes == ()
    assert [line.partition(":")[0] for line in fetched.left_out] == [f"{tmp_path}/in/IMG_2.DNG"]


def test_files_that_are_named_one_by_one_are_all_shown(tmp_path):
    fill(tmp_path / "in", *ROLL)
    entries = [f"in/{name}" for name in ROLL]
    assert names(tmp_path, *entries) == entries
    assert names(tmp_path, slides=[{"photo": entry} for entry in entries]) == entries
    assert names(tmp_path, "in/IMG_1.JPG", "in") == ["in/IMG_1.JPG", "in/IMG_2.JPG", "in/IMG_E1.HEIC"]
    assert fetch(tmp_path, *entries).notes == ()


def test_pairs_are_found_among_all_patterns_of_a_job(tmp_path):
    fill(tmp_path / "in", *ROLL)
    assert names(tmp_path, "in/*.JPG", "in/*.HEIC") == ["in/IMG_2.JPG", "in/IMG_E1.HEIC"]


# Order


def test_photos_come_in_natural_order(tmp_path):
    wanted = ["IMG_2.jpg", "IMG_2 (1).jpg", "img_3.jpg", "IMG_10.jpg"]
    fill(tmp_path / "in", *wanted)
    for entry in ("in", "in/*.jpg", "in/**"):
        assert names(tmp_path, entry) == [f"in/{name}" for name in wanted]


# Composition


@pytest.mark.parametrize(("asked", "there"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_names_are_found_in_whatever_composition_they_are(tmp_path, asked, there):
    fill(tmp_path / there, f"{there} 1.jpg", f"{there} 2.jpg", "sub/x.jpg")
    wanted = [f"{there}/{there} 1.jpg", f"{there}/{there} 2.jpg"]
    assert names(tmp_path, asked) == wanted
    assert names(tmp_path, f"{asked}/{asked}*.jpg") == names(tmp_path, f"**/{asked}*.jpg") == wanted
    assert names(tmp_path, f"{asked}/{asked} 1.jpg") == wanted[:1]
    assert names(tmp_path, f"*/{asked} 1.jpg") == wanted[:1]
    assert names(tmp_path, f"{asked}/../{asked}/{asked} 1.jpg") == wanted[:1]
    assert names(tmp_path, slides=[{"photo": f"{asked}/{asked} 2.jpg"}]) == wanted[1:]
    bounded = Settings(store=tmp_path / "store", roots=(str(tmp_path),))
    assert names(tmp_path, f"{asked}/{asked} 1.jpg", settings=bounded) == wanted[:1]
    assert f"{asked}/gone.jpg: no such file" in refusal(PhotoNotFoundError, tmp_path, f"{asked}/gone.jpg")


def test_the_composition_that_is_asked_for_comes_first(tmp_path):
    fill(tmp_path, f"{COMPOSED}.jpg", f"{DECOMPOSED}.jpg")
    for name in (COMPOSED, DECOMPOSED):
        assert names(tmp_path, f"{name}.jpg") == [f"{name}.jpg"]


def test_a_name_that_could_mean_two_files_is_told_to_differ_in_its_composition_only(tmp_path):
    mixed = COMPOSED[:-1] + DECOMPOSED[-2:]
    assert mixed not in (COMPOSED, DECOMPOSED)
    fill(tmp_path, f"{COMPOSED}.jpg", f"{DECOMPOSED}.jpg")
    for words in ({"photos": [f"{mixed}.jpg"]}, {"slides": [{"photo": f"{mixed}.jpg"}]}):
        text = refusal(PhotoNotFoundError, tmp_path, **words)
        assert "2 names differ from it in nothing but how their letters are composed" in text


def test_a_name_in_another_composition_is_not_looked_for_where_the_host_does_not_allow_it(tmp_path):
    fill(tmp_path / "out", f"{DECOMPOSED}.jpg")
    (tmp_path / "in").mkdir()
    bounded = Settings(store=tmp_path / "store", roots=(str(tmp_path / "in"),))
    for name in (COMPOSED, f"{COMPOSED}-gone"):
        for words in ({"photos": [f"out/{name}.jpg"]}, {"slides": [{"photo": f"out/{name}.jpg"}]}):
            assert "outside of the folders" in refusal(NotAllowedError, tmp_path, settings=bounded, **words)


def test_a_slide_without_a_base_is_still_refused_by_its_key():
    assert refusal(InvalidJobError, "", slides=[{"photo": "a.jpg"}], output="/f.mp4").startswith(
        "slides.photo: 'a.jpg'"
    )
