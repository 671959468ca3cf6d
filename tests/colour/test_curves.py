"""The tables between samples and light are right, and the same on every machine."""

import numpy as np
import pytest
from blake3 import blake3

from fanreel.colour import curves
from fanreel.colour.curves import CODE_UNIT, LIGHT_UNIT, encode_light, hlg_gains, light_table, plain_codes
from fanreel.colour.signals import HLG, LINEAR, PQ

POWER_ERROR = 1e-9
"""In units of a table, how far two ways of rounding a power may part: 2^17 units times a few 1e-16."""

PQ_ERROR = 5e-7
"""PQ's divisor is a small difference near its peak of 2^21.6 units: 1e-16 in its power is 1.4e-13 of the light."""


@pytest.mark.parametrize(
    ("transfer", "sample", "light"),
    [
        # Source: ITU-R BT.2408, table 1: what a grey card of 18 % and reference white are in PQ and HLG.
        pytest.param(PQ, 0.58, 203 / 203, id="white in PQ"),
        pytest.param(PQ, 0.38, 26 / 203, id="a grey card in PQ"),
        pytest.param(PQ, 1.0, 10_000 / 203, id="the peak of PQ"),
        pytest.param(HLG, 0.75, 203 / 203, id="white in HLG"),
        pytest.param(HLG, 0.38, 26 / 203, id="a grey card in HLG"),
        pytest.param(HLG, 1.0, 1000 / 203, id="the peak of HLG"),
    ],
)
def test_reference_levels_are_where_the_recommendation_says(transfer, sample, light):
    at = light_table(transfer, 16)[round(sample * 65535)]
    at = at * hlg_gains()[at] / LIGHT_UNIT if transfer == HLG else at
    assert at / LIGHT_UNIT == pytest.approx(light, rel=0.03)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_srgb_comes_back_from_light(bits):
    codes = encode_light(light_table(13, bits))
    assert np.abs(codes.astype(int) - plain_codes(bits)).max() <= CODE_UNIT / 32
    assert (
        np.abs(plain_codes(bits) / CODE_UNIT - np.arange(1 << bits) * 255 / ((1 << bits) - 1)).max() <= 0.5 / CODE_UNIT
    )


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("transfer", [PQ, HLG, 4, 5, 13])
def test_no_entry_of_a_table_depends_on_how_a_power_is_rounded(transfer, bits):
    samples = np.arange(1 << bits) / ((1 << bits) - 1)
    assert_far_from_ties(curves._light(samples, transfer) * LIGHT_UNIT, PQ_ERROR if transfer == PQ else POWER_ERROR)


def test_nor_does_one_of_the_tables_from_light():
    steps = np.arange(LIGHT_UNIT + 1) / LIGHT_UNIT
    assert_far_from_ties(steps[1:] ** 0.2 * (1000 / 203) * LIGHT_UNIT)
    assert_far_from_ties((1.055 * steps[206:] ** (1 / 2.4) - 0.055) * 255 * CODE_UNIT)


def assert_far_from_ties(units, error=POWER_ERROR):
    assert np.abs(units - np.floor(units) - 0.5).min() > error


def test_the_tables_are_those_that_films_were_made_with():
    # A new digest changes the frames of films.
    tables = [light_table(transfer, 16) for transfer in (PQ, HLG, LINEAR, 13)]
    tables += [hlg_gains(), encode_light(np.arange(LIGHT_UNIT + 1)), plain_codes(16)]
    assert blake3(b"".join(table.astype("<i8").tobytes() for table in tables)).hexdigest()[:16] == "1efd376118d434c7"
