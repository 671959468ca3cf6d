"""Photos that do not fill the frame: where they end, what lies beside them, and that their edges move calmly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.reference import bt709, psnr_db, resampled

from fanreel.draw.backdrop import BRIGHTNESS, GRID_CELLS, make_backdrop
from fanreel.draw.coverage import FULL_COVERAGE, covers_of
from fanreel.draw.frames import FrameSource
from fanreel.draw.planes import PhotoPlanes, plane_maps, prepare_planes
from fanreel.job.slideshow import Fit, Move
from fanreel.photos.photo import read_photo
from fanreel.plan.camera import Rect, camera_at, plan_views
from fanreel.plan.content import BlurredCopy, ColourContent, Photo, StillContent
from fanreel.plan.fit import Look, Shot, plan_look
from fanreel.plan.timeline import Clip, Timeline

FILM = (320, 180)
FRAME_COUNT = 30
BLUE = ColourContent((32, 64, 160))
BLUE_SAMPLES = [round(float(value)) for value in bt709(np.array(BLUE.rgb))]
LEAST_PSNR_DB = 50.0
LARGEST_ERROR = 2.0
PITCHES = ((0.5, 1, 0.5, 1), (0.5, 2, 1.0, 2), (0.5, 2, 1.0, 2))
"""Of Y, U and V: where the first sample lies across, the distance to the next one, and the same down, in luma px."""


class WholePhoto:
    """A photo that is shown whole, drawn as the encoder is fed."""

    def __init__(
        self, path: Path, rgb: np.ndarray, *, move: Move = Move.ZOOM_IN, backdrop: ColourContent | BlurredCopy = BLUE
    ) -> None:
        Image.fromarray(rgb).save(path, compress_level=1)
        self.path, self.photo = path, read_photo(path, max_megapixels=100)
        shot = Shot(self.photo.size_px, FILM, zoom=1.3, seconds=1, digest=self.photo.digest)
        self.content = StillContent(self.photo, plan_look(Look(Fit.BLUR, move), shot), backdrop)

    def view(self, frame: int) -> Rect:
        return camera_at(self.content.path, frame=frame, frame_count=FRAME_COUNT)

    def prepared(self) -> PhotoPlanes:
        return prepare_planes(self.path, self.photo, self.content.path, width_px=FILM[0])

    def drawn(self, frames: Sequence[int]) -> Iterator[list[np.ndarray]]:
        """Yield Y, U and V of each frame, drawn over what a codec has left in its planes."""
        timeline = Timeline((Clip(self.content, 0, FRAME_COUNT),))
        words = {"photo_paths": {self.photo.digest: str(self.path)}, "width_px": FILM[0], "height_px": FILM[1]}
        with FrameSource(timeline, **words) as source:
            for frame in frames:
                planes = [np.full(shape, 0xA5, np.uint8) for shape in ((180, 320), (90, 160), (90, 160))]
                source.draw(frame, planes)
                yield planes


def scenery(width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(width)
    coarse = rng.random((max(2, height // 40), max(2, width // 40), 3))
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 200 + 20
    return np.clip(np.rint(smooth + rng.normal(0, 3, smooth.shape)), 0, 255).astype(np.uint8)


# Against float64


def exact_cover(first: float, pitch: int, size_px: int, edges: tuple[float, float]) -> np.ndarray:
    """Return how much of the square around each sample lies between two edges, as far as it is in the frame."""
    shares = []
    for sample in range(size_px // pitch):
        near = max(first + pitch * sample - pitch / 2, 0)
        far = min(first + pitch * sample + pitch / 2, size_px)
        shares.append(max(0.0, min(far, edges[1]) - max(near, edges[0])) / (far - near))
    return np.array(shares)


def exact_covers(view: Rect, photo: Photo, pitches: tuple[float, int, float, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the covers of rows and of columns of one plane."""
    first_x, pitch_x, first_y, pitch_y = pitches
    step = view.width / FILM[0]
    across = (-view.x0 / step, (photo.width_px - view.x0) / step)
    down = (-view.y0 / step, (photo.height_px - view.y0) / step)
    return exact_cover(first_y, pitch_y, FILM[1], down), exact_cover(first_x, pitch_x, FILM[0], across)


@pytest.mark.parametrize("size", [(300, 400), (1000, 200), (7, 3000), (3000, 7), (400, 300)])
@pytest.mark.parametrize("move", [Move.ZOOM_IN, Move.PAN_RIGHT, Move.PAN_UP])
@pytest.mark.parametrize("backdrop", [BLUE, BlurredCopy()], ids=["colour", "blur"])
def test_frames_are_those_of_float64(
    tmp_path: Path, size: tuple[int, int], move: Move, backdrop: ColourContent | BlurredCopy
):
    shown = WholePhoto(tmp_path / "photo.png", scenery(*size), move=move, backdrop=backdrop)
    prepared, frames = shown.prepared(), (0, 9, 14, 29)
    far_from_the_photo = [behind.astype(np.float64) for behind in backdrop_alone(shown, prepared)]
    for frame, planes in zip(frames, shown.drawn(frames), strict=True):
        view = shown.view(frame)
        maps = plane_maps(view, scale=prepared.scale, width_px=FILM[0], height_px=FILM[1])
        for found, source, (x, y), pitches, behind in zip(
            planes, prepared.planes, maps, PITCHES, far_from_the_photo, strict=True
        ):
            height, width = found.shape
            left, top = (axis.origin - 0.5 * axis.step + 0.5 for axis in (x, y))
            photo = resampled(
                source.samples, Rect(left, top, left + width * x.step, top + height * y.step), (width, height)
            )
            rows, columns = exact_covers(view, shown.photo, pitches)
            cover = rows[:, None] * columns
            error = found - (np.clip(photo, 0, 255) * cover + behind * (1 - cover))
            assert psnr_db(error) >= LEAST_PSNR_DB
            assert np.abs(error).max() <= LARGEST_ERROR


def backdrop_alone(shown: WholePhoto, prepared: PhotoPlanes) -> Sequence[np.ndarray]:
    return make_backdrop(shown.content, prepared, width_px=FILM[0], height_px=FILM[1])


def test_a_colour_is_the_same_as_a_colour_of_its_own(tmp_path: Path):
    for planes in WholePhoto(tmp_path / "photo.png", scenery(300, 400)).drawn([0, 29]):
        for plane, sample in zip(planes, BLUE_SAMPLES, strict=True):
            assert set(plane[:, :30].flat) == {sample}
            assert set(plane[:, -30:].flat) == {sample}


@pytest.mark.parametrize("size", [(300, 400), (1000, 200)])
def test_a_blurred_copy_is_the_photo_s_middle_enlarged_smoothed_and_darkened(tmp_path: Path, size: tuple[int, int]):
    shown = WholePhoto(tmp_path / "photo.png", scenery(*size), backdrop=BlurredCopy())
    prepared = shown.prepared()
    width, height = (size[0], size[0] * 9 / 16) if size[0] < size[1] * 16 / 9 else (size[1] * 16 / 9, size[1])
    left, top = (size[0] - width) / 2 / prepared.scale, (size[1] - height) / 2 / prepared.scale
    view = Rect(left, top, left + width / prepared.scale, top + height / prepared.scale)
    large = resampled(prepared.planes[0].samples, view, FILM)
    # Three boxes of three cells and a cubic B-spline: a variance of 3 * 2/3 + 1/3 cells.
    sigma = FILM[1] / GRID_CELLS * (7 / 3) ** 0.5
    smooth = cv2.GaussianBlur(large, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    wanted = 16 + (smooth - 16) * BRIGHTNESS / 256
    error = backdrop_alone(shown, prepared)[0] - wanted
    assert np.abs(error.mean()) < 0.5
    assert np.sqrt(np.mean(error**2)) < 1.5


def test_a_blurred_copy_has_neither_blocks_nor_steps(tmp_path: Path):
    ramp = np.linspace(30, 220, 900)[None, :, None].repeat(500, axis=0).repeat(3, axis=2)
    ramp += np.linspace(-20, 20, 500)[:, None, None]
    shown = WholePhoto(tmp_path / "ramp.png", np.rint(ramp).astype(np.uint8)[:, :300], backdrop=BlurredCopy())
    (y, *_) = backdrop_alone(shown, shown.prepared())
    for axis in (0, 1):
        steps = np.diff(y.astype(int), axis=axis)
        assert steps.min() >= 0
        assert steps.max() <= 1


# The edges


def test_an_edge_lies_where_the_view_says_and_moves_calmly(tmp_path: Path):
    white = np.full((400, 300, 3), 255, np.uint8)
    black = ColourContent((0, 0, 0))
    for move in (Move.ZOOM_IN, Move.PAN_RIGHT, Move.PAN_UP):
        shown = WholePhoto(tmp_path / "white.png", white, move=move, backdrop=black)
        found, wanted = [], []
        for frame, (y, *_) in enumerate(shown.drawn(range(FRAME_COUNT))):
            view = shown.view(frame)
            step = view.width / FILM[0]
            light = (y.astype(np.float64) - 16) / (235 - 16)
            # Left of the middle, the light that is missing is the way from the frame's edge to the photo's.
            found.append([160 - light[90, :160].sum(), light[90, 160:].sum(), 90 - light[:90, 160].sum()])
            wanted.append([-view.x0 / step, (300 - view.x0) / step - 160, max(0.0, -view.y0 / step)])
        off = np.array(found) - wanted
        assert np.abs(off).max() < 0.01
        assert np.abs(np.diff(off, n=2, axis=0)).max() < 0.02


def test_a_photo_as_high_as_the_frame_covers_its_first_and_last_rows_wholly():
    photo = Photo("0" * 64, 3000, 4001)
    shot = Shot(photo.size_px, (1920, 1080), zoom=1.3, seconds=1, digest=photo.digest)
    view = plan_look(Look(Fit.BLUR, Move.STILL), shot).start
    for cover in covers_of(view, photo, width_px=1920, height_px=1080):
        assert set(cover.rows) == {FULL_COVERAGE}
        assert {0, FULL_COVERAGE} <= set(cover.columns)


def test_a_photo_as_wide_as_the_frame_covers_its_first_and_last_columns_wholly():
    photo = Photo("0" * 64, 4999, 1000)
    shot = Shot(photo.size_px, (1920, 1080), zoom=1.3, seconds=1, digest=photo.digest)
    view = plan_look(Look(Fit.BLUR, Move.STILL), shot).start
    for cover in covers_of(view, photo, width_px=1920, height_px=1080):
        assert set(cover.columns) == {FULL_COVERAGE}


def test_a_view_may_go_from_beyond_the_photo_into_it(tmp_path: Path):
    shown = WholePhoto(tmp_path / "photo.png", scenery(300, 400))
    words = {"photo_px": (300, 400), "film_px": FILM, "is_whole": True}
    path = plan_views((0, 0, 1, 1), (0.4, 0.4, 0.6, 0.5), **words)
    shown.content = StillContent(shown.photo, path, BLUE)
    first, last = shown.drawn([0, FRAME_COUNT - 1])
    assert set(first[0][:, :80].flat) == {BLUE_SAMPLES[0]}
    inside = StillContent(shown.photo, plan_views((0.4, 0.4, 0.6, 0.5), (0.4, 0.4, 0.6, 0.5), **words))
    shown.content = inside
    (alone,) = shown.drawn([0])
    assert psnr_db(last[0].astype(np.float64) - alone[0]) > 40
