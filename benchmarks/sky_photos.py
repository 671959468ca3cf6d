"""Photos of dark, smooth skies, where an encoder that drops the last codes of a gradient leaves bands.

    .venv/bin/python -m benchmarks.sky_photos .bench/skies

Each is a gradient of few codes over many rows, with a sensor's noise of one code, under which no step can be seen.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT = 4000, 2250
NOISE_CODES = 1.0
# Blue, green and red at the zenith and at the horizon.
SKIES = {
    "night": ((18, 10, 8), (46, 30, 24)),
    "dusk": ((52, 24, 20), (70, 62, 92)),
    "blue-hour": ((60, 34, 22), (120, 92, 70)),
    "fog": ((70, 70, 70), (104, 102, 100)),
}


def write_sky_photos(folder: Path) -> list[Path]:
    """Draw the photos into `folder`, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(folder / f"{name}.png", ends, seed) for seed, (name, ends) in enumerate(SKIES.items())]


def _write(path: Path, ends: tuple[tuple[int, int, int], tuple[int, int, int]], seed: int) -> Path:
    dice = np.random.default_rng(seed)
    down = np.linspace(0.0, 1.0, HEIGHT)[:, None, None]
    across = 0.06 * np.sin(np.linspace(0.0, 3.0, WIDTH))[None, :, None]
    top, bottom = (np.array(end, np.float64) for end in ends)
    sky = top + (bottom - top) * np.clip(down**1.5 + across, 0.0, 1.0)
    hills = HEIGHT * (0.86 + 0.05 * np.sin(np.linspace(0.0, 9.0, WIDTH)))
    sky = np.where(np.arange(HEIGHT)[:, None, None] > hills[None, :, None], top * 0.4, sky)
    for x, y in zip(dice.integers(0, WIDTH, 150), dice.integers(0, HEIGHT // 2, 150), strict=True):
        sky[y : y + 3, x : x + 3] += 90
    sky += dice.normal(0.0, NOISE_CODES, (HEIGHT, WIDTH, 1))
    cv2.imwrite(str(path), np.clip(np.rint(sky), 0, 255).astype(np.uint8))
    return path


if __name__ == "__main__":
    print(*write_sky_photos(Path(sys.argv[1])), sep="\n")
