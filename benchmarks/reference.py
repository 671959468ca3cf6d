"""The move as it should be: frames in double precision from the full-size photo, and how near a film comes.

Bicubic (Catmull-Rom), widened by the step where the photo is the larger side, as `fanreel.draw.resample` defines
its kernel; but with neither prepared planes nor integers, and written apart from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from fanreel.plan.camera import camera_at
from fanreel.plan.film import FilmPlan

__all__ = ["luma_psnr_db", "reference_luma", "sample_frames"]

SAMPLED_CLIPS = (0, 2, 4)
LUMA_WEIGHTS_BGR = (0.0722, 0.7152, 0.2126)  # Source: ITU-R BT.709-6, 3.2


def sample_frames(plan: FilmPlan, *, clips: Sequence[int] = SAMPLED_CLIPS) -> list[int]:
    """Return the frames that are compared: a third and two thirds into some clips."""
    chosen = [plan.timeline.clips[index] for index in clips if index < len(plan.timeline.clips)]
    return [clip.start_frame + clip.frame_count * third // 3 for clip in chosen for third in (1, 2)]


def luma_psnr_db(film: Path, plan: FilmPlan, frames: Sequence[int]) -> float:
    """Return the PSNR of a film's decoded luma against the reference, all sampled frames taken together."""
    shown = decoded_luma(film, frames)
    errors = [np.mean((shown[frame] - reference_luma(plan, frame)) ** 2) for frame in frames]
    return psnr_db(float(np.mean(errors)))


def psnr_db(mean_square_error: float) -> float:
    """Return the peak signal-to-noise ratio of 8 bits."""
    return math.inf if mean_square_error == 0 else 10 * math.log10(255**2 / mean_square_error)


def reference_luma(plan: FilmPlan, frame: int) -> np.ndarray:
    """Return the luma of a frame, float64 (height, width), 16 to 235, not rounded."""
    (clip,) = plan.timeline.clips_between(frame, frame + 1)
    view = camera_at(clip.content.path, frame=frame - clip.start_frame, frame_count=clip.frame_count)
    bgr = cv2.imread(plan.photo_paths[clip.content.photo.digest], cv2.IMREAD_COLOR)
    if bgr is None:
        raise RuntimeError(f"{plan.photo_paths[clip.content.photo.digest]} does not decode")
    luma = 16 + 219 / 255 * (bgr.astype(np.float64) @ np.array(LUMA_WEIGHTS_BGR))
    size = plan.encoding.width_px, plan.encoding.height_px
    rows = _resampled(luma, view.y0, (view.y1 - view.y0) / size[1], size[1])
    return np.clip(_resampled(rows.T, view.x0, (view.x1 - view.x0) / size[0], size[0]).T, 16, 235)


def _resampled(values: np.ndarray, start: float, step: float, count: int) -> np.ndarray:
    """Return `count` rows of `values`, the first beginning at the edge `start` and each `step` rows high."""
    wide = max(1.0, step)
    centres = start + (np.arange(count) + 0.5) * step - 0.5
    first = np.floor(centres - 2 * wide).astype(int) + 1
    total, weights = np.zeros((count, values.shape[1])), np.zeros(count)
    for tap in range(math.ceil(4 * wide) + 1):
        weight = catmull_rom((first + tap - centres) / wide)
        total += weight[:, None] * values[np.clip(first + tap, 0, len(values) - 1)]
        weights += weight
    return total / weights[:, None]


def catmull_rom(distance: np.ndarray) -> np.ndarray:
    """Return the kernel's weight at each distance."""
    x = np.abs(distance)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def decoded_luma(film: Path, frames: Sequence[int]) -> dict[int, np.ndarray]:
    """Return the luma planes of these frames as float64."""
    wanted, found = set(frames), {}
    with av.open(str(film)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                plane = frame.planes[0]
                rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)  # type: ignore[arg-type]
                found[number] = rows[:, : plane.width].astype(np.float64)
            if len(found) == len(wanted):
                return found
    raise RuntimeError(f"{film} has no frames {sorted(wanted - found.keys())}")
