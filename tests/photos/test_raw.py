"""RAW photos are shown by the largest preview in them, or refused by name; never by their thumbnail."""

import numpy as np
import pytest
from support.photo_files import (
    COLOURS,
    P3_PRIMARIES,
    TURNED,
    chart,
    codes_in,
    corners_of,
    decoded,
    exif,
    rgb_profile,
    tiff,
)
from support.raw_files import SENSOR, dng, jpeg, raw_tiff, strip

from fanreel.errors import UnreadablePhotoError
from fanreel.photos.photo import decode_photo, read_photo

LARGE = chart(width=640, height=480)
ORDERS = pytest.mark.parametrize("order", "<>", ids=["intel", "motorola"])


def read(folder, data):
    (folder / "photo").write_bytes(data)
    return read_photo(folder / "photo", max_megapixels=400)


def assert_preview(folder, data, kind):
    photo = read(folder, data)
    assert (photo.preview_of, photo.width_px, photo.height_px) == (kind, 640, 480)
    assert np.abs(corners_of(decoded(folder / "photo")) - COLOURS).max() <= 3


@ORDERS
def test_a_dng_is_shown_by_its_largest_preview(tmp_path, order):
    assert_preview(tmp_path, dng(jpeg(LARGE), order=order), "DNG")


def test_a_preview_is_decoded_smaller_like_any_jpeg(tmp_path):
    photo = read(tmp_path, dng(jpeg(LARGE)))
    half = decode_photo(tmp_path / "photo", photo, largest_reduction=2.5)
    assert (half.reduction, half.bgr.shape) == (2, (240, 320, 3))
    assert np.abs(corners_of(half.bgr[:, :, ::-1].astype(int)) - COLOURS).max() <= 3


@pytest.mark.parametrize("orientation", TURNED)
def test_a_preview_is_turned_as_the_raw_photo_says(tmp_path, orientation):
    stored = np.ascontiguousarray(TURNED[orientation](LARGE))
    assert_preview(tmp_path, dng(jpeg(stored), orientation=orientation), "DNG")


def test_a_preview_s_profile_is_applied(tmp_path):
    stored = np.round(codes_in(LARGE, P3_PRIMARIES) * 255).astype(np.uint8)
    assert_preview(tmp_path, dng(jpeg(stored, icc_profile=rgb_profile(P3_PRIMARIES))), "DNG")


@ORDERS
def test_other_makers_too(tmp_path, order):
    preview = jpeg(LARGE)
    sensor = strip("blob 1", 1024, width=4000, height=3000, compression=34713, photometric=SENSOR)
    blobs = [preview, bytes(1024)]
    by_offset = {513: (4, "blob 0"), 514: (4, (len(preview),))}
    nikon = {271: (2, tuple(b"NIKON CORPORATION\0")), 259: (3, (1,))}
    assert_preview(tmp_path, raw_tiff(nikon, [by_offset, sensor], blobs=blobs, order=order), "NEF")
    sony = {271: (2, tuple(b"SONY\0")), **by_offset}
    assert_preview(tmp_path, raw_tiff(sony, [sensor], blobs=blobs, order=order), "ARW")
    canon = {271: (2, tuple(b"Canon\0")), **strip("blob 0", len(preview), width=640, height=480, compression=6)}
    data = raw_tiff(canon, blobs=blobs, order=order, behind_magic=b"CR\2\0\0\0\0\0")
    assert_preview(tmp_path, data, "CR2")
    assert_preview(tmp_path, raw_tiff(by_offset, [sensor], blobs=blobs, order=order), "RAW")


@pytest.mark.parametrize("orientation", [1, 6])
def test_fuji_s_preview_says_itself_how_it_is_turned(tmp_path, orientation):
    preview = jpeg(TURNED[orientation](LARGE), exif=exif(orientation))
    head = b"FUJIFILMCCD-RAW 0201FF129502".ljust(84, b"\0") + (160).to_bytes(4) + len(preview).to_bytes(4)
    assert_preview(tmp_path, head.ljust(160, b"\0") + preview + bytes(1000), "RAF")


def test_a_cut_preview_and_the_sensor_s_own_jpeg_are_none(tmp_path):
    small = jpeg(chart())
    with pytest.raises(UnreadablePhotoError, match=r"a RAW photo \(DNG\); develop it to JPEG or TIFF$"):
        read(tmp_path, dng(jpeg(LARGE)[:-400] + bytes(400)))
    lossless = small.replace(b"\xff\xc0", b"\xff\xc3")
    with pytest.raises(UnreadablePhotoError, match=r"a RAW photo \(DNG\); develop it"):
        read(tmp_path, dng(lossless))
    assert read(tmp_path, dng(small)).width_px == 96


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"FUJIFILMCCD-RAW 0201FF129502", "RAF"),
        (b"IIU\0\x18\0\0\0", "RW2"),
        (b"IIRO\x08\0\0\0", "ORF"),
        (b"IIRS\x08\0\0\0", "ORF"),
        (b"MMOR\0\0\0\x08", "ORF"),
        (b"FOVb\0\0\2\0", "X3F"),
        (b"\0MRM\0\0\0\x08", "MRW"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "CR3"),
    ],
)
def test_others_are_refused_by_name(tmp_path, head, kind):
    with pytest.raises(UnreadablePhotoError, match=rf"a RAW photo \({kind}\); develop it to JPEG or TIFF$"):
        read(tmp_path, head + bytes(4096))


@ORDERS
def test_a_tiff_of_a_camera_is_a_photo(tmp_path, order):
    named = {271: (7, tuple(b"NIKON CORPORATION\0"))}
    picture = chart().copy()
    picture[0, 0] = tuple(b"CR\2")  # where CR2 has its own magic
    photo = read(tmp_path, tiff(picture, photometric=2, order=order, tags=named))
    assert (photo.preview_of, photo.width_px) == ("", 96)


@pytest.mark.parametrize("length", [4, 7, 8, 12, 200, 60_000])
def test_a_cut_raw_photo_is_refused(tmp_path, length):
    with pytest.raises(UnreadablePhotoError):
        read(tmp_path, dng(jpeg(LARGE))[:length])


def test_directories_that_lead_in_a_circle_end(tmp_path):
    data = bytearray(dng(jpeg(LARGE)))
    first = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[first : first + 2], "little")
    data[first + 2 + 12 * count : first + 6 + 12 * count] = first.to_bytes(4, "little")
    assert read(tmp_path, bytes(data)).width_px == 640
