"""The join: order, count and times of frames known by construction, judged by PyAV and the ffmpeg program."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from support.film_damage import (
    NTSC,
    Film,
    content_at,
    decoded,
    decoded_numbers,
    encode_segments,
    ffmpeg_says,
    heard,
    join,
    make_film,
    make_picture,
    make_tone,
    packets_of,
    plan_test_film,
)

from fanreel.audio.track import read_audio
from fanreel.encode.x264 import x264_options
from fanreel.errors import MediaError, SegmentMissingError, StorageError, VerificationError
from fanreel.job.encoding import Preset
from fanreel.join.certificate import certify
from fanreel.join.concat import concat_segments
from fanreel.join.verify import find_damage
from fanreel.segments.tracks import video_track
from fanreel.store.local import LocalStore

COUNTS = (30, 1, 24, 36)
RATES = [Fraction(24), Fraction(30), Fraction(60), NTSC]


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("preset", [Preset.DRAFT, Preset.FAST])
def test_every_pts_and_dts_lies_on_the_grid_with_one_delay(tmp_path: Path, rate: Fraction, preset: Preset) -> None:
    film = make_film(tmp_path, frame_counts=COUNTS, rate=rate, preset=preset)
    count, ticks, delay = sum(COUNTS), film.plan.clock.frame_ticks, film.plan.encoding.reorder_frames
    assert delay == 2
    packets = packets_of(film.path)
    assert {packet.time_base for packet in packets} == {Fraction(1, film.plan.clock.timescale)}
    assert [packet.dts for packet in packets] == [(n - delay) * ticks for n in range(count)]
    assert sorted(packet.pts for packet in packets) == [n * ticks for n in range(count)]
    assert all(packet.pts >= packet.dts for packet in packets)
    assert packets[0].pts == 0
    assert packets[0].is_keyframe
    raw = packets_of(film.path, ignore_editlist="1")
    assert [(packet.pts, packet.dts) for packet in raw] == [(packet.pts, packet.dts) for packet in packets], (
        "a player that ignores edit lists begins later"
    )
    with av.open(str(film.path)) as container:
        assert container.streams.video[0].duration == count * ticks
        assert container.streams.video[0].average_rate == rate


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("one_session", [True, False])
def test_every_frame_comes_once_in_order_at_its_time(tmp_path: Path, rate: Fraction, one_session: bool) -> None:
    film = make_film(tmp_path, frame_counts=COUNTS, rate=rate, one_session=one_session, quality=28)
    assert decoded_numbers(film.path) == list(range(sum(COUNTS)))
    assert [time for time, _ in decoded(film.path)] == [Fraction(n) / rate for n in range(sum(COUNTS))]
    assert ffmpeg_says(film.path) == ""


@pytest.mark.parametrize("preset", list(Preset))
def test_the_film_decodes_to_the_frames_of_its_segments(tmp_path: Path, preset: Preset) -> None:
    film = make_film(tmp_path, frame_counts=COUNTS, preset=preset, gop=10)
    alone = [planes for record in film.records for _, planes in decoded(film.store.local_copy(record))]
    joined = [planes for _, planes in decoded(film.path)]
    assert len(alone) == len(joined) == sum(COUNTS)
    assert all(np.array_equal(one, other) for one, other in zip(alone, joined, strict=True))


def test_a_film_of_two_hundred_short_segments_keeps_its_clock(tmp_path: Path) -> None:
    counts = [31] * 60
    film = make_film(tmp_path, frame_counts=counts, rate=NTSC, size=(64, 64), quality=40, gop=31)
    ticks = film.plan.clock.frame_ticks
    packets = packets_of(film.path)
    assert sorted(packet.pts for packet in packets) == [n * ticks for n in range(sum(counts))]
    assert [packet.dts for packet in packets] == [(n - 2) * ticks for n in range(sum(counts))]
    assert find_damage(film.path, film.certificate) == ()


def test_the_same_segment_twice_is_shown_twice(tmp_path: Path) -> None:
    once = make_film(tmp_path, frame_counts=(12, 18))
    first, second = once.plan.segments
    again = replace(first, index=2, start_frame=30, end_frame=42, keyframes=(30,))
    clip = replace(once.plan.timeline.clips[0], end_frame=42)
    plan = replace(once.plan, segments=(first, second, again), timeline=replace(once.plan.timeline, clips=(clip,)))
    film = join(plan, once.store, tmp_path / "twice.mp4")
    assert decoded_numbers(film.path) == [*range(30), *range(12)]
    assert find_damage(film.path, film.certificate, full=True) == ()


def test_the_join_says_how_many_bytes_it_wrote(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    written: list[int] = []
    path = tmp_path / "again.mp4"
    size = concat_segments(path, plan=film.plan, records=film.records, store=film.store, on_bytes=written.append)
    assert size == sum(written) == path.stat().st_size
    assert path.read_bytes() == film.path.read_bytes()


# Segments that differ


def test_segments_with_other_parameter_sets_share_a_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_test_film(tmp_path, frame_counts=(24, 24, 24))
    store = LocalStore(tmp_path / "store")
    picture = make_picture()
    for number, segment in enumerate(plan.segments):
        with monkeypatch.context() as patched:
            if number == 1:  # as an encoder would that has ids and features of its own

                def others(asked):
                    options = x264_options(asked)
                    return replace(options, parameters=options.parameters | {"sps-id": "0", "8x8dct": "0", "ref": "2"})

                patched.setattr("fanreel.encode.x264.x264_options", others)
            for record, path in encode_segments(plan, [segment], picture, folder=tmp_path / "work"):
                store.put(record, path)
    film = join(plan, store, tmp_path / "mixed.mp4")
    assert len({record.parameter_sets for record in film.records}) == 2
    assert decoded_numbers(film.path) == list(range(72))
    assert ffmpeg_says(film.path) == ""
    assert find_damage(film.path, film.certificate, full=True) == ()


def test_parameter_sets_that_no_decoder_could_tell_apart_are_refused(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    sps, pps = film.records[1].parameter_sets
    clashing = replace(film.records[1], parameter_sets=(sps[:-2] + "ff", pps))
    path = tmp_path / "refused.mp4"
    with pytest.raises(VerificationError, match="cannot be one film"):
        concat_segments(path, plan=film.plan, records=[film.records[0], clashing], store=film.store)
    assert not path.exists()


def test_another_reorder_delay_is_refused(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    other = replace(film.records[1], reorder_frames=0)
    records = [film.records[0], other, film.records[2]]
    path = tmp_path / "refused.mp4"
    with pytest.raises(VerificationError, match="reorder delay of 0 frames, the film 2"):
        concat_segments(path, plan=film.plan, records=records, store=film.store)
    with pytest.raises(VerificationError, match="reorder delay"):
        certify(film.plan, records)
    assert not path.exists()


# Segments that are not there


def test_a_missing_segment_leaves_no_film(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    film.store.local_copy(film.records[1]).unlink()
    path = tmp_path / "refused.mp4"
    with pytest.raises(SegmentMissingError, match=film.records[1].address[:12]):
        concat_segments(path, plan=film.plan, records=film.records, store=film.store)
    assert not path.exists()


def test_a_segment_that_was_cut_short_leaves_no_film(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    segment = film.store.local_copy(film.records[2])
    segment.write_bytes(segment.read_bytes()[:-10])
    path = tmp_path / "refused.mp4"
    with pytest.raises(StorageError, match="10 bytes before the end"):
        concat_segments(path, plan=film.plan, records=film.records, store=film.store)
    assert not path.exists()


def test_a_segment_with_other_bytes_is_joined_but_found(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    segment = film.store.local_copy(film.records[1])
    segment.write_bytes(segment.read_bytes()[:-10] + bytes(10))
    path = tmp_path / "damaged.mp4"
    concat_segments(path, plan=film.plan, records=film.records, store=film.store)
    assert "packet 53 (segment 1)" in find_damage(path, film.certificate)[0].message


def test_a_film_that_exists_is_left_alone(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    before = film.path.read_bytes()
    with pytest.raises(StorageError, match="exists"):
        concat_segments(film.path, plan=film.plan, records=film.records, store=film.store)
    assert film.path.read_bytes() == before


# Audio


def beep(film: Film) -> int:
    """The number of the first sample at which the film beeps."""
    first, samples = heard(film.path)
    assert first == 0
    return int(np.argmax(np.abs(samples) > 0.2))


@pytest.mark.parametrize("rate", [48_000, 44_100])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_beep_is_heard_at_its_sample_through_the_edit_list(tmp_path: Path, rate: int, channels: int) -> None:
    tone = make_tone(tmp_path / "tone.m4a", samples=rate * 3, beep_at=rate, rate=rate, channels=channels)
    film = make_film(tmp_path, frame_counts=(30, 24, 36), audio=read_audio(tone))
    # AAC smears the edge of the beep over a few samples; a packet is 1024.
    assert abs(beep(film) - rate) <= 16
    assert film.certificate.audio is not None
    assert film.certificate.audio.seconds == 3
    assert decoded_numbers(film.path) == list(range(90))
    assert find_damage(film.path, film.certificate, full=True) == ()
    assert ffmpeg_says(film.path) == ""


@pytest.mark.parametrize("frame_rate", [Fraction(30), NTSC])
def test_audio_longer_than_the_film_ends_with_it(tmp_path: Path, frame_rate: Fraction) -> None:
    audio = read_audio(make_tone(tmp_path / "tone.m4a", samples=48_000 * 20, beep_at=24_000))
    film = make_film(tmp_path, frame_counts=(30, 24, 36), rate=frame_rate, audio=audio)
    seconds = 90 / frame_rate
    assert film.certificate.audio is not None
    assert film.certificate.audio.seconds == seconds
    packets = packets_of(film.path, "audio")
    assert len(packets) == film.certificate.audio.packet_count == -(-(48_000 * seconds + 1024) // 1024)
    assert abs(beep(film) - 24_000) <= 16
    with av.open(str(film.path)) as container:
        assert abs(container.duration / 1_000_000 - seconds) <= 1 / frame_rate
    assert find_damage(film.path, film.certificate, full=True) == ()
    assert ffmpeg_says(film.path) == ""


def test_audio_shorter_than_the_film_keeps_its_length_to_the_sample(tmp_path: Path) -> None:
    audio = read_audio(make_tone(tmp_path / "tone.m4a", samples=70_001, beep_at=24_000))
    assert audio.seconds == Fraction(70_001, 48_000)
    film = make_film(tmp_path, frame_counts=(30, 24, 36), audio=audio)
    assert film.certificate.audio is not None
    assert film.certificate.audio.seconds == Fraction(70_001, 48_000)
    assert abs(beep(film) - 24_000) <= 16
    with av.open(str(film.path)) as container:
        assert container.duration == 3_000_000
    assert find_damage(film.path, film.certificate, full=True) == ()
    assert ffmpeg_says(film.path) == ""


def test_audio_lies_beside_the_pictures_that_it_goes_with(tmp_path: Path) -> None:
    audio = read_audio(make_tone(tmp_path / "tone.m4a", samples=48_000 * 3, beep_at=24_000))
    film = make_film(tmp_path, frame_counts=(30, 24, 36), audio=audio)
    with av.open(str(film.path)) as container:
        places = sorted(
            (packet.pos, packet.stream.type, packet.pts * packet.time_base)
            for packet in container.demux()
            if packet.size
        )
    ends = [kind for (_, kind, _), (_, following, _) in pairwise(places) if kind != following]
    assert ends == ["video", "audio"] * 2 + ["video"]
    for (_, kind, time), (_, following, after) in pairwise(places):
        assert kind == following or abs(time - after) <= Fraction(6, 5)  # a segment, 1.2 s


def test_the_film_starts_at_once_though_it_has_audio(tmp_path: Path) -> None:
    audio = read_audio(make_tone(tmp_path / "tone.m4a", samples=48_000, beep_at=24_000))
    film = make_film(tmp_path, frame_counts=(30,), audio=audio)
    data = film.path.read_bytes()
    assert content_at(data, b"moov") < content_at(data, b"mdat")


def test_audio_that_cannot_be_joined_is_refused(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    (tmp_path / "text.m4a").write_text("no sound")
    for path in (film.path, tmp_path / "text.m4a", tmp_path / "gone.m4a"):
        with pytest.raises(MediaError, match=path.name):
            read_audio(path)


def test_audio_that_begins_late_is_refused(tmp_path: Path) -> None:
    tone = make_tone(tmp_path / "tone.m4a", samples=48_000, beep_at=24_000)
    with av.open(str(tone)) as source, av.open(str(tmp_path / "late.m4a"), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.size:
                packet.pts += 9600
                packet.dts += 9600
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(MediaError, match="must begin at 0"):
        read_audio(tmp_path / "late.m4a")


def test_audio_that_is_gone_by_then_leaves_no_film(tmp_path: Path) -> None:
    film = make_film(tmp_path)
    tone = make_tone(tmp_path / "tone.m4a", samples=48_000, beep_at=24_000)
    audio = read_audio(tone)
    tone.unlink()
    path = tmp_path / "refused.mp4"
    with pytest.raises(StorageError, match=r"tone\.m4a"):
        concat_segments(path, plan=film.plan, records=film.records, store=film.store, audio=audio)
    with pytest.raises(StorageError, match=r"tone\.m4a"):
        certify(film.plan, film.records, audio=audio)
    assert not path.exists()


def test_a_track_of_records_has_every_keyframe(tmp_path: Path) -> None:
    film = make_film(tmp_path, frame_counts=(30, 24, 36), gop=12)
    track = video_track(film.records, encoding=film.plan.encoding, clock=film.plan.clock)
    keyframes = [frame for segment in film.plan.segments for frame in segment.keyframes]
    assert track.sync_samples is not None
    assert len(track.sync_samples) == len(keyframes)
    marked = [packet.pts // film.plan.clock.frame_ticks for packet in packets_of(film.path) if packet.is_keyframe]
    assert marked == keyframes
