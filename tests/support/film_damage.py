"""Films whose every frame is known, and the knives to damage them with. No test lives here."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np

from fanreel.audio.track import AudioTrack
from fanreel.codecs import CODEC_ENCODERS, Codec
from fanreel.encode.encoder import Encoder, open_encoder
from fanreel.job.encoding import Encoding, Preset
from fanreel.job.machines import Strategy
from fanreel.join.certificate import Certificate, certify
from fanreel.join.concat import concat_segments
from fanreel.mp4.moov import Track
from fanreel.mp4.writer import Chunk, write_mp4
from fanreel.plan.camera import CameraPath, Rect
from fanreel.plan.content import Photo, StillContent
from fanreel.plan.encoding import EncodingPlan, plan_encoding
from fanreel.plan.film import FilmPlan
from fanreel.plan.segments import Segment
from fanreel.plan.timebase import time_base
from fanreel.plan.timeline import Clip, Timeline
from fanreel.segments.record import SegmentRecord
from fanreel.segments.tracks import video_track
from fanreel.segments.writer import SegmentWriter
from fanreel.store.local import LocalStore

NTSC = Fraction(30000, 1001)
BARS = 10
"""Black or white bars that spell the frame's number."""

Planes = Sequence[np.ndarray]
Picture = Callable[[int], Planes]


@dataclass(frozen=True)
class Film:
    """A film on disk and all that is known of it."""

    path: Path
    plan: FilmPlan
    records: tuple[SegmentRecord, ...]
    store: LocalStore
    certificate: Certificate

    @property
    def track(self) -> Track:
        return video_track(self.records, encoding=self.plan.encoding, clock=self.plan.clock)

    @property
    def payloads(self) -> list[bytes]:
        return [payload for record in self.records for payload in payloads_of(self.store.local_copy(record), record)]


def payloads_of(path: Path, record: SegmentRecord) -> list[bytes]:
    """The packets of a segment, cut out of its file by its record."""
    data, position = path.read_bytes(), record.payload_offset
    parts = []
    for size in record.packet_sizes:
        parts.append(data[position : position + size])
        position += size
    return parts


def make_picture(*, seed: int = 0, size: tuple[int, int] = (320, 180), speed: float = 2.0) -> Picture:
    """Frames that pan over a detailed picture and carry their number as bars at the top."""
    width, height = size
    rng = np.random.default_rng(seed)
    wide = np.zeros((height, 2 * width), np.float32)
    for cells in (4, 16, 64):
        wide += cv2.resize(rng.random((cells, 2 * cells), np.float32), (2 * width, height))
    wide = cv2.normalize(wide, None, 40, 210, cv2.NORM_MINMAX).astype(np.uint8)
    chroma = [np.full((height // 2, width // 2), 90 + 20 * (seed + plane) % 80, np.uint8) for plane in range(2)]

    def draw(frame: int) -> Planes:
        left = int(abs((frame * speed + width) % (2 * width) - width))
        luma = wide[:, left : left + width].copy()
        bar = width // BARS
        for bit in range(BARS):
            luma[: height // 5, bit * bar : (bit + 1) * bar] = 235 if frame >> bit & 1 else 16
        return luma, *chroma

    return draw


def number_on(luma: np.ndarray) -> int:
    """The number that a frame's bars spell."""
    height, width = luma.shape
    bar = width // BARS
    cells = [luma[height // 20 : height // 7, bit * bar + bar // 4 : (bit + 1) * bar - bar // 4] for bit in range(BARS)]
    return sum(int(cell.mean() > 126) << bit for bit, cell in enumerate(cells))


def plan_test_film(
    folder: Path,
    *,
    frame_counts: Sequence[int],
    rate: Fraction = Fraction(30),
    preset: Preset = Preset.FAST,
    quality: int = 21,
    size: tuple[int, int] = (320, 180),
    gop: int = 12,
    name: str = "film",
    codec: Codec = Codec.H264,
) -> FilmPlan:
    """A plan with segments of these lengths and a keyframe every `gop` frames."""
    encoding = plan_encoding(
        Encoding(codec=codec, preset=preset, quality=quality), width_px=size[0], height_px=size[1], frame_rate=rate
    )
    starts = [sum(frame_counts[:index]) for index in range(len(frame_counts))]
    segments = tuple(
        Segment(
            index=index,
            start_frame=start,
            end_frame=start + count,
            keyframes=tuple(range(start, start + count, gop)),
            frames_digest=f"{index:064x}",
            address=f"{name}{index:x}".encode().hex().ljust(64, "0"),
            cut="by hand",
        )
        for index, (start, count) in enumerate(zip(starts, frame_counts, strict=True))
    )
    view = Rect(0.0, 0.0, 320.0, 180.0)
    clip = Clip(StillContent(Photo("00" * 32, 320, 180), CameraPath(view, view)), 0, sum(frame_counts))
    return FilmPlan(
        name=f"{name}.mp4",
        timeline=Timeline((clip,)),
        segments=segments,
        encoding=encoding,
        clock=time_base(rate),
        photo_paths={},
        session_cap=0,
        strategy=Strategy.AUTO,
        output=str(folder / f"{name}.mp4"),
    )


def encode_segments(
    plan: FilmPlan,
    segments: Sequence[Segment],
    picture: Picture,
    *,
    folder: Path,
    shown: Picture | None = None,
    encoding: EncodingPlan | None = None,
    change: Callable[[bytes], bytes] = lambda unit: unit,
) -> list[tuple[SegmentRecord, Path]]:
    """Encode `segments` with one session.

    Args:
        plan: The film.
        segments: Some of its segments.
        picture: What the records are told.
        folder: Where the files go.
        shown: What the encoder is fed, if it is to lie.
        encoding: Another encoding than the plan's.
        change: Rewrites the first parameter set (of H.264 the SPS) that the record and the file get.
    """
    folder.mkdir(parents=True, exist_ok=True)
    maker = str(CODEC_ENCODERS[plan.encoding.codec][-1])
    encoder: Encoder = open_encoder(encoding or plan.encoding, encoder=maker, threads=1)
    made: list[tuple[SegmentRecord, Path]] = []
    waiting: deque[SegmentWriter] = deque()

    def take(packets: Iterable) -> None:
        for packet in packets:
            first = segments[0].start_frame
            writer = waiting[0]
            if writer.add_packet(packet, frame=packet.frame + first - writer.segment.start_frame):
                first_set, *others = encoder.parameter_sets
                units = (change(first_set), *others)
                made.append(waiting.popleft().finish(encoder=maker, parameter_sets=units, session=1))

    for segment in segments:
        writer = SegmentWriter(segment, encoding=plan.encoding, clock=plan.clock, folder=folder)
        waiting.append(writer)
        for frame in range(segment.start_frame, segment.end_frame):
            planes = picture(frame)
            writer.add_frame(planes)
            fed = (shown or picture)(frame)
            take(encoder.encode(lambda targets, fed=fed: _fill(targets, fed), keyframe=frame in segment.keyframes))
    take(encoder.finish())
    assert not waiting
    return made


def make_film(
    folder: Path,
    *,
    frame_counts: Sequence[int] = (30, 24, 36),
    picture: Picture | None = None,
    shown: Picture | None = None,
    one_session: bool = True,
    audio: AudioTrack | None = None,
    change: Callable[[bytes], bytes] = lambda unit: unit,
    **words,
) -> Film:
    """A film made by the project's own encoder, segment writer, store, join and certificate."""
    plan = plan_test_film(folder, frame_counts=frame_counts, **words)
    picture = picture or make_picture(size=(plan.encoding.width_px, plan.encoding.height_px))
    runs = [list(plan.segments)] if one_session else [[segment] for segment in plan.segments]
    store = LocalStore(folder / "store")
    for number, run in enumerate(runs):
        for record, path in encode_segments(
            plan, run, picture, folder=folder / f"run{number}", shown=shown, change=change
        ):
            store.put(record, path)
    return join(plan, store, folder / f"{plan.name}", audio=audio)


def join(plan: FilmPlan, store: LocalStore, path: Path, *, audio: AudioTrack | None = None) -> Film:
    """Join what is in the store and certify it."""
    records = tuple(store.read_record(segment.address) for segment in plan.segments)
    concat_segments(path, plan=plan, records=records, store=store, audio=audio)
    return Film(path, plan, records, store, certify(plan, records, audio=audio))


def write_film(path: Path, track: Track, payloads: Sequence[bytes]) -> Path:
    """Write `payloads` as the samples of `track`, with sizes that fit them."""
    data = path.with_suffix(".payload")
    data.write_bytes(b"".join(payloads))
    track = replace(track, sample_sizes=np.array([len(payload) for payload in payloads], np.uint32))
    length = data.stat().st_size
    write_mp4(
        path, tracks=[track], chunks=[Chunk(0, sample_count=len(payloads), path=data, offset=0, length_bytes=length)]
    )
    return path


def content_at(data: bytes, kind: bytes, *, after: int = 0) -> int:
    """Where the content of the first box `kind` begins."""
    return data.index(kind, after) + 4


def patch(source: Path, target: Path, place: int, new: bytes) -> Path:
    """Copy a file with other bytes at `place`."""
    data = bytearray(source.read_bytes())
    assert bytes(data[place : place + len(new)]) != new, "the knife cut nothing"
    data[place : place + len(new)] = new
    target.write_bytes(data)
    return target


def packets_of(path: Path, kind: str = "video", **options: str) -> list[av.Packet]:
    with av.open(str(path), options=options) as container:
        return [packet for packet in container.demux(**{kind: 0}) if packet.size]


def decoded(path: Path) -> Iterator[tuple[Fraction, np.ndarray]]:
    """The time and the planes of each frame as a player sees them."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.pts * frame.time_base, frame.to_ndarray()


def decoded_numbers(path: Path, height: int = 180) -> list[int]:
    return [number_on(planes[:height]) for _, planes in decoded(path)]


def ffmpeg_says(path: Path) -> str:
    """What ffmpeg complains of when it decodes the whole file; its exit code counts too."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    return done.stderr.decode() or (f"exit code {done.returncode}" if done.returncode else "")


def make_tone(path: Path, *, samples: int, beep_at: int, rate: int = 48000, channels: int = 2) -> Path:
    """An AAC file of silence with 20 ms of 1 kHz that begins at a known sample."""
    sound = np.zeros((channels, samples), np.float32)
    length = rate // 50
    sound[:, beep_at : beep_at + length] = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(length) / rate)
    layout = "stereo" if channels == 2 else "mono"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate)
        stream.layout = layout
        for start in range(0, samples, 1024):
            part = np.ascontiguousarray(sound[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def heard(path: Path) -> tuple[int, np.ndarray]:
    """The first audible sample's number and all samples of the first channel, through the edit list."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    first = frames[0].pts
    return first, np.concatenate([frame.to_ndarray()[0] for frame in frames])


def _fill(targets: Planes, planes: Planes) -> None:
    for target, plane in zip(targets, planes, strict=True):
        target[:] = plane
