"""One clip of the film as MoviePy's users make it; runs in an environment of its own, which has no fanreel.

Its one argument is a JSON file: the order that `benchmarks/against_moviepy.py` writes.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from moviepy import CompositeVideoClip, ImageClip


def main(order: dict) -> None:
    """Write the film that `order` asks for; print how long it took, imports apart."""
    started_at = time.monotonic()
    width, height, fps = order["width_px"], order["height_px"], order["fps"]
    photo = ImageClip(order["photo"])
    cover = max(width / photo.w, height / photo.h)
    last = max(1, order["frame_count"] - 1)
    shrink = 1 - 1 / order["zoom"]

    def zoom(seconds: float) -> float:
        part = min(1.0, seconds * fps / last)
        return 1 / (1 - shrink * part * part * (3 - 2 * part))

    # Resized straight from the photo, once a frame: resizing a resized picture would lose sharpness twice.
    moving = photo.with_duration(order["frame_count"] / fps).resized(lambda seconds: cover * zoom(seconds))
    film = CompositeVideoClip([moving.with_position("center")], size=(width, height))
    film.write_videofile(
        order["film"],
        fps=fps,
        codec="libx264",
        preset=order["preset"],
        audio=False,
        threads=order["threads"],
        ffmpeg_params=order["ffmpeg_arguments"],
        logger=None,
    )
    print(json.dumps({"wall_seconds": time.monotonic() - started_at}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
