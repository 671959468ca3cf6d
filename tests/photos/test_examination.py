"""Photos examined in a sandbox: what cannot be decoded is told before anything is rendered, whatever it does."""

import cv2
import numpy as np
import pytest
from blake3 import blake3
from PIL import Image
from support.photo_files import P3_PRIMARIES, chart, deadly_heic, encoded, heic, png, rgb_profile

from fanreel.errors import PhotoChangedError, UnreadablePhotoError
from fanreel.photos.examination import Examination, check_file_size, examine_photo, open_sandbox
from fanreel.photos.photo import read_photo

DOES_NOT_DECODE = "its pixels do not decode; open and save it again, or leave it out"


@pytest.fixture(scope="module")
def sandbox():
    with open_sandbox(max_megapixels=100, photo_seconds=600) as opened:
        yield opened


@pytest.fixture
def examine(tmp_path, sandbox):
    def examine_bytes(data, *, name="photo", max_megapixels=100, digest=None, within=sandbox):
        path = tmp_path / name
        path.write_bytes(data)
        with path.open("rb") as file:
            return examine_photo(
                path,
                descriptor=file.fileno(),
                digest=digest or blake3(data).hexdigest(),
                max_megapixels=max_megapixels,
                sandbox=within,
            )

    return examine_bytes


def texture(width=300, height=200, seed=7):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 6), max(2, width // 6), 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


TEXTURE = texture()
PROFILE = rgb_profile(P3_PRIMARIES)
FILES = {
    "jpeg": encoded(TEXTURE, "JPEG", icc_profile=PROFILE),
    "odd jpeg": encoded(texture(301, 203), "JPEG", progressive=True),
    "cmyk jpeg": encoded(Image.fromarray(TEXTURE).convert("CMYK"), "JPEG"),
    "png": encoded(TEXTURE, "PNG", icc_profile=PROFILE),
    "png 16": png(TEXTURE.astype(np.uint16) * 257, colour_type=2),
    "webp": encoded(TEXTURE, "WEBP", icc_profile=PROFILE),
    "tiff lzw": encoded(TEXTURE, "TIFF", compression="tiff_lzw"),
    "bmp": encoded(TEXTURE, "BMP"),
    "gif": encoded(TEXTURE, "GIF"),
    "avif": encoded(TEXTURE, "AVIF"),
    "heic": heic(texture(96, 64), profile=PROFILE, rotation=1),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_sound_photo_is_what_its_header_says_and_has_no_notes(examine, tmp_path, kind):
    found = examine(FILES[kind])
    assert found == Examination(read_photo(tmp_path / "photo", max_megapixels=100))


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


def zeros(data, start, count):
    return data[:start] + bytes(count) + data[start + count :]


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("png", lambda data: flipped(data, data.index(b"IDAT") + 1000)),
        ("png 16", lambda data: flipped(data, data.index(b"IDAT") + 1000)),
        ("tiff lzw", lambda data: flipped(data, 9)),
        ("gif", lambda data: zeros(data, len(data) // 2, 2048)),
    ],
)
def test_pixels_that_do_not_decode_are_told(examine, tmp_path, kind, damage):
    damaged = damage(FILES[kind])
    with pytest.raises(UnreadablePhotoError, match=rf"^{tmp_path}/photo: {DOES_NOT_DECODE}$"):
        examine(damaged)
    read_photo(tmp_path / "photo", max_megapixels=100)  # for the header is sound


def test_damage_that_is_painted_over_is_noted_in_the_decoder_s_words(examine):
    data = FILES["odd jpeg"]
    assert examine(zeros(data, len(data) // 2, 200)).notes[0].startswith("its decoder warns: Corrupt JPEG data: ")
    data = encoded(TEXTURE, "JPEG")
    found = examine(data[:-2] + b"\x12" * 24 + data[-2:])
    assert found.notes == (
        "its decoder warns: Corrupt JPEG data: 23 extraneous bytes before marker 0xd9; look at it in the film",
    )


def test_what_ends_the_process_is_told_and_the_next_one_is_read(examine, tmp_path):
    with pytest.raises(
        UnreadablePhotoError, match=rf"^{tmp_path}/a\\x1b\.heic: the process that decodes it died of SIG"
    ):
        examine(deadly_heic(chart()), name="a\x1b.heic")
    assert examine(FILES["png"]).photo.width_px == 300


def test_a_photo_larger_than_allowed_is_told(examine, tmp_path):
    with pytest.raises(UnreadablePhotoError, match=r"300x200 is over 0\.05 megapixels; FANREEL_MAX_PHOTO_MEGAPIXELS"):
        examine(FILES["png"], max_megapixels=0.05)
    check_file_size(tmp_path, 1 << 30, max_megapixels=0.05)
    with pytest.raises(UnreadablePhotoError, match=r": a file of 1000000 MB, where photos have up to 400 meg"):
        check_file_size(tmp_path, 10**12, max_megapixels=400)


def test_a_file_that_is_being_written_is_told(examine, tmp_path):
    with pytest.raises(PhotoChangedError, match="changes while it is read; run the same command again"):
        examine(FILES["png"], digest="0" * 64)


def mutations(count):
    """One-byte changes of every kind of file, half of them in its first 700 bytes."""
    rng = np.random.default_rng(11)
    for _ in range(count):
        for kind, data in FILES.items():
            place = int(rng.integers(0, min(len(data), 700) if rng.integers(0, 2) else len(data)))
            yield kind, data[:place] + bytes([data[place] ^ int(rng.integers(1, 256))]) + data[place + 1 :]


def assert_all_end_well(examine, count):
    reasons = list[str]()
    for kind, data in mutations(count):
        try:
            examine(data, max_megapixels=2)
        except UnreadablePhotoError as error:
            reasons.append(f"{kind}: {error}")
    assert 0 < len(reasons) < count * len(FILES)
    # What our own code and Pillow's raise is known; only what dies is not.
    assert [reason for reason in reasons if "decodes it failed" in reason] == []


def test_a_changed_byte_ends_in_a_photo_or_in_one_line(examine):
    assert_all_end_well(examine, 18)


@pytest.mark.chaos
def test_thousands_of_changed_bytes_end_in_photos_or_in_one_line(examine):
    assert_all_end_well(examine, 250)
