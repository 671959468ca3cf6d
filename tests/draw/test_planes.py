"""What a photo looks like in the encoder's planes: its colours, its place, its sharpness."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fanreel.draw import planes as planes_module
from fanreel.draw.frames import FrameSource
from fanreel.draw.planes import prepare_planes
from fanreel.photos.photo import DecodedPhoto, decode_photo, read_photo
from fanreel.plan.camera import Rect, camera_at, plan_views
from fanreel.plan.content import StillContent
from fanreel.plan.timeline import Clip, Timeline

WHOLE = (0.0, 0.0, 1.0, 1.0)
FRAME_COUNT = 25


class Shot:
    """A photo, a move over it, and the frames of that move."""

    def __init__(self, path, size, start=WHOLE, end=WHOLE):
        self.photo = read_photo(path, max_megapixels=400)
        self.path, self.size = path, size
        self.camera = plan_views(start, end, photo_px=(self.photo.width_px, self.photo.height_px), film_px=size)

    def view(self, frame):
        return camera_at(self.camera, frame=frame, frame_count=FRAME_COUNT)

    def frames(self, wanted):
        """Y, U and V as float64 of each wanted frame."""
        width, height = self.size
        timeline = Timeline((Clip(StillContent(self.photo, self.camera), 0, FRAME_COUNT),))
        paths = {self.photo.digest: str(self.path)}
        with FrameSource(timeline, photo_paths=paths, width_px=width, height_px=height) as source:
            for frame in wanted:
                planes = [np.empty(size, np.uint8) for size in ((height, width), *[(height // 2, width // 2)] * 2)]
                source.draw(frame, planes)
                yield [plane.astype(np.float64) for plane in planes]

    def frame(self, wanted):
        return next(self.frames([wanted]))


def write(path, rgb, **options):
    """Save a picture; floats are rounded."""
    Image.fromarray(np.clip(np.rint(rgb), 0, 255).astype(np.uint8)).save(path, **options)
    return path


def to_bt709(rgb):
    """Y, Cb and Cr, limited range, unrounded. Source: ITU-R BT.709-6, items 3.2 to 3.5."""
    r, g, b = (np.asarray(rgb)[..., k].astype(np.float64) / 255 for k in range(3))
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    return 16 + 219 * y, 128 + 224 * (b - y) / 1.8556, 128 + 224 * (r - y) / 1.5748


def from_bt709(y, cb, cr):
    y, cb, cr = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    r, b = y + 1.5748 * cr, y + 1.8556 * cb
    return 255 * np.array([r, (y - 0.2126 * r - 0.0722 * b) / 0.7152, b])


def psnr(found, wanted):
    return 10 * np.log10(255**2 / np.mean((found - wanted) ** 2))


# Colour

CHART = [
    *[(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)],
    *[(value, value, value) for value in (1, 16, 50, 90, 128, 160, 200, 235, 254)],
    *[(224, 172, 105), (141, 85, 36), (255, 219, 172), (198, 134, 66)],
    *[(200, 30, 40), (20, 90, 40), (30, 50, 140), (120, 40, 130), (250, 200, 20), (0, 128, 128), (255, 128, 0)],
]
PATCH = 40
COLUMNS = 7


def chart(path, shrink=1):
    rows = len(CHART) // COLUMNS
    picture = np.array(CHART[: rows * COLUMNS]).reshape(rows, COLUMNS, 3)
    side = PATCH * shrink
    return write(path, picture.repeat(side, axis=0).repeat(side, axis=1))


@pytest.mark.parametrize("shrink", [1, 2, 3])
def test_every_colour_of_a_chart_is_bt709_limited_range(tmp_path, shrink):
    rows = len(CHART) // COLUMNS
    shot = Shot(chart(tmp_path / "chart.png", shrink), (PATCH * COLUMNS, PATCH * rows))
    for frame in (0, FRAME_COUNT - 1):
        y, u, v = shot.frame(frame)
        for index, colour in enumerate(CHART[: rows * COLUMNS]):
            top, left = index // COLUMNS * PATCH, index % COLUMNS * PATCH
            inner = np.s_[top + 12 : top + PATCH - 12, left + 12 : left + PATCH - 12]
            half = np.s_[top // 2 + 6 : (top + PATCH) // 2 - 6, left // 2 + 6 : (left + PATCH) // 2 - 6]
            found = [y[inner], u[half], v[half]]
            for plane, wanted in zip(found, to_bt709(colour), strict=True):
                assert np.abs(plane - wanted).max() <= 1, colour
            back = from_bt709(*(plane.mean() for plane in found))
            assert np.abs(back - colour).max() <= 2, colour


@pytest.mark.parametrize(("value", "level"), [(0, 16), (255, 235)])
def test_black_and_white_are_exact_up_to_the_edges_of_the_frame(tmp_path, value, level):
    shot = Shot(write(tmp_path / "flat.png", np.full((301, 403, 3), value)), (160, 90), end=(0.3, 0.3, 0.5, 0.5))
    for y, u, v in shot.frames((0, 11, FRAME_COUNT - 1)):
        assert np.all(y == level)
        assert np.all(u == 128)
        assert np.all(v == 128)


def test_a_grey_ramp_rises_in_even_steps_without_a_tint(tmp_path):
    ramp = np.repeat(np.arange(256), 4)[None, :, None].repeat(576, axis=0).repeat(3, axis=2)
    y, u, v = Shot(write(tmp_path / "ramp.png", ramp), (1024, 576)).frame(0)
    assert np.abs(y[100, 2::4] - to_bt709(ramp[100, 2::4])[0]).max() <= 1
    assert np.all(u == 128)
    assert np.all(v == 128)


# Place


def blobs(size, places, sigma):
    """Purple spots on green: each one's centre of gravity is known, and strong in all three planes.

    They are as sharp as a plane can hold: on a soft slope, planes of 8 bits cannot show a small shift.
    """
    width, height = size
    y, x = np.mgrid[:height, :width]
    weight = np.zeros((height, width))
    for centre_x, centre_y in places:
        weight += np.exp(-((x + 0.5 - centre_x) ** 2 + (y + 0.5 - centre_y) ** 2) / (2 * sigma**2))
    green, purple = np.array([90.0, 250.0, 90.0]), np.array([160.0, 0.0, 180.0])
    return green + weight[:, :, None] * (purple - green)


def centroid(plane, near, radius, *, first=(0.5, 0.5), pitch=1):
    """Centre of gravity, in luma px of the frame, of what differs from the plane's background near a place.

    Args:
        first: Where the plane's first sample lies, across and down, in luma px.
        pitch: Luma px between its samples.
    """
    rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]]
    x, y = first[0] + pitch * columns, first[1] + pitch * rows
    weight = np.abs(plane - np.median(plane)) * (np.hypot(x - near[0], y - near[1]) < radius)
    return np.array([np.sum(weight * x), np.sum(weight * y)]) / np.sum(weight)


CHROMA = {"first": (0.5, 1.0), "pitch": 2}
"""Left in the middle of two rows. Source: ITU-T H.264, figure E-1, chroma_sample_loc_type 0."""


def seen_at(view: Rect, place, size):
    """Where the camera says that a place in the photo is seen, in px of the frame."""
    x = (place[0] - view.x0) / (view.x1 - view.x0) * size[0]
    y = (place[1] - view.y0) / (view.y1 - view.y0) * size[1]
    return np.array([x, y])


def places_in(size, margin):
    """Five places off the pixel grid: near the corners, and in the middle."""
    width, height = size
    x0, y0, x1, y1 = margin + 0.3, margin + 0.7, width - margin - 0.4, height - margin - 0.6
    return [(x0, y0), (x1, y0), (x0, y1), (x1, y1), (width / 2 + 0.2, height / 2 - 0.3)]


SIZES = [
    pytest.param((320, 180), 1, id="full"),
    pytest.param((397, 223), 1, id="full-odd"),
    pytest.param((640, 360), 2, id="half"),
    pytest.param((641, 361), 2, id="half-odd"),
    pytest.param((643, 363), 2, id="half-odd-3"),
    pytest.param((1280, 720), 4, id="quarter"),
    pytest.param((1281, 721), 4, id="quarter-odd"),
    pytest.param((1283, 723), 4, id="quarter-odd-3"),
    pytest.param((1287, 725), 4, id="quarter-odd-7"),
]
"""Sizes of photos in a film of 320x180, and the reduction they are decoded at."""


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(("size", "reduction"), SIZES)
def test_a_marker_is_seen_where_the_camera_says(tmp_path, size, reduction, suffix):
    film = (320, 180)
    ratio = size[0] / film[0]
    places = places_in(size, 22 * ratio)
    picture = blobs(size, places, 2 * ratio)
    options = {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}
    shot = Shot(write(tmp_path / f"marks{suffix}", picture, **options), film)
    if suffix == ".jpg":
        decoded = decode_photo(shot.path, shot.photo, largest_reduction=ratio)
        assert decoded.reduction == reduction
        assert decoded.bgr.shape == (-(-size[1] // reduction), -(-size[0] // reduction), 3)
    for frame in (0, FRAME_COUNT - 1):
        y, u, v = shot.frame(frame)
        for place in places:
            wanted = seen_at(shot.view(frame), place, film)
            assert np.abs(centroid(y, wanted, 18) - wanted).max() < 0.05
            for plane in (u, v):
                assert np.abs(centroid(plane, wanted, 18, **CHROMA) - wanted).max() < 0.05


@pytest.mark.parametrize("size", [(640, 360), (1281, 721)])
def test_luma_and_chroma_of_an_object_stay_together_and_in_place_through_a_zoom(tmp_path, size):
    film = (320, 180)
    ratio = size[0] / film[0]
    place = (0.47 * size[0], 0.55 * size[1])
    path = write(tmp_path / "mark.png", blobs(size, [place], 2 * ratio))
    shot = Shot(path, film, end=(0.31, 0.37, 0.66, 0.72))
    steps = list(range(0, FRAME_COUNT, 3))
    for frame, (y, u, v) in zip(steps, shot.frames(steps), strict=True):
        wanted = seen_at(shot.view(frame), place, film)
        luma = centroid(y, wanted, 45)
        assert np.abs(luma - wanted).max() < 0.05
        for plane in (u, v):
            assert np.abs(centroid(plane, wanted, 45, **CHROMA) - luma).max() < 0.1


@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
@pytest.mark.parametrize("across", [True, False])
def test_an_edge_shows_that_chroma_is_sited_left_and_between_the_rows(tmp_path, ratio, across):
    width, height = 320 * ratio, 180 * ratio
    for edge in (86, 87, 88, 89):
        picture = np.full((height, width, 3), (90, 250, 90))
        picture[np.s_[:, edge * ratio :] if across else np.s_[edge * ratio :]] = (160, 0, 180)
        shot = Shot(write(tmp_path / f"edge{edge}.png", picture), (320, 180))
        planes = shot.frame(0)
        for plane, first, pitch in zip(planes, (0.5, *[0.5 if across else 1.0] * 2), (1, 2, 2), strict=True):
            line = plane.mean(axis=0 if across else 1)
            before, after = line[4], line[-4]
            samples_before = np.sum((line - after) / (before - after))
            assert abs(first + pitch * (samples_before - 0.5) - edge) < 0.05


# Sharpness


def kernel_taps(positions, size, step):
    """Rows and weights of Catmull-Rom, widened by the step where that is above 1."""
    scale = max(1.0, step)
    half = int(np.ceil(2 * scale))
    rows = np.floor(positions).astype(int) + np.arange(1 - half, half + 1)[:, None]
    d = np.abs(rows - positions) / scale
    weights = np.where(d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0))
    return np.clip(rows, 0, size - 1), weights / weights.sum(axis=0)


def resample_exactly(plane, x, y, step):
    rows, weights = kernel_taps(y, plane.shape[0], step)
    down = sum(plane[at] * weight[:, None] for at, weight in zip(rows, weights, strict=True))
    columns, weights = kernel_taps(x, plane.shape[1], step)
    return np.clip(sum(down[:, at] * weight for at, weight in zip(columns, weights, strict=True)), 0, 255)


def exact_frame(rgb, view, size):
    """The frame made in float64 and in one step from all pixels of the photo."""
    width, height = size
    step = (view.x1 - view.x0) / width
    luma, *chroma = to_bt709(rgb)
    columns, rows = np.arange(width // 2), np.arange(height // 2)
    chroma_x, chroma_y = view.x0 + (2 * columns + 0.5) * step - 0.5, view.y0 + (2 * rows + 1) * step - 0.5
    return [
        resample_exactly(
            luma,
            view.x0 + (np.arange(width) + 0.5) * step - 0.5,
            view.y0 + (np.arange(height) + 0.5) * step - 0.5,
            step,
        ),
        *(resample_exactly(plane, chroma_x, chroma_y, 2 * step) for plane in chroma),
    ]


def natural(size, seed=5):
    """A picture whose detail falls with its fineness as that of photos does."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((size[1], size[0], 3), np.float32)
    for scale in (4, 8, 16, 32, 64, 128, 256, 512):
        noise = rng.random((max(2, size[1] * scale // 1024), max(2, size[0] * scale // 1024), 3), np.float32) - 0.5
        picture += cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC) / scale**0.8
    return cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]


MOVES = [
    pytest.param((640, 361), WHOLE, (0.15, 0.15, 0.85, 0.85), id="zoom-1.4"),
    pytest.param((1283, 721), WHOLE, (0.15, 0.15, 0.85, 0.85), id="zoom-1.4-shrunk"),
    pytest.param((1283, 721), (0.1, 0.1, 0.6, 0.6), (0.4, 0.3, 0.9, 0.8), id="pan"),
    pytest.param((960, 540), WHOLE, WHOLE, id="still"),
]


@pytest.mark.parametrize(("size", "start", "end"), MOVES)
def test_the_frames_of_a_photo_are_within_50_db_of_exact_ones(tmp_path, size, start, end):
    picture = natural(size)
    shot = Shot(write(tmp_path / "photo.png", picture), (320, 180), start, end)
    wanted = (0, 7, FRAME_COUNT - 1)
    for frame, planes in zip(wanted, shot.frames(wanted), strict=True):
        for found, exact in zip(planes, exact_frame(picture, shot.view(frame), shot.size), strict=True):
            assert psnr(found, exact) > 50


@pytest.mark.parametrize("reduction", [2, 4])
def test_a_jpeg_made_smaller_by_its_decoder_looks_like_one_made_smaller_by_the_kernel(tmp_path, reduction):
    # The DCT cuts off frequencies more sharply than the kernel: this bound is of looks, not of arithmetic.
    size = (320 * reduction + 3, 180 * reduction + 1)
    path = write(tmp_path / "photo.jpg", natural(size), quality=95, subsampling=0)
    shot = Shot(path, (320, 180))
    picture = np.asarray(Image.open(path))
    for found, exact in zip(shot.frame(0), exact_frame(picture, shot.view(0), shot.size), strict=True):
        assert psnr(found, exact) > 45


def test_hard_edges_stay_within_36_db_of_exact_ones(tmp_path):
    # The worst case: lettering. Its edges are filtered twice, once when the planes are prepared.
    picture = natural((1283, 721))
    for row in range(12):
        cv2.putText(picture, "Fanreel 0123456789" * 2, (5, 50 + 60 * row), 0, 1, (255, 255, 255), 2)
    shot = Shot(write(tmp_path / "letters.png", picture), (320, 180), end=(0.15, 0.15, 0.85, 0.85))
    wanted = (0, 12, FRAME_COUNT - 1)
    for frame, planes in zip(wanted, shot.frames(wanted), strict=True):
        for found, exact in zip(planes, exact_frame(picture, shot.view(frame), shot.size), strict=True):
            assert psnr(found, exact) > 36


def zone_plate(width, height):
    """Rings whose frequency grows with the distance from the middle: half a cycle a px at 0.55 of the width."""
    y, x = np.mgrid[:height, :width]
    x, y = x - width / 2 + 0.5, y - height / 2 + 0.5
    square = x * x + y * y
    rings = 127.5 + 100 * np.cos(np.pi * square / (1.1 * width))
    return np.repeat(rings[:, :, None], 3, axis=2), np.sqrt(square) / (1.1 * width)


def test_a_zone_plate_does_not_alias_at_the_wide_end_of_a_deep_zoom(tmp_path):
    picture, frequency = zone_plate(800, 450)
    path = write(tmp_path / "zone.png", picture)
    shot = Shot(path, (320, 180), end=(0.4, 0.4, 0.6, 0.6))
    assert prepare_planes(path, shot.photo, shot.camera, width_px=320).scale == 1
    frames = (0, 4, 8, 12, 16)
    for frame, (y, _, _) in zip(frames, shot.frames(frames), strict=True):
        view = shot.view(frame)
        step = (view.x1 - view.x0) / 320
        exact = exact_frame(np.rint(picture), view, shot.size)[0]
        assert psnr(y, exact) > 50
        beyond = cv2.resize(frequency, (320, 180), interpolation=cv2.INTER_LINEAR) * step > 0.75
        if frame == 0:
            assert step == 2.5
            assert beyond.mean() > 0.2
            assert y[beyond].std() < 8, "rings finer than the film's pixels are seen as rings"


def test_the_wide_view_of_a_zone_plate_would_alias_with_four_taps(tmp_path):
    # Shows that the test above can fail: the same view through an unwidened kernel is full of false rings.
    picture, frequency = zone_plate(800, 450)
    at = (np.arange(320) + 0.5) * 2.5 - 0.5
    aliased = resample_exactly(to_bt709(picture)[0], at, at[:180], 1.0)
    beyond = cv2.resize(frequency, (320, 180), interpolation=cv2.INTER_LINEAR) * 2.5 > 0.75
    assert aliased[beyond].std() > 40


# Shapes


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 5), (2000, 100), (100, 2000)])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_photo_of_any_shape_fills_the_frame(tmp_path, size, suffix):
    path = write(tmp_path / f"odd{suffix}", np.full((size[1], size[0], 3), (200, 120, 40)))
    shot = Shot(path, (64, 64))
    wanted = to_bt709((200, 120, 40))
    for planes in shot.frames((0, FRAME_COUNT - 1)):
        for plane, level in zip(planes, wanted, strict=True):
            assert np.abs(plane - level).max() <= 2


def test_planes_are_a_tenth_larger_than_the_nearest_view_needs(tmp_path):
    path = Path(tmp_path / "large.jpg")
    path.write_bytes(_jpeg(natural((2000, 1125))))
    shot = Shot(path, (320, 180), end=(0.2, 0.2, 0.8, 0.8))
    planes = prepare_planes(path, shot.photo, shot.camera, width_px=320)
    scale = 3.75 / 1.1
    assert planes.scale == pytest.approx(scale)
    assert planes.planes[0].samples.shape == (round(1125 / scale), round(2000 / scale))
    assert planes.planes[1].samples.shape == (-(-round(1125 / scale) // 2), -(-round(2000 / scale) // 2))


def test_a_pan_over_a_photo_as_wide_as_the_film_does_not_read_at_one_phase(tmp_path):
    path = tmp_path / "same.jpg"
    path.write_bytes(_jpeg(natural((320, 400))))
    scales = [
        prepare_planes(path, shot.photo, shot.camera, width_px=320).scale
        for shot in (
            Shot(path, (320, 180), (0, 0, 1, 0.45), (0, 0.55, 1, 1)),
            Shot(path, (320, 180), (0, 0, 1, 0.45), (0.2, 0.2, 0.6, 0.4)),
        )
    ]
    assert scales == [pytest.approx(1 / 1.1), 1.0]


def _jpeg(rgb):
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=90)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(700, 1000), (703, 1001), (64, 129), (31, 257), (1, 1), (500, 3), (50, 4000)])
@pytest.mark.parametrize("step", [0.5, 1.0, 1.37, 2.7, 41.0])
def test_planes_made_in_bands_are_those_made_whole(monkeypatch, size, step):
    bgr = np.random.default_rng(size[0]).integers(0, 256, (size[1], size[0], 3), np.uint8)
    banded = planes_module._scaled_planes(DecodedPhoto(bgr, 1), step)
    monkeypatch.setattr(planes_module, "BAND_ROWS", 10**6)
    whole = planes_module._scaled_planes(DecodedPhoto(bgr, 1), step)
    for one, other in zip(banded, whole, strict=True):
        assert np.array_equal(one.bordered, other.bordered)
