"""HDR and wide-gamut photos without a profile look like the SDR picture that shows the same light."""

import numpy as np
import pytest
from support.hdr_pictures import HLG, PQ, hdr_samples, signalled_avif, signalled_heic, signalled_png
from support.photo_files import (
    COLOURS,
    P3_PRIMARIES,
    chart,
    codes_in,
    corners_of,
    decoded,
    heic,
    linear_to_srgb,
    rgb_profile,
    srgb_to_linear,
)

FILES = {"png": (signalled_png, 16), "avif": (signalled_avif, 10), "heic": (signalled_heic, 10)}
SKINS = np.array([(241, 194, 150), (198, 134, 96), (141, 85, 54), (84, 56, 40)], np.uint8)


def scene():
    """An SDR picture, (64, 256, 3): a ramp of greys, skins, saturated colours, and a white."""
    greys = np.linspace(0, 255, 256).round().astype(np.uint8)[None, :, None].repeat(24, 0).repeat(3, 2)
    skins = SKINS[None].repeat(24, 0).repeat(64, 1)
    vivid = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)], np.uint8)
    vivid = vivid[None].repeat(16, 0).repeat(64, 1)
    return np.concatenate((greys, skins, vivid))


def shown(folder, data):
    (folder / "photo").write_bytes(data)
    return decoded(folder / "photo")


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
@pytest.mark.parametrize("kind", FILES)
def test_an_hdr_photo_looks_like_its_sdr_twin(tmp_path, kind, transfer):
    write, bits = FILES[kind]
    twin = scene()
    pixels = shown(tmp_path, write(hdr_samples(srgb_to_linear(twin), transfer, bits), 9, transfer))
    assert abs(pixels.mean() / twin.mean() - 1) < 0.003
    off = np.abs(pixels - twin.astype(int))
    assert off[24:48].max() <= 2, "skins"
    # 10 bits are coarse for what is dark, and for the little of a primary that another one holds.
    assert off.max() <= (2 if bits == 16 else 6)
    assert np.ptp(pixels[:24], axis=2).max() <= (0 if kind == "heic" or bits == 16 else 2)


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_an_hdr_photo_of_8_bits_too(tmp_path, transfer):
    twin = scene()
    pixels = shown(tmp_path, signalled_png(hdr_samples(srgb_to_linear(twin), transfer, 8), 9, transfer, bits=8))
    assert abs(pixels.mean() / twin.mean() - 1) < 0.01


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["pq", "hlg"])
def test_highlights_roll_off_and_keep_their_hue(tmp_path, transfer):
    light = srgb_to_linear(scene())
    lamp = np.array((1.0, 0.5, 0.25))  # orange, from the darkness to 4 times white: 812 cd/m2
    light[40:] = np.linspace(0, 4, 256)[None, :, None] * lamp
    pixels = shown(tmp_path, signalled_png(hdr_samples(light, transfer, 16), 9, transfer))
    ramp = pixels[40:].mean(axis=0)
    clipped = linear_to_srgb(light[40])
    assert (np.diff(ramp, axis=0) > -1).all(), "it never gets darker"
    assert ramp[-1, 0] > 253
    assert ramp[-1, 0] - ramp[128, 0] > 3, "what is beyond white still differs"
    assert abs(pixels[:40].mean() / scene()[:40].mean() - 1) < 0.02, "and costs the rest little of its light"
    # Orange stays orange: the part of the way from blue to red at which green stands is the light's own.
    shown_light = srgb_to_linear(ramp[64:])
    hue = (shown_light[:, 1] - shown_light[:, 2]) / (shown_light[:, 0] - shown_light[:, 2])
    assert np.abs(hue - 1 / 3).max() < 0.02
    off = (srgb_to_linear(clipped[64:]) @ (0, 1, -1)) / (srgb_to_linear(clipped[64:]) @ (1, 0, -1) + 1e-9)
    assert np.abs(off - 1 / 3).max() > 0.2, "clipped hard it would not"


def test_a_glint_does_not_darken_the_photo(tmp_path):
    light = srgb_to_linear(scene())
    light[0, :4] = 40
    pixels = shown(tmp_path, signalled_png(hdr_samples(light, PQ, 16), 9, PQ))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert abs(pixels.mean() / scene().mean() - 1) < 0.003


@pytest.mark.parametrize("kind", FILES)
def test_wide_primaries_without_a_profile(tmp_path, kind):
    write, bits = FILES[kind]
    stored = np.round(codes_in(chart(), P3_PRIMARIES) * ((1 << bits) - 1)).astype(np.uint16)
    assert np.abs(corners_of(shown(tmp_path, write(stored, 12, 13))) - COLOURS).max() <= 2
    eight = np.round(codes_in(chart(), P3_PRIMARIES) * 255).astype(np.uint8)
    data = signalled_png(eight, 12, 13, bits=8) if kind == "png" else write(eight, 12, 13, *([8] * (kind == "avif")))
    assert np.abs(corners_of(shown(tmp_path, data)) - COLOURS).max() <= 3


@pytest.mark.parametrize("transfer", [1, 6, 13, 14, 2])
def test_what_says_that_it_is_srgb_keeps_its_pixels(tmp_path, transfer):
    noise = np.random.default_rng(3).integers(0, 256, (16, 24, 3), np.uint8)
    assert (shown(tmp_path, signalled_png(noise, 1, transfer, bits=8)) == noise).all()


def test_linear_light_and_powers(tmp_path):
    samples = np.linspace(0, 65535, 512).round().astype(np.uint16)[None, :, None].repeat(64, 0)
    for transfer, gamma in ((8, 1.0), (4, 2.2), (5, 2.8)):
        ramp = shown(tmp_path, signalled_png(samples, 1, transfer))[:, :, 0].mean(axis=0)
        assert np.abs(ramp - linear_to_srgb((samples[0, :, 0] / 65535) ** gamma)).max() < 0.1


def test_a_profile_counts_before_code_points_unless_these_say_hdr(tmp_path):
    stored = np.round(codes_in(chart(), P3_PRIMARIES) * 255).astype(np.uint8)
    assert np.abs(corners_of(shown(tmp_path, heic(stored, profile=rgb_profile(P3_PRIMARIES)))) - COLOURS).max() <= 3
    samples = hdr_samples(srgb_to_linear(chart()), PQ, 10)
    data = heic(samples, profile=rgb_profile(P3_PRIMARIES), signal=(9, PQ))
    assert np.abs(corners_of(shown(tmp_path, data)) - COLOURS).max() <= 3


def test_grey_and_transparent_avifs_of_more_bits(tmp_path):
    codes = chart(np.array([[60, 900], [300, 1023]], np.uint16))
    grey = signalled_avif(codes[:, :, None], 1, 13)
    assert np.abs(corners_of(shown(tmp_path, grey)) * 1023 / 255 - corners_of(codes[:, :, None])).max() <= 4.1
    faded = np.dstack(
        (*[chart(np.array([[4000, 900], [300, 4095]], np.uint16))] * 3, np.full((64, 96), 2048, np.uint16))
    )
    wanted = corners_of(faded[:, :, :3].astype(int)) * 255 / 4095 / 2
    assert np.abs(corners_of(shown(tmp_path, signalled_avif(faded, 1, 13, bits=12))) - wanted).max() <= 2
