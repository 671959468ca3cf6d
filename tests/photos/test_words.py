"""What a file says beside its pixels, however long or damaged, does not keep them from being shown."""

import zlib

import numpy as np
import pytest
from PIL import Image
from support.photo_files import (
    COLOURS,
    P3_PRIMARIES,
    chart,
    codes_in,
    corners_of,
    decoded,
    encoded,
    heic,
    png,
    png_chunk,
    rgb_profile,
)

MEGABYTE = 1 << 20
LOSSLESS_AVIF = {"quality": 100, "subsampling": "4:4:4"}
PROMPT = b"a cat in the style of " * (2 * MEGABYTE // 22)
TEXTS = {
    "zTXt of 2 MB": png_chunk(b"zTXt", b"prompt\0\0" + zlib.compress(PROMPT)),
    "iTXt of 2 MB": png_chunk(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(PROMPT)),
    "tEXt of 2 MB": png_chunk(b"tEXt", b"prompt\0" + PROMPT),
    "70 texts of 1 MB": png_chunk(b"zTXt", b"flow\0\0" + zlib.compress(bytes(MEGABYTE))) * 70,
    "damaged texts": png_chunk(b"zTXt", b"flow\0\0junk") + png_chunk(b"iTXt", b"") + png_chunk(b"tEXt", b"\0"),
    "a wrong sum": png_chunk(b"tEXt", b"a\0b")[:-1] + b"!",
}


def shown(folder, data):
    (folder / "photo").write_bytes(data)
    return decoded(folder / "photo")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", TEXTS)
def test_texts_in_a_png_are_skipped(tmp_path, name, bits):
    samples = chart().astype(np.uint16) * 257 if bits == 16 else chart()
    pixels = shown(tmp_path, png(samples, colour_type=2, chunks=TEXTS[name]))
    assert (pixels == chart()).all()
    with_alpha = np.dstack((samples, np.full_like(samples[:, :, :1], 2**bits - 1)))
    assert (shown(tmp_path, png(with_alpha, colour_type=6, chunks=TEXTS[name])) == chart()).all()


@pytest.mark.parametrize("colour_type", [2, 6])
def test_a_profile_of_1_2_mb_is_applied(tmp_path, colour_type):
    stored = np.round(codes_in(chart(), P3_PRIMARIES) * 255).astype(np.uint8)
    samples = stored if colour_type == 2 else np.dstack((stored, np.full((64, 96), 255, np.uint8)))
    profile = rgb_profile(P3_PRIMARIES)
    padded = (len(profile) + 1_200_000).to_bytes(4) + profile[4:] + bytes(1_200_000)
    chunk = png_chunk(b"iCCP", b"a name\0\0" + zlib.compress(padded))
    assert np.abs(corners_of(shown(tmp_path, png(samples, colour_type=colour_type, chunks=chunk))) - COLOURS).max() <= 2


@pytest.mark.parametrize("content", [b"", b"a name", b"a name\0", b"a name\0\0junk", b"n" * 90 + b"\0\0"])
def test_a_damaged_profile_is_skipped(tmp_path, content):
    assert (shown(tmp_path, png(chart(), colour_type=2, chunks=png_chunk(b"iCCP", content))) == chart()).all()


def test_a_profile_that_unpacks_without_end_is_skipped(tmp_path):
    bomb = zlib.compress(bytes(200 * MEGABYTE), 9)
    data = png(chart(), colour_type=2, chunks=png_chunk(b"iCCP", b"bomb\0\0" + bomb))
    assert (shown(tmp_path, data) == chart()).all()


DAMAGED_EXIF = {
    "zeros": bytes(64),
    "garbage": b"GARBAGE!",
    "one byte": b"Exif\0\0\xff",
    "nothing": b"",
    "cut": b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01",
    "an offset beyond the end": b"II*\0\xff\xff\xff\x7f",
}


def riff(name, content):
    return name + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)


@pytest.mark.parametrize("name", DAMAGED_EXIF)
def test_damaged_exif_is_no_orientation(tmp_path, name):
    block = DAMAGED_EXIF[name]
    assert (shown(tmp_path, png(chart(), colour_type=2, chunks=png_chunk(b"eXIf", block))) == chart()).all()
    webp = encoded(chart(), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    head, _, old = webp.partition(b"EXIF")
    body = head[12:] + riff(b"EXIF", block)
    webp = b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WEBP" + body
    assert len(old) > 4
    assert (shown(tmp_path, webp) == chart()).all()
    jpeg = encoded(chart(), "JPEG", quality=98, subsampling=0)
    segment = b"Exif\0\0" + block.removeprefix(b"Exif\0\0")
    jpeg = jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2) + segment + jpeg[2:]
    assert np.abs(shown(tmp_path, jpeg) - chart()).max() <= 30
    assert np.abs(shown(tmp_path, heic(chart(), exif=block or b"\0")) - chart()).max() <= 1
    whole = Image.Exif()
    whole[271] = "Q" * 64
    avif = encoded(chart(), "AVIF", exif=whole, **LOSSLESS_AVIF)
    assert avif.count(whole.tobytes()[6:]) == 1
    avif = avif.replace(whole.tobytes()[6:], block[:64].ljust(len(whole.tobytes()) - 6, b"\0"))
    assert np.abs(corners_of(shown(tmp_path, avif)) - COLOURS).max() <= 3


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def test_an_avif_is_turned_by_its_own_boxes_alone(tmp_path):
    said = encoded(chart(), "AVIF", xmp=XMP, **LOSSLESS_AVIF)
    assert b'Orientation="6"' in said
    assert np.abs(corners_of(shown(tmp_path, said)) - COLOURS).max() <= 3
    # Of EXIF's orientation, Pillow makes boxes when it writes.
    exif = Image.Exif()
    exif[274] = 6
    said = encoded(chart(), "AVIF", exif=exif, xmp=XMP, **LOSSLESS_AVIF)
    assert np.abs(shown(tmp_path, said)[8:24, 8:24] - np.rot90(chart(), -1)[8:24, 8:24]).max() <= 3
    head, mark, rest = said.partition(b"irot")
    assert mark
    unturned = head + mark + b"\0" + rest[1:]
    assert np.abs(corners_of(shown(tmp_path, unturned)) - COLOURS).max() <= 3
