"""The first law of identity: what reaches the encoder depends on the film and the frame's number alone.

Run as a program, this file draws its films with some of the CPU's features switched off (`draw`), or
writes the golden hashes anew (`golden`).
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fanreel.draw.frames import FrameSource
from fanreel.job.parse import parse_job
from fanreel.job.slideshow import Fit, Move
from fanreel.photos.photo import read_photo
from fanreel.plan.camera import CameraPath, Rect
from fanreel.plan.content import BlurredCopy, ColourContent, StillContent
from fanreel.plan.digests import RENDER_REVISION
from fanreel.plan.slideshow import FetchedStills, Source, Still, plan_slideshow
from fanreel.plan.timeline import Clip, Timeline

GOLDEN = Path(__file__).with_name("golden_frames.json")
NTSC = Fraction(30000, 1001)

# Name -> stored size, EXIF orientation. They are decoded at reductions 1, 2 and 4, shrunk and enlarged.
PHOTOS = {
    "odd.png": ((203, 151), 1),
    "turned.jpg": ((240, 160), 6),
    "portrait.jpg": ((151, 402), 1),
    "panorama.jpg": ((900, 60), 1),
    "large.jpg": ((1301, 903), 1),
}


def pattern(width, height, seed=0):
    """A picture with slopes, edges and fine texture in every channel, made of integers alone."""
    y, x = np.mgrid[:height, :width]
    red = x * 255 // max(width - 1, 1)
    green = ((x * x + 3 * y * y) // (40 + seed)) % 256
    blue = ((x // 9 + y // 7 + seed) % 2) * 200 + (x * 7 + y * 13) % 50
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def write_photos(folder):
    for seed, (name, ((width, height), orientation)) in enumerate(PHOTOS.items()):
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(pattern(width, height, seed)).save(folder / name, exif=exif, quality=90)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("law"))


def blank(width, height):
    """Planes like a codec's: rows padded, and full of what was there before."""
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    return [np.full((h, w + 32), 0xA5, np.uint8)[:, :w] for h, w in sizes]


class Film:
    """A timeline, its photos and its size; draws frames and gives their hashes."""

    def __init__(self, timeline, paths, size):
        self.timeline, self.paths, self.size = timeline, paths, size

    def hashes(self, frames, ranges=()):
        width, height = self.size
        planes, found = blank(width, height), {}
        with FrameSource(
            self.timeline, photo_paths=self.paths, width_px=width, height_px=height, ranges=ranges
        ) as source:
            for frame in frames:
                source.draw(frame, planes)
                found[frame] = hashlib.sha256(b"".join(plane.tobytes() for plane in planes)).hexdigest()
        return found

    def all_hashes(self):
        return self.hashes(range(self.timeline.frame_count))


def still(folder, name, seconds, move=Move.AUTO, views=(), fit=Fit.AUTO):
    path = folder / name
    return Still(Source(read_photo(path, max_megapixels=400), str(path)), seconds, move, views, fit)


def film(folder, stills, size, rate, zoom=1.3):
    job = parse_job(
        {"size": f"{size[0]}x{size[1]}", "fps": rate, "zoom": zoom, "photos": ["any"], "output": "/film.mp4"}
    )
    stills = [still(folder, *values) for values in stills]
    (plan,) = plan_slideshow(job, FetchedStills(tuple(stills)), output="/film.mp4")
    return Film(plan.timeline, plan.photo_paths, size)


@st.composite
def views(draw):
    """A view as fractions of the photo; the least side is a tenth of it."""
    x0, y0 = (draw(st.floats(0, 0.9)) for _ in range(2))
    return (x0, y0, draw(st.floats(x0 + 0.1, 1)), draw(st.floats(y0 + 0.1, 1)))


@st.composite
def stills(draw):
    seconds = draw(st.sampled_from((0.01, 0.1, 0.2, 0.34)))
    name = draw(st.sampled_from(sorted(PHOTOS)))
    fit = draw(st.sampled_from(list(Fit)))
    if draw(st.booleans()):
        return (name, seconds, Move.AUTO, (draw(views()), draw(views())), fit)
    return (name, seconds, draw(st.sampled_from(list(Move))), (), fit)


@st.composite
def films(draw):
    """Values for `film` and cuts of it: the frames at which a segment starts, and an order of the segments."""
    size = (2 * draw(st.integers(32, 80)), 2 * draw(st.integers(32, 80)))
    rate = draw(st.sampled_from(("8", "25", "30000/1001", "60")))
    return draw(st.lists(stills(), min_size=2, max_size=5)), size, rate, draw(st.floats(1, 3))


@settings(max_examples=60, deadline=None)
@given(values=films(), data=st.data())
@example(
    values=([("turned.jpg", 0.2), ("panorama.jpg", 0.1, Move.PAN_LEFT), ("large.jpg", 0.2)], (64, 64), "30000/1001", 2),
    data=None,
)
def test_any_cut_of_any_film_gives_the_frames_of_one_pass(folder, values, data):
    made = film(folder, *values)
    count = made.timeline.frame_count
    once = made.all_hashes()
    cuts = data.draw(st.sets(st.integers(1, count - 1))) if data and count > 1 else set(range(1, count))
    bounds = sorted({0, *cuts, count})
    segments = [range(start, end) for start, end in pairwise(bounds)]
    for segment in data.draw(st.permutations(segments)) if data else reversed(segments):
        assert made.hashes(segment, ranges=(segment,)) == {frame: once[frame] for frame in segment}


@settings(max_examples=40, deadline=None)
@given(values=films(), data=st.data())
def test_frames_drawn_in_any_order_are_the_frames_of_one_pass(folder, values, data):
    made = film(folder, *values)
    count = made.timeline.frame_count
    once = made.all_hashes()
    order = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=12))
    assert made.hashes(order) == {frame: once[frame] for frame in order}
    assert made.hashes(order, ranges=(range(0, 1),)) == {frame: once[frame] for frame in order}


def test_every_frame_and_the_last_one_alone_at_an_ntsc_rate(folder):
    made = film(folder, [("large.jpg", 0.5, Move.ZOOM_IN), ("odd.png", 0.5, Move.PAN_DOWN)], (96, 64), str(NTSC))
    once = made.all_hashes()
    assert len(once) == 30
    for frame in (0, 14, 15, 29):
        alone = range(frame, frame + 1)
        assert made.hashes(alone, ranges=(alone,)) == {frame: once[frame]}


def test_a_frame_depends_neither_on_its_place_in_the_film_nor_on_its_neighbours(folder):
    slide = ("turned.jpg", 0.5, Move.ZOOM_OUT)
    alone = film(folder, [slide], (96, 64), "8").all_hashes()
    among = film(folder, [("odd.png", 0.5), slide, ("large.jpg", 0.25)], (96, 64), "8").all_hashes()
    assert [among[4 + frame] for frame in range(4)] == [alone[frame] for frame in range(4)]


def test_a_moving_camera_changes_every_frame(folder):
    hashes = film(folder, [("large.jpg", 1, Move.ZOOM_IN)], (96, 64), "12").all_hashes()
    assert len(set(hashes.values())) == 12


# What other CPUs draw


def law_films(folder):
    """Every photo, shrunk and enlarged, and frames of several widths."""
    moves = (Move.ZOOM_IN, Move.PAN_RIGHT, Move.PAN_DOWN, Move.PAN_LEFT, Move.ZOOM_OUT)
    small = [(name, 0.4, move, (), Fit.COVER) for name, move in zip(PHOTOS, moves, strict=True)]
    whole = [(name, 0.4, move, (), Fit.BLUR) for name, move in zip(PHOTOS, reversed(moves), strict=True)]
    deep = [("large.jpg", 0.3, Move.AUTO, ((0, 0, 1, 1), (0.4, 0.4, 0.55, 0.55)))]
    return [
        film(folder, small, (320, 180), "10"),
        film(folder, whole, (320, 180), "10"),
        film(folder, deep, (98, 130), "10"),
        film(folder, [("large.jpg", 0.1, Move.STILL), ("odd.png", 0.1, Move.STILL)], (1280, 720), "10"),
    ]


def draw_masked(folder):
    """Draw the films with the CPU's features masked, and say what was seen of the mask."""
    import cv2

    from fanreel.draw import bt709, resample_kernels

    drawn = [list(each.all_hashes().values()) for each in law_films(folder)]
    kernels = (resample_kernels.kernel(), bt709.kernel())
    code = "".join(text for kernel in kernels for text in kernel.inspect_asm().values())
    seen = {  # OpenCV numbers its features in cvdef.h
        "opencv_avx2": cv2.checkHardwareSupport(11),
        "opencv_avx512": cv2.checkHardwareSupport(256),
        "numba": [name for name in ("xmm", "ymm", "zmm") if f"%{name}" in code],
    }
    print(json.dumps({"drawn": drawn, "seen": seen}))


MASKS = {
    "no-avx512": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2",
        "OPENCV_CPU_DISABLE": "AVX512-SKX",
    },
    "no-avx2": {
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": "",
        "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FP16,AVX,SSE4.2,SSE4.1",
    },
}


@pytest.fixture(scope="module")
def masked(folder, tmp_path_factory):
    """What a process of its own draws in each mode; both at once, for most of their time goes to compiling."""
    started = {}
    for mode, words in MASKS.items():
        cache = {"NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp(mode))}
        started[mode] = subprocess.Popen(
            [sys.executable, __file__, "draw", str(folder)],
            env=os.environ | cache | words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    results = {}
    for mode, process in started.items():
        out, err = process.communicate(timeout=280)
        assert process.returncode == 0, err
        results[mode] = json.loads(out.splitlines()[-1])
    return results


@pytest.mark.soak  # both masks compile the kernels anew
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the masks are of x86 features")
@pytest.mark.parametrize("mode", MASKS)
def test_a_cpu_without_some_features_draws_the_same_frames(folder, masked, mode):
    seen = masked[mode]["seen"]
    assert not seen["opencv_avx512"]
    assert "zmm" not in seen["numba"]
    if mode == "no-avx2":
        assert not seen["opencv_avx2"]
        assert seen["numba"] == ["xmm"]
    here = [list(each.all_hashes().values()) for each in law_films(folder)]
    assert masked[mode]["drawn"] == here


JPEG_WITHOUT_SIMD = """
import hashlib, sys
from PIL import Image
for path in sys.argv[2:]:
    with Image.open(path) as image:
        reduction = int(sys.argv[1])
        image.draft("RGB", (image.width // reduction, image.height // reduction))
        print(image.size, hashlib.sha256(image.tobytes()).hexdigest())
"""


@pytest.mark.parametrize("reduction", [1, 2, 4])
def test_jpegs_decode_the_same_without_simd(folder, reduction):
    # The wheel of OpenCV is built without libjpeg-turbo's switch; Pillow's copy of the library has it.
    import cv2

    paths = [str(folder / name) for name in PHOTOS if name.endswith(".jpg")]
    kind = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}[reduction]
    done = subprocess.run(
        [sys.executable, "-c", JPEG_WITHOUT_SIMD, str(reduction), *paths],
        env=os.environ | {"JSIMD_FORCENONE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    pictures = [cv2.imread(path, kind | cv2.IMREAD_IGNORE_ORIENTATION) for path in paths]
    rgb = [np.ascontiguousarray(picture[:, :, ::-1]) for picture in pictures]
    here = [f"{(each.shape[1], each.shape[0])} {hashlib.sha256(each.tobytes()).hexdigest()}" for each in rgb]
    assert done.stdout.splitlines() == here


# The golden frames


def golden_hashes(folder, paths):
    """Return hashes of the first, a middle and the last frame of each golden path over one photo.

    A PNG, for it decodes alike in every build. The paths are kept as they are: what is planned may change, but not how
    a plan is drawn.
    """
    path = folder / "golden.png"
    Image.fromarray(pattern(331, 247)).save(path)
    photo = read_photo(path, max_megapixels=400)
    hashes = {}
    for place in paths:
        size, backdrop = tuple(place["size"]), place.get("backdrop")
        behind = ColourContent(tuple(backdrop)) if isinstance(backdrop, list) else BlurredCopy() if backdrop else None
        views = (Rect(*map(float, place[end].split())) for end in ("start", "end"))
        content = StillContent(photo, CameraPath(*views), behind)
        made = Film(Timeline((Clip(content, 0, 48),)), {photo.digest: str(path)}, size)
        for frame, value in made.hashes((0, 17, 47)).items():
            hashes[f"{place['name']} {size[0]}x{size[1]} frame {frame}"] = value
    return hashes


def test_the_golden_frames_have_not_changed(tmp_path):
    golden = json.loads(GOLDEN.read_text())
    assert golden["render_revision"] == RENDER_REVISION, (
        f"tests/films/golden_frames.json is of revision {golden['render_revision']}, the code is at {RENDER_REVISION}: "
        f"run `python {Path(__file__).name} golden` in tests/films/"
    )
    found = golden_hashes(tmp_path, golden["paths"])
    changed = [name for name, value in golden["frames"].items() if found.get(name) != value]
    assert not changed, (
        f"{len(changed)} of {len(found)} golden frames have changed, the first is {changed[0]!r}. If that is meant: "
        "raise RENDER_REVISION in fanreel/plan/digests.py (else stored segments of the old look are joined with new "
        f"ones), then run `python {Path(__file__).name} golden` in tests/films/"
    )
    assert found.keys() == golden["frames"].keys()


def write_golden(folder):
    paths = json.loads(GOLDEN.read_text())["paths"]
    golden = {"render_revision": RENDER_REVISION, "paths": paths, "frames": golden_hashes(Path(folder), paths)}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["draw"]:
        draw_masked(Path(sys.argv[2]))
    elif sys.argv[1:2] == ["golden"]:
        import tempfile

        with tempfile.TemporaryDirectory() as name:
            write_golden(name)
    else:
        raise SystemExit(f"{__file__} draw FOLDER | golden")
