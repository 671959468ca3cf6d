"""Draws a colour: every frame is the same one."""

from __future__ import annotations

import numpy as np

from fanreel.draw.bt709 import convert_to_bt709
from fanreel.draw.layers import Drawing, Planes, fill_planes
from fanreel.plan.content import ColourContent
from fanreel.plan.timeline import Layer

__all__ = ["prepare_colour"]


def prepare_colour(content: ColourContent) -> Drawing:
    """Return what fills planes with a colour; a photo of that colour has the same samples."""
    bgr = np.array([[content.rgb[::-1]]], np.uint8)
    samples = [int(plane.samples[0, 0]) for plane in convert_to_bt709(bgr)]

    def draw(layer: Layer, planes: Planes) -> None:
        fill_planes(planes, samples)

    return draw
