"""H.264 byte streams: from start codes, as encoders write them, to lengths, as MP4 keeps them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from fanreel.errors import EncodeFaultError

__all__ = ["parameter_sets", "to_length_prefixed"]

_START_CODE = re.compile(rb"\x00\x00\x00?\x01")
_SPS, _PPS = 7, 8


def to_length_prefixed(packet: bytes) -> bytes:
    """Return a coded picture with each NAL unit after its length, 4 bytes big-endian.

    Args:
        packet: NAL units after start codes (Annex B).

    Source:
        ITU-T H.264, annex B; ISO/IEC 14496-15, 5.3.3.
    """
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in _nal_units(packet))


def parameter_sets(extradata: bytes) -> tuple[bytes, bytes]:
    """Return the SPS and the PPS in an encoder's extradata, without start codes.

    Raises:
        EncodeFaultError: One of them is missing.
    """
    units = {unit[0] & 0x1F: unit for unit in _nal_units(extradata)}
    if _SPS not in units or _PPS not in units:
        raise EncodeFaultError(f"the encoder gave no parameter sets (extradata {extradata[:32].hex()!r})")
    return units[_SPS], units[_PPS]


def _nal_units(stream: bytes) -> Iterator[bytes]:
    codes = list(_START_CODE.finditer(stream))
    ends = [*(code.start() for code in codes[1:]), len(stream)]
    for code, end in zip(codes, ends, strict=False):
        # A zero byte before a three-byte start code, or after the last unit, belongs to no unit.
        unit = stream[code.end() : end].rstrip(b"\x00")
        if unit:
            yield unit
