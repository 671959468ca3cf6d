"""Coded streams: what of an encoder's bytes goes into a file, for streams written by hand."""

from __future__ import annotations

import pytest

from fanreel.codecs import Codec
from fanreel.errors import EncodeFaultError
from fanreel.mp4 import av1, h264, hevc
from fanreel.mp4.bits import BitReader
from fanreel.mp4.bitstream import open_bitstream
from fanreel.mp4.nal import to_length_prefixed

DELIMITER = b"\x12\0"
PADDING = b"\x7a\2\xff\x80"
FRAME = b"\x32\3\x10\0\0"
HEADER = bytes.fromhex("0a0e000000043cfecc4af91010101240")  # SVT-AV1's: 320x180, BT.709, chroma to the left
OTHER = bytes.fromhex("0a0e000000043cfecc02f81010101240")
X265_SPS = bytes.fromhex("42010101600000030090000003000003003ca00a080b9f796565924cae6a02020208000003000800000300f040")


def test_start_codes_become_lengths():
    stream = b"\0\0\0\1\x09\x10" + b"\0\0\1\x65\x88\x84\0\0\3\1" + b"\0\0\0\0\1\x41\x9a\0\0"
    expected = b"\0\0\0\2\x09\x10" + b"\0\0\0\7\x65\x88\x84\0\0\3\1" + b"\0\0\0\2\x41\x9a"
    assert to_length_prefixed(stream) == expected


def test_h264_has_an_sps_and_a_pps():
    sets = (b"\x67\x64\0\x1e", b"\x68\xee")
    assert h264.parameter_sets(b"\0\0\0\1\x67\x64\0\x1e\0\0\0\1\x68\xee\0\0\1\x06\5") == sets
    assert open_bitstream(Codec.H264, b"\0\0\1\x67\x64\0\x1e\0\0\1\x68\xee").parameter_sets == sets


def test_hevc_has_a_vps_an_sps_and_a_pps_in_this_order():
    vps, pps = b"\x40\1\x0c", b"\x44\1\xc1"
    stream = b"".join(b"\0\0\0\1" + unit for unit in (pps, X265_SPS, b"\x4e\1\5", vps))
    assert hevc.parameter_sets(stream) == (vps, X265_SPS, pps)


@pytest.mark.parametrize("codec", [Codec.H264, Codec.HEVC])
@pytest.mark.parametrize("extradata", [b"", b"\0\0\0\1\x67\x64\0\x1e", b"\0\0\0\1\x42\1\1", b"no stream"])
def test_an_encoder_without_parameter_sets_is_a_fault(codec, extradata):
    with pytest.raises(EncodeFaultError, match="no parameter sets"):
        open_bitstream(codec, extradata)


def test_an_hevc_sps_tells_profile_level_and_depths():
    sequence = hevc.read_sequence(X265_SPS)
    assert sequence.profile_tier_level == bytes.fromhex("01600000009000000000003c")
    assert (sequence.chroma_format, sequence.luma_depth, sequence.chroma_depth) == (1, 0, 0)
    assert (sequence.temporal_layers, sequence.temporal_nested) == (1, True)


@pytest.mark.parametrize(
    "wrong", [b"", b"\x40\1\x0c", X265_SPS[:9], b"\x42\1\3" + X265_SPS[3:]], ids=["empty", "VPS", "cut", "layers"]
)
def test_what_is_no_hevc_sps_of_ours_is_refused(wrong):
    with pytest.raises(ValueError, match=r"expected|cut short|temporal layers"):
        hevc.read_sequence(wrong)


def test_an_av1_sequence_header_tells_profile_and_level():
    sequence = av1.read_sequence(HEADER)
    assert (sequence.profile, sequence.level, sequence.tier) == (0, 0, 0)
    assert (sequence.ten_bits, sequence.monochrome, sequence.chroma_position) == (False, False, 1)


@pytest.mark.parametrize(
    "wrong",
    [b"", FRAME, HEADER[:-1], HEADER + FRAME, b"\x0a\1\x20", b"\x0a\1\x18", b"\x0a\3\0\0\0"],
    ids=["empty", "frame", "cut", "more", "profile 1", "still", "short"],
)
def test_what_is_no_av1_sequence_header_of_ours_is_refused(wrong):
    with pytest.raises(ValueError, match=r"expected|after the packet|main|cut short"):
        av1.read_sequence(wrong)


def test_delimiters_and_padding_stay_outside():
    stream = open_bitstream(Codec.AV1, OTHER)
    assert stream.sample(DELIMITER + HEADER + FRAME + PADDING, keyframe=True) == HEADER + FRAME
    assert stream.sample(DELIMITER + FRAME, keyframe=False) == FRAME
    assert stream.parameter_sets == (HEADER,)


def test_a_keyframe_gets_the_header_that_its_encoder_told_before():
    for extradata in (HEADER, b"\x81\0\x0c\0" + HEADER):
        stream = open_bitstream(Codec.AV1, extradata)
        assert stream.sample(DELIMITER + FRAME, keyframe=True) == HEADER + FRAME
        assert stream.parameter_sets == (HEADER,)


def test_a_header_that_changes_is_a_fault():
    stream = open_bitstream(Codec.AV1, b"")
    stream.sample(HEADER + FRAME, keyframe=True)
    with pytest.raises(EncodeFaultError, match="changed its sequence header"):
        stream.sample(OTHER + FRAME, keyframe=True)
    with pytest.raises(EncodeFaultError, match="2 sequence headers"):
        stream.sample(HEADER + OTHER + FRAME, keyframe=True)
    with pytest.raises(EncodeFaultError, match="0 sequence headers, a keyframe"):
        stream.sample(FRAME, keyframe=True)


@pytest.mark.parametrize("wrong", [b"\x30\0", b"\x80", b"\x32", b"\x32\x80", b"\x32\5\0", b"\x32" + b"\xff" * 9])
def test_bytes_that_are_no_obus_are_a_fault(wrong):
    with pytest.raises(EncodeFaultError, match="gave no AV1"):
        open_bitstream(Codec.AV1, b"").sample(wrong, keyframe=False)


def test_bits_are_read_from_the_left():
    bits = BitReader(bytes((0b1011_0101, 0b0100_0000)))
    assert (bits.read(3), bits.read(0)) == (5, 0)
    assert [bits.read_exponential() for _ in range(4)] == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="cut short"):
        bits.read(6)
    with pytest.raises(ValueError, match="cut short"):
        bits.read_exponential()
