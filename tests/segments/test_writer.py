"""A segment's file and record: what is refused, what a record proves, and that it survives its JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from support.film_damage import (
    decoded_numbers,
    encode_segments,
    ffmpeg_says,
    make_picture,
    payloads_of,
    plan_test_film,
)

from fanreel.encode.libav import EncodedPacket
from fanreel.errors import EncodeFaultError, SegmentDamagedError, StorageError
from fanreel.plan.film import FilmPlan
from fanreel.segments.fingerprints import Fingerprinter, make_thumbnail
from fanreel.segments.record import (
    SegmentEvent,
    SegmentRecord,
    check_record,
    choose_samples,
    packet_digest,
    record_from_json,
    record_to_json,
    unpack,
)
from fanreel.segments.writer import SegmentWriter


@pytest.fixture
def plan(tmp_path: Path) -> FilmPlan:
    return plan_test_film(tmp_path, frame_counts=(30, 24), size=(128, 72))


@pytest.fixture
def made(plan: FilmPlan, tmp_path: Path) -> tuple[SegmentRecord, Path]:
    picture = make_picture(size=(128, 72))
    return encode_segments(plan, plan.segments, picture, folder=tmp_path / "work")[1]


@pytest.fixture
def writer(plan: FilmPlan, tmp_path: Path) -> SegmentWriter:
    return SegmentWriter(plan.segments[1], encoding=plan.encoding, clock=plan.clock, folder=tmp_path)


def packet(frame: int, *, keyframe: bool = False) -> EncodedPacket:
    return EncodedPacket(frame, keyframe, b"\0\0\0\2\x41" + bytes((frame,)))


def finish(writer: SegmentWriter) -> tuple[SegmentRecord, Path]:
    return writer.finish(encoder="x264", parameter_sets=(b"\x67\x42\0\x1e", b"\x68\xee"), session=1)


# What is written


def test_the_file_plays_alone_from_its_first_frame(made: tuple[SegmentRecord, Path]) -> None:
    _, path = made
    assert decoded_numbers(path, height=72) == list(range(30, 54))
    assert ffmpeg_says(path) == ""


def test_the_record_names_every_packet_and_frame(made: tuple[SegmentRecord, Path], plan: FilmPlan) -> None:
    record, path = made
    check_record(record)
    payloads = payloads_of(path, record)
    assert record.payload_offset + record.payload_bytes == path.stat().st_size
    assert b"".join(payloads) == path.read_bytes()[record.payload_offset :]
    assert record.packet_digest_list == [packet_digest(payload) for payload in payloads]
    assert record.payload_digest == blake3(b"".join(payloads)).hexdigest()
    assert sorted(record.packet_frames) == list(range(24))
    assert record.keyframes == (0, 12)
    assert (record.address, record.frames_digest) == (plan.segments[1].address, plan.segments[1].frames_digest)
    assert record.event.started_at <= record.event.ended_at


def test_the_record_keeps_signatures_of_the_frames_as_fed(made: tuple[SegmentRecord, Path]) -> None:
    record, _ = made
    picture, fingerprinter = make_picture(size=(128, 72)), Fingerprinter()
    assert record.fingerprint_list == [fingerprinter.add(picture(frame)) for frame in range(30, 54)]
    assert [sample.frame for sample in record.samples] == [0, 12]
    for sample in record.samples:
        assert unpack(sample.thumbnail, 576) == [make_thumbnail(picture(30 + sample.frame)[0])]


def test_nothing_but_the_segment_is_left_in_the_folder(made: tuple[SegmentRecord, Path]) -> None:
    assert {path.suffix for path in made[1].parent.iterdir()} == {".mp4"}


@pytest.mark.parametrize(
    ("keyframes", "samples"),
    [((0,), (0,)), ((0, 9), (0, 9)), ((0, 9, 20), (0, 9, 20)), ((0, 3, 6, 9, 12), (0, 6, 12))],
)
def test_the_first_the_middle_and_the_last_keyframe_are_sampled(
    keyframes: tuple[int, ...], samples: tuple[int, ...]
) -> None:
    assert choose_samples(keyframes) == samples


# What is refused


@pytest.mark.parametrize(
    ("first", "frame"), [(packet(0), 0), (packet(5, keyframe=True), 5), (packet(0, keyframe=True), -1)]
)
def test_a_segment_that_does_not_begin_with_its_keyframe_is_refused(
    writer: SegmentWriter, first: EncodedPacket, frame: int
) -> None:
    with pytest.raises(EncodeFaultError, match="segments must be closed"):
        writer.add_packet(first, frame=frame)


def test_a_packet_of_another_segment_is_refused(writer: SegmentWriter) -> None:
    writer.add_packet(packet(0, keyframe=True), frame=0)
    with pytest.raises(EncodeFaultError, match="shows frame 24 of 24"):
        writer.add_packet(packet(24), frame=24)


def test_a_frame_that_comes_twice_is_refused(writer: SegmentWriter) -> None:
    frames = [*range(23), 22]
    for frame in frames:
        complete = writer.add_packet(packet(frame, keyframe=frame in (0, 12)), frame=frame)
    assert complete
    with pytest.raises(EncodeFaultError, match="23 frames came out"):
        finish(writer)


def test_a_planned_keyframe_that_is_none_is_refused(writer: SegmentWriter) -> None:
    for frame in range(24):
        writer.add_packet(packet(frame, keyframe=frame == 0), frame=frame)
    with pytest.raises(EncodeFaultError, match=r"\(0, 12\) planned, \(0,\) made"):
        finish(writer)


def test_frames_that_come_later_than_the_film_allows_are_refused(writer: SegmentWriter) -> None:
    frames = [0, 4, 3, 2, 1, *range(5, 24)]
    for frame in frames:
        writer.add_packet(packet(frame, keyframe=frame in (0, 12)), frame=frame)
    with pytest.raises(EncodeFaultError, match="3 packets late, the film allows for 2"):
        finish(writer)


def test_a_reordered_segment_in_a_film_without_reordering_is_refused(tmp_path: Path) -> None:
    other = plan_test_film(tmp_path, frame_counts=(24,))
    plan = replace(other, encoding=replace(other.encoding, reorder_frames=0))
    with pytest.raises(EncodeFaultError, match="packets late, the film allows for 0"):
        encode_segments(plan, plan.segments, make_picture(), folder=tmp_path / "work", encoding=other.encoding)


def test_a_folder_that_is_gone_is_a_storage_error(plan: FilmPlan, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"\.packets"):
        SegmentWriter(plan.segments[0], encoding=plan.encoding, clock=plan.clock, folder=tmp_path / "gone")


# Records as JSON


def test_a_record_survives_its_json(made: tuple[SegmentRecord, Path]) -> None:
    record = replace(made[0], event=SegmentEvent("host", 7, 1.5, 10.0, 12.0, 2))
    assert record_from_json(record_to_json(record)) == record


def test_a_record_is_small(made: tuple[SegmentRecord, Path]) -> None:
    record, _ = made
    assert len(record_to_json(record)) < 4000 + 100 * record.frame_count


RECORD_DAMAGE: list[tuple[str, object]] = [
    ("frame_count", 23),
    ("frame_count", 0),
    ("frame_count", "many"),
    ("payload_bytes", 1),
    ("payload_offset", -8),
    ("packet_sizes", []),
    ("packet_sizes", [0] * 24),
    ("packet_frames", list(range(1, 25))),
    ("packet_frames", [0, 4, 3, 2, 1, *range(5, 24)]),
    ("packet_digests", "AAAA"),
    ("packet_digests", "not base64"),
    ("packet_digests", 7),
    ("fingerprints", "AAAA"),
    ("fingerprints", None),
    ("keyframes", [12]),
    ("keyframes", [0, 24]),
    ("samples", [{"frame": 3, "thumbnail": ""}]),
    ("samples", [{"frame": 0, "thumbnail": "AAAA"}]),
    ("reorder_frames", 0),
    ("parameter_sets", ["67", "zz"]),
    ("parameter_sets", ["67"]),
    ("address", None),
]


@pytest.mark.parametrize(("key", "value"), RECORD_DAMAGE, ids=lambda value: str(value)[:24])
def test_a_record_that_contradicts_itself_is_refused(made: tuple[SegmentRecord, Path], key: str, value: object) -> None:
    values = json.loads(record_to_json(made[0]))
    assert values[key] != value
    values[key] = value
    with pytest.raises(SegmentDamagedError):
        record_from_json(json.dumps(values).encode())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"",
        lambda text: text[:-20],
        lambda text: b"\xff\xfe" + text,
        lambda text: b"[]",
        lambda text: text.replace(b'"frame_count"', b'"frames"'),
    ],
)
def test_text_that_is_no_record_is_refused(made: tuple[SegmentRecord, Path], spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(SegmentDamagedError, match="not a segment record"):
        record_from_json(spoil(record_to_json(made[0])))


def test_what_was_packed_comes_back(made: tuple[SegmentRecord, Path]) -> None:
    assert all(len(digest) == 8 for digest in made[0].packet_digest_list)
    assert all(len(fingerprint) == 20 for fingerprint in made[0].fingerprint_list)
    assert unpack("", 8) == []
    assert np.frombuffer(unpack("AAECAw==", 2)[1], np.uint8).tolist() == [2, 3]
