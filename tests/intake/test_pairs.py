"""Which file is shown of a picture that a phone keeps in several."""

import pytest

from fanreel.intake.pairs import Pair, find_pairs


@pytest.mark.parametrize(
    ("shown", "others"),
    [
        # An iPhone: the original, its JPEG twin, the edited version.
        ("IMG_E1.HEIC", ["IMG_1.HEIC", "IMG_1.JPG"]),
        ("IMG_E0001.JPG", ["IMG_0001.HEIC"]),
        ("IMG_E1.HEIC", ["IMG_E1.JPG", "IMG_1.HEIC"]),
        ("IMG_1.HEIC", ["IMG_1.jpg"]),
        ("IMG_1.heif", ["IMG_1.jpeg"]),
        ("IMG_E1.JPG", ["IMG_1.DNG"]),
        ("IMG_1.HEIC", ["IMG_1.DNG", "IMG_1.JPG"]),
        ("IMG_2 (1).HEIC", ["IMG_2 (1).JPG"]),
        ("IMG_E2 (1).HEIC", ["IMG_2 (1).HEIC"]),
        # A Pixel: stills with a video behind them, and RAW.
        ("IMG_20190101_120000.jpg", ["MVIMG_20190101_120000.jpg"]),
        ("PXL_1.jpg", ["PXL_1.MP.jpg"]),
        ("PXL_1.RAW-01.COVER.jpg", ["PXL_1.RAW-02.ORIGINAL.dng"]),
        ("PXL_1.RAW-01.MP.COVER.jpg", ["PXL_1.RAW-02.ORIGINAL.dng"]),
        # A camera.
        ("DSC_1.JPG", ["DSC_1.NEF"]),
        ("DSC_1.HIF", ["DSC_1.ARW"]),
        ("beach.jpg", ["beach.DNG"]),
        ("Photo.jpg ", ["photo.dng"]),
    ],
)
def test_one_file_of_a_picture_is_shown(shown, others):
    for folder in ("/photos/", "s3://films/x/", ""):
        (pair,) = find_pairs([*(f"{folder}{name}" for name in others), f"{folder}{shown}"])
        assert pair.shown == (f"{folder}{shown}",)
        assert sorted(pair.others) == sorted(f"{folder}{name}" for name in others)


@pytest.mark.parametrize(
    "names",
    [
        ["IMG_1.HEIC", "IMG_2.JPG"],
        ["IMG_1.HEIC", "IMG_1 (1).JPG"],
        ["IMG_1.PNG", "IMG_1.JPG"],  # a screenshot and a photo of two rolls
        ["IMG_1.JPG", "IMG_1.jpeg"],
        ["IMG_1.MOV", "IMG_1.AAE", "IMG_1.JPG"],
        ["IMG_Easter.jpg", "IMG_aster.jpg"],
        ["MVIMG_1.jpg", "PXL_1.MP.jpg"],
        ["a.mp.jpg", "a.jpg"],
        ["a/IMG_1.HEIC", "b/IMG_1.JPG"],
        ["IMG_1.DNG", "IMG_E1.DNG"],  # neither is shown
        ["IMG_1.DNG"],
        [],
    ],
)
def test_other_files_are_pictures_of_their_own(names):
    assert find_pairs(names) == []


def test_files_that_the_rule_cannot_tell_apart_are_all_shown():
    pair = Pair(("IMG_1.HEIC", "img_1.heic"), ("IMG_1.JPG",))
    assert find_pairs(["IMG_1.JPG", "img_1.heic", "IMG_1.HEIC"]) == [pair]


def test_pictures_come_in_natural_order():
    names = [f"IMG_{number}.{suffix}" for number in (10, 2, 1) for suffix in ("JPG", "HEIC")]
    assert [pair.shown[0] for pair in find_pairs(names)] == ["IMG_1.HEIC", "IMG_2.HEIC", "IMG_10.HEIC"]
