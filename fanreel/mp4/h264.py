"""H.264 streams: their parameter sets."""

from __future__ import annotations

from fanreel.errors import EncodeFaultError
from fanreel.mp4.nal import nal_units

__all__ = ["PPS", "SPS", "parameter_sets"]

SPS, PPS = 7, 8
"""Types of NAL units. Source: ITU-T H.264, table 7-1."""


def parameter_sets(extradata: bytes) -> tuple[bytes, bytes]:
    """Return the SPS and the PPS in an encoder's extradata, without start codes.

    Raises:
        EncodeFaultError: One of them is missing.
    """
    units = {unit[0] & 0x1F: unit for unit in nal_units(extradata)}
    if SPS not in units or PPS not in units:
        raise EncodeFaultError(f"the encoder gave no parameter sets (extradata {extradata[:32].hex()!r})")
    return units[SPS], units[PPS]
