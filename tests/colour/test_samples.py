"""Samples of 16 bits and of wide gamuts keep what 8 bits can show of them: no bands, no shift of the mean."""

import numpy as np
import pytest
from blake3 import blake3
from support.photo_files import (
    ADOBE_GAMMA,
    ADOBE_PRIMARIES,
    P3_PRIMARIES,
    SRGB_PRIMARIES,
    cmyk_profile,
    codes_in,
    fixed,
    grey_profile,
    icc_profile,
    lab_to_srgb,
    linear_to_srgb,
    named_tags,
    rgb_profile,
    srgb_to_linear,
)

from fanreel.colour.matrix_profiles import profile_signal, read_matrix_profile
from fanreel.colour.samples import convert_samples
from fanreel.colour.signals import ColourSignal

LINEAR_PROFILE = rgb_profile(SRGB_PRIMARIES, 1.0)


def ramp(low, high, rows=256, width=1024):
    """(rows, width, 3) uint16, every row the same, from one part of white to another."""
    samples = np.round(np.linspace(low, high, width) * 65535).astype(np.uint16)
    return samples[None, :, None].repeat(rows, 0).repeat(3, 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_dark_linear_light_has_all_levels_and_its_mean(channels):
    samples = ramp(0, srgb_to_linear(60))[:, :, :channels]
    profile = LINEAR_PROFILE if channels == 3 else grey_profile(1.0)
    shown = convert_samples(np.ascontiguousarray(samples), bits=16, profile=profile)
    assert len(np.unique(shown)) == 61
    wanted = linear_to_srgb(samples[0, :, 0] / 65535)
    assert np.abs(shown.mean(axis=0) - wanted[:, None]).max() < 0.08
    assert abs(shown.mean() - wanted.mean()) < 0.01


def test_a_slow_ramp_has_no_band_wider_than_the_pattern():
    # 3 codes over 1024 px: rounded, each would be a band of 340 px with an edge.
    shown = convert_samples(ramp(100 / 255, 103 / 255), bits=16)
    blurred = shown[:, :, 0].reshape(16, 16, 64, 16).mean(axis=(1, 3))
    wanted = np.linspace(100, 103, 1024).reshape(64, 16).mean(axis=1)
    assert np.abs(blurred - wanted).max() < 0.06


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_what_fits_into_8_bits_is_not_dithered(bits):
    codes = np.arange(256)
    samples = np.round(codes * ((1 << bits) - 1) / 255).astype(np.uint16)
    exact = samples.astype(int) * 255 == codes * ((1 << bits) - 1)
    shown = convert_samples(samples[exact][None, :, None].repeat(64, 0), bits=bits)
    assert (shown == codes[exact][None, :, None]).all()


def test_the_pattern_goes_on_from_band_to_band():
    samples = ramp(0.2, 0.3)
    whole = convert_samples(samples, bits=16, profile=LINEAR_PROFILE)
    parts = [
        convert_samples(samples[top : top + 50], bits=16, top=top, profile=LINEAR_PROFILE) for top in range(0, 256, 50)
    ]
    assert (np.concatenate(parts) == whole).all()


SPACES = {"display p3": (P3_PRIMARIES, None), "adobe rgb": (ADOBE_PRIMARIES, ADOBE_GAMMA)}
GOLDEN = {"display p3": "962f7b96758c121f", "adobe rgb": "ad793be71b0681d1"}


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("bits", [8, 16])
def test_a_wide_gamut_keeps_its_mean(space, bits, version):
    colours = np.random.default_rng(1).integers(30, 226, (12, 3)).astype(np.uint8)
    samples = np.round(codes_in(colours, *SPACES[space]) * ((1 << bits) - 1)).astype(
        np.uint16 if bits == 16 else np.uint8
    )
    surface = samples[:, None, ::-1].repeat(24, 0).repeat(64, 1)
    shown = convert_samples(surface, bits=bits, profile=rgb_profile(*SPACES[space], version))
    means = shown.reshape(12, 24, 64, 3)[..., ::-1].mean(axis=(1, 2))
    assert np.abs(means - colours).max() < (0.15 if bits == 16 else 1.5)  # 8 bits are rounded where they come from


@pytest.mark.parametrize("space", SPACES)
def test_a_conversion_gives_the_same_bytes_on_every_machine(space):
    # A new digest changes the frames of films.
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(len(steps) ** 2, len(steps), 3)
    shown = convert_samples(colours, bits=8, profile=rgb_profile(*SPACES[space]))
    assert blake3(shown.tobytes()).hexdigest()[:16] == GOLDEN[space]


def test_grey_stays_grey():
    greys = np.arange(256, dtype=np.uint8)[None, :, None].repeat(64, 0).repeat(3, 2)
    for shown in (
        convert_samples(greys, bits=8, profile=rgb_profile(P3_PRIMARIES)),
        convert_samples(greys, bits=8, signal=ColourSignal(9, 16)),
        convert_samples(greys, bits=8, signal=ColourSignal(9, 18)),
    ):
        assert (shown == shown[:, :, :1]).all()


# Profiles


def parametric(kind, *terms):
    numbers = b"".join(round(term * 65536).to_bytes(4, "big", signed=True) for term in terms)
    return b"para\0\0\0\0" + kind.to_bytes(2, "big") + b"\0\0" + numbers


@pytest.mark.parametrize(
    ("curve", "light"),
    [
        (parametric(0, 2.0), lambda x: x**2),
        (parametric(1, 2.0, 1.25, -0.25), lambda x: np.where(x >= 0.2, np.maximum(1.25 * x - 0.25, 0) ** 2, 0)),
        (parametric(2, 2.0, 1, -0.5, 0.25), lambda x: np.where(x >= 0.5, (x - 0.5) ** 2 + 0.25, 0.25)),
        (parametric(3, 2.0, 1, 0, 0.5, 0.5), lambda x: np.where(x >= 0.5, x**2, x / 2)),
        (parametric(4, 2.0, 1, 0, 0.5, 0.5, 0.0, 0.0), lambda x: np.where(x >= 0.5, x**2, x / 2)),
        (b"curv" + bytes(8), lambda x: x),
        (b"curv" + bytes(7) + b"\x01\x02\x00", lambda x: x**2),
        (b"curv" + bytes(7) + b"\x03\0\0\x40\0\xff\xff", lambda x: np.interp(x, (0, 0.5, 1), (0, 0.25, 1))),
    ],
    ids=["power", "power and cut", "power and floor", "two pieces", "two pieces and offsets", "none", "gamma", "table"],
)
def test_every_kind_of_tone_curve(curve, light):
    profile = icc_profile(named_tags() | {b"kTRC": curve}, space=b"GRAY")
    read = read_matrix_profile(profile, bits=16)
    assert np.abs(read.curves[0] / 65536 - light(np.arange(65536) / 65535)).max() < 3e-5


def test_a_profile_of_tables_is_left_to_littlecms():
    assert read_matrix_profile(cmyk_profile(lambda *_: (0, 0, 0)), bits=8) is None
    assert read_matrix_profile(rgb_profile(P3_PRIMARIES)[:300], bits=8) is None
    tags = named_tags() | {b"A2B0": b"mft1" + bytes(50), b"kTRC": parametric(0, 1.0)}
    assert read_matrix_profile(icc_profile(tags, space=b"GRAY"), bits=8) is None


def test_a_profile_of_tables_is_applied_to_dithered_samples():
    # Red, green and blue of full light are those of sRGB, in CIELAB; what lies between is linear in CIELAB.
    corners = [(0, 0, 0), (30, 68, -112), (88, -79, 81), (91, -51, -15), (54, 81, 70), (61, 94, -60), (98, -16, 93)]
    corners = np.array([*corners, (100, 0, 0)])
    codes = np.round(np.stack((corners[:, 0] * 2.55, corners[:, 1] + 128, corners[:, 2] + 128), -1)).astype(np.uint8)
    table = b"mft1\0\0\0\0\3\3\2\0" + b"".join(map(fixed, np.eye(3).ravel()))
    table += bytes(range(256)) * 3 + codes.tobytes() + bytes(range(256)) * 3
    profile = icc_profile(named_tags() | {b"A2B0": table}, connection=b"Lab ")
    shown = convert_samples(ramp(0.2, 0.21), bits=16, profile=profile).mean(axis=(0, 2))
    grey = lab_to_srgb(np.array([[(lightness, 0, 0) for lightness in np.linspace(20, 21, 1024)]]))[0, :, 0]
    assert np.abs(shown - grey).max() < 1.5
    steps, wanted = (each.reshape(8, 128).mean(axis=1) for each in (shown, grey))
    assert np.abs(np.diff(steps) - np.diff(wanted)).max() < 0.1


def test_a_profile_may_say_code_points():
    said = icc_profile(named_tags(4) | {b"cicp": b"cicp\0\0\0\0\x09\x10\0\x01"}, version=4)
    assert profile_signal(said) == ColourSignal(9, 16)
    assert profile_signal(rgb_profile(P3_PRIMARIES)) is None
    assert profile_signal(b"junk") is None
