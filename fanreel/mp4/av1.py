"""AV1 streams: OBUs, and what a sequence header says.

Source: AV1 Bitstream & Decoding Process Specification (2019), 5.3, 5.5 and 4.10.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fanreel.mp4.bits import BitReader

__all__ = ["PADDING", "SEQUENCE_HEADER", "TEMPORAL_DELIMITER", "Av1Sequence", "obus", "read_sequence"]

SEQUENCE_HEADER, TEMPORAL_DELIMITER, PADDING = 1, 2, 15
"""Types of OBUs (6.2.2)."""


@dataclass(frozen=True, slots=True)
class Av1Sequence:
    """What a sequence header says of its stream.

    Attributes:
        profile: 0, main: 8 or 10 bits, 4:2:0.
        level: `seq_level_idx` of the first operating point.
        tier: 0 or 1.
        ten_bits: 10 bits a sample instead of 8.
        monochrome: Luma alone.
        chroma_position: 0 unknown, 1 left, 2 top left.
    """

    profile: int
    level: int
    tier: int
    ten_bits: bool
    monochrome: bool
    chroma_position: int


def obus(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the bytes, header included, of each OBU in the low-overhead format.

    Raises:
        ValueError: The sizes of the OBUs do not add up to the data.
    """
    offset = 0
    while offset < len(data):
        header = data[offset]
        if header & 0x80 or not header & 2:
            raise ValueError(f"there is no OBU with a size at byte {offset}: {data[offset : offset + 8].hex()}")
        start = offset + (2 if header & 4 else 1)
        size, start = _leb128(data, start)
        if start + size > len(data):
            raise ValueError(f"the OBU at byte {offset} ends {start + size - len(data)} bytes after the packet")
        yield header >> 3 & 15, data[offset : start + size]
        offset = start + size


def read_sequence(unit: bytes) -> Av1Sequence:
    """Return what a sequence header OBU says.

    Raises:
        ValueError: It is no sequence header, is cut short, or describes what no encoder of ours makes.

    Source: 5.5.1 and 5.5.2.
    """
    found = next(obus(unit), (0, b""))
    if found != (SEQUENCE_HEADER, unit):
        raise ValueError(f"a sequence header OBU was expected, not {unit[:8].hex() or 'an empty one'}")
    _, start = _leb128(unit, 2 if unit[0] & 4 else 1)
    bits = BitReader(unit[start:])
    profile, _still, reduced = bits.read(3), bits.read(1), bits.read(1)
    if profile or reduced:
        raise ValueError(
            f"the sequence header is of profile {profile}{', a still picture' if reduced else ''}, not main"
        )
    level, tier = _read_operating_points(bits)
    _skip_tools(bits)
    ten_bits, monochrome = bool(bits.read(1)), bool(bits.read(1))
    if bits.read(1):  # primaries, transfer and matrix
        bits.read(24)
    bits.read(1)
    chroma_position = 0 if monochrome else bits.read(2)
    return Av1Sequence(profile, level, tier, ten_bits, monochrome, chroma_position)


def _read_operating_points(bits: BitReader) -> tuple[int, int]:
    """Return level and tier of the first operating point; reads everything before the frame's size."""
    if bits.read(1):  # timing information
        bits.read(64)
        if bits.read(1):
            bits.read_exponential()
        if bits.read(1):
            raise ValueError("the sequence header has a decoder model; encode without one")
    delays = bits.read(1)
    points = []
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        level = bits.read(5)
        points.append((level, bits.read(1) if level > 7 else 0))
        if delays and bits.read(1):
            bits.read(4)
    return points[0]


def _skip_tools(bits: BitReader) -> None:
    """Read the frame's size and the coding tools, up to the colours."""
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    bits.read(width_bits + height_bits)
    if bits.read(1):  # frame ids
        bits.read(7)
    bits.read(3 + 4)
    ordered = bits.read(1)
    bits.read(2 if ordered else 0)
    screen_content = 2 if bits.read(1) else bits.read(1)
    if screen_content and not bits.read(1):
        bits.read(1)
    bits.read(3 if ordered else 0)
    bits.read(3)


def _leb128(data: bytes, offset: int) -> tuple[int, int]:
    """Return a number of up to eight groups of seven bits, the lowest first, and the offset after it."""
    value = 0
    for group in range(8):
        if offset >= len(data):
            break
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << 7 * group
        if byte < 0x80:
            return value, offset
    raise ValueError(f"the size of an OBU is cut short at byte {offset}")
