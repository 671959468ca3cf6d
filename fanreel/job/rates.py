"""Frame rates and sizes of films, as people write them and as they are meant."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

__all__ = [
    "FASTEST_RATE",
    "LARGEST_RATE_TERM",
    "NAMED_SIZES",
    "RATE_PATTERN",
    "SIZE_PATTERN",
    "SLOWEST_RATE",
    "exact_rate",
    "rate_as_text",
    "size_in_pixels",
]

SLOWEST_RATE, FASTEST_RATE = 1, 240

LARGEST_RATE_TERM = 1_000_000
"""Largest numerator or denominator of a frame rate: MP4's clocks and H.264's timing have 32 bits for either."""

RATE_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,20}|/[0-9]{1,9})?$"

NAMED_SIZES = {
    "720p": "1280x720",
    "1080p": "1920x1080",
    "1440p": "2560x1440",
    "4k": "3840x2160",
    "vertical": "1080x1920",
    "square": "1080x1080",
}

SIZE_PATTERN = rf"^([0-9]{{1,9}} ?x ?[0-9]{{1,9}}|{'|'.join(NAMED_SIZES)})$"

_TELEVISION_RATES = (24, 30, 48, 60, 120)
"""Frame rates that television divides by 1.001; people write the quotient with two or three decimals.

Source: SMPTE ST 12-1, 5.2 (30/1.001 and 60/1.001); SMPTE ST 2048-1, table 1 (24, 48, 60 and 120, over 1.001).
"""


def exact_rate(text: str) -> Fraction:
    """Return the frame rate that a person means; 0 for a fraction that is none.

    29.97 means 30000/1001, and so do 29.970 and 29.97003: all decimals that such a rate is rounded to.

    Args:
        text: A number or a fraction, as `RATE_PATTERN` allows.
    """
    if not int(text.partition("/")[2] or 1):
        return Fraction(0)
    rate, decimals = Fraction(text), len(text.partition(".")[2])
    if decimals >= 2:
        for nominal in _TELEVISION_RATES:
            if round(Decimal(nominal * 1000) / 1001, decimals) == Decimal(text):
                return Fraction(nominal * 1000, 1001)
    return rate


def rate_as_text(value: object) -> object:
    """Return a number of frames a second as the text that the field has; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not SLOWEST_RATE <= value <= FASTEST_RATE:
        raise ValueError(f"from {SLOWEST_RATE} to {FASTEST_RATE} frames per second")
    return str(value)


def size_in_pixels(value: object) -> object:
    """Return a size as width x height: `4k` and `320 x 180` too; anything that is no size as it is."""
    if not isinstance(value, str):
        return value
    sides = re.fullmatch(r" *([0-9]{1,9}) *[xX×] *([0-9]{1,9}) *", value)  # noqa: RUF001 -- people write this sign
    return f"{sides[1]}x{sides[2]}" if sides else NAMED_SIZES.get(value.strip(" ").casefold(), value)
