"""A calibration as a picture: frames a second over sessions, a line a device, the knee ringed."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from fanreel.host.calibration import Calibration, DeviceCalibration

__all__ = ["draw_calibration"]

SIZE_PX = (960, 540)
SCALE = 2
"""Drawn larger and made smaller: Pillow's lines have hard edges."""

LEFT, TOP, RIGHT, BOTTOM = 84, 64, 32, 64
LABELS_A_ROW, LABEL_WIDTH, LABEL_HEIGHT = 3, 290, 18
INK, PALE, PAPER = "#1f2933", "#d9dee4", "#ffffff"
COLOURS = ("#0b6e4f", "#b5431f", "#2b5fa8", "#8a5a9e", "#a07b12", "#3a8f9c")
TICKS = 5


@dataclass(frozen=True, slots=True)
class _Axes:
    """From sessions and frames a second to pixels of the large drawing."""

    most_sessions: int
    top_fps: float
    top_px: int

    def place(self, sessions: float, fps: float) -> tuple[float, float]:
        width, height = SIZE_PX[0] - LEFT - RIGHT, SIZE_PX[1] - self.top_px - BOTTOM
        x = LEFT + width * (sessions - 0.5) / self.most_sessions
        y = self.top_px + height * (1 - fps / self.top_fps)
        return SCALE * x, SCALE * y


def draw_calibration(calibration: Calibration) -> bytes:
    """Return a PNG of 960 x 540 that shows every device's curve."""
    points = [point for device in calibration.devices for point in device.curve]
    step = _round_step(max((point.fps for point in points), default=1.0) / TICKS)
    most = max((point.sessions for point in points), default=1)
    highest = max((point.fps for point in points), default=1.0)
    rows = min(math.ceil(len(calibration.devices) / LABELS_A_ROW), 12)
    axes = _Axes(most, step * (math.floor(highest / step) + 1), TOP + LABEL_HEIGHT * max(0, rows - 1))
    picture = Image.new("RGB", (SCALE * SIZE_PX[0], SCALE * SIZE_PX[1]), PAPER)
    pen = ImageDraw.Draw(picture)
    _draw_axes(pen, axes, step)
    for place, device in enumerate(calibration.devices):
        colour = COLOURS[place % len(COLOURS)]
        _draw_curve(pen, axes, device, colour)
        row, column = divmod(place, LABELS_A_ROW)
        beside = (LEFT + 4 + LABEL_WIDTH * column, 32 + LABEL_HEIGHT * row)
        _write(pen, beside, _label(device), colour, size=14)
    films = ", ".join(dict.fromkeys(device.film for device in calibration.devices))
    _write(pen, (LEFT + 4, 8), f"{calibration.host}: frames a second of all sessions, {films}", INK, size=16)
    drawn = io.BytesIO()
    picture.resize(SIZE_PX, Image.Resampling.LANCZOS).save(drawn, "PNG", optimize=True)
    return drawn.getvalue()


def _draw_axes(pen: ImageDraw.ImageDraw, axes: _Axes, step: float) -> None:
    for tick in range(round(axes.top_fps / step) + 1):
        left, y = axes.place(0.5, tick * step)
        right, _ = axes.place(axes.most_sessions + 0.5, 0)
        pen.line([(left, y), (right, y)], fill=INK if tick == 0 else PALE, width=SCALE)
        _write(pen, (LEFT - 8, y / SCALE), f"{tick * step:g}", INK, size=14, anchor="rm")
    every = max(1, math.ceil(axes.most_sessions / 24))
    for sessions in range(1, axes.most_sessions + 1, every):
        x, y = axes.place(sessions, 0)
        pen.line([(x, y), (x, y + 5 * SCALE)], fill=INK, width=SCALE)
        _write(pen, (x / SCALE, y / SCALE + 9), str(sessions), INK, size=14, anchor="mt")
    _write(pen, ((LEFT + SIZE_PX[0] - RIGHT) / 2, SIZE_PX[1] - 14), "sessions at once", INK, size=14, anchor="mb")


def _draw_curve(pen: ImageDraw.ImageDraw, axes: _Axes, device: DeviceCalibration, colour: str) -> None:
    places = [axes.place(point.sessions, point.fps) for point in device.curve]
    pen.line(places, fill=colour, width=3 * SCALE, joint="curve")
    for (x, y), point in zip(places, device.curve, strict=True):
        _dot(pen, x, y, radius=4, fill=colour, outline=colour)
        if point.sessions == device.knee:
            _dot(pen, x, y, radius=9, fill=None, outline=colour)
            # Below and to the right, where a curve that rises and flattens does not come.
            _write(pen, (x / SCALE + 6, y / SCALE + 12), f"knee: {point.fps:.0f}", colour, size=14)


def _dot(pen: ImageDraw.ImageDraw, x: float, y: float, *, radius: int, fill: str | None, outline: str) -> None:
    reach = radius * SCALE
    pen.ellipse([x - reach, y - reach, x + reach, y + reach], fill=fill, outline=outline, width=2 * SCALE)


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: str, *, size: int, anchor: str = "la"
) -> None:
    font = ImageFont.load_default(size * SCALE)
    pen.text((place[0] * SCALE, place[1] * SCALE), text, fill=colour, font=font, anchor=anchor)


def _label(device: DeviceCalibration) -> str:
    name = device.name if len(device.name) <= 26 else f"{device.name[:25]}..."
    return f"{device.encoder} on {name}"


def _round_step(step: float) -> float:
    """Return the least of 1, 2, 5, 10, 20, 50 ... that is no less than `step`."""
    magnitude = 10.0 ** math.floor(math.log10(max(step, 1e-6)))
    return next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= step * (1 - 1e-9))
