"""The sample photos: what a first film is made of must be varied, sharp, and the same on every run."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SCALE = 0.08
EXIF_TURN_CLOCKWISE = bytes.fromhex("0112 0003 00000001 0006")


def draw(folder, *options):
    command = [sys.executable, str(EXAMPLES / "draw_photos.py"), str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    done = draw(folder, "--scale", str(SCALE))
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return sorted(folder.iterdir())


def aspect(path):
    height, width = cv2.imread(str(path)).shape[:2]
    return width / height


def test_there_are_eight_numbered_photos_and_no_leftovers(photos):
    assert [path.name[:3] for path in photos] == [f"{number:02d}-" for number in range(1, 9)]
    assert {path.suffix for path in photos} == {".jpg"}


def test_formats_differ(photos):
    aspects = [aspect(path) for path in photos]
    assert aspects[2] == pytest.approx(2 / 3, rel=0.01)
    assert aspects[3] == pytest.approx(3.5, rel=0.01)
    assert len({round(value, 2) for value in aspects}) >= 6


def test_one_photo_is_stored_on_its_side_and_its_tag_says_so(photos):
    turned = [path for path in photos if EXIF_TURN_CLOCKWISE in path.read_bytes()[:64]]
    assert [path.name for path in turned] == ["05-harbour-evening.jpg"]
    as_stored = cv2.imread(str(turned[0]), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    as_seen = cv2.imread(str(turned[0]))
    np.testing.assert_array_equal(cv2.rotate(as_stored, cv2.ROTATE_90_CLOCKWISE), as_seen)
    above, below = as_seen[: len(as_seen) // 5], as_seen[-len(as_seen) // 5 :]
    assert above[..., 0].mean() > below[..., 0].mean() + 20, "the bright sky is not above the water"


def test_every_photo_has_fine_detail_and_a_wide_range_of_light(photos):
    for path in photos:
        grey = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2GRAY)
        assert cv2.Laplacian(grey, cv2.CV_64F).var() > 100, path.name
        assert np.percentile(grey, 99) - np.percentile(grey, 1) > 90, path.name


def test_a_larger_photo_keeps_its_detail_at_single_pixels(tmp_path):
    done = draw(tmp_path, "--count", "1", "--scale", "0.3")
    assert done.returncode == 0, done.stderr
    grey = cv2.imread(str(tmp_path / "01-mountain-dawn.jpg"), cv2.IMREAD_GRAYSCALE)
    assert grey.shape == (900, 1200)
    assert cv2.Laplacian(grey, cv2.CV_64F).var() > 60


def test_a_second_run_gives_the_same_bytes(photos, tmp_path):
    assert draw(tmp_path, "--scale", str(SCALE)).returncode == 0
    for path in photos:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_photos_already_there_are_kept_unless_forced(tmp_path):
    kept = tmp_path / "01-mountain-dawn.jpg"
    kept.write_bytes(b"mine")
    assert draw(tmp_path, "--count", "1", "--scale", "0.05").stdout == ""
    assert kept.read_bytes() == b"mine"
    assert draw(tmp_path, "--count", "1", "--scale", "0.05", "--force").returncode == 0
    assert kept.read_bytes()[:2] == b"\xff\xd8"


def test_past_the_eighth_the_scenes_come_again_and_differ():
    code = "import draw_photos as d; print(d.draw_photo(0, scale=0.03) != d.draw_photo(8, scale=0.03))"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_a_count_of_none_is_refused_by_name(tmp_path):
    done = draw(tmp_path / "none", "--count", "0")
    assert done.returncode == 2
    assert "--count 0" in done.stderr
    assert not (tmp_path / "none").exists()
