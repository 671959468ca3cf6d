"""Films in every codec: joined from several sessions, decoded, sought in, damaged, and certified."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from support.film_damage import (
    Film,
    content_at,
    decoded,
    decoded_numbers,
    encode_segments,
    ffmpeg_says,
    make_film,
    make_picture,
    number_on,
    packets_of,
    patch,
    plan_test_film,
    write_film,
)
from support.jobs import make_job

from fanreel.codecs import CODEC_ENCODERS, Codec
from fanreel.encode import encoder, libav
from fanreel.encode.libav import plane_views
from fanreel.errors import EncoderUnavailableError, GpuLostError, MediaError, SegmentDamagedError, VerificationError
from fanreel.host.host import Host
from fanreel.job.encoding import Preset
from fanreel.join.certificate import certify, read_certificate, write_certificate
from fanreel.join.damage import Damage
from fanreel.join.verify import find_damage
from fanreel.mp4.bitstream import FORMS
from fanreel.mp4.layout import read_layout
from fanreel.publish.published import verify_film
from fanreel.render.here import plan_job, render_job
from fanreel.render.order import order_render
from fanreel.render.shard import _explain_end
from fanreel.segments.record import record_from_json, record_to_json

COUNTS = (14, 1, 20, 12)
NEW = [Codec.HEVC, Codec.AV1]

every_codec = pytest.mark.parametrize("codec", list(Codec))
new_codecs = pytest.mark.parametrize("codec", NEW)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[Codec, Film]:
    """One film in each codec, a session for every segment, keyframes inside the segments."""
    return {
        codec: make_film(
            tmp_path_factory.mktemp(codec), frame_counts=COUNTS, codec=codec, one_session=False, gop=8, quality=24
        )
        for codec in Codec
    }


def told(path: Path, film: Film, damage: Damage, *, full: bool = False) -> str:
    findings = find_damage(path, film.certificate, full=full)
    said = [finding.message for finding in findings if finding.damage is damage]
    assert said, f"no {damage} among {findings}"
    return "\n".join(said)


# A sound film


@every_codec
@pytest.mark.parametrize("full", [False, True])
def test_a_film_of_several_sessions_is_sound(films: dict[Codec, Film], codec: Codec, full: bool) -> None:
    film = films[codec]
    assert {record.codec for record in film.records} == {codec}
    assert {record.encoder for record in film.records} == {str(CODEC_ENCODERS[codec][-1])}
    assert find_damage(film.path, film.certificate, full=full) == ()


@new_codecs
@pytest.mark.parametrize("preset", list(Preset))
def test_every_preset_makes_a_sound_film(tmp_path: Path, codec: Codec, preset: Preset) -> None:
    film = make_film(tmp_path, frame_counts=(9, 8), codec=codec, preset=preset, quality=30)
    assert find_damage(film.path, film.certificate, full=True) == ()


@new_codecs
@pytest.mark.parametrize("quality", [0, 35, 51])
def test_no_quality_is_taken_for_damage(tmp_path: Path, codec: Codec, quality: int) -> None:
    moving = make_picture(seed=3, speed=0.4)
    film = make_film(tmp_path, frame_counts=(20, 16), codec=codec, picture=moving, quality=quality)
    assert find_damage(film.path, film.certificate, full=True) == ()


@every_codec
def test_every_frame_comes_once_in_order_at_its_time(films: dict[Codec, Film], codec: Codec) -> None:
    film = films[codec]
    assert decoded_numbers(film.path) == list(range(sum(COUNTS)))
    assert [time for time, _ in decoded(film.path)] == [Fraction(n, 30) for n in range(sum(COUNTS))]
    assert ffmpeg_says(film.path) == ""


@every_codec
def test_the_film_decodes_to_the_frames_of_its_segments(films: dict[Codec, Film], codec: Codec) -> None:
    film = films[codec]
    alone = [planes for record in film.records for _, planes in decoded(film.store.local_copy(record))]
    joined = [planes for _, planes in decoded(film.path)]
    assert len(alone) == len(joined) == sum(COUNTS)
    assert all(np.array_equal(one, other) for one, other in zip(alone, joined, strict=True))


@every_codec
def test_times_lie_on_the_grid_with_one_delay(films: dict[Codec, Film], codec: Codec) -> None:
    film = films[codec]
    ticks, delay = film.plan.clock.frame_ticks, film.plan.encoding.reorder_frames
    packets = packets_of(film.path)
    assert delay == {Codec.H264: 2, Codec.HEVC: 2, Codec.AV1: 0}[codec]
    assert [packet.dts for packet in packets] == [(n - delay) * ticks for n in range(sum(COUNTS))]
    assert sorted(packet.pts for packet in packets) == [n * ticks for n in range(sum(COUNTS))]


@every_codec
def test_seeking_to_a_join_shows_its_frame(films: dict[Codec, Film], codec: Codec) -> None:
    film = films[codec]
    starts = [segment.start_frame for segment in film.plan.segments]
    with av.open(str(film.path)) as container:
        stream = container.streams.video[0]
        for wanted in [*starts, *(start - 1 for start in starts[1:]), sum(COUNTS) - 1]:
            container.seek(wanted * film.plan.clock.frame_ticks, stream=stream, backward=True)
            shown = next(f for f in container.decode(stream) if f.pts >= wanted * film.plan.clock.frame_ticks)
            assert number_on(plane_views(shown)[0]) == wanted


@every_codec
def test_the_file_says_what_it_is(films: dict[Codec, Film], codec: Codec) -> None:
    film, form = films[codec], FORMS[codec]
    data = film.path.read_bytes()
    (video,) = read_layout(film.path).video_tracks
    assert (video.sample_entry, video.colour) == (form.sample_entry, (1, 1, 1, False))
    assert tuple(unit.hex() for unit in video.parameter_sets) == film.records[0].parameter_sets
    brands = re.findall(b"....", data[16 : int.from_bytes(data[:4], "big")], re.DOTALL)
    assert (b"avc1" in brands, b"av01" in brands) == (codec is Codec.H264, codec is Codec.AV1)
    with av.open(str(film.path)) as container:
        context = container.streams.video[0].codec_context
        assert context.codec.canonical_name == codec
        assert context.codec_tag == form.sample_entry


@new_codecs
def test_decoder_records_agree_with_those_that_ffmpeg_makes_of_the_stream(
    films: dict[Codec, Film], codec: Codec, tmp_path: Path
) -> None:
    film, kind = films[codec], FORMS[codec].record.encode()
    stream, theirs = tmp_path / f"stream.{'hevc' if codec is Codec.HEVC else 'obu'}", tmp_path / "theirs.mp4"
    for source, target in ((film.path, stream), (stream, theirs)):
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(source), "-c", "copy", str(target)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    ours, other = (record_in(path.read_bytes(), kind) for path in (film.path, theirs))
    if codec is Codec.AV1:
        assert ours == other
    else:  # it counts frames and cuts pictures where the record may leave both open
        assert (ours[:13], ours[16:19], ours[21]) == (other[:13], other[16:19], other[21])
        assert (
            read_layout(film.path).video_tracks[0].parameter_sets == read_layout(theirs).video_tracks[0].parameter_sets
        )
        assert ours[23] == 0x80 | 32, "all parameter sets stand in the record: the sample entry is hvc1"


def record_in(data: bytes, kind: bytes) -> bytes:
    start = content_at(data, kind)
    return data[start : start - 8 + int.from_bytes(data[start - 8 : start - 4], "big")]


# Damage


@every_codec
def test_another_sample_entry_is_found(films: dict[Codec, Film], codec: Codec, tmp_path: Path) -> None:
    film, entry = films[codec], FORMS[codec].sample_entry
    wrong = {"avc1": "avc3", "hvc1": "hev1", "av01": "vp09"}[entry]
    data = film.path.read_bytes()
    place = data.index(entry.encode(), data.index(b"stsd"))
    damaged = patch(film.path, tmp_path / "damaged.mp4", place, wrong.encode())
    assert f"sample entry {wrong!r} instead of {entry!r}" in told(damaged, film, Damage.FORMAT)


@every_codec
def test_a_missing_parameter_set_is_found(films: dict[Codec, Film], codec: Codec, tmp_path: Path) -> None:
    film, kind = films[codec], FORMS[codec].record
    damaged = patch(film.path, tmp_path / "damaged.mp4", film.path.read_bytes().index(kind.encode()), b"free")
    assert f"{kind} has 0 parameter sets instead of" in told(damaged, film, Damage.PARAMETER_SETS)


@every_codec
def test_other_colours_in_the_parameter_sets_are_found(
    films: dict[Codec, Film], codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = films[codec]
    with monkeypatch.context() as patched:
        patched.setattr(libav, "BT709", 9)
        other = make_film(tmp_path / "other", frame_counts=(2,), codec=codec, quality=24)
    data = film.path.read_bytes()
    place = {Codec.H264: 0, Codec.HEVC: 1, Codec.AV1: 0}[codec]
    right, wrong = (bytes.fromhex(units.records[0].parameter_sets[place]) for units in (film, other))
    assert len(right) == len(wrong)
    damaged = patch(film.path, tmp_path / "damaged.mp4", data.index(right), wrong)
    said = told(damaged, film, Damage.PARAMETER_SETS)
    assert f"{FORMS[codec].record} lacks {right.hex()[:16]}" in said
    # In its own parameter sets too: AV1's stand in every keyframe.
    assert "the keyframe in packet 0 (segment 0): the tags" in told(other.path, other, Damage.COLOUR)


@every_codec
def test_a_flipped_bit_and_a_wrong_mark_are_found(films: dict[Codec, Film], codec: Codec, tmp_path: Path) -> None:
    film, payloads = films[codec], films[codec].payloads
    changed = bytearray(payloads[20])
    changed[-2] ^= 4
    payloads[20] = bytes(changed)
    damaged = write_film(tmp_path / "damaged.mp4", film.track, payloads)
    assert told(damaged, film, Damage.PAYLOAD).startswith("packet 20 (segment 2) is not the one that was encoded")
    marks = film.track.sync_samples
    assert marks is not None
    unmarked = write_film(
        tmp_path / "unmarked.mp4", replace(film.track, sync_samples=np.delete(marks, 1)), film.payloads
    )
    assert told(unmarked, film, Damage.KEYFRAMES).startswith(f"packet {marks[1]} (segment 0)")


@every_codec
def test_a_black_stretch_is_found_by_a_sampled_keyframe(tmp_path: Path, codec: Codec) -> None:
    def black(frame: int):
        luma, *chroma = make_picture()(frame)
        return (np.full_like(luma, 16), *chroma) if 8 <= frame < 16 else (luma, *chroma)

    film = make_film(tmp_path, frame_counts=(8, 8), codec=codec, shown=black)
    assert told(film.path, film, Damage.PICTURE).startswith("the keyframe in packet 8 (segment 1) is ")


def test_a_film_of_one_codec_has_no_certificate_of_another(films: dict[Codec, Film]) -> None:
    for codec, film in films.items():
        for other in films.values():
            findings = find_damage(film.path, other.certificate)
            assert (findings == ()) is (other is film)
            if other is not film:
                assert f"{codec} 320x180 instead of" in told(film.path, other, Damage.FORMAT)


# What is kept of it


@every_codec
def test_records_and_certificates_survive_their_files(films: dict[Codec, Film], codec: Codec, tmp_path: Path) -> None:
    film, path = films[codec], tmp_path / "certificate.json"
    assert [record_from_json(record_to_json(record)) for record in film.records] == list(film.records)
    write_certificate(film.certificate, path)
    assert read_certificate(path) == film.certificate
    assert film.certificate.codec is codec
    other = Codec.H264 if codec is Codec.AV1 else Codec.AV1
    write_certificate(replace(film.certificate, codec=other), path)
    with pytest.raises(MediaError, match=f"is in {codec}, the film in {other}"):
        read_certificate(path)


@every_codec
def test_a_record_with_too_few_parameter_sets_is_refused(films: dict[Codec, Film], codec: Codec) -> None:
    record = films[codec].records[0]
    with pytest.raises(SegmentDamagedError, match=f"0 parameter sets, {codec} has {FORMS[codec].parameter_sets}"):
        record_from_json(record_to_json(replace(record, parameter_sets=())))


def test_what_earlier_releases_kept_is_of_h264(films: dict[Codec, Film], tmp_path: Path) -> None:
    film, path = films[Codec.H264], tmp_path / "certificate.json"
    write_certificate(film.certificate, path)
    text, cut = re.subn(r',?"codec":"h264"', "", path.read_text())
    assert cut == 1 + len(film.records)
    path.write_text(text)
    assert find_damage(film.path, read_certificate(path)) == ()


# One encoder a film


@new_codecs
def test_two_encoders_share_no_film(films: dict[Codec, Film], codec: Codec) -> None:
    film = films[codec]
    *others, last = film.records[1].parameter_sets
    strange = replace(film.records[1], parameter_sets=(*others, last[:-2] + "41"))
    with pytest.raises(VerificationError, match="a film in HEVC or AV1 is of one encoder"):
        certify(film.plan, [film.records[0], strange, *film.records[2:]])


def test_two_codecs_share_no_film(films: dict[Codec, Film]) -> None:
    film, other = films[Codec.HEVC], films[Codec.H264]
    with pytest.raises(VerificationError, match="is in h264, the film in hevc"):
        certify(film.plan, [film.records[0], other.records[1], *film.records[2:]])


@pytest.mark.parametrize("codec", list(Codec))
def test_a_job_in_a_codec_is_rendered_by_its_one_encoder(photos: Path, host: Host, codec: Codec) -> None:
    encoding = {"codec": codec.value, "preset": "draft", "quality": 30}
    job = make_job(photos.parent, encoding=encoding, seconds_per_slide=3, fps="10")
    (plan,) = plan_job(job, host=host)
    order = order_render(plan, host=host)
    on_cpu = str(CODEC_ENCODERS[codec][-1])
    assert order.encoders == (("nvenc", "x264") if codec is Codec.H264 else (on_cpu,))
    (report,) = render_job(job, host=host)
    assert report.encoders == {on_cpu: len(plan.segments)}
    assert verify_film(Path(report.film), full=True).codec is codec


@new_codecs
def test_an_encoder_that_is_not_there_is_said(photos: Path, host: Host, codec: Codec) -> None:
    job = make_job(photos.parent, encoding={"codec": codec.value, "encoder": "nvenc"})
    with pytest.raises(EncoderUnavailableError, match="nvenc"):
        order_render(plan_job(job, host=host)[0], host=host)


@every_codec
def test_a_fault_that_ends_a_film_says_what_to_ask_for(tmp_path: Path, codec: Codec) -> None:
    fault = GpuLostError("nvenc: frame 7: the GPU is gone (5)")
    fault.code = 5
    ended = _explain_end(plan_test_film(tmp_path, frame_counts=(4,), codec=codec), fault)
    advice = f"; a film in {codec} is of one encoder: ask for {CODEC_ENCODERS[codec][-1]} to have all of it made anew"
    assert (type(ended), ended.code) == (GpuLostError, 5)
    assert str(ended) == str(fault) + ("" if codec is Codec.H264 else advice)


@new_codecs
def test_a_build_without_the_encoder_says_so(codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_test_film(tmp_path, frame_counts=(4,), codec=codec)

    def missing(name: str, mode: str):
        raise ValueError(f"no codec {name} to {mode}")

    monkeypatch.setattr(libav.av.CodecContext, "create", missing)
    with pytest.raises(EncoderUnavailableError, match=r"this build of PyAV has no lib(x265|svtav1)"):
        encoder.open_encoder(plan.encoding, encoder=str(CODEC_ENCODERS[codec][-1]), threads=1)


@new_codecs
def test_a_long_session_cuts_its_segments_where_it_was_told(tmp_path: Path, codec: Codec) -> None:
    plan = plan_test_film(tmp_path, frame_counts=(40, 1, 39, 30), codec=codec, size=(64, 64), gop=13)
    made = encode_segments(plan, plan.segments, make_picture(size=(64, 64)), folder=tmp_path / "work")
    assert [record.frame_count for record, _ in made] == [40, 1, 39, 30]
    for (record, _), segment in zip(made, plan.segments, strict=True):
        assert record.keyframes == tuple(frame - segment.start_frame for frame in segment.keyframes)
    assert len({record.parameter_sets for record, _ in made}) == 1
