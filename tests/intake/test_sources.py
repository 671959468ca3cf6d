"""From the words of a job to its photos, in order; and from a file to a job."""

import errno
import json
import os
import threading
from pathlib import Path

import pytest
from PIL import Image
from support.photo_files import chart
from support.raw_files import dng, jpeg

from fanreel.errors import InvalidJobError, PhotoNotFoundError, StorageError, UnreadablePhotoError
from fanreel.intake.examinations import Examinations
from fanreel.intake.job_file import decode_raw_job
from fanreel.intake.sources import fetch_stills, load_job, output_location
from fanreel.job.parse import parse_job
from fanreel.job.slideshow import Move
from fanreel.settings import Settings

ANYWHERE = Settings(store=Path("/proc/nowhere"), max_photo_megapixels=1)
"""A host that allows every place; nothing is kept, for its store cannot be written."""


def photo(path, seed=None):
    """Write a tiny photo whose content is its path's, or the seed's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = abs(hash(str(path) if seed is None else seed))
    Image.new("RGB", (8, 6), (value % 256, value // 256 % 256, value // 65536 % 256)).save(path, "PNG")
    return path


def make_job(base, *photos, **words):
    values = {"photos": list(photos), "output": "film.mp4", "base": str(base)}
    return parse_job({key: value for key, value in (values | words).items() if value != []})


def names(base, *photos, **words):
    """Paths of the stills that a job has, relative to its base."""
    stills = fetch_stills(make_job(base, *photos, **words), settings=ANYWHERE).stills
    return [os.path.relpath(still.source.path, base) for still in stills]


# Which files


def test_files_folders_and_patterns_come_in_the_order_they_are_written(tmp_path):
    for name in ("z.png", "trip/b.png", "trip/a.png", "more/2.png", "more/1.png"):
        photo(tmp_path / name)
    wanted = ["more/1.png", "more/2.png", "z.png", "trip/a.png", "trip/b.png"]
    assert names(tmp_path, "more/*.png", "z.png", "trip") == wanted


def test_numbers_in_names_are_ordered_as_numbers(tmp_path):
    for name in ("photo10.png", "photo2.png", "photo1.png", "photo02b.png", "9 lives.png", "10 lives.png"):
        photo(tmp_path / name)
    wanted = ["9 lives.png", "10 lives.png", "photo1.png", "photo2.png", "photo02b.png", "photo10.png"]
    assert names(tmp_path, "*.png") == wanted
    assert names(tmp_path, ".") == wanted


def test_a_photo_may_be_shown_more_than_once_and_is_read_once(tmp_path, monkeypatch):
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png")
    read = []
    examine = Examinations.examine
    monkeypatch.setattr(Examinations, "examine", lambda self, path: read.append(path.name) or examine(self, path))
    assert names(tmp_path, "a.png", "*.png", "a.png") == ["a.png", "a.png", "b.png", "a.png"]
    assert sorted(read) == ["a.png", "b.png"]


def test_a_pattern_with_two_stars_goes_into_folders(tmp_path):
    for name in ("1.png", "x/2.png", "x/y/3.png"):
        photo(tmp_path / "in" / name)
    (tmp_path / "in" / "folder.png").mkdir()
    assert names(tmp_path, "in/**/*.png") == ["in/1.png", "in/x/2.png", "in/x/y/3.png"]


@pytest.mark.parametrize("folder", ["trip [2020]", "what?", "a*b", "[!x]"])
def test_brackets_and_stars_in_the_name_of_the_base_are_letters(tmp_path, folder):
    base = tmp_path / folder
    photo(base / "1.png")
    photo(base / "2.png")
    assert names(base, "*.png") == ["1.png", "2.png"]
    assert names(tmp_path, folder) == [f"{folder}/1.png", f"{folder}/2.png"]
    with pytest.raises(PhotoNotFoundError, match="no such file"):
        names(base, "3.png")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    photo(tmp_path / "1.png")
    photo(tmp_path / "[1].png")
    assert names(tmp_path, "[1].png") == ["[1].png"]
    assert names(tmp_path, "[0-9].png") == ["1.png"]


@pytest.mark.parametrize(
    "name",
    [
        "with space.png",
        " leading.png",
        "-dash.png",
        'it\'s "quoted".png',
        "new\nline.png",
        "фото.png",
        "写真.png",
        "émoji 🎞.png",
        "~tilde.png",
        "~root.png",
        "%d.png",
        "$HOME.png",
        "back\\slash.png",
        "a#b?.png",
    ],
)
def test_any_name_works_by_itself_in_a_folder_and_as_a_slide(tmp_path, name):
    photo(tmp_path / "in" / name)
    assert names(tmp_path, f"in/{name}") == [f"in/{name}"]
    assert names(tmp_path / "in", name) == [name]
    assert names(tmp_path, "in") == [f"in/{name}"]
    assert names(tmp_path, slides=[{"photo": f"in/{name}"}]) == [f"in/{name}"]


def test_suffixes_are_known_in_any_case_and_other_files_of_a_folder_are_passed_over(tmp_path):
    wanted = ["a.PNG", "b.Png", "c.JPG", "d.jpeg", "e.TIFF", "f.webp", "g.bmp", "h.HEIC", "i.heif", "j.AVIF", "k.gif"]
    for name in wanted:
        photo(tmp_path / "in" / name)
    for name in ("notes.txt", "film.mp4", "Thumbs.db", "noname"):
        (tmp_path / "in" / name).write_text("no picture")
    assert names(tmp_path, "in") == [f"in/{name}" for name in wanted]


def test_hidden_files_of_a_folder_are_passed_over(tmp_path):
    # A Mac writes a ._photo.jpg beside every photo on a foreign disk; it is no picture.
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "._a.png").write_bytes(b"\0\5\x16\7")
    photo(tmp_path / "in" / ".trash" / "b.png")
    assert names(tmp_path, "in") == ["in/a.png"]
    assert names(tmp_path, "in/*") == ["in/a.png"]
    assert names(tmp_path, "in/.trash/b.png") == ["in/.trash/b.png"]


def test_a_folder_is_not_searched_below_itself(tmp_path):
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "deeper.png" / "b.png")
    assert names(tmp_path, "in") == ["in/a.png"]


def test_links_are_followed_and_a_dead_one_is_missing(tmp_path):
    photo(tmp_path / "a.png")
    (tmp_path / "link.png").symlink_to("a.png")
    assert names(tmp_path, "link.png") == ["link.png"]
    (tmp_path / "dead.png").symlink_to("nowhere.png")
    with pytest.raises(PhotoNotFoundError, match=r"dead\.png: no such file"):
        names(tmp_path, "*.png")


# Where names start


def test_names_start_from_the_base_and_may_leave_it(tmp_path):
    photo(tmp_path / "x" / "a.png")
    (tmp_path / "y").mkdir()
    assert names(tmp_path / "y", "../x/a.png") == ["../x/a.png"]
    assert names(tmp_path / "y", "../x/*.png") == ["../x/a.png"]


def test_absolute_names_need_no_base(tmp_path):
    photo(tmp_path / "a.png")
    job = make_job("", str(tmp_path / "a.png"), str(tmp_path / "*.png"), str(tmp_path), output="/film.mp4")
    stills = fetch_stills(job, settings=ANYWHERE).stills
    assert [still.source.path for still in stills] == [str(tmp_path / "a.png")] * 3
    assert output_location(job, settings=ANYWHERE) == "/film.mp4"


@pytest.mark.parametrize(
    ("key", "words"), [("photos", {"photos": ["a.png"]}), ("slides.photo", {"slides": [{"photo": "a.png"}]})]
)
def test_a_relative_name_without_a_base_is_refused(key, words):
    job = make_job("", output="/film.mp4", **words)
    with pytest.raises(InvalidJobError, match=f"^{key}: 'a.png' is relative; give `base`"):
        fetch_stills(job, settings=ANYWHERE)


def test_a_relative_base_starts_from_the_working_folder_and_gives_absolute_paths(tmp_path, monkeypatch):
    photo(tmp_path / "in" / "a.png")
    monkeypatch.chdir(tmp_path)
    for base, entry in ((".", "in/a.png"), ("in", "*.png"), ("in", ".")):
        job = make_job(base, entry)
        assert fetch_stills(job, settings=ANYWHERE).stills[0].source.path == str(tmp_path / "in" / "a.png")
        assert output_location(job, settings=ANYWHERE) == str(tmp_path / base / "film.mp4")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    photo(tmp_path / "in" / "a.png")
    for base, entry in (("/", "~/in/a.png"), ("/", "~/in/*.png"), ("~/in", "a.png"), ("~", "in/*.png")):
        stills = fetch_stills(make_job(base, entry), settings=ANYWHERE).stills
        assert [still.source.path for still in stills] == [str(tmp_path / "in" / "a.png")]


# Words of their own


def test_a_slide_keeps_its_words_and_takes_the_rest_from_the_job(tmp_path):
    photo(tmp_path / "a.png")
    slides = [
        {"photo": "a.png"},
        {"photo": "a.png", "seconds": 7.5},
        {"photo": "a.png", "move": "pan-up"},
        {"photo": "a.png", "start": [0, 0, 1, 1], "end": [0.25, 0.25, 0.75, 0.75]},
    ]
    job = make_job(tmp_path, slides=slides, seconds_per_slide=3, move="still")
    stills = fetch_stills(job, settings=ANYWHERE).stills
    assert [(still.seconds, still.move, still.views) for still in stills] == [
        (3, Move.STILL, ()),
        (7.5, Move.STILL, ()),
        (3, Move.PAN_UP, ()),
        (3, Move.STILL, ((0, 0, 1, 1), (0.25, 0.25, 0.75, 0.75))),
    ]


# Photos that cannot be used


def refusal(kind, base, *photos, **words):
    """The lines of the one error that names every bad photo."""
    with pytest.raises(kind) as caught:
        fetch_stills(make_job(base, *photos, **words), settings=ANYWHERE)
    assert type(caught.value) is kind
    return str(caught.value).splitlines()


def test_every_bad_photo_is_named_at_once(tmp_path):
    photo(tmp_path / "good.png")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "hollow").mkdir()
    Image.new("RGB", (1200, 1000)).save(tmp_path / "large.png")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:-3])
    entries = ["good.png", "gone.png", "text.jpg", "*.tga", "empty.jpg", "hollow", "large.png", "cut.png"]
    assert refusal(PhotoNotFoundError, tmp_path, *entries) == [
        f"photos: {tmp_path}/gone.png: no such file",
        f"photos: {tmp_path}/text.jpg: not a picture that can be read",
        f"photos: {tmp_path}/*.tga: matches no file",
        f"photos: {tmp_path}/empty.jpg: the file is empty",
        f"photos: {tmp_path}/hollow: the folder holds no photo"
        " (.avif, .bmp, .gif, .heic, .heif, .hif, .jfif, .jpe, .jpeg, .jpg, .mpo, .pjp, .pjpeg, .png, .tif, .tiff,"
        " .webp)",
        f"photos: {tmp_path}/large.png: 1200x1000 is over 1 megapixels; FANREEL_MAX_PHOTO_MEGAPIXELS raises it",
        f"photos: {tmp_path}/cut.png: the file is cut short; copy it again, or leave it out",
    ]


def test_photos_that_exist_but_are_no_pictures_are_unreadable(tmp_path):
    photo(tmp_path / "good.png")
    (tmp_path / "a.png").write_text("no picture")
    (tmp_path / "b.png").touch()
    lines = refusal(UnreadablePhotoError, tmp_path, "*.png")
    assert [line.split(": ")[1] for line in lines] == [f"{tmp_path}/a.png", f"{tmp_path}/b.png"]


def test_a_bad_photo_that_is_shown_twice_is_named_once(tmp_path):
    assert len(refusal(PhotoNotFoundError, tmp_path, "gone.png", "gone.png")) == 1


def test_a_folder_is_no_slide(tmp_path):
    photo(tmp_path / "in" / "a.png")
    lines = refusal(PhotoNotFoundError, tmp_path, slides=[{"photo": "in"}])
    assert lines == [f"photos: {tmp_path}/in: a folder, where one file is asked for"]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert refusal(PhotoNotFoundError, tmp_path, "pipe.png") == [
        f"photos: {tmp_path}/pipe.png: a device or a pipe, not a file"
    ]


def test_a_name_that_is_not_utf_8_is_refused_in_words_that_can_be_printed(tmp_path):
    data = photo(tmp_path / "good.png").read_bytes()
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(data)
    assert refusal(UnreadablePhotoError, tmp_path, ".") == [
        rf"photos: {tmp_path}/caf\xe9.png: the name is not UTF-8, so that no plan can hold it; rename the file"
    ]


@pytest.mark.parametrize("name", ["x" * 300, "a\0b.png"])
def test_a_name_that_no_file_can_have_is_refused_by_name(tmp_path, name):
    photo(tmp_path / "good.png")
    with pytest.raises((PhotoNotFoundError, StorageError)) as caught:
        fetch_stills(make_job(tmp_path, name, "good.png"), settings=ANYWHERE)
    assert name.replace("\0", "\\x00") in str(caught.value)


@pytest.mark.parametrize("name", ["photo.dng", "photo.tif", "photo.jpg"])
def test_a_raw_photo_is_shown_by_a_preview_of_half_the_film_s_size_and_the_plan_says_so(tmp_path, name):
    (tmp_path / name).write_bytes(dng(jpeg(chart(width=160, height=120))))
    for size in ("320x180", "180x320", "320x240"):
        found = fetch_stills(make_job(tmp_path, name, size=size), settings=ANYWHERE)
        assert found.notes == (f"{tmp_path / name}: a RAW photo (DNG), shown by the preview in it of 160x120",)
    wanted = rf"{name}: a RAW photo \(DNG\) whose largest preview is 160x120; develop it to JPEG or TIFF$"
    for size in ("322x180", "320x242"):
        with pytest.raises(UnreadablePhotoError, match=wanted):
            fetch_stills(make_job(tmp_path, name, size=size), settings=ANYWHERE)


def failing(monkeypatch, names, number):
    """Let the system refuse files by name: to root it refuses nothing, and no disk fails on demand."""
    open_path = Path.open

    def refuse(path, *words, **options):
        if path.name in names:
            raise OSError(number, os.strerror(number), str(path))
        return open_path(path, *words, **options)

    monkeypatch.setattr(Path, "open", refuse)


def test_a_photo_that_may_not_be_read_is_a_bad_photo(tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    (tmp_path / "c.png").touch()
    failing(monkeypatch, {"a.png"}, errno.EACCES)
    bad = [
        f"{tmp_path}/a.png: Permission denied; let this user read it, or leave it out",
        f"{tmp_path}/c.png: the file is empty",
    ]
    assert refusal(UnreadablePhotoError, tmp_path, "*.png") == [f"photos: {line}" for line in bad]
    fetched = fetch_stills(make_job(tmp_path, "*.png", on_bad_photo="skip"), settings=ANYWHERE)
    assert [still.source.path for still in fetched.stills] == [f"{tmp_path}/b.png"]
    assert list(fetched.left_out) == bad


@pytest.mark.parametrize("choice", ["fail", "skip"])
def test_a_disk_that_fails_ends_the_job_whatever_it_says_of_bad_photos(tmp_path, monkeypatch, choice):
    for name in ("a.png", "b.png"):
        photo(tmp_path / name)
    (tmp_path / "c.png").touch()
    failing(monkeypatch, {"a.png"}, errno.EIO)
    assert refusal(StorageError, tmp_path, "*.png", on_bad_photo=choice) == [
        f"photos: could not read the photo {tmp_path}/a.png: Input/output error",
        f"photos: {tmp_path}/c.png: the file is empty",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_another_user_may_not_enter_is_named(tmp_path):
    photo(tmp_path / "locked" / "a.png")
    photo(tmp_path / "closed" / "b.png")
    (tmp_path / "locked").chmod(0)
    (tmp_path / "closed" / "b.png").chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    job = make_job(tmp_path, "locked", "locked/a.png", "closed", output="/film.mp4")
    os.seteuid(65534)
    try:
        with pytest.raises(UnreadablePhotoError) as caught:
            fetch_stills(job, settings=ANYWHERE)
    finally:
        os.seteuid(0)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all("Permission denied" in line for line in lines)


def test_three_hundred_photos_are_read_side_by_side(tmp_path, monkeypatch):
    data = photo(tmp_path / "0.png").read_bytes()
    for index in range(300):
        (tmp_path / f"{index}.png").write_bytes(data + bytes(index))
    examine, in_pairs = Examinations.examine, threading.Barrier(2)

    def examine_with_another(examinations, path):
        in_pairs.wait(60)
        return examine(examinations, path)

    monkeypatch.setattr(Examinations, "examine", examine_with_another)
    stills = fetch_stills(make_job(tmp_path, "."), settings=ANYWHERE).stills
    assert [Path(still.source.path).stem for still in stills] == [str(index) for index in range(300)]
    assert len({still.source.photo.digest for still in stills}) == 300


# Where the film goes


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("film.mp4", "film.mp4"),
        ("out/deep/film.mp4", "out/deep/film.mp4"),
        ("there", "there/there.mp4"),
        ("there/", "there/there.mp4"),
        ("new/", "new/new.mp4"),
        ("new.mp4/", "new.mp4/new.mp4.mp4"),
        ("./x/../film.mp4", "film.mp4"),
        ("two words's.mp4", "two words's.mp4"),
        ("фильм.mp4", "фильм.mp4"),
        ("k.MP4", "k.MP4"),
    ],
)
def test_the_film_is_the_file_that_is_named_or_one_in_the_folder_named_after_it(tmp_path, output, wanted):
    (tmp_path / "there").mkdir()
    assert output_location(make_job(tmp_path, "a", output=output), settings=ANYWHERE) == str(tmp_path / wanted)


def test_a_film_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert output_location(make_job("/elsewhere", "a", output="~/film.mp4"), settings=ANYWHERE) == str(
        tmp_path / "film.mp4"
    )
    assert output_location(make_job("/elsewhere", "a", output="~"), settings=ANYWHERE) == str(
        tmp_path / f"{tmp_path.name}.mp4"
    )


@pytest.mark.parametrize("output", ["film", "film.mov", "film.mp4.part", "film.MP4.part"])
def test_a_film_of_another_kind_is_refused(tmp_path, output):
    with pytest.raises(InvalidJobError, match=r"output: .* is not allowed; a file ending in \.mp4"):
        output_location(make_job(tmp_path, "a", output=output), settings=ANYWHERE)


def test_a_relative_film_without_a_base_is_refused():
    with pytest.raises(InvalidJobError, match=r"^output: 'film\.mp4' is relative; give `base`"):
        output_location(make_job("", "/a.png"), settings=ANYWHERE)


# Job files

YAML = """\
photos: [photos, "*.jpg"]  # a comment
fps: 30000/1001
output: film.mp4
"""


def job_file(folder, text, name="job.yaml"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_json_job_may_be_indented_with_tabs(tmp_path):
    text = json.dumps({"photos": ["a.jpg"], "output": "b.mp4"}, indent="\t")
    assert load_job(job_file(tmp_path, text, "job.json")).photos == ["a.jpg"]


def test_yaml_and_json_give_the_same_job(tmp_path):
    words = {"photos": ["photos", "*.jpg"], "fps": "30000/1001", "output": "film.mp4"}
    job = load_job(job_file(tmp_path, YAML))
    assert job == load_job(job_file(tmp_path, json.dumps(words), "job.json"))
    assert job == parse_job(words | {"base": str(tmp_path)})


def test_a_byte_order_mark_is_no_part_of_the_job(tmp_path):
    assert load_job(job_file(tmp_path, b"\xef\xbb\xbf" + YAML.encode())) == load_job(job_file(tmp_path, YAML, "b.yaml"))


def test_names_that_are_not_latin_come_out_of_a_file(tmp_path):
    job = load_job(job_file(tmp_path, 'photos: ["写真/*.png", "été.jpg"]\noutput: фильм.mp4\n'))
    assert job.photos == ["写真/*.png", "été.jpg"]


@pytest.mark.parametrize(
    ("base", "wanted"),
    [("", "jobs"), ("base: ''", "jobs"), ("base:", "jobs"), ("base: .", "jobs"), ("base: photos", "jobs/photos")],
)
def test_a_base_in_the_file_starts_from_the_files_own_folder(tmp_path, monkeypatch, base, wanted):
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(tmp_path)
    job_file(tmp_path / "jobs", f"{YAML}{base}\n")
    assert Path(load_job(Path("jobs/job.yaml")).base) == tmp_path / wanted


def test_a_base_in_the_file_may_be_absolute_or_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert load_job(job_file(tmp_path, f"{YAML}base: /photos\n")).base == "/photos"
    assert load_job(job_file(tmp_path, f"{YAML}base: ~/photos\n")).base == "/home/ann/photos"


def test_a_photo_named_in_a_job_file_is_found_from_any_working_folder(tmp_path, monkeypatch):
    photo(tmp_path / "jobs" / "photos" / "a.png")
    job = load_job(job_file(tmp_path / "jobs", "photos: [photos]\noutput: film.mp4\n"))
    monkeypatch.chdir("/")
    assert fetch_stills(job, settings=ANYWHERE).stills[0].source.path == str(tmp_path / "jobs" / "photos" / "a.png")


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        pytest.param(b"", "a job is a mapping", id="empty"),
        pytest.param(b"# nothing\n", "a job is a mapping", id="comments"),
        pytest.param(b"- a\n- b\n", "a job is a mapping", id="list"),
        pytest.param(b"just words", "a job is a mapping", id="words"),
        pytest.param(b"photos: [a\n", "not YAML or JSON", id="unclosed"),
        pytest.param(b'{"photos": ["a"],,}', "not YAML or JSON", id="json with a fault"),
        pytest.param(b"photos: [\xe9t\xe9.jpg]\n", "not YAML or JSON.*utf-8", id="latin-1"),
        pytest.param("photos: [a]\n".encode("utf-16"), "not YAML or JSON", id="utf-16"),
        pytest.param(b"photos: [a\0b]\n", "not YAML or JSON", id="zero byte"),
        pytest.param(b"\tphotos: [a]\n", "not YAML or JSON", id="tab"),
        pytest.param(b"photos: !!python/object/apply:os.system [ls]\n", "not YAML or JSON", id="python"),
        pytest.param(b"output: 2001-99-99\n", "not YAML or JSON", id="impossible date"),
        pytest.param(b"[" * 5000, "not YAML or JSON", id="deep"),
        pytest.param(b"photos: [a]\nfilms: 3\n1: 2\n", "films: unknown key", id="unknown keys"),
    ],
)
def test_a_file_that_holds_no_job_is_refused_in_words(tmp_path, text, pattern):
    with pytest.raises(InvalidJobError, match=pattern):
        load_job(job_file(tmp_path, text))


def test_a_key_that_is_given_twice_is_refused_with_its_lines(tmp_path):
    text = "photos: [a]\nfps: 24\noutput: b.mp4\nencoding:\n  preset: fast\n  quality: 1\n  preset: best\nfps: 25\n"
    for twice, key, first, second in ((text, "preset", 5, 7), (text.replace("  preset: best\n", ""), "fps", 2, 7)):
        with pytest.raises(InvalidJobError) as caught:
            load_job(job_file(tmp_path, twice))
        lines = f"lines {first} and {second}"
        assert str(caught.value) == f"{tmp_path}/job.yaml: {lines}: `{key}` is given twice; keep one of them"
    with pytest.raises(InvalidJobError, match=r"job\.json: `fps` is given twice; keep one of them"):
        load_job(job_file(tmp_path, '{"photos": ["a"], "fps": 24, "output": "b", "fps": 25}', "job.json"))


def test_a_key_may_stand_in_several_mappings_and_override_what_is_merged(tmp_path):
    text = (
        "x: &x {photo: a.jpg, seconds: 2}\ny: &y {<<: *x, seconds: 3}\noutput: b.mp4\n"
        "slides: [*x, *y, {<<: *y, seconds: 4}]\n"
    )
    raw_job = decode_raw_job(text.encode(), name="job.yaml")
    assert [slide["seconds"] for slide in raw_job["slides"]] == [2, 3, 4]


def test_a_name_may_be_written_with_the_escapes_of_json(tmp_path):
    for name in ("job.yaml", "job.json"):
        done = load_job(job_file(tmp_path, r'{"photos": ["\ud83d\ude00.jpg", "\u00e9.jpg"], "output": "b"}', name))
        assert done.photos == ["😀.jpg", "é.jpg"]
        with pytest.raises(InvalidJobError) as caught:
            load_job(job_file(tmp_path, r'{"photos": ["x\ud83d.jpg"], "output": "b"}', name))
        said = r"has half of a character, \ud83d; write the character itself, or both halves of it"
        assert str(caught.value) == rf"{tmp_path}/{name}: 'x\ud83d.jpg' {said}"


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(InvalidJobError, match=r"gone\.yaml: No such file"):
        load_job(tmp_path / "gone.yaml")
    with pytest.raises(InvalidJobError, match="Is a directory"):
        load_job(tmp_path)
