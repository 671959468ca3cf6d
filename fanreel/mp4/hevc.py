"""HEVC streams: their parameter sets, and what the SPS says."""

from __future__ import annotations

from dataclasses import dataclass

from fanreel.errors import EncodeFaultError
from fanreel.mp4.bits import BitReader
from fanreel.mp4.nal import nal_units

__all__ = ["PPS", "SPS", "VPS", "HevcSequence", "parameter_sets", "read_sequence", "unit_type"]

VPS, SPS, PPS = 32, 33, 34
"""Types of NAL units. Source: ITU-T H.265, table 7-1."""


@dataclass(frozen=True, slots=True)
class HevcSequence:
    """What a sequence parameter set says of its stream.

    Attributes:
        profile_tier_level: The 12 bytes of the general profile, tier, constraints and level.
        chroma_format: 1 for 4:2:0.
        luma_depth: Bits of luma beyond eight.
        chroma_depth: Bits of chroma beyond eight.
        temporal_layers: How many there are.
        temporal_nested: Whether one may switch up between them at any picture.
    """

    profile_tier_level: bytes
    chroma_format: int
    luma_depth: int
    chroma_depth: int
    temporal_layers: int
    temporal_nested: bool


def parameter_sets(extradata: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the VPS, the SPS and the PPS in an encoder's extradata, without start codes.

    Raises:
        EncodeFaultError: One of them is missing.
    """
    units = {unit_type(unit): unit for unit in nal_units(extradata)}
    if not {VPS, SPS, PPS} <= set(units):
        raise EncodeFaultError(f"the encoder gave no parameter sets (extradata {extradata[:32].hex()!r})")
    return units[VPS], units[SPS], units[PPS]


def unit_type(unit: bytes) -> int:
    """Return the type of a NAL unit, -1 of an empty one. Source: ITU-T H.265, 7.3.1.2."""
    return unit[0] >> 1 & 0x3F if unit else -1


def read_sequence(sps: bytes) -> HevcSequence:
    """Return what a sequence parameter set says.

    Raises:
        ValueError: It is no SPS, is cut short, or has temporal sublayers, which no encoder of ours makes.

    Source: ITU-T H.265, 7.3.2.2.1 and 7.3.3.
    """
    if unit_type(sps) != SPS:
        raise ValueError(f"a NAL unit of type {SPS} was expected, not {sps[:8].hex() or 'an empty one'}")
    # After two zero bytes a 3 is inserted that is no content (7.3.1.1).
    payload = sps[2:].replace(b"\0\0\3", b"\0\0")
    bits = BitReader(payload[:64])
    bits.read(4)
    layers, nested = bits.read(3) + 1, bool(bits.read(1))
    if layers > 1:
        raise ValueError(f"the SPS has {layers} temporal layers; encode without them")
    profile_tier_level = bits.read(96).to_bytes(12, "big")
    bits.read_exponential()
    chroma_format = bits.read_exponential()
    if chroma_format == 3:
        bits.read(1)
    bits.read_exponential()
    bits.read_exponential()
    if bits.read(1):  # a conformance window: four edges
        for _ in range(4):
            bits.read_exponential()
    luma_depth, chroma_depth = bits.read_exponential(), bits.read_exponential()
    return HevcSequence(profile_tier_level, chroma_format, luma_depth, chroma_depth, layers, nested)
