"""One contract for every encoder: what the segments, the join and the certificate rest on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support.film_damage import NTSC, make_picture, number_on

from fanreel.codecs import CODEC_ENCODERS, Codec, EncoderChoice
from fanreel.encode.encoder import Encoder, open_encoder
from fanreel.encode.libav import EncodedPacket, plane_views
from fanreel.errors import EncodeFaultError, EncoderSettingsError
from fanreel.job.encoding import Encoding, Preset
from fanreel.mp4 import av1, hevc
from fanreel.mp4.bitstream import FORMS
from fanreel.mp4.sample_entries import video_sample_entry
from fanreel.plan.encoding import EncodingPlan, plan_encoding

ENCODERS = [EncoderChoice(name) for name in os.environ.get("FANREEL_TEST_ENCODERS", "x264 x265 svt-av1").split()]
"""An encoder that is added here has to pass everything below; NVENC does in a process that has the emulated driver."""

CODECS = {choice: codec for codec, choices in reversed(CODEC_ENCODERS.items()) for choice in choices}

HIGH_PROFILE = 100
"""profile_idc. Source: ITU-T H.264 (08/2021), A.2.4."""

NVENC_LEAST_PX = (145, 49)
"""The smallest H.264 frame that it takes."""

SLOW = (EncoderChoice.X265, EncoderChoice.SVT_AV1)

pytestmark = pytest.mark.parametrize(
    "choice", [pytest.param(choice, marks=[pytest.mark.soak] if choice in SLOW else []) for choice in ENCODERS]
)


@dataclass(frozen=True)
class Session:
    """What an encoder made of numbered frames."""

    encoder: Encoder
    packets: list[EncodedPacket]

    def decode(self, packets: Sequence[EncodedPacket]) -> list[av.VideoFrame]:
        """Frames of these packets in display order, from a decoder that has seen no others."""
        codec = CODECS[EncoderChoice(self.encoder.name)]
        decoder = av.CodecContext.create(FORMS[codec].decoder, "r")
        entry = video_sample_entry(codec, width=64, height=64, parameter_sets=[self.encoder.parameter_sets])
        start = entry.index(FORMS[codec].record.encode())
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
    asked = Encoding(codec=CODECS[choice], encoder=choice, preset=preset, quality=quality)
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


def first_parameter_sets(asked: EncodingPlan, *, threads: int = 1) -> tuple[bytes, ...]:
    """Those of a session of its own; AV1's are known when there is a packet."""
    if asked.codec is Codec.AV1:
        return run(asked, count=2, keyframes=(0,), threads=threads).encoder.parameter_sets
    return opened(asked, threads=threads).parameter_sets


def nal_units(payload: bytes) -> list[bytes]:
    units, position = [], 0
    while position < len(payload):
        length = int.from_bytes(payload[position : position + 4], "big")
        units.append(payload[position + 4 : position + 4 + length])
        position += 4 + length
    assert position == len(payload), "the lengths do not add up"
    return units


def starts_anew(codec: Codec, payload: bytes) -> bool:
    """Whether nothing from this packet on refers to what came before it, by the packet's own bytes."""
    if codec is Codec.H264:
        return 5 in [unit[0] & 31 for unit in nal_units(payload)]
    if codec is Codec.HEVC:  # IDR_W_RADL, IDR_N_LP
        return bool({19, 20} & {hevc.unit_type(unit) for unit in nal_units(payload)})
    # The frame header's first bits, after the sequence header: no existing frame, a key frame, shown.
    units = list(av1.obus(payload))
    return units[0][0] == av1.SEQUENCE_HEADER and frame_header_bits(units[1]) == "0001"


def frame_header_bits(unit: tuple[int, bytes]) -> str:
    """show_existing_frame, frame_type and show_frame of a frame OBU. Source: AV1 specification, 5.9.2."""
    kind, data = unit
    assert kind in (3, 6)
    start = next(place for place in range(1, len(data)) if data[place] < 0x80) + 1
    return f"{data[start]:08b}"[:4]


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
    # NVENC's own delay depends on the card: its B-frames may refer to none, and the film's is then the longer one.
    assert delay <= asked.reorder_frames if choice is EncoderChoice.NVENC else delay == asked.reorder_frames


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("preset", list(Preset))
def test_keyframes_are_idrs_where_asked_and_nowhere_else(choice: EncoderChoice, preset: Preset, threads: int) -> None:
    # 250 frames are x264's and x265's own keyframe distance; the slower ones show it with one preset.
    count = 330 if choice is EncoderChoice.X264 or (preset, threads) == (Preset.DRAFT, 1) else 50
    session = run(plan(choice, preset), count=count, keyframes=(0, 20, 33, 34, count - 1), threads=threads)
    assert sorted(packet.frame for packet in session.packets if packet.keyframe) == [0, 20, 33, 34, count - 1]
    for packet in session.packets:
        assert starts_anew(CODECS[choice], packet.payload) == packet.keyframe


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


def test_no_thread_of_an_encoder_is_a_real_time_one(choice: EncoderChoice) -> None:
    encoder = opened(plan(choice, Preset.DRAFT))
    picture = make_picture(seed=1)(0)
    list(encoder.encode(lambda planes: [np.copyto(*pair) for pair in zip(planes, picture, strict=True)], keyframe=True))
    found = {os.sched_getscheduler(int(thread.name)) for thread in Path("/proc/self/task").iterdir()}
    assert found == {os.SCHED_OTHER}, "it would keep all else on the host from running"


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
    sets = {first_parameter_sets(asked, threads=threads) for threads in (1, 2, 1, 4)}
    assert len(sets) == 1
    assert len(sets.pop()) == FORMS[CODECS[choice]].parameter_sets


def test_quality_changes_no_sequence_parameter_set(choice: EncoderChoice) -> None:
    sequences = slice(0, 2) if choice is EncoderChoice.X265 else slice(0, 1)
    # 0 among them: x264 would make a lossless stream of it, in a profile that few players know.
    sets = {first_parameter_sets(plan(choice, quality=quality))[sequences] for quality in (0, 21, 51)}
    assert len(sets) == 1


# Level numbers: H.264 A.3 (ten times the level), H.265 A.4 (thirty times), AV1 A.3 (4 x (major - 2) + minor).
LEVELS = {
    EncoderChoice.X264: (30, 31, 40, 42, 51),
    EncoderChoice.X265: (60, 93, 120, 123, 150),
    EncoderChoice.SVT_AV1: (0, 5, 8, 9, 12),
}


@pytest.mark.parametrize("preset", list(Preset))
def test_profile_and_level_are_those_that_were_pinned(choice: EncoderChoice, preset: Preset) -> None:
    films = (
        ((320, 180), Fraction(30)),
        ((1280, 720), Fraction(30)),
        ((1920, 1080), Fraction(30)),
        ((1920, 1080), Fraction(60)),
        ((3840, 2160), Fraction(30)),
    )
    # NVENC chooses its level itself.
    for (size, rate), level in zip(films, LEVELS.get(choice, [None] * len(films)), strict=True):
        if choice is EncoderChoice.SVT_AV1 and (preset is not Preset.DRAFT or size[0] > 1920):
            continue  # it has to encode a frame to tell
        units = first_parameter_sets(plan(choice, preset, size=size, rate=rate))
        if CODECS[choice] is Codec.H264:
            sps, pps = units
            assert (sps[0] & 31, pps[0] & 31) == (7, 8)
            assert (sps[1], sps[3]) == (HIGH_PROFILE, level or sps[3]), size
            # The id, as ue(v): x264's 1 and NVENC's 0 differ, so that both can share one film.
            assert f"{sps[4]:08b}".startswith("010" if choice is EncoderChoice.X264 else "1")
        elif choice is EncoderChoice.X265:
            general = hevc.read_sequence(units[1]).profile_tier_level
            assert (general[0], general[-1]) == (1, level), size  # main profile, main tier
        else:
            sequence = av1.read_sequence(units[0])
            assert (sequence.profile, sequence.tier, sequence.level) == (0, 0, level), size


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
    asked = plan(choice, preset, size=size)
    if choice is EncoderChoice.NVENC and (size[0] < NVENC_LEAST_PX[0] or size[1] < NVENC_LEAST_PX[1]):
        with pytest.raises(EncoderSettingsError, match="less than the minimum"):
            opened(asked)
        return
    session = run(asked, count=8)
    frames = session.decode(session.packets)
    assert {(frame.width, frame.height) for frame in frames} == {size}
    assert len(frames) == 8
    for fed, seen in zip(make_picture(size=size)(7), plane_views(frames[7]), strict=True):
        assert fed.shape == seen.shape
        # SVT-AV1 loses up to 6 of this noise at this quality; a side cut off or shifted loses 20 and more.
        assert np.abs(fed.astype(int) - seen).mean() < 7


@pytest.mark.parametrize("rate", [Fraction(1), Fraction(24), NTSC, Fraction(240)])
def test_any_rate_and_a_film_of_one_frame_work(choice: EncoderChoice, rate: Fraction) -> None:
    for count in (1, 2, 3):
        session = run(plan(choice, rate=rate), count=count, keyframes=(0,))
        assert sorted(packet.frame for packet in session.packets) == list(range(count))


def test_no_packet_carries_what_stands_outside_it(choice: EncoderChoice) -> None:
    session = run(plan(choice), count=30)
    for packet in session.packets:
        if choice is EncoderChoice.SVT_AV1:
            kinds = [kind for kind, _ in av1.obus(packet.payload)]
            assert not {2, 15} & set(kinds), "temporal delimiters and padding do not belong into a sample"
            headers = [unit for kind, unit in av1.obus(packet.payload) if kind == av1.SEQUENCE_HEADER]
            assert headers == (list(session.encoder.parameter_sets) if packet.keyframe else [])
        elif choice is EncoderChoice.X265:
            assert not {32, 33, 34} & {hevc.unit_type(unit) for unit in nal_units(packet.payload)}
        else:
            assert not {7, 8} & {unit[0] & 31 for unit in nal_units(packet.payload)}


def test_settings_that_the_encoder_refuses_are_a_settings_error(choice: EncoderChoice) -> None:
    # What jobs refuse before: x265 takes sides of any length, SVT-AV1 odd ones.
    sizes = {
        EncoderChoice.X264: ((321, 180), (0, 180), (320, 100_000)),
        EncoderChoice.X265: ((321, 180), (0, 180)),
        EncoderChoice.SVT_AV1: ((0, 180), (320, 100_000)),
        EncoderChoice.NVENC: ((128, 96), (320, 100_000)),
    }
    for width, height in sizes[choice]:
        wrong = replace(plan(choice), width_px=width, height_px=height)
        with pytest.raises(EncoderSettingsError, match=f"{wrong.width_px}x{wrong.height_px}"):
            opened(wrong)


def test_an_error_while_drawing_is_passed_on(choice: EncoderChoice) -> None:
    def fail(planes: Sequence[np.ndarray]) -> None:
        raise EncodeFaultError("the photo is gone")

    encoder = opened(plan(choice))
    with pytest.raises(EncodeFaultError, match="the photo is gone"):
        list(encoder.encode(fail, keyframe=True))
