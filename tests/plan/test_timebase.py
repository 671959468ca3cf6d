"""The film's clock: exact, and one rounding rule from seconds to frames."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanreel.job.rates import FASTEST_RATE, LARGEST_RATE_TERM, SLOWEST_RATE
from fanreel.plan.timebase import TimeBase, frame_count, time_base

NTSC = Fraction(30000, 1001)
RATES = st.fractions(SLOWEST_RATE, FASTEST_RATE, max_denominator=LARGEST_RATE_TERM).filter(
    lambda rate: rate.numerator <= LARGEST_RATE_TERM
)
SECONDS = st.decimals("0.001", 3600, places=3).map(float)


@pytest.mark.parametrize(
    ("rate", "clock"),
    [
        (Fraction(24), TimeBase(12_288, 512)),
        (Fraction(25), TimeBase(12_800, 512)),
        (Fraction(30), TimeBase(15_360, 512)),
        (Fraction(50), TimeBase(12_800, 256)),
        (Fraction(60), TimeBase(15_360, 256)),
        (NTSC, TimeBase(30_000, 1001)),
        (Fraction(2997, 100), TimeBase(11_988, 400)),
        (Fraction(1), TimeBase(16_384, 16_384)),
    ],
)
def test_the_usual_rates_have_the_clocks_that_other_tools_give_them(rate, clock):
    assert time_base(rate) == clock


@settings(deadline=None)
@given(RATES)
def test_every_frame_is_whole_ticks(rate):
    clock = time_base(rate)
    assert Fraction(clock.frame_ticks, clock.timescale) == 1 / rate


@settings(deadline=None)
@given(RATES)
def test_a_tick_is_short_and_a_clock_fits_32_bits(rate):
    clock = time_base(rate)
    assert 10_000 <= clock.timescale <= LARGEST_RATE_TERM
    assert 0 < clock.frame_ticks < 2**31


@settings(deadline=None)
@given(RATES)
def test_the_clock_is_no_finer_than_it_must_be(rate):
    assert time_base(rate).timescale < 20_000 or time_base(rate).timescale == rate.numerator


@pytest.mark.parametrize(
    ("seconds", "rate", "frames"),
    [
        (4, Fraction(30), 120),
        (4, NTSC, 120),
        (10, NTSC, 300),
        (0.1, Fraction(25), 3),
        (0.3, Fraction(30), 9),
        (0.7, Fraction(10), 7),
        (2.02, Fraction(25), 51),
        (3600, Fraction(60), 216_000),
    ],
)
def test_seconds_become_the_nearest_number_of_frames(seconds, rate, frames):
    assert frame_count(seconds, rate) == frames


@pytest.mark.parametrize(("seconds", "frames"), [(0.05, 1), (0.15, 2), (0.25, 3), (1.005, 10), (1.05, 11), (4.35, 44)])
def test_half_a_frame_is_rounded_up_by_the_digits_that_a_person_wrote(seconds, frames):
    # In binary 0.15 and 4.35 lie below the half, 0.05 above it.
    assert frame_count(seconds, Fraction(10)) == frames


@pytest.mark.parametrize("seconds", [1e-9, 0.001, 5e-324])
def test_a_photo_has_at_least_one_frame(seconds):
    assert frame_count(seconds, Fraction(24)) == 1


@settings(deadline=None)
@given(SECONDS, RATES)
def test_no_clip_is_off_by_more_than_half_a_frame(seconds, rate):
    frames = frame_count(seconds, rate)
    assert frames == 1 or abs(frames - Fraction(str(seconds)) * rate) <= Fraction(1, 2)


@settings(deadline=None)
@given(SECONDS, SECONDS, RATES)
def test_more_seconds_are_never_fewer_frames(one, other, rate):
    short, long = sorted((one, other))
    assert frame_count(short, rate) <= frame_count(long, rate)
