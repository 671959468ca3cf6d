"""Photos as people have them: turned, odd, exotic, broken."""

import errno
import io
import os
import re
import struct
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from support.photo_files import TURNED, exif

from fanreel.errors import PhotoChangedError, PhotoNotFoundError, StorageError, UnreadablePhotoError
from fanreel.photos.photo import decode_photo, read_photo

COLOURS = np.array([[(200, 40, 40), (40, 180, 60)], [(30, 50, 210), (220, 220, 120)]], np.uint8)
"""What the four corners of the picture have: red, green; blue, yellow."""


def corners(width=96, height=64):
    """A picture whose quarters have the four colours."""
    return COLOURS.repeat(height // 2, axis=0).repeat(width // 2, axis=1)


def texture(width, height):
    """Detail everywhere, so that a picture cut in half is a different picture."""
    rng = np.random.default_rng(7)
    small = rng.integers(0, 256, (max(2, height // 6), max(2, width // 6), 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(picture, kind, **options):
    stream = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(stream, kind, **options)
    return stream.getvalue()


def write(path, data):
    path.write_bytes(data)
    return path


def read(path):
    return read_photo(path, max_megapixels=400)


def decode(path, largest_reduction=1.0):
    """The photo's RGB pixels, as the engine sees them."""
    photo = read(path)
    decoded = decode_photo(path, photo, largest_reduction=largest_reduction)
    reduction = decoded.reduction
    assert decoded.bgr.shape == (-(-photo.height_px // reduction), -(-photo.width_px // reduction), 3)
    assert decoded.bgr.dtype == np.uint8
    assert decoded.bgr.flags.c_contiguous
    return decoded.bgr[:, :, ::-1].astype(int)


def assert_corners(rgb, tolerance=0, colours=COLOURS):
    height, width, _ = rgb.shape
    found = rgb[height // 4 :: height // 2, width // 4 :: width // 2]
    assert np.abs(found - colours).max() <= tolerance


# Orientation


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(
    ("kind", "tolerance"), [("JPEG", 6), ("PNG", 0), ("WEBP", 12), ("TIFF", 0)], ids=["jpeg", "png", "webp", "tiff"]
)
def test_a_photo_stands_upright_whichever_way_the_camera_was_held(tmp_path, orientation, kind, tolerance):
    stored = np.ascontiguousarray(TURNED[orientation](corners()))
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    path = write(tmp_path / "photo", encoded(stored, kind, exif=exif(orientation), **options))
    photo = read(path)
    assert (photo.width_px, photo.height_px) == (96, 64)
    assert_corners(decode(path), tolerance)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("reduction", [2, 4])
def test_a_turned_photo_that_is_decoded_smaller_stands_upright(tmp_path, orientation, reduction):
    stored = np.ascontiguousarray(TURNED[orientation](corners(386, 258)))
    path = write(tmp_path / "photo.jpg", encoded(stored, "JPEG", quality=95, exif=exif(orientation)))
    assert_corners(decode(path, largest_reduction=reduction), 6)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_means_nothing_is_upright(tmp_path, orientation):
    path = write(tmp_path / "photo.jpg", encoded(corners(), "JPEG", quality=95, exif=exif(orientation)))
    assert_corners(decode(path), 6)


def png_chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def test_the_orientation_of_a_png_is_found_behind_its_pixels_too(tmp_path):
    plain = encoded(np.ascontiguousarray(np.rot90(corners())), "PNG")
    chunk = png_chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0"))
    path = write(tmp_path / "photo.png", plain[:-12] + chunk + plain[-12:])
    assert (read(path).width_px, read(path).height_px) == (96, 64)
    assert_corners(decode(path))


# Kinds of pictures


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        pytest.param("JPEG", {"quality": 95}, 6, id="jpeg"),
        pytest.param("JPEG", {"quality": 95, "progressive": True}, 6, id="progressive jpeg"),
        pytest.param("JPEG", {"quality": 95, "restart_marker_rows": 1}, 6, id="jpeg with restart markers"),
        pytest.param("PNG", {}, 0, id="png"),
        pytest.param("BMP", {}, 0, id="bmp"),
        pytest.param("TIFF", {}, 0, id="tiff"),
        pytest.param("TIFF", {"compression": "tiff_lzw"}, 0, id="tiff lzw"),
        pytest.param("TIFF", {"compression": "jpeg", "quality": 95}, 6, id="tiff jpeg"),
        pytest.param("WEBP", {"lossless": True}, 0, id="webp lossless"),
        pytest.param("WEBP", {"quality": 95}, 12, id="webp"),
        pytest.param("GIF", {}, 0, id="gif"),
    ],
)
def test_colours_come_out_of_every_kind_of_file(tmp_path, kind, options, tolerance):
    path = write(tmp_path / "photo", encoded(corners(), kind, **options))
    assert_corners(decode(path), tolerance)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_comes_out_in_its_colours(tmp_path, kind):
    options = {"quality": 98} if kind == "JPEG" else {}
    path = write(tmp_path / "photo", encoded(Image.fromarray(corners()).convert("CMYK"), kind, **options))
    assert_corners(decode(path), 6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_grey_comes_out_grey(tmp_path, kind):
    grey = np.array([[10, 90], [160, 250]], np.uint8)
    path = write(tmp_path / "photo", encoded(grey.repeat(32, axis=0).repeat(48, axis=1), kind))
    assert_corners(decode(path), 1, grey[:, :, None].repeat(3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_of_grey_become_8(tmp_path, kind):
    grey = np.array([[2570, 23130], [41120, 64250]], np.uint16)
    path = write(tmp_path / "photo", encoded(grey.repeat(32, axis=0).repeat(48, axis=1), kind))
    assert_corners(decode(path), 1, (grey // 257)[:, :, None].repeat(3, axis=2))


def test_16_bits_of_colour_become_8(tmp_path):
    done, data = cv2.imencode(".png", corners()[:, :, ::-1].astype(np.uint16) * 257)
    assert done
    assert_corners(decode(write(tmp_path / "photo.png", data.tobytes())), 1)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP"])
def test_a_palette_gives_its_colours(tmp_path, kind):
    image = Image.fromarray(corners()).convert("P", palette=Image.Palette.ADAPTIVE)
    assert_corners(decode(write(tmp_path / "photo", encoded(image, kind))), 1)


def test_one_bit_a_pixel_is_black_and_white(tmp_path):
    picture = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8).repeat(32, axis=0).repeat(48, axis=1))
    path = write(tmp_path / "photo.png", encoded(picture.convert("1"), "PNG"))
    assert_corners(decode(path), 0, np.array([[[0] * 3, [255] * 3], [[255] * 3, [0] * 3]]))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_is_shown_over_black(tmp_path, kind):
    alpha = np.array([[0, 255], [128, 255]], np.uint8)
    image = Image.fromarray(corners())
    image.putalpha(Image.fromarray(alpha.repeat(32, axis=0).repeat(48, axis=1)))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    path = write(tmp_path / "photo", encoded(image, kind, **options))
    assert_corners(decode(path), 1, COLOURS * (alpha[:, :, None] / 255))


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA"), ("TIFF", "RGBA")])
def test_an_alpha_channel_without_transparency_changes_nothing(tmp_path, kind, mode):
    image = Image.fromarray(corners()).convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    path = write(tmp_path / "photo", encoded(image, kind, **options))
    plain = image.convert("RGB").resize((2, 2), Image.Resampling.NEAREST)
    assert_corners(decode(path), 0, np.asarray(plain))


def test_a_transparent_colour_of_a_palette_is_shown_over_black(tmp_path):
    image = Image.fromarray(corners()).convert("P", palette=Image.Palette.ADAPTIVE)
    hidden = image.getpixel((10, 10))
    path = write(tmp_path / "photo.png", encoded(image, "PNG", transparency=hidden))
    colours = COLOURS.copy()
    colours[0, 0] = 0
    assert_corners(decode(path), 1, colours)


def test_a_turned_photo_with_transparency_stands_upright(tmp_path):
    image = Image.fromarray(np.ascontiguousarray(np.rot90(corners()))).convert("RGBA")
    image.putpixel((0, 0), (0, 0, 0, 0))
    path = write(tmp_path / "photo.png", encoded(image, "PNG", exif=exif(6)))
    assert_corners(decode(path))


def test_of_an_animation_the_first_picture_is_shown(tmp_path):
    second = Image.new("RGB", (96, 64), "white")
    data = encoded(corners(), "GIF", save_all=True, append_images=[second], duration=100)
    assert_corners(decode(write(tmp_path / "photo.gif", data)), 0)


def test_a_jpeg_with_more_pictures_behind_it_is_decoded_smaller_too(tmp_path):
    data = encoded(corners(384, 256), "MPO", quality=95, save_all=True, append_images=[Image.new("RGB", (384, 256))])
    path = write(tmp_path / "photo.jpg", data)
    assert decode_photo(path, read(path), largest_reduction=2).reduction == 2
    assert_corners(decode(path, largest_reduction=2), 6)


@pytest.mark.parametrize("size", [(1, 1), (1, 33), (33, 1), (2, 3), (2000, 100), (100, 2000)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_photo_may_have_any_shape(tmp_path, size, kind):
    picture = np.full((size[1], size[0], 3), (200, 120, 40), np.uint8)
    path = write(tmp_path / "photo", encoded(picture, kind, quality=95))
    for reduction in (1, 2, 4):
        assert np.abs(decode(path, largest_reduction=reduction) - (200, 120, 40)).max() <= 2


@pytest.mark.parametrize(("allowed", "reduction"), [(0.3, 1), (1, 1), (1.99, 1), (2, 2), (3.9, 2), (4, 4), (99, 4)])
def test_a_jpeg_is_decoded_as_small_as_is_allowed_and_no_smaller(tmp_path, allowed, reduction):
    path = write(tmp_path / "photo.jpg", encoded(texture(203, 101), "JPEG"))
    assert decode_photo(path, read(path), largest_reduction=allowed).reduction == reduction


def test_a_png_is_always_decoded_whole(tmp_path):
    path = write(tmp_path / "photo.png", encoded(texture(203, 101), "PNG"))
    assert decode_photo(path, read(path), largest_reduction=4).reduction == 1


# What cannot be used


def assert_refused(path, pattern, **words):
    with pytest.raises(UnreadablePhotoError, match=pattern) as caught:
        read_photo(path, **({"max_megapixels": 400} | words))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_refused(tmp_path):
    assert_refused(write(tmp_path / "photo.jpg", b""), "the file is empty")


@pytest.mark.parametrize(
    "data",
    [
        b"Dear diary",
        b"\x00" * 5000,
        b"\xff\xd8\xff",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n%%EndComments\n",
    ],
    ids=["text", "zeros", "start of a jpeg", "postscript"],
)
def test_what_is_no_picture_is_refused_whatever_its_name_is(tmp_path, data):
    assert_refused(write(tmp_path / "photo.jpg", data), "not a picture|cut short")


def test_a_picture_under_a_wrong_name_is_decoded_as_what_it_is(tmp_path):
    assert_corners(decode(write(tmp_path / "photo.jpg", encoded(corners(), "PNG"))))


CUTS = {
    "half": lambda data: data[: len(data) // 2],
    "last byte": lambda data: data[:-1],
    "end": lambda data: data[:-12],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_rows": 2}),
        ("JPEG", {"exif": exif(6).tobytes() + b"thumbnail \xff\xd8 \xff\xd9"}),
        ("PNG", {}),
    ],
    ids=["jpeg", "progressive", "restarts", "thumbnail", "png"],
)
def test_a_file_that_is_cut_short_is_refused_before_anything_is_rendered(tmp_path, kind, options, cut):
    whole = encoded(texture(300, 200), kind, **options)
    assert read(write(tmp_path / "whole", whole))
    assert_refused(write(tmp_path / "photo", CUTS[cut](whole)), "the file is cut short")


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "BMP", "GIF"])
def test_other_kinds_that_are_cut_in_half_are_refused_when_they_are_read_or_decoded(tmp_path, kind):
    data = encoded(texture(300, 200), kind)
    path = write(tmp_path / "photo", data[: len(data) // 2])
    with pytest.raises(UnreadablePhotoError, match=re.escape(str(path))):
        decode(path)


def test_bytes_behind_the_end_of_a_jpeg_do_no_harm(tmp_path):
    # Phones append a film or a second picture, some mail programs append zeros.
    for tail in (b"\0" * 100, b"ftypmp42" * 50, encoded(texture(50, 50), "JPEG")[:300]):
        assert_corners(decode(write(tmp_path / "photo.jpg", encoded(corners(), "JPEG", quality=95) + tail)), 6)


def test_fill_bytes_and_junk_between_the_segments_of_a_jpeg_do_no_harm(tmp_path):
    data = encoded(corners(), "JPEG", quality=95)
    table = data.index(b"\xff\xdb")
    assert_corners(decode(write(tmp_path / "photo.jpg", data[:table] + b"\xff\xff\xff" + data[table:])), 6)


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_a_damaged_png_is_refused_by_its_checksums(tmp_path, at, capfd):
    data = bytearray(encoded(texture(300, 200), "PNG"))
    data[int(len(data) * at)] ^= 0x10
    with pytest.raises(UnreadablePhotoError, match="do not decode"):
        decode(write(tmp_path / "photo.png", bytes(data)))


def bomb(width, height):
    """A PNG whose header promises a picture, and whose pixels are a few bytes that unpack to zeros."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def test_a_bomb_is_refused_from_its_header_alone(tmp_path):
    path = write(tmp_path / "photo.png", bomb(50_000, 50_000))
    started = time.process_time()
    assert_refused(path, r"50000x50000 is over 400 megapixels; FANREEL_MAX_PHOTO_MEGAPIXELS")
    assert time.process_time() - started < 0.5


def test_reading_a_photo_does_not_decode_it(tmp_path):
    # Its header is within the bound: only decoding it would cost memory, and fail.
    path = write(tmp_path / "photo.png", bomb(15_000, 15_000))
    started = time.process_time()
    assert read(path).width_px == 15_000
    assert time.process_time() - started < 0.5


def test_the_bound_on_megapixels_is_on_the_photo_not_on_its_file(tmp_path):
    path = write(tmp_path / "photo.png", encoded(np.zeros((1000, 1001, 3), np.uint8), "PNG"))
    assert_refused(path, "1001x1000 is over 1 megapixels", max_megapixels=1.0)
    assert read_photo(path, max_megapixels=1.01)


def test_a_photo_that_changed_after_planning_is_refused(tmp_path):
    path = write(tmp_path / "photo.png", encoded(corners(), "PNG"))
    photo = read(path)
    write(path, encoded(corners()[::-1], "PNG"))
    with pytest.raises(PhotoChangedError, match=re.escape(f"{path}: changed since")):
        decode_photo(path, photo, largest_reduction=1)


def test_a_photo_is_known_by_its_bytes_not_by_its_name(tmp_path):
    data = encoded(corners(), "PNG")
    assert read(write(tmp_path / "a.png", data)) == read(write(tmp_path / "b.jpg", data))


def test_a_photo_that_is_not_there_is_told_apart_from_one_that_went(tmp_path):
    path = tmp_path / "photo.png"
    with pytest.raises(PhotoNotFoundError, match=f"^{re.escape(str(path))}: no such file$"):
        read(path)
    photo = read(write(path, encoded(corners(), "PNG")))
    path.unlink()
    with pytest.raises(PhotoChangedError, match=f"^{re.escape(str(path))}: gone since the film was planned"):
        decode_photo(path, photo, largest_reduction=1)


def test_a_disk_that_fails_is_no_fault_of_the_photo(tmp_path, monkeypatch):
    # Stands in for a bad sector, which cannot be made.
    def fail(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", fail)
    with pytest.raises(StorageError, match=r"could not read the photo .*: Input/output error"):
        read(tmp_path / "photo.png")


NOISY = """
import sys
from pathlib import Path
from fanreel.errors import FanreelError
from fanreel.photos.photo import read_photo
for name in sys.argv[1:]:
    try:
        read_photo(Path(name), max_megapixels=400)
    except FanreelError as error:
        print(error)
"""


def test_what_the_decoders_have_to_say_of_a_header_does_not_reach_the_terminal(tmp_path):
    # In a process of its own: pytest has its own way with warnings and logs.
    damaged_exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\xff\xff\xff\x7f\x06\0\0\0\x0f\x01\x02\0"
    tiff = bytearray(encoded(corners(), "TIFF"))
    samples = tiff.index(struct.pack("<HH", 277, 3))
    tiff[samples + 8 : samples + 10] = b"\xff\xff"
    paths = [
        write(tmp_path / "exif.jpg", encoded(corners(), "JPEG", exif=damaged_exif)),
        write(tmp_path / "large.png", bomb(15_000, 15_000)),
        write(tmp_path / "samples.tif", bytes(tiff)),
    ]
    done = subprocess.run(
        [sys.executable, "-c", NOISY, *map(str, paths)], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stderr == ""
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [str(paths[2])]
