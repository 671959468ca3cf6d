"""HDR pictures from the light that they must show, and the files that hold them."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from support.photo_files import SRGB_PRIMARIES, heic, png, png_chunk, to_xyz

BT2020_PRIMARIES = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
PQ, HLG = 16, 18
WHITE_NITS = 203
"""SDR's white in HDR. Source: ITU-R BT.2408."""


def to_bt2020(light):
    """Linear light of sRGB's primaries -> of BT.2020's."""
    return light @ to_xyz(SRGB_PRIMARIES).T @ np.linalg.inv(to_xyz(BT2020_PRIMARIES)).T


def pq_codes(light):
    """Light in whites -> PQ, 0 to 1. Source: ITU-R BT.2100, table 4."""
    power = np.clip(light * WHITE_NITS / 10_000, 0, 1) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg_codes(light):
    """Light in whites on a screen of 1000 cd/m2 -> HLG, 0 to 1. Source: BT.2100, table 5."""
    shown = np.clip(light * WHITE_NITS / 1000, 0, None)
    luminance = shown @ np.array((0.2627, 0.6780, 0.0593))
    scene = shown * np.where(luminance > 0, np.maximum(luminance, 1e-12) ** (1 / 1.2 - 1), 0)[..., None]
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.clip(
        np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c), 0, 1
    )


CODES = {PQ: pq_codes, HLG: hlg_codes}


def hdr_samples(light, transfer, bits):
    """Light of sRGB's primaries in whites -> RGB samples of BT.2020."""
    return np.round(CODES[transfer](to_bt2020(light)) * ((1 << bits) - 1)).astype(np.uint16)


def signalled_png(samples, primaries, transfer, bits=16):
    """A PNG of (height, width, channels) samples whose colours are said by cICP."""
    samples = samples if bits == 16 else samples.astype(np.uint8)
    said = png_chunk(b"cICP", bytes((primaries, transfer, 0, 1)))
    return png(samples, colour_type={1: 0, 3: 2, 4: 6}[samples.shape[2]], chunks=said)


def signalled_avif(samples, primaries, transfer, bits=10):
    """An AVIF of grey, RGB or RGBA samples without loss, whose colours are said by nclx."""
    options = [cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_SPEED, 10]
    written, data = cv2.imencode(
        ".avif", np.ascontiguousarray(np.dstack((samples[:, :, 2::-1], samples[:, :, 3:]))), options
    )
    assert written
    before, mark, after = bytes(data).partition(b"colrnclx")
    assert mark
    return before + mark + struct.pack(">HH", primaries, transfer) + after[4:]


def signalled_heic(samples, primaries, transfer):
    """A HEIC of RGB samples of 10 bits without loss, whose colours are said by nclx."""
    return heic(np.ascontiguousarray(samples), signal=(primaries, transfer))
