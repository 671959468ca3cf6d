"""Films from photos as they come, made whole and looked at: their colours, bad photos, photos that change meanwhile."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from support.jobs import draw_photo, make_job
from support.photo_files import (
    ADOBE_GAMMA,
    ADOBE_PRIMARIES,
    COLOURS,
    P3_PRIMARIES,
    TURNED,
    chart,
    codes_in,
    corners_of,
    encoded,
    exif,
    heic,
    png,
    rgb_profile,
)

from fanreel.cli.command import main
from fanreel.errors import (
    FanreelError,
    MediaError,
    PhotoChangedError,
    PhotoNotFoundError,
    UnreadablePhotoError,
)
from fanreel.intake.sources import fetch_stills
from fanreel.plan.film import plan_from_json, plan_to_json
from fanreel.render.here import plan_job, render_job
from fanreel.settings import Settings

FILM_TOLERANCE = 8
"""4 of 255 for the photo's own rounding and the film's 8-bit limited range, as much for the encoder at quality 10."""

ADOBE = ADOBE_PRIMARIES, ADOBE_GAMMA
SHORT = {"seconds_per_slide": 0.25, "move": "still", "encoding": {"preset": "draft", "quality": 10}}


def pictures(path):
    """Frames of a film as RGB, shown the way it is tagged."""
    with av.open(str(path)) as container:
        return [
            frame.to_ndarray(format="rgb24", src_colorspace="ITU709", dst_colorspace="ITU709").astype(int)
            for frame in container.decode(video=0)
        ]


def stored(primaries, gamma=None):
    return np.round(codes_in(chart(width=480, height=270), primaries, gamma) * 255).astype(np.uint8)


def kinds():
    """Photos of 16:9 that all show the chart: name -> bytes."""
    plain = chart(width=480, height=270)
    fine = {"quality": 98, "subsampling": 0}
    clear = np.dstack((plain, np.full(plain.shape[:2], 255, np.uint8)))
    turned = {f"{n}.jpg": encoded(TURNED[n](plain), "JPEG", exif=exif(n), **fine) for n in TURNED}
    palette = Image.fromarray(plain).convert("P", palette=Image.Palette.ADAPTIVE)
    inks = Image.frombytes("CMYK", (480, 270), np.dstack((255 - plain, 0 * plain[:, :, :1])).tobytes())
    second = Image.new("RGB", (480, 270), "white")
    return turned | {
        "adobe.jpg": encoded(stored(*ADOBE), "JPEG", icc_profile=rgb_profile(*ADOBE), **fine),
        "p3.jpg": encoded(stored(P3_PRIMARIES), "JPEG", icc_profile=rgb_profile(P3_PRIMARIES), **fine),
        "p3.heic": heic(stored(P3_PRIMARIES)[:264], profile=rgb_profile(P3_PRIMARIES)),
        "16.png": png(plain.astype(np.uint16) * 257, colour_type=2),
        "alpha.png": encoded(clear, "PNG"),
        "palette.png": encoded(palette, "PNG"),
        "cmyk.tif": encoded(inks, "TIFF"),
        "animated.gif": encoded(plain, "GIF", save_all=True, append_images=[second], duration=100),
        "photo.avif": encoded(plain, "AVIF", quality=100, subsampling="4:4:4"),
        "photo.webp": encoded(plain, "WEBP", lossless=True),
        "photo.bmp": encoded(plain, "BMP"),
    }


def test_every_kind_of_photo_becomes_a_right_film(host, tmp_path):
    files = kinds()
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    job = make_job(tmp_path, pairs="all", **SHORT)
    (report,) = render_job(job, host=host)
    plan = plan_job(job, host=host)[0]
    frames = pictures(report.film)
    assert len(plan.timeline.clips) == len(files)
    wrong = {}
    for clip in plan.timeline.clips:
        off = np.abs(corners_of(frames[clip.start_frame]) - COLOURS).max()
        if off > FILM_TOLERANCE:
            wrong[Path(plan.photo_paths[clip.content.source_digests[0]]).name] = off
    assert wrong == {}
    assert report.left_out == ()


SHAPES = {"one pixel": (1, 1), "20 to 1": (400, 20), "1 to 20": (20, 400), "portrait": (90, 160), "wide": (30_000, 120)}


@pytest.mark.parametrize("fitted", [{"fit": "cover"}, {"fit": "pan"}, {"fit": "contain", "background": "#c87828"}])
def test_photos_of_any_shape_become_a_film(host, tmp_path, fitted):
    (tmp_path / "photos").mkdir()
    for name, size in SHAPES.items():
        Image.new("RGB", size, (200, 120, 40)).save(tmp_path / "photos" / f"{name}.png")
    (report,) = render_job(make_job(tmp_path, **SHORT | {"move": "auto"} | fitted), host=host)
    frames = pictures(report.film)
    assert len(frames) == 2 * len(SHAPES)
    assert max(np.abs(frame - (200, 120, 40)).max() for frame in frames) <= FILM_TOLERANCE


NAMES = [
    "with space.png",
    " leading and trailing .png",
    "-dash.png",
    "--output=x.png",
    'it\'s "quoted".png',
    "new\nline.png",
    "tab\t.png",
    "фото.png",
    "写真.png",
    "e\N{COMBINING ACUTE ACCENT}moji 🎞.png",
    "%d.png",
    "[1].png",
]


def test_photos_of_any_name_become_a_film(host, tmp_path):
    folder = tmp_path / "as they come"
    folder.mkdir()
    levels = {name: 40 + 15 * index for index, name in enumerate(NAMES)}
    for name, level in levels.items():
        Image.new("RGB", (32, 18), (level, level, level)).save(folder / name)
    slides = [{"photo": f"{folder.name}/{name}"} for name in NAMES]
    (report,) = render_job(make_job(tmp_path, photos=[], slides=slides, **SHORT), host=host)
    frames = pictures(report.film)
    assert [round(frame.mean() / 5) for frame in frames[::2]] == [round(level / 5) for level in levels.values()]
    found = fetch_stills(make_job(tmp_path, photos=[folder.name]), settings=Settings(store=tmp_path)).stills
    assert {Path(still.source.path).name for still in found} == set(NAMES)


# Bad photos


def bad_photos(folder):
    """Write one of each kind; return each one's name and what is said of it."""
    good = encoded(chart(), "PNG")
    (folder / "a zero.jpg").touch()
    (folder / "b text.jpg").write_text("no picture")
    (folder / "c cut.png").write_bytes(good[: len(good) // 2])
    (folder / "d cut.heic").write_bytes(heic(chart())[:-40])
    (folder / "e cut.webp").write_bytes(encoded(chart(), "WEBP", lossless=True)[:-9])
    (folder / "f large\n.png").write_bytes(encoded(np.zeros((2100, 2000, 3), np.uint8), "PNG"))
    (folder / "g float.tif").write_bytes(encoded(Image.new("F", (9, 9)), "TIFF"))
    return {
        "a zero.jpg": "the file is empty",
        "b text.jpg": "not a picture that can be read",
        "c cut.png": "the file is cut short; copy it again, or leave it out",
        "d cut.heic": "the file is cut short; copy it again, or leave it out",
        "e cut.webp": "the file is cut short; copy it again, or leave it out",
        "f large\\n.png": "2000x2100 is over 4 megapixels; FANREEL_MAX_PHOTO_MEGAPIXELS raises it",
        "g float.tif": "samples of a kind (F) that no screen shows; save it with 8 or 16 bits a sample",
    }


@pytest.fixture
def small_host(host):
    """A host that takes photos of up to 4 megapixels."""
    return replace(host, settings=replace(host.settings, max_photo_megapixels=4.0))


def assert_nothing_was_made(tmp_path):
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "store").rglob("*.mp4"))


@pytest.mark.parametrize("with_missing", [True, False])
def test_all_bad_photos_are_named_at_once_and_nothing_is_rendered(small_host, photos, tmp_path, with_missing):
    expected = [f"photos: {photos}/{name}: {reason}" for name, reason in bad_photos(photos).items()]
    entries = ["photos", "photos/gone.jpg"] if with_missing else ["photos"]
    expected += [f"photos: {photos}/gone.jpg: no such file"] if with_missing else []
    orders = []
    with pytest.raises(PhotoNotFoundError if with_missing else UnreadablePhotoError) as caught:
        render_job(make_job(tmp_path, photos=entries), host=small_host, on_order=orders.append)
    assert str(caught.value).splitlines() == expected
    assert not orders
    assert_nothing_was_made(tmp_path)


def test_bad_photos_may_be_left_out_and_the_film_says_so(small_host, photos, tmp_path):
    expected = [f"{photos}/{name}: {reason}" for name, reason in bad_photos(photos).items()]
    entries = ["photos", "photos/gone.jpg", "photos/*.tga"]
    expected += [f"{photos}/gone.jpg: no such file", f"{photos}/*.tga: matches no file"]
    job = make_job(tmp_path, photos=entries, seconds_per_slide=0.25, on_bad_photo="skip")
    (report,) = render_job(job, host=small_host)
    assert list(report.left_out) == expected
    assert [line for line in str(report).splitlines() if line.startswith("left out")] == [
        f"left out  {reason}" for reason in expected
    ]
    assert len(pictures(report.film)) == report.frame_count == 4 * 2
    (plan,) = plan_job(job, host=small_host)
    assert list(plan.left_out) == expected
    assert plan_from_json(plan_to_json(plan)) == plan


def test_slides_that_are_bad_are_left_out_and_the_others_keep_their_words(host, photos, tmp_path):
    slides = [
        {"photo": "photos/gone.jpg", "seconds": 3},
        {"photo": "photos/photo-1.jpg", "seconds": 0.5},
        {"photo": "photos/gone.jpg", "seconds": 2},
        {"photo": "photos/photo-0.jpg", "seconds": 1},
    ]
    (plan,) = plan_job(make_job(tmp_path, photos=[], slides=slides, on_bad_photo="skip"), host=host)
    assert [clip.frame_count for clip in plan.timeline.clips] == [4, 8]
    assert plan.left_out == (f"{photos}/gone.jpg: no such file",)


def test_a_job_of_which_nothing_is_left_is_one_error(host, tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "photos" / name).touch()
    with pytest.raises(UnreadablePhotoError) as caught:
        render_job(make_job(tmp_path, on_bad_photo="skip"), host=host)
    assert str(caught.value).splitlines() == [
        "photos: none of them can be used",
        f"photos: {tmp_path}/photos/a.jpg: the file is empty",
        f"photos: {tmp_path}/photos/b.jpg: the file is empty",
    ]
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "photos" / name).unlink()
    for choice in ("skip", "fail"):
        with pytest.raises(PhotoNotFoundError, match=r"the folder holds no photo \(\.avif, .*, \.heic, .*, \.webp\)$"):
            render_job(make_job(tmp_path, on_bad_photo=choice), host=host)
    assert_nothing_was_made(tmp_path)


# Photos that change while a film is made


def assert_one_permanent_error(job, host, change, kind, pattern):
    retried = []
    with pytest.raises(kind, match=pattern) as caught:
        render_job(job, host=host, on_order=lambda order: change(), on_retry=lambda *told: retried.append(told))
    assert not caught.value.transient
    assert not retried
    assert "\n" not in str(caught.value)
    assert not (Path(job.base) / "out" / "film.mp4").exists()


def test_a_photo_that_is_deleted_after_planning_ends_the_film_with_its_name(host, photos, tmp_path):
    gone = photos / "photo-2.jpg"
    pattern = f"^{re.escape(str(gone))}: gone since the film was planned; put it back, or leave it out$"
    assert_one_permanent_error(make_job(tmp_path), host, gone.unlink, PhotoChangedError, pattern)


def test_a_folder_that_is_deleted_after_planning_ends_the_film(host, photos, tmp_path):
    def delete():
        shutil.rmtree(photos)

    assert_one_permanent_error(make_job(tmp_path), host, delete, PhotoChangedError, "gone since the film was planned")


@pytest.mark.parametrize("change", ["another picture", "one byte", "cut", "empty", "a folder"])
def test_a_photo_that_changes_after_planning_ends_the_film_with_its_name(host, photos, tmp_path, change):
    path = photos / "photo-1.jpg"

    def alter():
        data = path.read_bytes()
        if change == "another picture":
            draw_photo(path, seed=99)
        elif change == "a folder":
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes({"one byte": data[:-5] + b"x" + data[-4:], "cut": data[:500], "empty": b""}[change])

    kind = FanreelError if change == "a folder" else PhotoChangedError
    assert_one_permanent_error(make_job(tmp_path), host, alter, kind, re.escape(str(path)))


def test_after_a_change_the_same_command_makes_the_film_of_what_is_there_now(host, photos, tmp_path):
    job = make_job(tmp_path)
    with pytest.raises(MediaError):
        render_job(job, host=host, on_order=lambda order: draw_photo(photos / "photo-3.jpg", seed=42))
    (report,) = render_job(job, host=host)
    assert report.verified
    assert report.frame_count == 4 * 32


def test_the_command_line_names_bad_photos_and_can_skip_them(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FANREEL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("FANREEL_LOCK_FOLDER", str(tmp_path / "locks"))
    (photos / "-z.jpg").write_text("no picture")
    text = "photos: [photos]\noutput: film.mp4\nsize: 320x180\nfps: 8\nseconds_per_slide: 0.25\n"
    (tmp_path / "job.yaml").write_text(text)
    assert main(["render", str(tmp_path / "job.yaml")]) == UnreadablePhotoError.exit_code
    assert f"{photos}/-z.jpg: not a picture that can be read" in capsys.readouterr().err
    (tmp_path / "job.yaml").write_text(f"{text}on_bad_photo: skip\n")
    assert main(["render", str(tmp_path / "job.yaml")]) == 0
    assert f"left out  {photos}/-z.jpg: not a picture that can be read\n" in capsys.readouterr().out
    assert (tmp_path / "film.mp4").exists()
