"""Frames made a second by one core, against `cv2.warpAffine` on the same planes in the same run.

    .venv/bin/python benchmarks/resample.py

Prints one line a step: milliseconds for the three planes of a 1920x1080 4:2:0 frame, the best of several
rounds taken in turns, so that a busy machine slows all contestants alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np

from fanreel.draw.resample import AxisMap, BorderedPlane, Resampler, warm

WIDTH, HEIGHT = 1920, 1080
ROUNDS, FRAMES = 7, 12
STEPS = (0.77, 1.0, 1.15, 1.3, 2.0)


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    warm()
    print("step   resampler      warpAffine linear     warpAffine cubic")
    for step in STEPS:
        contestants = _contestants(step)
        best = dict.fromkeys(contestants, float("inf"))
        for _ in range(ROUNDS):
            for name, draw in contestants.items():
                best[name] = min(best[name], _seconds_a_frame(draw))
        ours = best["ours"]
        print(
            f"{step:4.2f}  {ours * 1e3:5.2f} ms {1 / ours:5.0f} fps"
            + "".join(f"  {best[name] * 1e3:6.2f} ms ({best[name] / ours:4.1f} x)" for name in ("linear", "cubic"))
        )


def _contestants(step: float) -> dict[str, Callable[[float], None]]:
    rng = np.random.default_rng(1)
    sizes = [(HEIGHT, WIDTH), (HEIGHT // 2, WIDTH // 2), (HEIGHT // 2, WIDTH // 2)]
    upright = [rng.integers(0, 256, (round(h * step) + 40, round(w * step) + 40), np.uint8) for h, w in sizes]
    bordered = [BorderedPlane.copy_of(plane) for plane in upright]
    outs = [np.empty(size, np.uint8) for size in sizes]
    resamplers = [Resampler(height=h, width=w) for h, w in sizes]

    def ours(shift: float) -> None:
        for resampler, plane, out in zip(resamplers, bordered, outs, strict=True):
            resampler.resample(plane, x=AxisMap(shift, step), y=AxisMap(shift / 2, step), out=out)

    def warp(shift: float, flags: int) -> None:
        matrix = np.array([[step, 0, shift], [0, step, shift / 2]])
        for plane, out in zip(upright, outs, strict=True):
            cv2.warpAffine(plane, matrix, out.shape[::-1], dst=out, flags=flags | cv2.WARP_INVERSE_MAP)

    return {
        "ours": ours,
        "linear": lambda shift: warp(shift, cv2.INTER_LINEAR),
        "cubic": lambda shift: warp(shift, cv2.INTER_CUBIC),
    }


def _seconds_a_frame(draw: Callable[[float], None]) -> float:
    started_at = time.perf_counter()
    for frame in range(FRAMES):
        draw(frame * 0.37)
    return (time.perf_counter() - started_at) / FRAMES


if __name__ == "__main__":
    main()
