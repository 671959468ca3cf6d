"""What files are by their names, and the order in which people expect them."""

import random
import unicodedata
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanreel.photos.names import FileKind, is_photo_name, kind_of_name, natural_order, split_suffix, why_not_read

NAMES = st.text(alphabet=st.sampled_from("aAbB01279²٣ .(-/é"), max_size=12)


@pytest.mark.parametrize(
    "names",
    [
        ["IMG_2.jpg", "IMG_2 (1).jpg", "img_3.jpg", "IMG_10.jpg"],
        ["photo1.png", "photo2.png", "photo02b.png", "photo10.png"],
        ["9 lives.png", "10 lives.png", "Album.png", "beach.png", "City.png"],
        ["IMG_2.HEIC", "IMG_2 (2).HEIC", "IMG_2 (10).HEIC", "IMG_2-1.HEIC", "IMG_2_1.HEIC", "IMG_2~2.HEIC"],
        ["a.jpg", "a copy.jpg", "a copy 2.jpg", "b.jpg"],
        ["trip/2.jpg", "trip/10.jpg", "trip 2/1.jpg", "Trip 10/1.jpg"],
        ["v1.9/a.jpg", "v1.10/a.jpg"],
        ["2024-01-02 09.05.00.jpg", "2024-01-02 10.00.00.jpg", "2024-01-02 10.00.00-1.jpg", "2024-1-3.jpg"],
        ["photo.gif", "photo.jpg", "photo.PNG"],
        ["10.jpg", "20.jpg", "20a.jpg", "100.jpg"],
    ],
)
def test_names_come_in_the_order_that_people_expect(names):
    mixed = random.Random(1).sample(names, len(names))
    assert sorted(mixed, key=natural_order) == names


def test_the_same_name_in_another_composition_stands_at_the_same_place():
    composed, decomposed = (unicodedata.normalize(form, "Été 2.jpg") for form in ("NFC", "NFD"))
    for name in (composed, decomposed):
        assert sorted(["Été 10.jpg", name, "Été 1.jpg"], key=natural_order) == ["Été 1.jpg", name, "Été 10.jpg"]


@given(st.lists(NAMES, max_size=6))
def test_any_names_have_one_order(names):
    ordered = sorted(names, key=natural_order)
    names.reverse()
    assert sorted(names, key=natural_order) == ordered
    assert sorted(ordered, key=natural_order) == ordered


@pytest.mark.parametrize(
    "name",
    [*("a.jpg", "a.JPG", "a.jpeg", "a.jfif", "a.jpe", "a.pjpeg", "a.heic", "a.b.png", "photo.jpg ", "photo.PNG  ")],
)
def test_photos_are_known_by_their_names(name):
    assert kind_of_name(name) is kind_of_name(f"x/.y/{name}") is FileKind.PHOTO
    assert is_photo_name(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jxl", FileKind.OTHER_PICTURE),
        ("a.DNG", FileKind.OTHER_PICTURE),
        ("a.svg", FileKind.OTHER_PICTURE),
        ("a.psd ", FileKind.OTHER_PICTURE),
        ("a.MOV", FileKind.VIDEO),
        ("PXL_1.MP", FileKind.VIDEO),
        ("a.aae", FileKind.OTHER),
        ("a.jpg.txt", FileKind.OTHER),
        ("a.jpg_original", FileKind.OTHER),
        ("jpg", FileKind.OTHER),
        ("", FileKind.OTHER),
        ("._a.jpg", FileKind.HIDDEN),
        (".jpg", FileKind.HIDDEN),
        ("x/.a.jxl", FileKind.HIDDEN),
    ],
)
def test_other_files_are_known_by_theirs(name, kind):
    assert kind_of_name(name) is kind
    assert not is_photo_name(name)


def test_a_suffix_is_what_it_is_without_the_blanks_behind_it():
    assert split_suffix("x/IMG_1.MP.Jpg ") == ("IMG_1.MP", ".jpg")
    assert split_suffix("noname") == ("noname", "")


def test_why_a_picture_is_not_read_says_what_to_do():
    assert why_not_read("a.NEF") == (
        "a RAW photo; *.nef shows its preview, if that is large enough, or develop it to JPEG or TIFF"
    )
    assert why_not_read("a.jxl") == "JPEG XL; save it as JPEG, PNG or TIFF"
    for name in ("a.jp2", "a.psd", "a.tga"):
        assert kind_of_name(name) is FileKind.OTHER_PICTURE
        assert "save it as" in why_not_read(name)


def test_a_name_is_no_path_s_business():
    assert kind_of_name(str(PurePath("photos.jpg") / "notes.txt")) is FileKind.OTHER
