"""NAL units of H.264 and HEVC: encoders separate them by start codes, MP4 puts a length before each."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

__all__ = ["nal_units", "to_length_prefixed"]

_START_CODE = re.compile(rb"\x00\x00\x00?\x01")


def to_length_prefixed(packet: bytes) -> bytes:
    """Return a coded picture with each NAL unit after its length, 4 bytes big-endian.

    Args:
        packet: NAL units after start codes.

    Source:
        ITU-T H.264 and H.265, annex B; ISO/IEC 14496-15, 5.3.3 and 8.3.3.
    """
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in nal_units(packet))


def nal_units(stream: bytes) -> Iterator[bytes]:
    """Yield the units of a stream, without the start codes between them."""
    codes = list(_START_CODE.finditer(stream))
    ends = [*(code.start() for code in codes[1:]), len(stream)]
    for code, end in zip(codes, ends, strict=False):
        # A zero byte before a three-byte start code, or after the last unit, belongs to no unit.
        unit = stream[code.end() : end].rstrip(b"\x00")
        if unit:
            yield unit
