"""Layers: how one is laid over another, and what a colour looks like; values known by construction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanreel.draw.frames import FrameSource
from fanreel.draw.layers import blend_planes
from fanreel.plan.content import ColourContent
from fanreel.plan.timeline import FULL_OPACITY, Clip, Timeline

WHITE, BLACK, RED, BLUE = map(ColourContent, [(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)])


def drawn(*clips, frame=0):
    """Return Y, U and V of a frame that is the same all over."""
    planes = [np.full(shape, 0xA5, np.uint8) for shape in ((64, 96), (32, 48), (32, 48))]
    with FrameSource(Timeline(clips), photo_paths={}, width_px=96, height_px=64) as source:
        source.draw(frame, planes)
    assert all(np.all(plane == plane[0, 0]) for plane in planes)
    return tuple(int(plane[0, 0]) for plane in planes)


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, FULL_OPACITY))
def test_a_blend_is_the_exact_mean_rounded_half_up(below, above, opacity):
    planes = [np.full((2, 3), below, np.uint8)]
    blend_planes(planes, [np.full((2, 3), above, np.uint8)], opacity=opacity)
    exact = (below * (FULL_OPACITY - opacity) + above * opacity) * 2
    assert np.all(planes[0] == (exact + FULL_OPACITY) // (2 * FULL_OPACITY))


def test_a_blend_leaves_padding_alone_and_the_layer_above_as_it_was():
    whole = np.full((4, 40), 100, np.uint8)
    above = np.arange(32, dtype=np.uint8).reshape(4, 8) * 8
    blend_planes([whole[:, :8]], [above], opacity=FULL_OPACITY)
    assert np.array_equal(whole[:, :8], above)
    assert np.all(whole[:, 8:] == 100)
    assert above[3, 7] == 248


@pytest.mark.parametrize(
    ("content", "samples"),
    # Source: ITU-R BT.709-6, limited range: Y = 16 + 219 E, C = 128 + 224 E.
    [
        (WHITE, (235, 128, 128)),
        (BLACK, (16, 128, 128)),
        (RED, (63, 102, 240)),
        (BLUE, (32, 240, 118)),
    ],
)
def test_a_colour_is_its_samples_of_bt709(content, samples):
    assert drawn(Clip(content, 0, 2), frame=1) == samples


@pytest.mark.parametrize(
    ("clips", "luma"),
    [
        pytest.param([(BLACK, 256), (WHITE, 0)], 16, id="nothing above"),
        pytest.param([(BLACK, 256), (WHITE, 128)], 126, id="half"),  # 125.5, rounded up
        pytest.param([(BLACK, 256), (WHITE, 64)], 71, id="a quarter"),  # 70.75
        pytest.param([(BLACK, 256), (WHITE, 256)], 235, id="all"),
        pytest.param([(WHITE, 256), (BLACK, 256), (WHITE, 128)], 126, id="what is hidden counts for nothing"),
        pytest.param([(WHITE, 128)], 126, id="alone, over black"),
        pytest.param([(BLACK, 256), (WHITE, 128), (WHITE, 128)], 181, id="one after the other"),  # 126, then 180.5
    ],
)
def test_layers_are_laid_one_over_the_other(clips, luma):
    assert drawn(*(Clip(content, 0, 1, opacity) for content, opacity in clips)) == (luma, 128, 128)


def test_where_no_clip_is_the_frame_is_black():
    assert drawn(Clip(WHITE, 0, 1), Clip(WHITE, 2, 3), frame=1) == (16, 128, 128)
