"""The MP4 writer, judged by two readers that are not ours: PyAV's demuxer and the ffmpeg program."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import random
import resource
import struct
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from fanreel.codecs import Codec
from fanreel.errors import MediaError, StorageError
from fanreel.mp4 import boxes
from fanreel.mp4.layout import read_layout
from fanreel.mp4.moov import Track
from fanreel.mp4.sample_entries import Colour, mp4a_sample_entry, video_sample_entry
from fanreel.mp4.writer import Chunk, mp4_header, write_mp4

avc1_sample_entry = partial(video_sample_entry, Codec.H264)

WIDTH, HEIGHT = 320, 180
BT709 = (1, 1, 1, False)
NTSC = Fraction(30000, 1001)
SAMPLE_RATE = 48000
X264 = "bframes=3:b-adapt=0:scenecut=0:keyint=15"


@dataclasses.dataclass(frozen=True)
class Clip:
    """An H.264 stream in decode order, each sample as 4-byte lengths and NAL units."""

    rate: Fraction
    samples: list[bytes]
    pts: np.ndarray
    keyframes: np.ndarray
    parameter_sets: tuple[bytes, bytes]
    annex_b: bytes

    @property
    def delay(self) -> int:
        return int((np.arange(len(self.pts)) - self.pts).max())

    @property
    def composition(self) -> np.ndarray:
        return self.pts - np.arange(len(self.pts)) + self.delay


def nal_units(annex_b: bytes) -> list[bytes]:
    """Split at start codes; a unit never ends in a zero byte."""
    return [unit.rstrip(b"\0") for unit in annex_b.split(b"\0\0\1")[1:]]


def barcode(number: int) -> av.VideoFrame:
    """A frame that moves and shows `number` as eight white or black bars."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    luma = ((x + 3 * number) // 5 + y // 3) % 120 + 60
    for bit in range(8):
        luma[:40, bit * 40 : bit * 40 + 40] = 235 if number >> bit & 1 else 16
    chroma = np.full((HEIGHT // 2, WIDTH), 128)
    return av.VideoFrame.from_ndarray(np.vstack((luma, chroma)).astype(np.uint8), format="yuv420p")


def number_on(planes: np.ndarray) -> int:
    return sum(int(planes[10:30, bit * 40 + 10 : bit * 40 + 30].mean() > 128) << bit for bit in range(8))


def encode(frame_count: int, *, rate: Fraction = Fraction(30), params: str = X264, profile: str = "high") -> Clip:
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    codec.framerate, codec.time_base = rate, 1 / rate
    codec.flags |= av.codec.context.Flags.global_header
    codec.options = {"preset": "veryfast", "profile": profile, "x264-params": f"{params}:threads=1"}
    packets = []
    for number in range(frame_count):
        frame = barcode(number)
        frame.pts, frame.time_base = number, 1 / rate
        packets += codec.encode(frame)
    packets += codec.encode(None)
    units = nal_units(bytes(codec.extradata))
    return Clip(
        rate=rate,
        samples=[b"".join(struct.pack(">I", len(u)) + u for u in nal_units(bytes(packet))) for packet in packets],
        pts=np.array([packet.pts for packet in packets]),
        keyframes=np.flatnonzero([packet.is_keyframe for packet in packets]),
        parameter_sets=(
            next(unit for unit in units if unit[0] & 31 == 7),
            next(unit for unit in units if unit[0] & 31 == 8),
        ),
        annex_b=bytes(codec.extradata) + b"".join(map(bytes, packets)),
    )


def video_track(*clips: Clip, colour: Colour | None = BT709) -> Track:
    """One track of `clips` end to end, at `clips[0].rate`."""
    ticks, scale = clips[0].rate.denominator, clips[0].rate.numerator
    starts = np.cumsum([0, *(len(clip.samples) for clip in clips)])
    return Track(
        "video",
        timescale=scale,
        sample_entry=avc1_sample_entry(
            width=WIDTH, height=HEIGHT, parameter_sets=[clip.parameter_sets for clip in clips], colour=colour
        ),
        sample_sizes=np.array([len(sample) for clip in clips for sample in clip.samples], np.uint32),
        sample_ticks=ticks,
        composition_ticks=np.concatenate([clip.composition for clip in clips]) * ticks,
        sync_samples=np.concatenate([clip.keyframes + start for clip, start in zip(clips, starts, strict=False)]),
        start_ticks=clips[0].delay * ticks,
        presented_ticks=int(starts[-1]) * ticks,
        width=WIDTH,
        height=HEIGHT,
    )


def payload_chunks(folder: Path, samples: list[bytes], *, per_chunk: int, track: int = 0) -> list[Chunk]:
    """Store `samples` in files of `per_chunk`, each behind some bytes that do not belong to them."""
    chunks = []
    for start in range(0, len(samples), per_chunk):
        part = samples[start : start + per_chunk]
        path, data = folder / f"payload-{track}-{start}.bin", b"".join(part)
        path.write_bytes(b"not a sample" + data + b"nor this")
        chunks.append(Chunk(track, sample_count=len(part), path=path, offset=12, length_bytes=len(data)))
    return chunks


def packets_of(path: Path, kind: str = "video") -> list[av.Packet]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(**{kind: 0}) if packet.size]


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def frames_of_stream(annex_b: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(annex_b), format="h264") as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def ffmpeg(*arguments: str | Path) -> bytes:
    """What ffmpeg writes; that it says nothing and exits 0 is part of the test."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-xerror", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
    return done.stdout


def content_of(data: bytes, kind: bytes) -> bytes:
    """The content of the only box `kind` in `data`."""
    assert data.count(kind) == 1
    at = data.index(kind)
    return data[at + 4 : at - 4 + int.from_bytes(data[at - 4 : at], "big")]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return encode(50)


@pytest.fixture
def film(clip: Clip, tmp_path: Path) -> Path:
    write_mp4(
        tmp_path / "film.mp4",
        tracks=[video_track(clip)],
        chunks=payload_chunks(tmp_path, clip.samples, per_chunk=15),
    )
    return tmp_path / "film.mp4"


@pytest.mark.parametrize("rate", [Fraction(30), NTSC])
def test_packets_and_their_times_are_exact(tmp_path: Path, rate: Fraction) -> None:
    clip = encode(50, rate=rate)
    assert clip.delay > 0, "the clip has no B-frames and so proves nothing about reordering"
    path = tmp_path / "film.mp4"
    size = write_mp4(path, tracks=[video_track(clip)], chunks=payload_chunks(tmp_path, clip.samples, per_chunk=7))
    packets = packets_of(path)
    assert size == path.stat().st_size
    assert [bytes(packet) for packet in packets] == clip.samples
    assert {packet.time_base for packet in packets} == {Fraction(1, rate.numerator)}
    assert [packet.pts for packet in packets] == (clip.pts * rate.denominator).tolist()
    assert sorted(packet.pts for packet in packets) == [n * rate.denominator for n in range(50)]
    assert [packet.dts for packet in packets] == [(n - clip.delay) * rate.denominator for n in range(50)]
    assert [n for n, packet in enumerate(packets) if packet.is_keyframe] == clip.keyframes.tolist()
    with av.open(str(path)) as container:
        assert container.streams.video[0].duration == 50 * rate.denominator
        assert container.streams.video[0].average_rate == rate
        assert container.duration == round(50 / rate * 1_000_000)


@pytest.mark.parametrize("rate", [Fraction(30), NTSC])
def test_every_frame_decodes_as_in_the_stream(tmp_path: Path, rate: Fraction) -> None:
    clip = encode(50, rate=rate)
    path = tmp_path / "film.mp4"
    write_mp4(path, tracks=[video_track(clip)], chunks=payload_chunks(tmp_path, clip.samples, per_chunk=50))
    frames, expected = frames_of(path), frames_of_stream(clip.annex_b)
    assert [number_on(frame) for frame in frames] == list(range(50))
    assert np.array_equal(frames, expected)
    assert ffmpeg("-i", path, "-f", "rawvideo", "-fps_mode", "passthrough", "-") == np.stack(expected).tobytes()


def test_seeking_lands_on_the_keyframe_before(film: Path) -> None:
    with av.open(str(film)) as container:
        for wanted in (44, 3, 31, 15):
            container.seek(wanted, stream=container.streams.video[0])
            assert next(container.demux(video=0)).pts == wanted // 15 * 15


@pytest.mark.parametrize("colour", [BT709, (9, 16, 9, True), (5, 6, 5, False)])
def test_colour_tags_are_read_back(clip: Clip, tmp_path: Path, colour: Colour) -> None:
    path = tmp_path / "film.mp4"
    chunks = payload_chunks(tmp_path, clip.samples, per_chunk=50)
    write_mp4(path, tracks=[video_track(clip, colour=colour)], chunks=chunks)
    with av.open(str(path)) as container:
        found = container.streams.video[0].codec_context
        tags = (found.color_primaries, found.color_trc, found.colorspace, found.color_range)
    assert tags == (*colour[:3], 2 if colour[3] else 1)
    assert read_layout(path).video_tracks[0].colour == colour


def test_stored_segments_play_and_join_without_being_unpacked(tmp_path: Path) -> None:
    parts = [encode(count, params=f"{X264}:qp={qp}") for count, qp in ((31, 20), (45, 20), (2, 20))]
    chunks = []
    for number, part in enumerate(parts):
        path = tmp_path / f"segment {number}'s.mp4"
        write_mp4(path, tracks=[video_track(part)], chunks=payload_chunks(tmp_path, part.samples, per_chunk=100))
        assert [number_on(frame) for frame in frames_of(path)] == list(range(len(part.samples)))
        mdat = read_layout(path).spans[-1]
        length = mdat.end_byte - mdat.content_byte
        chunks.append(
            Chunk(0, sample_count=len(part.samples), path=path, offset=mdat.content_byte, length_bytes=length)
        )
        (tmp_path / "payload-0-0.bin").unlink()
    film = tmp_path / "film.mp4"
    assert parts[1].delay == parts[0].delay > parts[2].delay
    track = video_track(*parts)
    # One reorder delay for the film: the two-frame part has none of its own.
    composition = np.concatenate([part.pts - np.arange(len(part.pts)) + parts[0].delay for part in parts])
    write_mp4(film, tracks=[dataclasses.replace(track, composition_ticks=composition)], chunks=chunks)
    assert sorted(packet.pts for packet in packets_of(film)) == list(range(78))
    expected = [frame for part in parts for frame in frames_of_stream(part.annex_b)]
    assert np.array_equal(frames_of(film), expected)
    ffmpeg("-i", film, "-f", "null", "-")


def test_two_encoders_settings_in_one_track_decode_in_full(tmp_path: Path) -> None:
    first = encode(31, params=f"{X264}:sps-id=0:qp=18")
    second = encode(31, params=f"{X264}:sps-id=1:qp=33:no-8x8dct=1:ref=1")
    assert first.parameter_sets[0] != second.parameter_sets[0]
    path = tmp_path / "film.mp4"
    parts = [first, second, first]
    samples = [sample for part in parts for sample in part.samples]
    write_mp4(path, tracks=[video_track(*parts)], chunks=payload_chunks(tmp_path, samples, per_chunk=31))
    layout = read_layout(path).video_tracks[0]
    assert (layout.sample_entry, len(layout.parameter_sets)) == ("avc1", 4)
    expected = [frame for part in parts for frame in frames_of_stream(part.annex_b)]
    assert np.array_equal(frames_of(path), expected)
    assert ffmpeg("-i", path, "-f", "rawvideo", "-fps_mode", "passthrough", "-") == np.stack(expected).tobytes()


@dataclasses.dataclass(frozen=True)
class Sound:
    packets: list[bytes]
    config: bytes
    priming: int
    sample_count: int
    burst: np.ndarray
    burst_at: int


@pytest.fixture(scope="module")
def sound() -> Sound:
    """Silence with a burst of noise at sample 31,234: noise fits itself at one place only."""
    sample_count, burst_at = 80_000, 31_234
    burst = np.random.default_rng(7).uniform(-0.5, 0.5, 4000).astype(np.float32)
    wave = np.zeros(-(-sample_count // 1024) * 1024, np.float32)
    wave[burst_at : burst_at + len(burst)] = burst
    codec = av.CodecContext.create("aac", "w")
    codec.sample_rate, codec.layout, codec.format, codec.bit_rate = SAMPLE_RATE, "mono", "fltp", 192_000
    codec.time_base = Fraction(1, SAMPLE_RATE)
    codec.flags |= av.codec.context.Flags.global_header
    packets = []
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        packets += codec.encode(frame)
    packets += codec.encode(None)
    return Sound([bytes(p) for p in packets], bytes(codec.extradata), -packets[0].pts, sample_count, burst, burst_at)


def audio_track(sound: Sound) -> Track:
    return Track(
        "audio",
        timescale=SAMPLE_RATE,
        sample_entry=mp4a_sample_entry(channels=1, sample_rate=SAMPLE_RATE, audio_specific_config=sound.config),
        sample_sizes=np.array([len(packet) for packet in sound.packets], np.uint32),
        sample_ticks=1024,
        composition_ticks=None,
        sync_samples=None,
        start_ticks=sound.priming,
        presented_ticks=sound.sample_count,
    )


def interleaved(*chunks_of_each: list[Chunk]) -> list[Chunk]:
    longest = max(map(len, chunks_of_each))
    return [chunks[n] for n in range(longest) for chunks in chunks_of_each if n < len(chunks)]


def test_the_sound_lies_where_it_was_put(clip: Clip, sound: Sound, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    chunks = interleaved(
        payload_chunks(tmp_path, clip.samples, per_chunk=15),
        payload_chunks(tmp_path, sound.packets, per_chunk=23, track=1),
    )
    write_mp4(path, tracks=[video_track(clip), audio_track(sound)], chunks=chunks)
    assert [bytes(packet) for packet in packets_of(path, "audio")] == sound.packets
    assert [bytes(packet) for packet in packets_of(path)] == clip.samples
    assert np.array_equal(frames_of(path), frames_of_stream(clip.annex_b))
    decoded = np.frombuffer(ffmpeg("-i", path, "-map", "0:a", "-f", "f32le", "-"), np.float32)
    assert np.argmax(np.correlate(decoded, sound.burst)) == sound.burst_at
    assert len(decoded) == sound.sample_count
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert bytes(stream.codec_context.extradata) == sound.config
        assert (stream.codec_context.sample_rate, stream.codec_context.channels) == (SAMPLE_RATE, 1)
        frames = list(container.decode(audio=0))
    assert frames[0].pts == 0
    assert np.argmax(np.correlate(np.hstack([f.to_ndarray()[0] for f in frames]), sound.burst)) == sound.burst_at


def test_sound_alone_is_a_file_too(sound: Sound, tmp_path: Path) -> None:
    path = tmp_path / "sound.m4a"
    write_mp4(path, tracks=[audio_track(sound)], chunks=payload_chunks(tmp_path, sound.packets, per_chunk=1000))
    decoded = np.frombuffer(ffmpeg("-i", path, "-f", "f32le", "-"), np.float32)
    assert len(decoded) == sound.sample_count
    assert read_layout(path).video_tracks == ()


def test_a_coarse_movie_timescale_rounds_the_sound_up_and_never_cuts_it(clip: Clip, sound: Sound) -> None:
    chunks = [
        Chunk(index, sample_count=len(samples), path=Path("x"), offset=0, length_bytes=sum(map(len, samples)))
        for index, samples in enumerate((clip.samples, sound.packets))
    ]
    header = mp4_header(tracks=[video_track(clip), audio_track(sound)], chunks=chunks)
    edit = header[header.rindex(b"elst") + 12 :]
    assert struct.unpack(">Ii", edit[:8]) == (50, 1024)  # 80,000 samples are 50 ticks of 1/30 s
    longer = dataclasses.replace(audio_track(sound), presented_ticks=80_001)
    header = mp4_header(tracks=[video_track(clip), longer], chunks=chunks)
    assert struct.unpack(">I", header[header.rindex(b"elst") + 12 :][:4]) == (51,)


@pytest.mark.parametrize("profile", ["high", "main", "baseline"])
def test_the_decoder_record_is_the_one_ffmpeg_writes(tmp_path: Path, profile: str) -> None:
    params = X264 if profile != "baseline" else "bframes=0:keyint=15"
    clip = encode(20, profile=profile, params=params)
    (tmp_path / "clip.264").write_bytes(clip.annex_b)
    ffmpeg("-i", tmp_path / "clip.264", "-c", "copy", "-f", "mp4", tmp_path / "theirs.mp4")
    entry = avc1_sample_entry(width=WIDTH, height=HEIGHT, parameter_sets=[clip.parameter_sets])
    assert content_of(entry, b"avcC") == content_of((tmp_path / "theirs.mp4").read_bytes(), b"avcC")
    assert len(entry) == int.from_bytes(entry[:4], "big")
    assert b"colr" not in entry


def test_equal_parameter_sets_are_stored_once(clip: Clip) -> None:
    once = avc1_sample_entry(width=WIDTH, height=HEIGHT, parameter_sets=[clip.parameter_sets])
    assert avc1_sample_entry(width=WIDTH, height=HEIGHT, parameter_sets=[clip.parameter_sets] * 5) == once


def test_the_record_tells_the_highest_level_and_what_all_are_compatible_with() -> None:
    low = encode(4, params=f"{X264}:level=2.1")
    high = encode(4, params=f"{X264}:level=5.1:sps-id=1")
    entry = avc1_sample_entry(width=WIDTH, height=HEIGHT, parameter_sets=[low.parameter_sets, high.parameter_sets])
    record = content_of(entry, b"avcC")
    assert tuple(record[:4]) == (1, 100, low.parameter_sets[0][2] & high.parameter_sets[0][2], 51)
    assert record[5] & 31 == 2
    assert record[-4:] == bytes((0xFD, 0xF8, 0xF8, 0))  # 4:2:0, 8 bits


def test_a_compatibility_that_one_setting_lacks_is_not_claimed() -> None:
    constrained, plain = bytes((0x67, 66, 0xC0, 30, 0x80)), bytes((0x67, 66, 0x80, 13, 0x40))
    sets = [(constrained, b"\x68\x80"), (plain, b"\x68\x40")]
    record = content_of(avc1_sample_entry(width=16, height=16, parameter_sets=sets), b"avcC")
    assert tuple(record[:4]) == (1, 66, 0x80, 30)


def test_two_settings_under_one_id_are_refused(clip: Clip) -> None:
    other = encode(4, params="bframes=0:ref=1:no-8x8dct=1")
    with pytest.raises(ValueError, match=r"two different SPS have the id 0"):
        avc1_sample_entry(width=WIDTH, height=HEIGHT, parameter_sets=[clip.parameter_sets, other.parameter_sets])


def test_units_of_another_kind_are_refused(clip: Clip) -> None:
    sps, pps = clip.parameter_sets
    for wrong in [(pps, sps), (b"\0\0\0\1" + sps, pps), (b"", pps), (sps, b""), (sps[:4], pps)]:
        with pytest.raises(ValueError, match=r"NAL unit of type|is cut short"):
            avc1_sample_entry(width=WIDTH, height=HEIGHT, parameter_sets=[wrong])
    with pytest.raises(ValueError, match="0 NAL units"):
        avc1_sample_entry(width=WIDTH, height=HEIGHT, parameter_sets=[])


def test_depths_that_differ_are_refused() -> None:
    # SPS of High and High 10: id, chroma format and two bit depths are Exp-Golomb: 1 010 1 1 and 010 010 011 011.
    eight, deeper = bytes((0x67, 100, 0, 30, 0b10101100)), bytes((0x67, 110, 0, 30, 0b01001001, 0b10110000))
    with pytest.raises(ValueError, match="chroma format or bit depth"):
        avc1_sample_entry(width=16, height=16, parameter_sets=[(eight, b"\x68\x80"), (deeper, b"\x68\x40")])


def unpacked(table: bytes, columns: int) -> np.ndarray:
    count = int.from_bytes(table[:4], "big")
    rows = np.frombuffer(table[4:], ">u4").reshape(-1, columns)
    assert len(rows) == count
    return rows


@pytest.mark.parametrize("seed", range(20))
def test_run_tables_hold_every_value(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 3, rng.integers(1, 40)) * (2**32 - 1) // 2
    rows = unpacked(content_of(boxes.run_table("ctts", values), b"ctts")[4:], 2)
    assert np.repeat(rows[:, 1], rows[:, 0]).tolist() == values.tolist()
    assert (np.diff(rows[:, 1].astype(np.int64)) != 0).all(), "neighbours are not merged"
    rows = unpacked(content_of(boxes.stsc(values), b"stsc")[4:], 3)
    chunks = np.diff(rows[:, 0].astype(np.int64), append=len(values) + 1)
    assert rows[0, 0] == 1
    assert np.repeat(rows[:, 1], chunks).tolist() == values.tolist()


def test_signed_offsets_say_how_far_decoding_is_ahead() -> None:
    offsets = np.array([0, 3, 0, -2, -1]) * 512
    table = content_of(boxes.run_table("ctts", offsets), b"ctts")
    assert table[0] == 1, "of version 0 offsets are read as unsigned"
    rows = np.frombuffer(table[8:], ">i4").reshape(-1, 2)
    assert np.repeat(rows[:, 1], rows[:, 0]).tolist() == offsets.tolist()
    told = boxes.cslg(composition_ticks=offsets, shift_ticks=1024, duration_ticks=5 * 512)
    assert struct.unpack(">I5i", content_of(told, b"cslg")) == (0, 1024, -1024, 1536, 0, 2560)
    told = boxes.cslg(composition_ticks=offsets, shift_ticks=1024, duration_ticks=2**31)
    assert struct.unpack(">I5q", content_of(told, b"cslg")) == (1 << 24, 1024, -1024, 1536, 0, 2**31)


def plain_track(sizes: np.ndarray, **changes: object) -> Track:
    track = Track(
        "video",
        timescale=30,
        sample_entry=boxes.box("avc1", bytes(78)),
        sample_sizes=sizes,
        sample_ticks=1,
        composition_ticks=None,
        sync_samples=None,
        start_ticks=0,
        presented_ticks=len(sizes),
    )
    return dataclasses.replace(track, **changes)


def nowhere(*counts_and_sizes: tuple[int, int]) -> list[Chunk]:
    return [Chunk(0, sample_count=n, path=Path("none"), offset=0, length_bytes=size) for n, size in counts_and_sizes]


def test_keyframes_are_counted_from_one() -> None:
    assert content_of(boxes.stss(np.array([0, 30, 648_000 - 1])), b"stss") == struct.pack(">5I", 0, 3, 1, 31, 648_000)


@pytest.mark.parametrize(
    ("start", "duration", "version", "layout"),
    [
        (2**31 - 1, 2**32 - 1, 0, ">IiI"),
        (2**31, 1, 1, ">QqI"),
        (0, 2**32, 1, ">QqI"),
    ],
)
def test_edits_take_64_bits_where_they_must(start: int, duration: int, version: int, layout: str) -> None:
    edit = content_of(boxes.edts(start_ticks=start, duration_ticks=duration), b"elst")
    assert edit == struct.pack(">II", version << 24, 1) + struct.pack(layout, duration, start, 0x10000)


def test_only_sound_has_a_volume() -> None:
    for audible, volume in ((True, b"\1\0"), (False, b"\0\0")):
        header = boxes.tkhd(track_id=1, duration_ticks=9, width=320, height=180, audible=audible)
        assert header[8 + 36 : 8 + 38] == volume
        assert header[-8:] == struct.pack(">II", 320 << 16, 180 << 16)


@pytest.mark.parametrize(("rate", "written"), [(44100, 44100 << 16), (96000, 0)])
def test_a_sample_rate_is_written_where_it_fits(rate: int, written: int) -> None:
    entry = mp4a_sample_entry(channels=2, sample_rate=rate, audio_specific_config=b"\x12\x10")
    assert struct.unpack(">HHHHI", entry[24:36]) == (2, 16, 0, 0, written)


def test_six_hours_of_tables_cost_no_loop_over_the_samples() -> None:
    count = 648_000
    rng = np.random.default_rng(0)
    sizes = rng.integers(100, 9000, count).astype(np.uint32)
    track = plain_track(
        sizes,
        composition_ticks=rng.integers(0, 5, count) * 1001,
        sample_ticks=rng.integers(1001, 1003, count),
        sync_samples=np.arange(0, count, 30),
    )
    chunks = nowhere(*((600, int(length)) for length in sizes.reshape(1080, 600).sum(axis=1)))

    def fastest(make: Callable[[], object]) -> float:
        took = []
        for _ in range(3):
            started = time.thread_time()  # what else the machine does is no matter
            make()
            took.append(time.thread_time() - started)
        return min(took)

    tables = fastest(lambda: mp4_header(tracks=[track], chunks=chunks))
    loop = fastest(lambda: b"".join(struct.pack(">I", size) for size in sizes.tolist()))
    assert tables < 4 * loop, "four tables, each in less than Python packs one"
    header = mp4_header(tracks=[track], chunks=chunks)
    assert unpacked(content_of(header, b"stsz")[8:], 1)[:, 0].tolist() == sizes.tolist()


def test_offsets_take_64_bits_from_the_first_byte_that_needs_them() -> None:
    def header_for(first_bytes: int) -> bytes:
        half = first_bytes // 2
        sizes = np.array([half, first_bytes - half, 10], np.uint32)
        return mp4_header(tracks=[plain_track(sizes)], chunks=nowhere((2, first_bytes), (1, 10)))

    largest = 2**32 - 1 - len(header_for(2**32 - 1000))
    narrow, wide = header_for(largest), header_for(largest + 1)
    assert unpacked(content_of(narrow, b"stco")[4:], 1)[:, 0].tolist() == [len(narrow), 2**32 - 1]
    assert struct.unpack(">2Q", content_of(wide, b"co64")[8:]) == (len(wide), len(wide) + largest + 1)
    assert b"co64" not in narrow
    assert b"stco" not in wide
    assert len(wide) == len(narrow) + 8


def test_only_tracks_that_need_it_get_wide_offsets() -> None:
    tracks = [plain_track(np.full(2, 2**31, np.uint32)), plain_track(np.array([7], np.uint32))]
    chunks = [Chunk(track, sample_count=n, path=Path("none"), offset=0, length_bytes=size) for track, n, size in
              ((0, 2, 2**32), (1, 1, 7))]  # fmt: skip
    header = mp4_header(tracks=tracks, chunks=chunks)
    assert unpacked(content_of(header, b"stco")[4:], 1).tolist() == [[len(header)]]
    assert struct.unpack(">Q", content_of(header, b"co64")[8:]) == (len(header) + 2**32,)


def test_mdat_takes_64_bits_from_the_first_byte_that_needs_them() -> None:
    assert boxes.mdat_header(2**32 - 9) == b"\xff\xff\xff\xffmdat"
    assert boxes.mdat_header(2**32 - 8) == struct.pack(">I4sQ", 1, b"mdat", 2**32 + 8)


def test_durations_past_32_bits_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    ticks = np.full(3, 2**31, np.int64)
    track = dataclasses.replace(
        video_track(encode(3, params="bframes=0")), sample_ticks=ticks, start_ticks=2**31, presented_ticks=2 * 2**31
    )
    (tmp_path / "data").write_bytes(bytes(int(track.sample_sizes.sum())))
    chunk = Chunk(0, sample_count=3, path=tmp_path / "data", offset=0, length_bytes=int(track.sample_sizes.sum()))
    write_mp4(path, tracks=[track], chunks=[chunk])
    layout = read_layout(path).video_tracks[0]
    assert (layout.start_ticks, layout.presented_seconds) == (2**31, Fraction(2**32, 30))
    with av.open(str(path)) as container:
        assert container.duration == 2**32 * 1_000_000 // 30
    # All ones mean "unknown" in 32 bits, so that length too is written in 64.
    assert content_of(boxes.mdhd(timescale=1, duration_ticks=2**32 - 1), b"mdhd")[0] == 1
    assert content_of(boxes.mdhd(timescale=1, duration_ticks=2**32 - 2), b"mdhd")[0] == 0


def copy_leaving_holes(source: int, target: int, count: int, offset: int) -> int:
    """`os.copy_file_range` that leaves a hole where the source has one, instead of writing gigabytes of zeros."""
    data_at = os.fstat(source).st_size
    with contextlib.suppress(OSError):  # ENXIO: there is no data up to the end
        data_at = os.lseek(source, offset, os.SEEK_DATA)
    hole = min(count, data_at - offset)
    if hole:
        os.ftruncate(target, os.lseek(target, hole, os.SEEK_CUR))
        return hole
    return os.write(target, os.pread(source, min(count, 2**20), offset))


def test_samples_past_4_gib_are_found(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", copy_leaving_holes)
    sparse = tmp_path / "sparse.bin"
    sparse.touch()
    os.truncate(sparse, 4300 * 2**20)
    filler = plain_track(
        np.full(4300, 2**20, np.uint32),
        kind="audio",
        sample_entry=boxes.box("none", struct.pack(">6xH8xHH4xI", 1, 1, 16, 30 << 16)),
    )
    early, late = payload_chunks(tmp_path, clip.samples, per_chunk=25)
    gap = Chunk(1, sample_count=4300, path=sparse, offset=0, length_bytes=4300 * 2**20)
    path = tmp_path / "film.mp4"
    size = write_mp4(path, tracks=[video_track(clip), filler], chunks=[early, gap, late])
    assert path.stat().st_size == size > 2**32
    layout = read_layout(path)
    mdat = layout.spans[-1]
    assert (mdat.kind, mdat.content_byte - mdat.start_byte, mdat.end_byte) == ("mdat", 16, size)
    assert not layout.truncated
    expected = np.stack(frames_of_stream(clip.annex_b)).tobytes()
    assert ffmpeg("-i", path, "-map", "0:v", "-f", "rawvideo", "-fps_mode", "passthrough", "-") == expected


def test_what_is_told_adds_up_and_the_file_is_synced(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), real(fd)))
    told: list[int] = []
    chunks = payload_chunks(tmp_path, clip.samples, per_chunk=15)
    size = write_mp4(tmp_path / "film.mp4", tracks=[video_track(clip)], chunks=chunks, on_bytes=told.append)
    assert sum(told) == size
    assert synced == [size]
    assert len(told) == 1 + len(chunks)


def refuse(code: int):
    def call(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("code", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, None])
@pytest.mark.parametrize("names", [["copy_file_range"], ["copy_file_range", "sendfile"]])
def test_every_way_of_copying_gives_the_same_file(
    clip: Clip, film: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], code: int | None
) -> None:
    reads, real = [], os.pread
    monkeypatch.setattr(os, "pread", lambda *arguments: (reads.append(arguments), real(*arguments))[1])
    for name in names:
        monkeypatch.setattr(os, name, refuse(code) if code else lambda *_: 0)
    again = film.with_name("again.mp4")
    chunks = payload_chunks(film.parent, clip.samples, per_chunk=15)
    write_mp4(again, tracks=[video_track(clip)], chunks=chunks)
    assert again.read_bytes() == film.read_bytes()
    assert len(reads) == (len(chunks) if "sendfile" in names else 0)


@pytest.mark.parametrize("name", ["copy_file_range", "sendfile"])
def test_a_platform_without_a_call_still_writes(film: Path, clip: Clip, name: str, monkeypatch) -> None:
    monkeypatch.delattr(os, name)
    again = film.with_name("again.mp4")
    chunks = payload_chunks(film.parent, clip.samples, per_chunk=15)
    write_mp4(again, tracks=[video_track(clip)], chunks=chunks)
    assert again.read_bytes() == film.read_bytes()


def test_the_same_input_gives_the_same_bytes(film: Path, clip: Clip) -> None:
    for name in ("mvhd", "tkhd", "mdhd"):
        # After version and flags: the times of creation and modification.
        assert content_of(film.read_bytes(), name.encode())[4:12] == bytes(8)
    again = film.with_name("again.mp4")
    write_mp4(again, tracks=[video_track(clip)], chunks=payload_chunks(film.parent, clip.samples, per_chunk=15))
    assert again.read_bytes() == film.read_bytes()


def test_a_missing_payload_leaves_no_film(clip: Clip, tmp_path: Path) -> None:
    chunks = payload_chunks(tmp_path, clip.samples, per_chunk=15)
    chunks[2].path.unlink()
    with pytest.raises(StorageError, match=r"payload-0-30\.bin.*No such file"):
        write_mp4(tmp_path / "film.mp4", tracks=[video_track(clip)], chunks=chunks)
    assert not (tmp_path / "film.mp4").exists()


def test_a_short_payload_leaves_no_film(clip: Clip, tmp_path: Path) -> None:
    chunks = payload_chunks(tmp_path, clip.samples, per_chunk=15)
    os.truncate(chunks[1].path, 12 + chunks[1].length_bytes - 5)
    with pytest.raises(StorageError, match=r"payload-0-15\.bin ends 5 bytes before"):
        write_mp4(tmp_path / "film.mp4", tracks=[video_track(clip)], chunks=chunks)
    assert not (tmp_path / "film.mp4").exists()


def test_a_disk_that_takes_no_more_leaves_no_film(clip: Clip, tmp_path: Path) -> None:
    chunks = payload_chunks(tmp_path, clip.samples, per_chunk=15)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"could not write .*film\.mp4: File too large"):
            write_mp4(tmp_path / "film.mp4", tracks=[video_track(clip)], chunks=chunks)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "film.mp4").exists()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_no_film(clip: Clip, tmp_path: Path, interruption: type[BaseException]) -> None:
    def interrupt(_: int) -> None:
        raise interruption

    chunks = payload_chunks(tmp_path, clip.samples, per_chunk=15)
    with pytest.raises(interruption):
        write_mp4(tmp_path / "film.mp4", tracks=[video_track(clip)], chunks=chunks, on_bytes=interrupt)
    assert not (tmp_path / "film.mp4").exists()


def test_a_file_that_exists_is_left_alone(clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_text("someone else's")
    chunks = payload_chunks(tmp_path, clip.samples, per_chunk=15)
    with pytest.raises(StorageError, match=r"create .*film\.mp4: File exists"):
        write_mp4(tmp_path / "film.mp4", tracks=[video_track(clip)], chunks=chunks)
    assert (tmp_path / "film.mp4").read_text() == "someone else's"


SIZES = np.array([10, 20, 30], np.uint32)


@pytest.mark.parametrize(
    ("changes", "chunks", "message"),
    [
        ({}, nowhere((3, 61)), r"chunk 0 \(none\) has 61 bytes, but its samples in track 0 add up to 60"),
        ({}, nowhere((1, 10), (2, 49)), r"chunk 1 .* 49 bytes, .* add up to 50"),
        ({}, nowhere((2, 30)), r"track 0 has 3 samples, its chunks \[2\]"),
        ({}, nowhere((3, 60), (0, 0)), r"its chunks \[3, 0\]"),
        ({}, [], r"its chunks \[\]"),
        ({}, [Chunk(1, sample_count=3, path=Path("none"), offset=0, length_bytes=60)], "chunk 0 belongs to track 1"),
        ({"sample_ticks": np.array([1, 1])}, nowhere((3, 60)), "3 samples but 2 sample_ticks"),
        ({"sample_ticks": np.array([1, 1, -1])}, nowhere((3, 60)), "sample_ticks of -1"),
        ({"sync_samples": np.array([0, 3])}, nowhere((3, 60)), "sync_samples"),
        ({"sync_samples": np.array([1, 1])}, nowhere((3, 60)), "sync_samples"),
    ],
)
def test_contradictions_are_named_and_nothing_is_written(tmp_path, changes, chunks, message) -> None:
    with pytest.raises(ValueError, match=message):
        write_mp4(tmp_path / "film.mp4", tracks=[plain_track(SIZES, **changes)], chunks=chunks)
    assert list(tmp_path.iterdir()) == []


def test_a_film_without_tracks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one track"):
        write_mp4(tmp_path / "film.mp4", tracks=[], chunks=[])


def test_the_layout_of_our_own_file(film: Path, clip: Clip) -> None:
    layout = read_layout(film)
    assert [span.kind for span in layout.spans] == ["ftyp", "moov", "mdat"]
    assert [span.start_byte for span in layout.spans[1:]] == [span.end_byte for span in layout.spans[:-1]]
    assert layout.spans[-1].end_byte == film.stat().st_size
    assert layout.spans[-1].content_byte + sum(map(len, clip.samples)) == film.stat().st_size
    assert layout.moov_first
    assert not layout.truncated
    (video,) = layout.video_tracks
    assert (video.sample_entry, len(video.parameter_sets), video.colour) == ("avc1", 2, BT709)
    assert (video.timescale, video.start_ticks, video.presented_seconds) == (30, clip.delay, Fraction(50, 30))


def test_the_layout_of_ffmpegs_file(film: Path, clip: Clip) -> None:
    theirs = film.with_name("theirs.mp4")
    ffmpeg("-i", film, "-c", "copy", theirs)
    layout = read_layout(theirs)
    assert not layout.moov_first
    assert not layout.truncated
    (video,) = layout.video_tracks
    assert (video.sample_entry, len(video.parameter_sets), video.colour) == ("avc1", 2, BT709)
    assert Fraction(video.start_ticks, video.timescale) == Fraction(2, 30) == Fraction(clip.delay, 30)
    assert video.presented_seconds == Fraction(1667, 1000)


def test_a_file_cut_anywhere_is_refused_or_called_truncated(film: Path) -> None:
    data, cut = film.read_bytes(), film.with_name("cut.mp4")
    content = read_layout(film).spans[-1].content_byte
    cut.write_bytes(data)
    for length in (len(data) - 1, content + 1, content, *reversed(range(content))):
        os.truncate(cut, length)
        if length < content:
            with pytest.raises(MediaError, match=r"cut\.mp4 is not a whole MP4 file: ."):
                read_layout(cut)
        else:
            assert read_layout(cut).truncated


@pytest.mark.parametrize("data", [b"", bytes(5000), b"hello\n" * 100, b"\0\0\0\x08ftyp", b"\x89PNG\r\n\x1a\n" * 9])
def test_what_is_no_mp4_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "upload.mp4"
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"upload\.mp4 is not a whole MP4 file: ."):
        read_layout(path)


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"read .*none\.mp4: No such file"):
        read_layout(tmp_path / "none.mp4")


def test_damage_raises_nothing_but_media_errors(film: Path) -> None:
    data, damaged = film.read_bytes()[: read_layout(film).spans[-1].content_byte], film.with_name("damaged.mp4")
    chance, refused = random.Random(5), 0
    for _ in range(1500):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            changed[chance.randrange(len(changed))] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        damaged.write_bytes(changed)
        try:
            read_layout(damaged)
        except MediaError:
            refused += 1
    assert refused > 100


def test_boxes_within_boxes_without_end_are_refused(tmp_path: Path) -> None:
    nested = b""
    for _ in range(5000):
        nested = boxes.box("edts", nested)
    moov = boxes.box("moov", boxes.mvhd(timescale=30, duration_ticks=1, next_track_id=2), boxes.box("trak", nested))
    (tmp_path / "deep.mp4").write_bytes(boxes.ftyp(["avc1"]) + moov + boxes.mdat_header(0))
    with pytest.raises(MediaError, match=r"deep\.mp4"):
        read_layout(tmp_path / "deep.mp4")
