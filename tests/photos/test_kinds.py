"""Every kind of photo comes out upright and in its colours: what is shown is known by construction."""

import numpy as np
import pytest
from blake3 import blake3
from PIL import Image, ImageCms
from support.photo_files import (
    ADOBE_GAMMA,
    ADOBE_PRIMARIES,
    COLOURS,
    P3_PRIMARIES,
    SRGB_PRIMARIES,
    TURNED,
    chart,
    cmyk_profile,
    codes_in,
    corners_of,
    decoded,
    encoded,
    exif,
    grey_profile,
    heic,
    lab_to_srgb,
    linear_to_srgb,
    png,
    png_chunk,
    rgb_profile,
    tiff,
)

from fanreel.colour import profiles
from fanreel.errors import UnreadablePhotoError

TOLERANCE = 3
"""Codes of 255: JPEG's rounding, and a profile's own."""

ALPHA = np.array([[0, 255], [128, 255]], np.uint8)
FADED = COLOURS * (ALPHA[:, :, None] / 255)
HIDDEN = COLOURS * (np.arange(4).reshape(2, 2, 1) > 0)  # the first corner is transparent
GREY = np.array([[10, 90], [160, 250]], np.uint8)
GREY_COLOURS = GREY[:, :, None].repeat(3, axis=2)
LOSSLESS_AVIF = {"quality": 100, "subsampling": "4:4:4"}


def shown(folder, data):
    """The four colours of a photo of the chart's size."""
    path = folder / "photo"
    path.write_bytes(data)
    pixels = decoded(path)
    assert pixels.shape == (64, 96, 3)
    return corners_of(pixels)


def assert_shown(folder, data, colours=COLOURS, tolerance=TOLERANCE):
    assert np.abs(shown(folder, data) - colours).max() <= tolerance


def with_alpha(picture, alpha=ALPHA, white=255):
    return np.dstack((picture, chart(alpha).astype(picture.dtype) * (white // 255)))


def deep(picture):
    """The same codes with 16 bits, and noise in the low ones that rounds away."""
    noise = np.random.default_rng(5).integers(-120, 121, picture.shape)
    return np.clip(picture.astype(int) * 257 + noise, 0, 65535).astype(np.uint16)


# Depths, channels, palettes


def greys(picture=GREY):
    return chart(picture)[:, :, None]


PNGS = {
    "grey": (png(greys(), colour_type=0), GREY_COLOURS),
    "grey and alpha": (png(with_alpha(greys()), colour_type=4), GREY_COLOURS * (ALPHA[:, :, None] / 255)),
    "grey with a clear one": (
        png(greys(), colour_type=0, chunks=png_chunk(b"tRNS", bytes((0, 10)))),
        GREY_COLOURS * (GREY_COLOURS != 10),
    ),
    "grey 16": (png(deep(greys()), colour_type=0), GREY_COLOURS),
    "grey 16 and alpha": (
        png(with_alpha(deep(greys()), white=65535), colour_type=4),
        GREY_COLOURS * (ALPHA[:, :, None] / 255),
    ),
    "grey 16 with a clear one": (
        png(greys().astype(np.uint16) * 257, colour_type=0, chunks=png_chunk(b"tRNS", bytes((10, 10)))),
        GREY_COLOURS * (GREY_COLOURS != 10),
    ),
    "colour": (png(chart(), colour_type=2), COLOURS),
    "colour and alpha": (png(with_alpha(chart()), colour_type=6), FADED),
    "colour with a clear one": (
        png(chart(), colour_type=2, chunks=png_chunk(b"tRNS", bytes((0, 200, 0, 40, 0, 40)))),
        HIDDEN,
    ),
    "colour 16": (png(deep(chart()), colour_type=2), COLOURS),
    "colour 16 and alpha": (png(with_alpha(deep(chart()), white=65535), colour_type=6), FADED),
    "colour 16 with a clear one": (
        png(chart().astype(np.uint16) * 257, colour_type=2, chunks=png_chunk(b"tRNS", bytes([200] * 2 + [40] * 4))),
        HIDDEN,
    ),
}


@pytest.mark.parametrize("name", PNGS)
def test_a_png_of_any_depth_and_transparency(tmp_path, name):
    data, colours = PNGS[name]
    assert_shown(tmp_path, data, colours, tolerance=1)


def test_16_bits_keep_their_mean_and_what_fits_into_8(tmp_path):
    samples = np.array([[128 * 257 + 85, 129 * 257], [65535, 257 * 7 - 129]], np.uint16)
    (tmp_path / "photo").write_bytes(png(chart(samples, 192, 128)[:, :, None], colour_type=0))
    quarters = decoded(tmp_path / "photo")[:, :, 0].reshape(2, 64, 2, 96).swapaxes(1, 2)
    assert [sorted(set(quarter.ravel().tolist())) for quarter in quarters.reshape(4, -1)] == [
        [128, 129],
        [129],
        [255],
        [6, 7],
    ]
    assert np.abs(quarters.mean(axis=(2, 3)) - samples / 257).max() < 0.01


def test_a_palette_with_half_transparent_entries(tmp_path):
    picture = Image.fromarray(chart()).convert("P", palette=Image.Palette.ADAPTIVE)
    opacity = bytearray(b"\xff" * 256)
    opacity[picture.getpixel((5, 60))] = 128  # blue, the lower left
    faded = COLOURS * np.array([[1, 1], [128 / 255, 1]])[:, :, None]
    assert_shown(tmp_path, encoded(picture, "PNG", transparency=bytes(opacity)), faded, 1)
    assert_shown(tmp_path, encoded(picture, "GIF", transparency=picture.getpixel((5, 5))), HIDDEN, 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit_a_pixel(tmp_path, kind):
    bits = np.array([[0, 255], [255, 0]], np.uint8)
    picture = Image.fromarray(chart(bits)).convert("1")
    assert_shown(tmp_path, encoded(picture, kind), bits[:, :, None].repeat(3, axis=2), 0)


FADED_16 = np.round(with_alpha(chart().astype(float) * (chart(ALPHA)[:, :, None] / 255)) * 257).astype(np.uint16)
TIFFS = {
    "colour": (chart(), 2, {}, COLOURS),
    "colour 16": (deep(chart()), 2, {}, COLOURS),
    "grey 16": (deep(greys()), 1, {}, GREY_COLOURS),
    "white is zero": (255 - greys(), 0, {}, GREY_COLOURS),
    "alpha": (with_alpha(chart()), 2, {338: (3, (2,))}, FADED),
    "alpha 16": (with_alpha(deep(chart()), white=65535), 2, {338: (3, (2,))}, FADED),
    "faded by its alpha": (np.round(FADED_16 / 257).astype(np.uint8), 2, {338: (3, (1,))}, FADED),
    "faded by its alpha 16": (FADED_16, 2, {338: (3, (1,))}, FADED),
    "a channel of no meaning": (with_alpha(chart()), 2, {338: (3, (0,))}, COLOURS),
    "a channel of no meaning 16": (with_alpha(deep(chart()), white=65535), 2, {338: (3, (0,))}, COLOURS),
    "grey and alpha": (with_alpha(greys()), 1, {338: (3, (2,))}, GREY_COLOURS * (ALPHA[:, :, None] / 255)),
    "cmyk": (np.dstack((255 - chart(), 0 * chart()[:, :, :1])), 5, {}, COLOURS),
    "cmyk 16": (np.dstack((65535 - deep(chart()), 0 * deep(chart())[:, :, :1])), 5, {}, COLOURS),
    "ycbcr": (np.asarray(Image.fromarray(chart()).convert("YCbCr")), 6, {530: (3, (1, 1))}, COLOURS),
}


@pytest.mark.parametrize("order", "<>", ids=["intel", "motorola"])
@pytest.mark.parametrize("name", TIFFS)
def test_a_tiff_of_any_depth_channels_and_byte_order(tmp_path, name, order):
    samples, photometric, tags, colours = TIFFS[name]
    assert_shown(tmp_path, tiff(samples, photometric=photometric, tags=tags, order=order), colours, 2)


def test_a_tiff_of_16_bits_whose_zero_is_white(tmp_path):
    assert_shown(tmp_path, tiff(65535 - deep(greys()), photometric=0), GREY_COLOURS, 1)


def test_cielab_in_a_tiff(tmp_path):
    lab = np.array([[(50, 60, 40), (65, -55, 40)], [(35, 40, -70), (85, -5, 45)]])
    codes = np.dstack((np.round(lab[:, :, 0] * 2.55), lab[:, :, 1:] % 256)).astype(np.uint8)
    assert_shown(tmp_path, tiff(chart(codes), photometric=8), lab_to_srgb(lab))


@pytest.mark.parametrize("order", "<>", ids=["intel", "motorola"])
@pytest.mark.parametrize(
    ("samples", "words"),
    [
        pytest.param(chart().astype(np.float32) / 255, {"photometric": 2, "sample_format": 3}, id="float colour"),
        pytest.param(greys().astype(np.float32) / 255, {"photometric": 1, "sample_format": 3}, id="float grey"),
        pytest.param(greys().astype(np.int32), {"photometric": 1, "sample_format": 2}, id="signed 32"),
        pytest.param(greys().astype(np.int16), {"photometric": 1, "sample_format": 2}, id="signed 16"),
        pytest.param(greys().astype(np.uint16), {"photometric": 1, "bits": 12}, id="12 bits"),
    ],
)
def test_samples_that_no_screen_shows_are_refused_before_anything_is_decoded(tmp_path, samples, words, order):
    with pytest.raises(UnreadablePhotoError, match=r"save it with 8 or 16 bits a sample$"):
        shown(tmp_path, tiff(samples, order=order, **words))


# Orientation


@pytest.mark.parametrize("orientation", TURNED)
def test_tiff_and_avif_stand_upright(tmp_path, orientation):
    stored = np.ascontiguousarray(TURNED[orientation](chart()))
    tag = {274: (3, (orientation,))}
    assert_shown(tmp_path, tiff(stored, photometric=2, tags=tag), tolerance=0)
    assert_shown(tmp_path, tiff(stored.astype(np.uint16) * 257, photometric=2, tags=tag), tolerance=0)
    assert_shown(tmp_path, encoded(stored, "AVIF", exif=exif(orientation), **LOSSLESS_AVIF))


@pytest.mark.parametrize("mirror", [None, 0, 1], ids=["as it is", "upside down", "left to right"])
@pytest.mark.parametrize("rotation", range(4))
def test_a_heic_stands_upright_and_is_not_turned_twice(tmp_path, rotation, mirror):
    # Phones write the EXIF orientation as well as the file's own boxes; it says the same once more.
    flips = {None: lambda picture: picture, 0: np.flipud, 1: np.fliplr}
    stored = np.ascontiguousarray(np.rot90(flips[mirror](chart()), -rotation))
    for block in (b"", exif(6).tobytes()):
        assert_shown(tmp_path, heic(stored, rotation=rotation, mirror=mirror, exif=block), tolerance=0)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_a_heic_is_known_by_its_brand_and_by_what_is_in_it(tmp_path, brand):
    assert_shown(tmp_path, heic(chart(), brand=brand), tolerance=0)
    avif = encoded(chart(), "AVIF", **LOSSLESS_AVIF)
    assert_shown(tmp_path, avif[:8] + b"mif1" + avif[12:])


# Animations


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("GIF", {}),
        ("PNG", {}),
        ("PNG", {"default_image": True}),
        ("WEBP", {"lossless": True}),
        ("AVIF", LOSSLESS_AVIF),
        ("TIFF", {}),
    ],
)
def test_of_an_animation_the_first_picture_is_shown(tmp_path, kind, options):
    more = {"save_all": True, "append_images": [Image.new("RGB", (96, 64), "white")] * 2, "duration": 100}
    assert_shown(tmp_path, encoded(chart(), kind, **options, **more))


# Transparency


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {}), ("AVIF", LOSSLESS_AVIF)],
)
def test_what_is_transparent_is_shown_over_black_in_the_photo_s_own_colours(tmp_path, kind, options):
    stored = np.round(codes_in(chart(), P3_PRIMARIES) * 255).astype(np.uint8)
    data = encoded(with_alpha(stored), kind, icc_profile=rgb_profile(P3_PRIMARIES), **options)
    assert_shown(tmp_path, data, FADED, 5 if kind == "AVIF" else TOLERANCE)


# Profiles

KINDS = {
    "jpeg": ("JPEG", {"quality": 98, "subsampling": 0}),
    "progressive jpeg": ("JPEG", {"quality": 98, "subsampling": 0, "progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {}),
    "tiff lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "avif": ("AVIF", LOSSLESS_AVIF),
    "heic": (None, {}),
}
GOLDEN = {"display p3": "649afd99d6684c00", "adobe rgb": "db0af84bbc26064a"}
SPACES = {
    "display p3": (P3_PRIMARIES, None),
    "adobe rgb": (ADOBE_PRIMARIES, ADOBE_GAMMA),
    "srgb": (SRGB_PRIMARIES, None),
}


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_with_a_profile_comes_out_in_srgb(tmp_path, kind, space, version):
    primaries, gamma = SPACES[space]
    name, options = KINDS[kind]
    stored = chart(np.round(codes_in(COLOURS, primaries, gamma) * 255).astype(np.uint8))
    profile = rgb_profile(primaries, gamma, version)
    data = encoded(stored, name, icc_profile=profile, **options) if name else heic(stored, profile=profile)
    # AVIF keeps colours of 8 bits to within 2 codes; out of P3 they are up to 2.5 times as far apart.
    assert_shown(tmp_path, data, tolerance=5 if kind == "avif" else TOLERANCE)
    if space != "srgb":
        moved = np.abs(corners_of(stored.astype(int)) - COLOURS).max()
        assert moved > 2 * TOLERANCE, "the profile has to matter"


def test_16_bits_with_a_profile(tmp_path):
    stored = np.round(codes_in(chart(), P3_PRIMARIES) * 65535).astype(np.uint16)
    profile = rgb_profile(P3_PRIMARIES)
    assert_shown(tmp_path, tiff(stored, photometric=2, tags={34675: (7, tuple(profile))}))


def test_a_palette_with_a_profile(tmp_path):
    stored = chart(np.round(codes_in(COLOURS, P3_PRIMARIES) * 255).astype(np.uint8))
    picture = Image.fromarray(stored).convert("P", palette=Image.Palette.ADAPTIVE)
    assert_shown(tmp_path, encoded(picture, "PNG", icc_profile=rgb_profile(P3_PRIMARIES)))


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "TIFF 16"])
def test_grey_with_a_profile(tmp_path, kind, gamma):
    profile = grey_profile(gamma)
    if kind == "TIFF 16":
        kind, picture = "TIFF", Image.fromarray(chart(GREY).astype(np.uint16) * 257)
    else:
        picture = chart(GREY)
    assert_shown(
        tmp_path, encoded(picture, kind, icc_profile=profile), linear_to_srgb((GREY_COLOURS / 255) ** gamma), 2
    )


def press(cyan, magenta, yellow, black):
    """CIELAB of full inks, relative to the paper."""
    mixes = {
        (0, 0, 0): (100, 0, 0),
        (1, 0, 0): (55, -30, -40),
        (0, 1, 0): (48, 60, 0),
        (0, 0, 1): (88, -5, 70),
        (1, 1, 0): (25, 20, -40),
        (1, 0, 1): (50, -50, 25),
        (0, 1, 1): (47, 55, 40),
        (1, 1, 1): (20, 0, 0),
    }
    return (0, 0, 0) if black else mixes[cyan, magenta, yellow]


INKS = np.array([[(0, 1, 1, 0), (0, 0, 0, 0)], [(1, 1, 0, 0), (0, 0, 1, 0)]], np.uint8)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 100, "subsampling": 0}), ("TIFF", {})])
def test_cmyk_with_and_without_a_profile(tmp_path, kind, options):
    picture = Image.frombytes("CMYK", (96, 64), chart(INKS * np.uint8(255)).tobytes())
    printed = lab_to_srgb([[press(*inks) for inks in row] for row in INKS.tolist()])
    assert_shown(tmp_path, encoded(picture, kind, icc_profile=cmyk_profile(press), **options), printed)
    assert_shown(tmp_path, encoded(picture, kind, **options), 255 * (1 - INKS[:, :, :3].astype(int)))


def without_marker(jpeg, marker):
    """A JPEG without its segments of a kind."""
    head, mark, rest = jpeg.partition(b"\xff" + bytes((marker,)))
    assert mark
    return head + rest[int.from_bytes(rest[:2]) :]


def adobe(jpeg, transform):
    """A JPEG whose Adobe segment says another transform of its colours."""
    head, mark, rest = jpeg.partition(b"\xff\xee\0\x0eAdobe")
    assert mark
    return head + mark + rest[:6] + bytes((transform,)) + rest[7:]


@pytest.mark.parametrize("has_profile", [False, True])
def test_inks_in_a_jpeg_are_inverted_by_adobe_s_marker_alone(tmp_path, has_profile):
    inks = chart(INKS * np.uint8(255))
    colours = 255 * (1 - INKS[:, :, :3].astype(int))
    options = {"quality": 100, "subsampling": 0}
    if has_profile:
        options["icc_profile"] = cmyk_profile(press)
        colours = lab_to_srgb([[press(*row) for row in rows] for rows in INKS.tolist()])
    # Pillow writes the marker and inverts; without it, what is stored is the ink.
    marked = encoded(Image.frombytes("CMYK", (96, 64), inks.tobytes()), "JPEG", **options)
    plain = encoded(Image.frombytes("CMYK", (96, 64), (255 - inks).tobytes()), "JPEG", **options)
    assert_shown(tmp_path, marked, colours)
    assert_shown(tmp_path, without_marker(plain, 0xEE), colours)


def test_inks_as_ycck(tmp_path):
    # Y, Cb and Cr of the inverted inks, which Adobe's transform 2 says: C = 255 - R and so on, K beside them.
    inks = chart(INKS * np.uint8(255))
    ycc = np.asarray(Image.fromarray(inks[:, :, :3]).convert("YCbCr"))
    stored = np.dstack((ycc, 255 - inks[:, :, 3]))
    data = encoded(Image.frombytes("CMYK", (96, 64), (255 - stored).tobytes()), "JPEG", quality=100, subsampling=0)
    assert_shown(tmp_path, adobe(data, 2), 255 * (1 - INKS[:, :, :3].astype(int)))


@pytest.mark.parametrize(
    ("picture", "profile", "colours"),
    [
        pytest.param(chart(), rgb_profile(P3_PRIMARIES)[:200], COLOURS, id="cut"),
        pytest.param(chart(), b"no profile at all" * 20, COLOURS, id="junk"),
        pytest.param(chart(), b"\0", COLOURS, id="a byte"),
        pytest.param(chart(), grey_profile(1.0), COLOURS, id="of grey in a coloured photo"),
        pytest.param(chart(), cmyk_profile(press), COLOURS, id="of a press in a coloured photo"),
        pytest.param(chart(GREY), cmyk_profile(press), GREY_COLOURS, id="of a press in a grey photo"),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_profile_that_cannot_be_meant_changes_nothing(tmp_path, kind, picture, profile, colours):
    options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
    assert_shown(tmp_path, encoded(picture, kind, icc_profile=profile, **options), colours)


def test_no_decoder_complains_of_a_profile_on_the_terminal(tmp_path, capfd):
    data = encoded(chart(GREY), "PNG", icc_profile=rgb_profile(SRGB_PRIMARIES, 1.8))
    assert_shown(tmp_path, data, linear_to_srgb((GREY_COLOURS / 255) ** 1.8))
    assert capfd.readouterr().err == ""


def test_a_grey_photo_with_a_profile_of_colours_takes_its_curve(tmp_path):
    data = encoded(chart(GREY), "JPEG", quality=98, icc_profile=rgb_profile(SRGB_PRIMARIES, 1.8))
    assert_shown(tmp_path, data, linear_to_srgb((GREY_COLOURS / 255) ** 1.8))


@pytest.mark.parametrize("version", [2, 4])
def test_srgb_under_any_name_is_not_converted_and_pixels_stay_as_they_are(tmp_path, monkeypatch, version):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (rgb_profile(SRGB_PRIMARIES, None, version), own):
        profiles._transform.cache_clear()
        assert profiles._transform(profile, "RGB") is None
        noise = np.random.default_rng(3).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        (tmp_path / "photo.png").write_bytes(encoded(noise, "PNG", icc_profile=profile))
        assert (decoded(tmp_path / "photo.png") == noise).all()


def test_a_transform_is_made_once_for_an_album(tmp_path):
    profiles._transform.cache_clear()
    profile = rgb_profile(P3_PRIMARIES)
    for seed in range(3):
        picture = np.random.default_rng(seed).integers(0, 256, (600, 8, 3), dtype=np.uint8)
        (tmp_path / "photo").write_bytes(encoded(picture, "PNG", icc_profile=profile))
        decoded(tmp_path / "photo")
    assert profiles._transform.cache_info().misses == 1


@pytest.mark.parametrize("space", ["display p3", "adobe rgb"])
def test_a_thousand_colours_within_srgb_are_right(tmp_path, space):
    # In rows that cross the bands in which a photo is converted.
    primaries, gamma = SPACES[space]
    steps = np.linspace(10, 245, 16)
    wanted = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1024, 4, 3)
    stored = np.round(codes_in(wanted, primaries, gamma) * 255).astype(np.uint8)
    data = encoded(stored, "WEBP", lossless=True, icc_profile=rgb_profile(primaries, gamma))
    (tmp_path / "photo").write_bytes(data)
    off = np.abs(decoded(tmp_path / "photo") - wanted)
    # Where sRGB has several codes for one of the source, what is stored is rounded too: by Adobe RGB's dark reds most.
    assert np.percentile(off, 99) <= TOLERANCE
    assert off.max() <= 12


@pytest.mark.parametrize("space", ["display p3", "adobe rgb"])
def test_a_conversion_gives_the_same_bytes_on_every_machine(space):
    # A new digest is a new LittleCMS, or a CPU on which it computes otherwise: either changes the frames of films.
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(len(steps) ** 2, len(steps), 3)
    profiles.convert_rows(colours, rgb_profile(*SPACES[space]), mode="RGB")
    assert blake3(colours.tobytes()).hexdigest()[:16] == GOLDEN[space]


# Shapes


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (400, 20), (20, 400)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"])
def test_a_photo_may_have_any_shape(tmp_path, size, kind):
    picture = np.full((size[1], size[0], 3), (200, 120, 40), np.uint8)
    options = {"JPEG": {"quality": 98, "subsampling": 0}, "AVIF": LOSSLESS_AVIF, "WEBP": {"lossless": True}}
    (tmp_path / "photo").write_bytes(encoded(picture, kind, **options.get(kind, {})))
    pixels = decoded(tmp_path / "photo")
    assert pixels.shape == (size[1], size[0], 3)
    assert np.abs(pixels - (200, 120, 40)).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_panorama_30000_px_wide(tmp_path, kind):
    options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
    (tmp_path / "photo").write_bytes(encoded(chart(width=30_000, height=300), kind, **options))
    assert np.abs(corners_of(decoded(tmp_path / "photo")) - COLOURS).max() <= TOLERANCE
