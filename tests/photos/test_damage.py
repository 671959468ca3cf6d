"""Photos that are cut short or damaged: told before anything is rendered, in one line, and cheaply."""

import contextlib
import re
import struct
import time

import cv2
import numpy as np
import pytest
from blake3 import blake3
from PIL import Image
from support.photo_files import P3_PRIMARIES, decoded, encoded, exif, heic, png, png_chunk, rgb_profile, tiff

from fanreel.errors import FanreelError, UnreadablePhotoError
from fanreel.photos.photo import decode_photo, read_photo


def texture(width=300, height=200, seed=7):
    """Detail everywhere, so that a picture of which a part is missing is another picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(2, height // 6), max(2, width // 6), 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def bmp_rle(indices):
    """A BMP of 8 bits with runs, which Pillow does not write. Source: Microsoft, BITMAPINFOHEADER, BI_RLE8."""
    rows = (b"".join(bytes((1, index)) for index in row) + b"\0\0" for row in indices[::-1].tolist())
    pixels, colours = b"".join(rows) + b"\0\1", b"".join(bytes((n, 255 - n, n // 2, 0)) for n in range(256))
    height, width = indices.shape
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(pixels), 2835, 2835, 256, 0) + colours
    return struct.pack("<2sIII", b"BM", 14 + len(header) + len(pixels), 0, 14 + len(header)) + header + pixels


TEXTURE = texture()
PROFILE = rgb_profile(P3_PRIMARIES)
FILES = {
    "jpeg": encoded(TEXTURE, "JPEG", exif=exif(6), icc_profile=PROFILE),
    "progressive jpeg": encoded(TEXTURE, "JPEG", progressive=True),
    "jpeg with restarts": encoded(TEXTURE, "JPEG", restart_marker_rows=2),
    "mpo": encoded(TEXTURE, "MPO", save_all=True, append_images=[Image.new("RGB", (30, 20))]),
    "png": encoded(TEXTURE, "PNG", exif=exif(6), icc_profile=PROFILE),
    "png 16": png(TEXTURE.astype(np.uint16) * 257, colour_type=2, chunks=png_chunk(b"tRNS", bytes(6))),
    "webp": encoded(TEXTURE, "WEBP", exif=exif(6), icc_profile=PROFILE),
    "webp lossless": encoded(TEXTURE, "WEBP", lossless=True),
    "webp animated": encoded(TEXTURE, "WEBP", save_all=True, append_images=[Image.new("RGB", (300, 200))]),
    "tiff": encoded(TEXTURE, "TIFF", icc_profile=PROFILE),
    "tiff lzw": encoded(TEXTURE, "TIFF", compression="tiff_lzw", icc_profile=PROFILE),
    "tiff jpeg": encoded(TEXTURE, "TIFF", compression="jpeg"),
    "tiff with its fields last": tiff(TEXTURE, photometric=2, tags={34675: (7, tuple(PROFILE))}),
    "tiff motorola 16": tiff(TEXTURE.astype(np.uint16) * 257, photometric=2, order=">"),
    "bmp": encoded(TEXTURE, "BMP"),
    "bmp rle": bmp_rle(TEXTURE[:, :, 0]),
    "gif": encoded(TEXTURE, "GIF"),
    "gif animated": encoded(TEXTURE, "GIF", save_all=True, append_images=[Image.new("RGB", (300, 200))]),
    "avif": encoded(TEXTURE, "AVIF", exif=exif(6), icc_profile=PROFILE),
    "heic": heic(texture(96, 64), exif=exif(6).tobytes(), profile=PROFILE, rotation=1),
}


def write(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_cut_anywhere_is_refused_or_shows_the_same_picture(tmp_path, kind):
    whole = FILES[kind]
    expected = decoded(write(tmp_path / "whole", whole))
    rng = np.random.default_rng(len(whole))
    lengths = [1, 2, 20, *rng.integers(1, int(len(whole) * 0.95), 10), int(len(whole) * 0.95), len(whole) - 1]
    refused = 0
    for length in map(int, lengths):
        path = write(tmp_path / "photo", whole[:length])
        try:
            photo = read_photo(path, max_megapixels=400)
        except UnreadablePhotoError:
            refused += 1
            continue
        # What is behind the first picture may be missing; what shows may not.
        shown = decode_photo(path, photo, largest_reduction=1).bgr[:, :, ::-1]
        assert (shown == expected).all(), f"cut at {length} of {len(whole)}"
    assert refused >= (5 if "animated" in kind else 13)


@pytest.mark.chaos
@pytest.mark.parametrize("kind", FILES)
def test_a_damaged_byte_never_ends_in_anything_but_a_picture_or_one_line(tmp_path, kind, capfd):
    whole = FILES[kind]
    rng = np.random.default_rng(len(whole))
    pictures = 0
    for _ in range(200):
        place, value = int(rng.integers(0, min(len(whole), 700))), int(rng.integers(1, 256))
        data = bytearray(whole)
        data[place] ^= value
        path = write(tmp_path / "photo", bytes(data))
        with contextlib.suppress(FanreelError):
            photo = read_photo(path, max_megapixels=2)
            pixels = decode_photo(path, photo, largest_reduction=1).bgr
            assert pixels.shape == (photo.height_px, photo.width_px, 3)
            pictures += 1
    assert pictures < 200
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["png", "webp", "tiff lzw", "gif", "avif", "heic", "png 16"])
def test_pixels_that_do_not_decode_are_told_by_name(tmp_path, kind):
    # The middle of the file overwritten: its structure is whole, what is in it is not.
    data = bytearray(FILES[kind])
    start = len(data) // 2
    data[start : start + 300] = bytes(300)
    path = write(tmp_path / "photo", bytes(data))
    with contextlib.suppress(UnreadablePhotoError):
        decoded(path)
        # Formats without checksums show what is left of the picture.
        assert kind in ("webp", "tiff lzw", "gif", "avif", "heic")
        return
    with pytest.raises(UnreadablePhotoError, match=f"^{re.escape(str(path))}: "):
        decoded(path)


@pytest.mark.parametrize(
    "name", ["jpeg", "progressive jpeg", "png", "webp lossless", "tiff lzw", "bmp", "gif", "avif", "heic"]
)
def test_planning_costs_little_more_than_reading_and_hashing(tmp_path, name):
    # Noise packs to nothing, so that these are the bytes of an album: 6 to 36 MB a photo, 1 MB of HEIC.
    rng = np.random.default_rng(1)
    if name == "heic":
        data = heic(rng.integers(0, 256, (512, 640, 3), dtype=np.uint8))
    else:
        options = {"jpeg": {"quality": 97}, "progressive jpeg": {"quality": 97, "progressive": True}}
        options |= {"webp lossless": {"lossless": True, "quality": 0, "method": 0}, "avif": {"speed": 10}}
        options |= {"png": {"compress_level": 0}, "tiff lzw": {"compression": "tiff_lzw"}}
        picture = rng.integers(0, 256, (2000, 3000, 3), dtype=np.uint8)
        if name == "gif":
            picture = Image.fromarray(picture[:, :, 0]).convert("P")
        data = encoded(picture, name.split()[-1 if "jpeg" in name else 0].upper(), **options.get(name, {}))
    path = write(tmp_path / "photo", data)

    def seconds(work):
        begun = time.thread_time()
        work()
        return time.thread_time() - begun

    def hashing():
        blake3(path.read_bytes()).hexdigest()

    def planned():
        read_photo(path, max_megapixels=400)

    # In turn, so that a moment in which the machine is slower is one for both.
    rounds = [(seconds(hashing), seconds(planned)) for _ in range(15)]
    reading, planning = map(min, zip(*rounds, strict=True))
    # The millisecond is what opening a file costs whatever its size; 400 photos spend 0.4 s on it.
    assert planning <= 1.5 * reading + 0.001, f"{len(data) / 1e6:.1f} MB: {planning:.4f} s against {reading:.4f} s"


def test_a_jpeg_with_megabytes_behind_its_end_is_found_whole(tmp_path):
    data = encoded(TEXTURE, "JPEG") + np.random.default_rng(2).bytes(2_000_000)
    assert (decoded(write(tmp_path / "a", data)) == decoded(write(tmp_path / "b", encoded(TEXTURE, "JPEG")))).all()


@pytest.mark.parametrize("kind", ["heic", "avif"])
def test_what_a_phone_appends_to_its_boxes_does_no_harm(tmp_path, kind):
    data = FILES[kind] + b"SEFT no box at all" * 7
    assert (decoded(write(tmp_path / "a", data)) == decoded(write(tmp_path / "b", FILES[kind]))).all()


def test_a_heic_larger_than_allowed_is_refused_from_its_boxes_alone(tmp_path):
    data = FILES["heic"]
    size = data.index(b"ispe") + 8
    path = write(tmp_path / "photo", data[:size] + b"\x00\x00\x60\x00" * 2 + data[size + 8 :])
    with pytest.raises(UnreadablePhotoError, match=r"24576x24576 is over 400 megapixels|cannot be read|limit"):
        read_photo(path, max_megapixels=400)


@pytest.mark.parametrize("name", ["webp", "webp lossless"])
def test_a_webp_larger_than_allowed_is_refused_from_its_header_alone(tmp_path, name):
    data = bytearray(FILES[name])
    if name == "webp":
        data[24:30] = b"\xff\x3f\0" * 2
    else:
        data[21:25] = b"\xff\xff\xff\x0f"
    with pytest.raises(UnreadablePhotoError, match="is over 100 megapixels"):
        read_photo(write(tmp_path / "photo", bytes(data)), max_megapixels=100)
