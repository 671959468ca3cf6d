"""Where the camera of a decoded film really is: corners tracked from frame to frame, scale and translation fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from fanreel.plan.camera import Rect

__all__ = ["Steps", "decoded_luma", "plan_steps", "shake_px", "track_steps"]

CORNERS = 300
BLUR_PX = 1.0
"""The tracker interpolates linearly. Of detail at a pixel's own scale that is a shift; of what is left after this
blur it is none: a step of 0.5 px is measured to 0.003 px, where it was 0.06 px without."""

LARGEST_MISFIT_PX = 0.25
"""A corner this far from the fitted step is left out: it was mistaken for another one, or left the picture."""

_SEARCH = {
    "winSize": (25, 25),
    "maxLevel": 2,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-4),
}


@dataclass(frozen=True)
class Steps:
    """How a picture moves from each frame to the next: a point p goes to `scale * p + shift`.

    Attributes:
        scales: (steps,).
        shifts: (steps, 2), px of the film.
        size: Width and height of the film.
    """

    scales: np.ndarray
    shifts: np.ndarray
    size: tuple[int, int]

    def moves_of(self, place: tuple[float, float]) -> np.ndarray:
        """Return how far what is at `place` (fractions of the frame) moves in each step: (steps, 2), px."""
        point = np.array(place) * self.size
        return (self.scales[:, None] - 1) * point + self.shifts


def decoded_luma(film: Path, frames: range) -> Iterator[np.ndarray]:
    """Yield the luma planes of these frames of a film, uint8 (height, width)."""
    with av.open(str(film)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= frames.stop:
                return
            if number in frames:
                plane = frame.planes[0]
                rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                yield rows[:, : plane.width].copy()


def plan_steps(views: Sequence[Rect], size: tuple[int, int]) -> Steps:
    """Return the steps that a film makes whose frames show exactly these views."""
    edges = np.array([(view.x0, view.y0, view.x1, view.y1) for view in views])
    corner, extent = edges[:, :2], edges[:, 2:] - edges[:, :2]
    scales = extent[:-1, 0] / extent[1:, 0]
    shifts = (corner[:-1] - corner[1:]) * size / extent[1:]
    return Steps(scales, shifts, size)


def track_steps(lumas: Iterator[np.ndarray]) -> Steps:
    """Return the steps seen in the planes of consecutive frames."""
    before = _blurred(next(lumas))
    size = (before.shape[1], before.shape[0])
    found = []
    for after in map(_blurred, lumas):
        found.append(_fitted_step(*_tracked_corners(before, after)))
        before = after
    scales, shifts_x, shifts_y = np.array(found).T
    return Steps(scales, np.stack([shifts_x, shifts_y], axis=1), size)


def shake_px(measured: Steps, planned: Steps, place: tuple[float, float] = (0.5, 0.5)) -> float:
    """Return the RMS of the second difference of the path of `place` beyond the plan's own, px per frame squared."""
    beyond = measured.moves_of(place) - planned.moves_of(place)
    return float(np.sqrt(np.mean(np.sum(np.diff(beyond, axis=0) ** 2, axis=1))))


def _blurred(luma: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(luma, (0, 0), BLUR_PX)


def _tracked_corners(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places of corners, (corners, 2), in px from the upper left edge of both frames."""
    corners = cv2.goodFeaturesToTrack(before, CORNERS, qualityLevel=0.005, minDistance=12, blockSize=7)
    cv2.cornerSubPix(before, corners, (5, 5), (-1, -1), _SEARCH["criteria"])
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, **_SEARCH)  # type: ignore[call-overload]
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **_SEARCH)  # type: ignore[call-overload]
    sound = (found & found_back).ravel() == 1
    sound &= np.abs(back - corners).max(axis=(1, 2)) < LARGEST_MISFIT_PX
    return corners[sound, 0] + 0.5, there[sound, 0] + 0.5


def _fitted_step(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Return scale and shift that carry `first` into `second`, by least squares without the outliers."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    kept = np.ones(len(first), bool)
    for _ in range(4):
        if np.count_nonzero(kept) < 30:
            raise ValueError(f"only {np.count_nonzero(kept)} corners agree on a step; the picture has too few")
        ones, zeros = np.ones(np.count_nonzero(kept)), np.zeros(np.count_nonzero(kept))
        rows = [np.stack([first[kept, 0], ones, zeros], axis=1), np.stack([first[kept, 1], zeros, ones], axis=1)]
        solution = np.linalg.lstsq(np.concatenate(rows), np.concatenate(second[kept].T), rcond=None)[0]
        misfit = np.hypot(*(first * solution[0] + solution[1:] - second).T)
        kept = misfit < min(LARGEST_MISFIT_PX, max(3 * np.median(misfit[kept]), 0.02))
    return tuple(solution)
