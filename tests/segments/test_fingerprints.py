"""Signatures: an honest encoder stays within the tolerances at any quality, a lying one does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from fanreel.codecs import Codec
from fanreel.encode.encoder import open_encoder
from fanreel.encode.libav import plane_views
from fanreel.job.encoding import Encoding, Preset
from fanreel.mp4.sample_entries import video_sample_entry
from fanreel.plan.encoding import plan_encoding
from fanreel.segments.fingerprints import (
    FINGERPRINT_BYTES,
    FROZEN_WINDOW_FRAMES,
    THUMBNAIL_BYTES,
    Fingerprinter,
    fingerprint_difference,
    frozen_frames,
    make_thumbnail,
    thumbnail_difference,
)

Planes = tuple[np.ndarray, ...]
COUNT = 40


def draw(content: str, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A luma plane half as large again as a frame, of one kind of content."""
    width, height = size[0] * 3 // 2, size[1] * 3 // 2
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    match content:
        case "noise":
            plane = rng.integers(16, 236, (height, width))
        case "gradient":
            plane = 20 + 10 * seed + x * 200 // width
        case "checkerboard":
            plane = ((x // 3 + y // 3) % 2) * 219 + 16
        case "text":
            plane = np.full((height, width), 230, np.uint8)
            for line in range(10):
                place = (5, (line + 1) * height // 11)
                cv2.putText(plane, "a film of photos 0123", place, cv2.FONT_HERSHEY_SIMPLEX, width / 500, 20, 1)
        case _:
            wide = sum(cv2.resize(rng.random((n, 2 * n), np.float32), (width, height)) for n in (4, 16, 64))
            plane = cv2.normalize(wide, None, 16, 235, cv2.NORM_MINMAX)
            if content == "dark":
                plane = 16 + (plane - 16) * 0.12
    return np.asarray(plane).astype(np.uint8)


def move(content: str, how: str, size: tuple[int, int]) -> list[Planes]:
    """Frames of a camera that moves over a plane as the project's does: subpixel, slowly or fast."""
    source = draw(content, size)
    height, width = source.shape
    frames = []
    for number in range(COUNT):
        time = number / (COUNT - 1)
        shrunk = {"still": 1.0, "slow zoom": 1 - 0.01 * time, "zoom": 1 - 0.12 * time}.get(how, 0.75)
        left = {"slow pan": 0.01, "pan": 0.12}.get(how, 0.0) * time * width + (1 - shrunk) / 2 * width * ("zoom" in how)
        view = np.array([[width * shrunk / size[0], 0, left], [0, height * shrunk / size[1], 0]], np.float32)
        luma = cv2.warpAffine(source, view, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        chroma = [cv2.resize(plane, (size[0] // 2, size[1] // 2)) for plane in (luma // 2 + 64, 192 - luma // 2)]
        frames.append((luma, *chroma))
    return frames


def encode(frames: Sequence[Planes], preset: Preset, quality: int) -> list[Planes]:
    """The frames as they decode."""
    height, width = frames[0][0].shape
    plan = plan_encoding(
        Encoding(preset=preset, quality=quality), width_px=width, height_px=height, frame_rate=Fraction(30)
    )
    encoder = open_encoder(plan, encoder="x264", threads=1)
    entry = video_sample_entry(Codec.H264, width=width, height=height, parameter_sets=[encoder.parameter_sets])
    start = entry.index(b"avcC")
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = entry[start + 4 : start - 4 + int.from_bytes(entry[start - 4 : start], "big")]
    packets = []
    for number, planes in enumerate(frames):

        def fill(targets: Sequence[np.ndarray], planes: Planes = planes) -> None:
            for target, plane in zip(targets, planes, strict=True):
                target[:] = plane

        packets += encoder.encode(fill, keyframe=number == 0)
    decoded = []
    for packet in [*packets, *encoder.finish()]:
        coded = av.Packet(packet.payload)
        coded.pts = packet.frame
        decoded += decoder.decode(coded)
    return [tuple(plane.copy() for plane in plane_views(frame)) for frame in [*decoded, *decoder.decode(None)]]


def fingerprints(frames: Sequence[Planes]) -> list[bytes]:
    fingerprinter = Fingerprinter()
    return [fingerprinter.add(planes) for planes in frames]


def complaints(fed: Sequence[Planes], seen: Sequence[Planes], quality: int) -> list[str]:
    """Which checks say that `seen` is not `fed`."""
    before, after = fingerprints(fed), fingerprints(seen)
    checks: dict[str, Callable[[], bool]] = {
        "thumbnail": lambda: any(
            thumbnail_difference(make_thumbnail(one[0]), other[0], quality=quality) is not None
            for one, other in zip(fed, seen, strict=True)
        ),
        "fingerprint": lambda: any(
            fingerprint_difference(one, other, quality=quality) is not None
            for one, other in zip(before, after, strict=True)
        ),
        "frozen": lambda: frozen_frames(before, after, quality=quality) is not None,
    }
    return [name for name, check in checks.items() if check()]


CONTENTS = ["photo", "dark", "noise", "gradient", "checkerboard", "text"]
MOVES = ["still", "slow zoom", "slow pan", "zoom", "pan"]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("quality", [1, 21, 35, 51])
def test_no_honest_film_is_complained_of(content: str, quality: int) -> None:
    for how in MOVES:
        frames = move(content, how, (192, 108))
        for preset in (Preset.DRAFT, Preset.FAST):
            assert complaints(frames, encode(frames, preset, quality), quality) == [], (how, preset)


@pytest.mark.parametrize("size", [(64, 64), (66, 70), (512, 90)])
def test_no_honest_film_of_an_odd_size_is_complained_of(size: tuple[int, int]) -> None:
    for content in ("photo", "noise"):
        for how in ("slow zoom", "pan"):
            frames = move(content, how, size)
            for quality in (21, 51):
                assert complaints(frames, encode(frames, Preset.FAST, quality), quality) == [], (content, how, quality)


@pytest.mark.parametrize("quality", [1, 21, 35, 51])
def test_black_instead_of_a_photo_is_complained_of_at_any_quality(quality: int) -> None:
    frames = move("photo", "zoom", (192, 108))
    black = [(np.full_like(y, 16), np.full_like(u, 128), np.full_like(v, 128)) for y, u, v in frames]
    assert {"thumbnail", "fingerprint"} <= set(complaints(frames, black, quality))


@pytest.mark.parametrize("quality", [1, 21, 26])
def test_black_instead_of_a_dark_photo_is_complained_of_at_usual_quality(quality: int) -> None:
    frames = move("dark", "zoom", (192, 108))
    black = [(np.full_like(y, 16), np.full_like(u, 128), np.full_like(v, 128)) for y, u, v in frames]
    assert complaints(frames, black, quality)


@pytest.mark.parametrize("quality", [1, 21, 35])
def test_another_photo_is_complained_of(quality: int) -> None:
    photos = [draw("photo", (192, 108), seed) for seed in range(8)]
    for place, photo in enumerate(photos):
        for other in photos[:place]:
            assert thumbnail_difference(make_thumbnail(photo), other, quality=quality) is not None


@pytest.mark.parametrize("preset", [Preset.DRAFT, Preset.FAST])
@pytest.mark.parametrize("quality", [1, 21, 24])
@pytest.mark.parametrize("how", ["zoom", "pan"])
def test_a_frozen_stretch_is_called_frozen(preset: Preset, quality: int, how: str) -> None:
    frames = move("photo", how, (192, 108))
    stuck = [frames[12 if 12 <= number < 32 else number] for number in range(COUNT)]
    seen = encode(stuck, preset, quality)
    start = frozen_frames(fingerprints(frames), fingerprints(seen), quality=quality)
    assert start is not None
    assert 11 <= start <= 19


def test_a_wrong_colour_is_complained_of() -> None:
    frames = move("photo", "zoom", (192, 108))
    grey = [(y, np.full_like(u, 128), np.full_like(v, 128)) for y, u, v in move("gradient", "zoom", (192, 108))]
    coloured = [(y, np.full_like(u, 100), np.full_like(v, 160)) for y, u, v in grey]
    assert complaints(grey, coloured, 21) == ["fingerprint"]
    assert complaints(frames, frames, 21) == []


def test_the_difference_that_is_told_is_in_levels() -> None:
    plane = np.full((108, 192), 100, np.uint8)
    assert thumbnail_difference(make_thumbnail(plane), plane + 50, quality=21) == 50
    flat = [np.full((54, 96), 128, np.uint8)] * 2
    prints = [Fingerprinter().add((level, *flat)) for level in (plane, plane + 30)]
    assert fingerprint_difference(prints[0], prints[1], quality=21) == 30
    assert fingerprint_difference(prints[0], prints[0], quality=0) is None


def test_a_thumbnail_sees_every_pixel() -> None:
    # A board of single pixels, which sampling every second one would take for black or white.
    for size in ((1080, 1920), (180, 320), (64, 64), (270, 480)):
        y, x = np.mgrid[: size[0], : size[1]]
        board = ((x + y) % 2 * 200).astype(np.uint8)
        cells = np.frombuffer(make_thumbnail(board), np.uint8)
        assert len(cells) == THUMBNAIL_BYTES
        assert np.abs(cells.astype(int) - 100).max() <= 12, size


def test_a_fingerprint_is_twenty_bytes_and_remembers_one_window() -> None:
    frames = move("photo", "pan", (192, 108))
    prints = fingerprints(frames)
    assert {len(one) for one in prints} == {FINGERPRINT_BYTES}
    assert prints[0][-2:] == b"\0\0"
    still = fingerprints([frames[0]] * 30)
    assert len(set(still)) == 1
    after = fingerprints([frames[0]] * FROZEN_WINDOW_FRAMES + [frames[-1]])
    assert after[-1][-2:] != b"\0\0"


def test_a_stretch_shorter_than_the_window_is_never_frozen() -> None:
    prints = fingerprints(move("photo", "pan", (192, 108)))
    still = [prints[0]] * FROZEN_WINDOW_FRAMES
    assert frozen_frames(prints[:FROZEN_WINDOW_FRAMES], still, quality=21) is None
    assert frozen_frames(prints[: FROZEN_WINDOW_FRAMES + 1], [*still, prints[0]], quality=21) == 0
    assert frozen_frames([], [], quality=21) is None


def test_padded_planes_have_the_signature_of_tight_ones() -> None:
    luma, u, v = move("photo", "zoom", (66, 70))[5]
    padded = [np.pad(plane, ((0, 0), (0, 30)))[:, : plane.shape[1]] for plane in (luma, u, v)]
    assert make_thumbnail(padded[0]) == make_thumbnail(luma)
    assert Fingerprinter().add(padded) == Fingerprinter().add((luma, u, v))
