"""One contract for every encoder: what the segments, the join and the certificate rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import av
import numpy as np
import pytest
from film_damage import NTSC, make_picture, number_on

from fanreel.errors import EncodeFaultError, EncoderSettingsError
from fanreel.job import EncoderChoice, Encoding, Preset
from fanreel.media.encoder import Encoder, open_encoder
from fanreel.media.h264 import parameter_sets, to_length_prefixed
from fanreel.media.libav import EncodedPacket, plane_views
from fanreel.media.sample_entries import avc1_sample_entry
from fanreel.plan.encoding import EncodingPlan, plan_encoding

ENCODERS = [EncoderChoice.X264]
"""An encoder that is added here has to pass everything below."""

HIGH_PROFILE = 100
"""profile_idc. Source: ITU-T H.264 (08/2021), A.2.4."""

pytestmark = pytest.mark.parametrize("choice", ENCODERS)


@dataclass(frozen=True)
class Session:
    """What an encoder made of numbered frames."""

    encoder: Encoder
    packets: list[EncodedPacket]

    def decode(self, packets: Sequence[EncodedPacket]) -> list[av.VideoFrame]:
        """Frames of these packets in display order, from a decoder that has seen no others."""
        decoder = av.CodecContext.create("h264", "r")
        entry = avc1_sample_entry(width=64, height=64, parameter_sets=[self.encoder.parameter_sets])
        start = entry.index(b"avcC")
        decoder.extradata = entry[start + 4 : start - 4 + int.from_bytes(entry[start - 4 : start], "big")]
        frames = []
        for packet in packets:
            coded = av.Packet(packet.payload)
            coded.pts = packet.frame
            frames += decoder.decode(coded)
        return [*frames, *decoder.decode(None)]


def plan(
    choice: EncoderChoice,
    preset: Preset = Preset.FAST,
    quality: int = 24,
    size: tuple[int, int] = (320, 180),
    rate: Fraction = Fraction(30),
) -> EncodingPlan:
    asked = Encoding(encoder=choice, preset=preset, quality=quality)
    return plan_encoding(asked, width_px=size[0], height_px=size[1], frame_rate=rate)


def opened(asked: EncodingPlan, *, threads: int = 1) -> Encoder:
    return open_encoder(asked, encoder=str(asked.encoder), threads=threads)


def run(asked: EncodingPlan, count: int = 50, keyframes: Sequence[int] = (0, 20, 33), threads: int = 1) -> Session:
    encoder = opened(asked, threads=threads)
    picture = make_picture(size=(asked.width_px, asked.height_px))
    packets: list[EncodedPacket] = []

    def draw(planes: Sequence[np.ndarray], frame: int) -> None:
        for plane, fed in zip(planes, picture(frame), strict=True):
            assert plane.shape == fed.shape
            plane[:] = fed

    for frame in range(count):
        packets += encoder.encode(lambda planes, frame=frame: draw(planes, frame), keyframe=frame in keyframes)
    packets += encoder.finish()
    return Session(encoder, packets)


def nal_types(payload: bytes) -> list[int]:
    types, position = [], 0
    while position < len(payload):
        length = int.from_bytes(payload[position : position + 4], "big")
        types.append(payload[position + 4] & 31)
        position += 4 + length
    assert position == len(payload), "the lengths do not add up"
    return types


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("preset", list(Preset))
def test_every_frame_comes_out_once_and_no_later_than_planned(
    choice: EncoderChoice, preset: Preset, threads: int
) -> None:
    asked = plan(choice, preset)
    session = run(asked, threads=threads)
    frames = [packet.frame for packet in session.packets]
    assert sorted(frames) == list(range(50))
    delay = max(place - frame for place, frame in enumerate(frames))
    assert delay == asked.reorder_frames


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("preset", list(Preset))
def test_keyframes_are_idrs_where_asked_and_nowhere_else(choice: EncoderChoice, preset: Preset, threads: int) -> None:
    session = run(plan(choice, preset), count=330, keyframes=(0, 20, 33, 34, 329), threads=threads)
    assert sorted(packet.frame for packet in session.packets if packet.keyframe) == [0, 20, 33, 34, 329]
    for packet in session.packets:
        assert (5 in nal_types(packet.payload)) == packet.keyframe


@pytest.mark.parametrize("preset", list(Preset))
def test_a_change_of_scene_makes_no_keyframe(choice: EncoderChoice, preset: Preset) -> None:
    encoder = opened(plan(choice, preset))
    packets: list[EncodedPacket] = []

    def draw(planes: Sequence[np.ndarray], frame: int) -> None:
        for plane, fed in zip(planes, make_picture(seed=frame // 7)(frame), strict=True):
            plane[:] = fed

    for frame in range(40):
        packets += encoder.encode(lambda planes, frame=frame: draw(planes, frame), keyframe=frame == 0)
    packets += encoder.finish()
    assert [packet.frame for packet in packets if packet.keyframe] == [0]


@pytest.mark.parametrize("preset", list(Preset))
def test_what_lies_between_two_keyframes_decodes_alone(choice: EncoderChoice, preset: Preset) -> None:
    session = run(plan(choice, preset), keyframes=(0, 20, 33))
    whole = {frame.pts: frame.to_ndarray() for frame in session.decode(session.packets)}
    assert sorted(whole) == list(range(50))
    for start, end in ((0, 20), (20, 33), (33, 50)):
        packets = [packet for packet in session.packets if start <= packet.frame < end]
        places = [place for place, packet in enumerate(session.packets) if start <= packet.frame < end]
        assert places == list(range(start, end)), "packets of two segments are mixed"
        alone = session.decode(packets)
        assert [frame.pts for frame in alone] == list(range(start, end))
        assert [number_on(plane_views(frame)[0]) for frame in alone] == list(range(start, end))
        assert not any(frame.is_corrupt for frame in alone)
        assert all(np.array_equal(frame.to_ndarray(), whole[frame.pts]) for frame in alone)


@pytest.mark.parametrize("preset", list(Preset))
def test_every_session_of_a_plan_has_the_same_parameter_sets(choice: EncoderChoice, preset: Preset) -> None:
    asked = plan(choice, preset)
    sets = {opened(asked, threads=threads).parameter_sets for threads in (1, 2, 1, 4)}
    assert len(sets) == 1


def test_quality_changes_no_sequence_parameter_set(choice: EncoderChoice) -> None:
    sets = {opened(plan(choice, quality=quality)).parameter_sets[0] for quality in (1, 21, 51)}
    assert len(sets) == 1


@pytest.mark.parametrize("preset", list(Preset))
def test_profile_and_level_are_those_that_were_pinned(choice: EncoderChoice, preset: Preset) -> None:
    for size, rate, level in (
        ((320, 180), Fraction(30), 30),
        ((1280, 720), Fraction(30), 31),
        ((1920, 1080), Fraction(30), 40),
        ((1920, 1080), Fraction(60), 42),
        ((3840, 2160), Fraction(30), 51),
    ):
        sps, pps = open_encoder(
            plan(choice, preset, size=size, rate=rate), encoder=str(choice), threads=1
        ).parameter_sets
        assert (sps[0] & 31, pps[0] & 31) == (7, 8)
        assert (sps[1], sps[3]) == (HIGH_PROFILE, level), size


@pytest.mark.parametrize("preset", list(Preset))
def test_decoded_frames_say_bt709_limited_range(choice: EncoderChoice, preset: Preset) -> None:
    session = run(plan(choice, preset), count=4)
    for frame in session.decode(session.packets):
        assert (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range) == (1, 1, 1, 1)
        assert frame.format.name == "yuv420p"


@pytest.mark.parametrize("preset", list(Preset))
@pytest.mark.parametrize(("quality", "tolerance"), [(0, 1), (21, 5), (51, 60)])
def test_quality_runs_from_near_lossless_to_the_worst(
    choice: EncoderChoice, preset: Preset, quality: int, tolerance: int
) -> None:
    session = run(plan(choice, preset, quality), count=12)
    picture = make_picture()
    frames = session.decode(session.packets)
    assert len(frames) == 12
    for number, frame in enumerate(frames):
        lost = np.abs(plane_views(frame)[0].astype(int) - picture(number)[0].astype(int)).mean()
        assert lost <= tolerance


@pytest.mark.parametrize("preset", list(Preset))
@pytest.mark.parametrize("size", [(66, 70), (64, 64), (162, 98), (1922, 66)])
def test_sides_that_are_no_multiple_of_sixteen_come_back_whole(
    choice: EncoderChoice, preset: Preset, size: tuple[int, int]
) -> None:
    session = run(plan(choice, preset, size=size), count=8)
    frames = session.decode(session.packets)
    assert {(frame.width, frame.height) for frame in frames} == {size}
    assert len(frames) == 8
    for fed, seen in zip(make_picture(size=size)(7), plane_views(frames[7]), strict=True):
        assert fed.shape == seen.shape
        assert np.abs(fed.astype(int) - seen).mean() < 5


@pytest.mark.parametrize("rate", [Fraction(1), Fraction(24), NTSC, Fraction(240)])
def test_any_rate_and_a_film_of_one_frame_work(choice: EncoderChoice, rate: Fraction) -> None:
    for count in (1, 2, 3):
        session = run(plan(choice, rate=rate), count=count, keyframes=(0,))
        assert sorted(packet.frame for packet in session.packets) == list(range(count))


def test_no_packet_carries_parameter_sets(choice: EncoderChoice) -> None:
    session = run(plan(choice), count=30)
    assert not {7, 8} & {kind for packet in session.packets for kind in nal_types(packet.payload)}


def test_settings_that_the_encoder_refuses_are_a_settings_error(choice: EncoderChoice) -> None:
    for wrong in (
        replace(plan(choice), width_px=321),
        replace(plan(choice), width_px=0),
        replace(plan(choice), height_px=100_000),
    ):
        with pytest.raises(EncoderSettingsError, match=f"{wrong.width_px}x{wrong.height_px}"):
            opened(wrong)


def test_an_error_while_drawing_is_passed_on(choice: EncoderChoice) -> None:
    def fail(planes: Sequence[np.ndarray]) -> None:
        raise EncodeFaultError("the photo is gone")

    encoder = opened(plan(choice))
    with pytest.raises(EncodeFaultError, match="the photo is gone"):
        list(encoder.encode(fail, keyframe=True))


def test_start_codes_become_lengths(choice: EncoderChoice) -> None:
    stream = b"\0\0\0\1\x09\x10" + b"\0\0\1\x65\x88\x84\0\0\3\1" + b"\0\0\0\0\1\x41\x9a\0\0"
    expected = b"\0\0\0\2\x09\x10" + b"\0\0\0\7\x65\x88\x84\0\0\3\1" + b"\0\0\0\2\x41\x9a"
    assert to_length_prefixed(stream) == expected
    assert parameter_sets(b"\0\0\0\1\x67\x64\0\x1e\0\0\0\1\x68\xee\0\0\1\x06\5") == (b"\x67\x64\0\x1e", b"\x68\xee")
    for extradata in (b"", b"\0\0\0\1\x67\x64\0\x1e", b"no stream"):
        with pytest.raises(EncodeFaultError, match="no parameter sets"):
            parameter_sets(extradata)
    assert choice in ENCODERS
