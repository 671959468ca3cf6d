"""Draws a colour: every frame is the same one."""

from __future__ import annotations

import numpy as np

from fanreel.draw.bt709 import convert_to_bt709
from fanreel.draw.layers import Drawing, Planes, fill_planes
from fanreel.plan.content import ColourContent
from fanreel.plan.timeline import Layer

__all__ = ["colour_samples", "prepare_colour"]


def colour_samples(rgb: tuple[int, int, int]) -> list[int]:
    """Return Y, Cb and Cr of a colour; a photo of that colour has the same samples."""
    bgr = np.array([[rgb[::-1]]], np.uint8)
    return [int(plane.samples[0, 0]) for plane in convert_to_bt709(bgr)]


def prepare_colour(content: ColourContent) -> Drawing:
    """Return what fills planes with a colour."""
    samples = colour_samples(content.rgb)

    def draw(layer: Layer, planes: Planes) -> None:
        fill_planes(planes, samples)

    return draw
