"""The certificate against films that are really damaged, one kind of damage at a time."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from blake3 import blake3
from support.film_damage import (
    NTSC,
    Film,
    content_at,
    join,
    make_film,
    make_picture,
    make_tone,
    patch,
    write_film,
)
from support.jobs import draw_photo, make_job

from fanreel.audio.track import AudioTrack, read_audio
from fanreel.encode import encoder, libav
from fanreel.errors import FanreelError, FilmDamagedError, MediaError, StorageError
from fanreel.host.host import open_host
from fanreel.job.encoding import Preset
from fanreel.join.certificate import Certificate, certificate_path, certify, read_certificate, write_certificate
from fanreel.join.concat import concat_segments
from fanreel.join.damage import Damage
from fanreel.join.verify import find_damage, require_sound
from fanreel.mp4.layout import read_layout
from fanreel.render.here import plan_job, render_job
from fanreel.settings import Settings


@dataclass(frozen=True)
class Rendered:
    """Three films rendered from photos by the real pipeline, into one store."""

    film: Film
    other: Film
    ntsc: Film


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rendered]:
    base = tmp_path_factory.mktemp("films")
    (base / "photos").mkdir()
    for seed in range(6):
        draw_photo(base / "photos" / f"photo-{seed}.jpg", seed=seed)
    host = open_host(Settings(store=base / "store", lock_folder=base / "locks", hang_seconds=60, wait_seconds=120))
    fast = {"preset": "fast", "quality": 24}

    def render(name: str, **words: object) -> Film:
        job = make_job(base, output=f"{name}.mp4", encoding=fast, **words)
        (plan,) = plan_job(job, host=host)
        render_job(job, host=host)
        records = tuple(host.store.read_record(segment.address) for segment in plan.segments)
        path = base / f"{name}.mp4"
        return Film(path, plan, records, host.store, read_certificate(certificate_path(path)))

    try:
        yield Rendered(
            film=render("film"),
            other=render("other", photos=[f"photos/photo-{seed}.jpg" for seed in (3, 5, 4, 1, 0, 2)], zoom=1.5),
            ntsc=render("ntsc", fps="30000/1001", photos=[f"photos/photo-{seed}.jpg" for seed in (0, 1, 2)]),
        )
    finally:
        host.launcher.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Film:
    """A film of 30 frames and two segments, a few kilobytes, for what is done hundreds of times."""
    return make_film(tmp_path_factory.mktemp("small"), frame_counts=(18, 12), size=(128, 72), gop=6, quality=30)


def kinds(film: Path, certificate: Certificate, *, full: bool = False) -> set[Damage]:
    return {finding.damage for finding in find_damage(film, certificate, full=full)}


def told(film: Path, certificate: Certificate, damage: Damage, *, full: bool = False) -> str:
    """What is said of one kind of damage; the test fails if nothing is."""
    findings = find_damage(film, certificate, full=full)
    said = [finding.message for finding in findings if finding.damage is damage]
    assert said, f"no {damage} among {findings}"
    return "\n".join(said)


# What a sound film is


@pytest.mark.parametrize("which", ["film", "other", "ntsc"])
@pytest.mark.parametrize("full", [False, True])
def test_rendered_films_are_sound_again_and_again_and_as_copies(
    rendered: Rendered, which: str, full: bool, tmp_path: Path
) -> None:
    film: Film = getattr(rendered, which)
    assert len(film.records) > 1, "the film has one segment and proves nothing about joins"
    assert film.certificate.reorder_frames, "the film has no B-frames and proves nothing about reordering"
    assert find_damage(film.path, film.certificate, full=full) == ()
    assert find_damage(film.path, film.certificate, full=full) == ()
    copy = Path(shutil.copy(film.path, tmp_path / "another name.mov"))
    assert find_damage(copy, film.certificate, full=full) == ()
    require_sound(copy, film.certificate, full=full)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"frame_counts": (1,)}, "one frame"),
        *[({"frame_counts": (count,)}, f"{count} frames") for count in range(2, 10)],
        ({"frame_counts": (3, 4)}, "two short segments"),
        ({"frame_counts": (30,)}, "one segment"),
        ({"frame_counts": (1, 1, 1), "gop": 1}, "segments of one frame"),
        ({"frame_counts": (20, 20), "preset": Preset.DRAFT}, "no B-frames"),
        ({"frame_counts": (20, 20), "preset": Preset.BEST}, "four references"),
        ({"frame_counts": (20, 20), "rate": NTSC}, "NTSC"),
        ({"frame_counts": (20, 20), "size": (66, 70)}, "odd chroma"),
        ({"frame_counts": (20, 20), "one_session": False}, "a session a segment"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("full", [False, True])
def test_small_films_of_every_form_are_sound(tmp_path: Path, words: dict, why: str, full: bool) -> None:
    film = make_film(tmp_path, **words)
    assert find_damage(film.path, film.certificate, full=full) == ()


@pytest.mark.parametrize("preset", [Preset.DRAFT, Preset.FAST, Preset.BALANCED])
@pytest.mark.parametrize("speed", [0.0, 0.05, 0.4, 6.0])
@pytest.mark.parametrize("quality", [35, 51])
def test_the_worst_quality_of_a_still_slow_or_fast_picture_is_no_damage(
    tmp_path: Path, preset: Preset, speed: float, quality: int
) -> None:
    moving = make_picture(seed=3, speed=speed)
    film = make_film(tmp_path, frame_counts=(40, 20), picture=moving, preset=preset, quality=quality)
    assert find_damage(film.path, film.certificate, full=True) == ()


def test_a_film_whose_edit_list_takes_the_delay_off_is_sound_as_well(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    delay_ticks = film.certificate.reorder_frames * film.certificate.frame_ticks
    assert film.track.composition_ticks is not None
    unsigned = replace(
        film.track, start_ticks=delay_ticks, composition_ticks=film.track.composition_ticks + delay_ticks
    )
    older = write_film(tmp_path / "film.mp4", unsigned, film.payloads)
    with older.open("rb") as file:
        header = file.read(next(span.content_byte for span in read_layout(older).spans if span.kind == "mdat"))
    certificate = replace(film.certificate, header_digest=blake3(header).hexdigest())
    assert find_damage(older, certificate, full=True) == ()
    signed = write_film(tmp_path / "mixed.mp4", replace(film.track, start_ticks=delay_ticks), film.payloads)
    assert Damage.TIMES in kinds(signed, certificate)


def test_a_certificate_survives_its_file(rendered: Rendered, tmp_path: Path) -> None:
    write_certificate(rendered.ntsc.certificate, tmp_path / "certificate.json")
    assert read_certificate(tmp_path / "certificate.json") == rendered.ntsc.certificate


# Damage to the packets


def test_a_dropped_packet_is_found_where_it_is_missing(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    place = film.records[0].frame_count + 5
    damaged = write_film(tmp_path / "damaged.mp4", without(film, place), drop(film.payloads, place))
    count = film.certificate.frame_count
    assert told(damaged, film.certificate, Damage.PACKET_COUNT) == f"{count - 1} packets instead of {count}"
    said = told(damaged, film.certificate, Damage.PAYLOAD)
    assert said.startswith(f"packet {place} (segment 1) is not the one that was encoded; it is packet {place + 1} ")
    assert "more like these" in said


def test_a_doubled_packet_is_found_where_it_comes_again(rendered: Rendered, tmp_path: Path) -> None:
    film, track = rendered.film, rendered.film.track
    place = 7
    payloads = film.payloads
    payloads.insert(place, payloads[place])
    assert track.sync_samples is not None
    assert track.composition_ticks is not None
    doubled = replace(
        track,
        sample_sizes=np.insert(track.sample_sizes, place, 1),
        composition_ticks=np.insert(track.composition_ticks, place, track.composition_ticks[place]),
        sync_samples=np.where(track.sync_samples > place, track.sync_samples + 1, track.sync_samples),
    )
    damaged = write_film(tmp_path / "damaged.mp4", doubled, payloads)
    count = film.certificate.frame_count
    assert told(damaged, film.certificate, Damage.PACKET_COUNT) == f"{count + 1} packets instead of {count}"
    said = told(damaged, film.certificate, Damage.PAYLOAD)
    assert said.startswith(f"packet {place + 1} (segment 0) is not the one that was encoded; it is packet {place} ")


def test_two_swapped_packets_name_each_other(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    payloads = film.payloads
    payloads[9], payloads[13] = payloads[13], payloads[9]
    damaged = write_film(tmp_path / "damaged.mp4", film.track, payloads)
    assert told(damaged, film.certificate, Damage.PAYLOAD).splitlines() == [
        "packet 9 (segment 0) is not the one that was encoded; it is packet 13 (segment 0)",
        "packet 13 (segment 0) is not the one that was encoded; it is packet 9 (segment 0)",
    ]


def test_two_swapped_segments_are_found_at_the_first(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    records = [film.records[1], film.records[0], *film.records[2:]]
    damaged = tmp_path / "damaged.mp4"
    concat_segments(damaged, plan=film.plan, records=records, store=film.store)
    said = told(damaged, film.certificate, Damage.PAYLOAD)
    assert said.startswith("packet 0 (segment 0) is not the one that was encoded; it is packet ")
    assert "(segment 1)" in said.splitlines()[0].split(";")[1]


def test_another_films_segment_is_found_where_it_lies(rendered: Rendered, tmp_path: Path) -> None:
    film, alien = rendered.film, rendered.other.records[0]
    assert alien.address not in {record.address for record in film.records}
    damaged = tmp_path / "damaged.mp4"
    records = [film.records[0], alien, *film.records[2:]]
    concat_segments(damaged, plan=film.plan, records=records, store=film.store)
    place = film.records[0].frame_count
    said = told(damaged, film.certificate, Damage.PAYLOAD)
    assert said.startswith(f"packet {place} (segment 1) is not the one that was encoded; its bytes belong nowhere")
    assert f"the keyframe in packet {place} (segment 1)" in told(damaged, film.certificate, Damage.PICTURE)


def test_another_films_certificate_is_refused(rendered: Rendered) -> None:
    for film, certificate in (
        (rendered.film, rendered.other.certificate),
        (rendered.other, rendered.film.certificate),
        (rendered.film, rendered.ntsc.certificate),
    ):
        assert "packet 0 (segment 0)" in told(film.path, certificate, Damage.PAYLOAD)
    assert {Damage.TIMES, Damage.PACKET_COUNT} <= kinds(rendered.film.path, rendered.ntsc.certificate)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_flipped_bit_in_a_payload_is_found_at_its_packet(rendered: Rendered, tmp_path: Path, place: int) -> None:
    film = rendered.ntsc
    payloads = film.payloads
    changed = bytearray(payloads[place])
    changed[len(changed) // 2] ^= 4
    payloads[place] = bytes(changed)
    damaged = write_film(tmp_path / "damaged.mp4", film.track, payloads)
    number = place % film.certificate.frame_count
    said = told(damaged, film.certificate, Damage.PAYLOAD)
    assert said.startswith(f"packet {number} (segment ")
    assert len(said.splitlines()) == 1


def test_a_missing_last_frame_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    last = film.certificate.frame_count - 1
    damaged = write_film(tmp_path / "damaged.mp4", without(film, last), drop(film.payloads, last))
    assert told(damaged, film.certificate, Damage.PACKET_COUNT) == f"{last} packets instead of {last + 1}"
    assert f"{last} frames decode instead of {last + 1}" in told(damaged, film.certificate, Damage.PICTURE, full=True)


# Damage to the tables


def test_one_pts_a_tick_late_is_found_at_its_packet(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.ntsc
    assert film.track.composition_ticks is not None
    ticks = film.track.composition_ticks.copy()
    ticks[33] += 1
    damaged = write_film(tmp_path / "damaged.mp4", replace(film.track, composition_ticks=ticks), film.payloads)
    said = told(damaged, film.certificate, Damage.TIMES)
    assert said.startswith("packet 33 (segment 0) has PTS ")
    assert len(said.splitlines()) == 1


def test_decode_times_off_the_grid_are_found_from_the_first_on(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    ticks = np.full(film.certificate.frame_count, film.certificate.frame_ticks)
    ticks[10] -= 1
    ticks[11] += 1
    damaged = write_film(tmp_path / "damaged.mp4", replace(film.track, sample_ticks=ticks), film.payloads)
    said = told(damaged, film.certificate, Damage.TIMES)
    assert said.startswith("packet 11 (segment 0) has PTS ")
    assert len(said.splitlines()) == 1


def test_a_missing_edit_list_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    damaged = patch(film.path, tmp_path / "damaged.mp4", film.path.read_bytes().index(b"edts"), b"free")
    assert Damage.DURATION in kinds(damaged, film.certificate)


def test_a_wrong_start_in_the_edit_list_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    late = replace(film.track, start_ticks=film.track.start_ticks + film.certificate.frame_ticks)
    damaged = write_film(tmp_path / "damaged.mp4", late, film.payloads)
    assert f"shown from tick {late.start_ticks} on" in told(damaged, film.certificate, Damage.TIMES)


def test_a_duration_a_frame_short_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    short = replace(film.track, presented_ticks=film.track.presented_ticks - film.certificate.frame_ticks)
    damaged = write_film(tmp_path / "damaged.mp4", short, film.payloads)
    seconds = Fraction(film.certificate.frame_count - 1) / film.certificate.frame_rate
    assert told(damaged, film.certificate, Damage.DURATION).startswith(f"shown for {seconds} s instead of ")


def test_another_clock_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.ntsc
    faster = replace(film.track, timescale=film.track.timescale + 30)
    damaged = write_film(tmp_path / "damaged.mp4", faster, film.payloads)
    assert told(damaged, film.certificate, Damage.TIMES).startswith(f"{faster.timescale} ticks a second")


@pytest.mark.parametrize("place", [1, 20])
def test_a_keyframe_mark_where_none_is_is_found(rendered: Rendered, tmp_path: Path, place: int) -> None:
    film = rendered.film
    marks = sorted({*map(int, film.track.sync_samples), place})  # pyright: ignore
    damaged = write_film(tmp_path / "damaged.mp4", replace(film.track, sync_samples=np.array(marks)), film.payloads)
    said = told(damaged, film.certificate, Damage.KEYFRAMES)
    assert said == f"packet {place} (segment 0) is marked as a keyframe and is none"


def test_a_keyframe_that_is_not_marked_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    marks = film.track.sync_samples
    assert marks is not None
    damaged = write_film(tmp_path / "damaged.mp4", replace(film.track, sync_samples=np.delete(marks, 1)), film.payloads)
    assert told(damaged, film.certificate, Damage.KEYFRAMES).startswith(f"packet {marks[1]} (segment ")


def test_other_colours_in_colr_are_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    place = content_at(film.path.read_bytes(), b"colr") + 4
    damaged = patch(film.path, tmp_path / "damaged.mp4", place, bytes((0, 9, 0, 16, 0, 9)))
    assert "colr says (9, 16, 9, False)" in told(damaged, film.certificate, Damage.COLOUR)


def test_a_full_range_flag_in_colr_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    place = content_at(film.path.read_bytes(), b"colr") + 10
    damaged = patch(film.path, tmp_path / "damaged.mp4", place, b"\x80")
    assert "colr says (1, 1, 1, True)" in told(damaged, film.certificate, Damage.COLOUR)


def test_a_missing_colr_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    damaged = patch(film.path, tmp_path / "damaged.mp4", film.path.read_bytes().index(b"colr"), b"free")
    assert "colr says None" in told(damaged, film.certificate, Damage.COLOUR)


def test_other_colours_in_the_sps_are_found(
    rendered: Rendered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = rendered.film
    sps = bytes.fromhex(film.records[0].parameter_sets[0])
    with monkeypatch.context() as patched:
        patched.setattr(libav, "BT709", 9)
        wrong, _ = encoder.open_encoder(film.plan.encoding, encoder="x264", threads=1).parameter_sets
    assert len(wrong) == len(sps)
    damaged = patch(film.path, tmp_path / "damaged.mp4", film.path.read_bytes().index(sps), wrong)
    assert f"avcC lacks {sps.hex()[:16]}" in told(damaged, film.certificate, Damage.PARAMETER_SETS)
    assert "(9, 9, 9, 1) instead of BT.709" in told(damaged, film.certificate, Damage.COLOUR)


def test_a_wrong_size_in_the_sample_entry_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    place = content_at(film.path.read_bytes(), b"avc1", after=film.path.read_bytes().index(b"stsd")) + 24
    damaged = patch(film.path, tmp_path / "damaged.mp4", place, bytes((1, 64, 0, 200)))
    assert kinds(damaged, film.certificate) & {Damage.FORMAT, Damage.CONTAINER}


def test_another_sample_entry_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    data = film.path.read_bytes()
    damaged = patch(film.path, tmp_path / "damaged.mp4", data.index(b"avc1", data.index(b"stsd")), b"avc3")
    assert "sample entry 'avc3'" in told(damaged, film.certificate, Damage.FORMAT)


def test_an_sps_missing_from_avcc_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    data = film.path.read_bytes()
    damaged = patch(film.path, tmp_path / "damaged.mp4", content_at(data, b"avcC") + 5, b"\xe0")
    assert "0 parameter sets instead of 2" in told(damaged, film.certificate, Damage.PARAMETER_SETS)


def test_moov_after_the_samples_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    damaged = tmp_path / "damaged.mp4"
    with av.open(str(film.path)) as source, av.open(str(damaged), "w", format="mp4") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    assert "moov comes after the samples" in told(damaged, film.certificate, Damage.CONTAINER)


def test_what_is_added_after_the_samples_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(film.path.read_bytes() + bytes((0, 0, 0, 12)) + b"freemore")
    assert "ftyp, moov, mdat, free instead of" in told(damaged, film.certificate, Damage.CONTAINER)


def test_a_table_entry_that_no_other_check_reads_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    turned = content_at(film.path.read_bytes(), b"tkhd") + 41  # a number in the matrix that turns the picture
    damaged = patch(film.path, tmp_path / "damaged.mp4", turned, b"\x07")
    assert "before the samples are not those that were written" in told(damaged, film.certificate, Damage.CONTAINER)


# Damage to the file


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_file_that_ends_among_the_samples_is_found(rendered: Rendered, tmp_path: Path, share: float) -> None:
    film = rendered.film
    damaged = tmp_path / "damaged.mp4"
    data = film.path.read_bytes()
    damaged.write_bytes(data[: int(len(data) * share)])
    assert "the file ends before its last box does" in told(damaged, film.certificate, Damage.CONTAINER)
    assert kinds(damaged, film.certificate) & {Damage.PACKET_COUNT, Damage.PAYLOAD}


def test_a_file_that_ends_in_its_tables_is_found(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(film.path.read_bytes()[:600])
    assert "not a whole MP4 file" in told(damaged, film.certificate, Damage.CONTAINER)


@pytest.mark.parametrize("content", [b"", b"\0", b"once upon a time there was a film\n" * 40, b"\0" * 5000])
def test_a_file_that_is_no_film_is_found(small: Film, tmp_path: Path, content: bytes) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    assert "not a whole MP4 file" in told(damaged, small.certificate, Damage.CONTAINER, full=True)


def test_a_film_that_cannot_be_read_is_no_damaged_film(small: Film, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"gone\.mp4"):
        find_damage(tmp_path / "gone.mp4", small.certificate)
    with pytest.raises(StorageError):
        find_damage(tmp_path, small.certificate)


def test_a_damaged_film_is_refused_with_every_reason(rendered: Rendered, tmp_path: Path) -> None:
    film = rendered.film
    damaged = write_film(tmp_path / "damaged.mp4", without(film, 3), drop(film.payloads, 3))
    with pytest.raises(FilmDamagedError) as refused:
        require_sound(damaged, film.certificate)
    said = str(refused.value)
    assert str(damaged) in said
    assert all(f"\n  {finding.damage}: {finding.message}" in said for finding in find_damage(damaged, film.certificate))


# Encoders that lie: the packets are those of the record, the pictures are not


def test_a_frozen_stretch_is_found_by_a_sampled_keyframe(tmp_path: Path) -> None:
    picture = make_picture(speed=4)
    film = make_film(tmp_path, frame_counts=(30, 24, 36), picture=picture, shown=lambda n: picture(min(n, 33)))
    assert "the keyframe in packet 42 (segment 1)" in told(film.path, film.certificate, Damage.PICTURE)


@pytest.mark.parametrize("preset", [Preset.DRAFT, Preset.FAST])
def test_a_frozen_stretch_between_keyframes_is_found_by_the_full_check(tmp_path: Path, preset: Preset) -> None:
    # The bars and the brightness stay as they are, so that nothing but the missing motion can tell.
    picture, first = make_picture(speed=3), make_picture(speed=0)
    bars = slice(0, 180 // 5)

    def without_number(frame: int) -> tuple[np.ndarray, ...]:
        luma, *chroma = picture(frame)
        luma[bars] = first(0)[0][bars]
        return luma, *chroma

    film = make_film(
        tmp_path,
        frame_counts=(60, 60),
        picture=without_number,
        shown=lambda n: without_number(min(n, 75) if n < 110 else n),
        gop=60,
        preset=preset,
    )
    assert find_damage(film.path, film.certificate) == ()
    said = told(film.path, film.certificate, Damage.FROZEN, full=True)
    start = int(said.removeprefix("segment 1 stands still from frame ").split()[0])
    assert 75 <= start <= 78


def test_a_black_stretch_is_found_by_a_sampled_keyframe(tmp_path: Path) -> None:
    film = make_film(tmp_path, shown=lambda n: black() if 30 <= n < 54 else make_picture()(n))
    said = told(film.path, film.certificate, Damage.PICTURE)
    assert said.startswith("the keyframe in packet 30 (segment 1) is ")
    assert "segment 0" not in said
    assert "segment 2" not in said


@pytest.mark.parametrize("quality", [21, 51])
def test_a_black_stretch_between_keyframes_is_found_by_the_full_check(tmp_path: Path, quality: int) -> None:
    picture = make_picture()
    film = make_film(
        tmp_path,
        frame_counts=(40, 40),
        picture=picture,
        shown=lambda n: black() if 50 <= n < 70 else picture(n),
        gop=40,
        quality=quality,
    )
    assert find_damage(film.path, film.certificate) == ()
    said = told(film.path, film.certificate, Damage.PICTURE, full=True)
    assert said.startswith("frame 50 (segment 1) is ")


def test_pictures_in_another_order_are_found_by_the_full_check(tmp_path: Path) -> None:
    picture = make_picture(speed=6)
    film = make_film(tmp_path, picture=picture, shown=lambda n: picture(n + 8 if 31 <= n < 41 else n), gop=40)
    assert "frame 31 (segment 1)" in told(film.path, film.certificate, Damage.PICTURE, full=True)


def test_an_encoder_with_wrong_colour_tags_is_found_in_its_own_parameter_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libav, "BT709", 9)
    film = make_film(tmp_path, frame_counts=(12,))
    said = told(film.path, film.certificate, Damage.COLOUR)
    assert "the keyframe in packet 0 (segment 0): the tags in its parameter set are (9, 9, 9, 1)" in said
    assert "frame 0 (segment 0): the tags" in told(film.path, film.certificate, Damage.COLOUR, full=True)


def test_an_encoder_that_makes_another_size_is_found(tmp_path: Path) -> None:
    wide = make_film(tmp_path / "wide", frame_counts=(12,), size=(320, 160))
    plan = replace(wide.plan, encoding=replace(wide.plan.encoding, height_px=180))
    film = join(plan, wide.store, tmp_path / "film.mp4")
    for full in (False, True):
        assert "320x160 instead of" in told(film.path, film.certificate, Damage.FORMAT, full=full)


# Audio


@pytest.fixture(scope="module")
def tone(tmp_path_factory: pytest.TempPathFactory) -> AudioTrack:
    return read_audio(make_tone(tmp_path_factory.mktemp("tone") / "tone.m4a", samples=200_000, beep_at=48_000))


@pytest.fixture(scope="module")
def sounding(tmp_path_factory: pytest.TempPathFactory, tone: AudioTrack) -> Film:
    return make_film(tmp_path_factory.mktemp("sounding"), audio=tone)


def write_sounding(film: Film, path: Path, audio: AudioTrack) -> Path:
    """The film's video with that audio, in the project's own form, but another certificate's."""
    concat_segments(path, plan=film.plan, records=film.records, store=film.store, audio=audio)
    return path


def test_a_film_with_audio_is_sound(sounding: Film) -> None:
    assert sounding.certificate.audio is not None
    assert find_damage(sounding.path, sounding.certificate, full=True) == ()


def test_audio_in_a_film_without_is_found(sounding: Film) -> None:
    silent = certify(sounding.plan, sounding.records)
    assert "in a film without audio" in told(sounding.path, silent, Damage.AUDIO)


def test_missing_audio_is_found(sounding: Film, tmp_path: Path) -> None:
    concat_segments(tmp_path / "mute.mp4", plan=sounding.plan, records=sounding.records, store=sounding.store)
    said = told(tmp_path / "mute.mp4", sounding.certificate, Damage.AUDIO)
    assert said.startswith("0 audio packets instead of ")
    assert "-0.021 s of audio instead of 3.000 s" in said or "0.000 s of audio" in said


def test_audio_that_is_too_short_is_found(sounding: Film, tone: AudioTrack, tmp_path: Path) -> None:
    short = replace(tone, sizes=tone.sizes[:100], offsets=tone.offsets[:100])
    damaged = write_sounding(sounding, tmp_path / "short.mp4", short)
    said = told(damaged, sounding.certificate, Damage.AUDIO)
    assert said.startswith("100 audio packets instead of 142")
    assert "2.112 s of audio instead of 3.000 s" in said


def test_other_audio_is_found(sounding: Film, tmp_path: Path) -> None:
    other = read_audio(make_tone(tmp_path / "other.m4a", samples=200_000, beep_at=60_000))
    damaged = write_sounding(sounding, tmp_path / "other.mp4", other)
    assert "not those that were joined in" in told(damaged, sounding.certificate, Damage.AUDIO)


def test_audio_that_begins_too_early_or_late_is_found(sounding: Film, tone: AudioTrack, tmp_path: Path) -> None:
    damaged = write_sounding(sounding, tmp_path / "early.mp4", replace(tone, priming_samples=0))
    assert "the audio begins at " in told(damaged, sounding.certificate, Damage.AUDIO)


def test_audio_packets_of_another_length_are_found(sounding: Film, tone: AudioTrack, tmp_path: Path) -> None:
    damaged = write_sounding(sounding, tmp_path / "slow.mp4", replace(tone, packet_samples=1000))
    assert "audio packet 1 has PTS 1000, not 1024" in told(damaged, sounding.certificate, Damage.AUDIO)


# The certificate's own file


def damage_certificate(text: str) -> Iterator[tuple[str, str]]:
    """Each kind of damage to a certificate's JSON, by name."""
    yield "cut", text[: len(text) // 2]
    yield "empty", ""
    yield "no JSON", "not a certificate"
    yield "another shape", "[1, 2, 3]"

    def changed(change: Callable[[dict], object]) -> str:
        values = json.loads(text)
        change(values)
        return json.dumps(values)

    yield "version", changed(lambda values: values.update(version=2))
    yield "frame count", changed(lambda values: values.update(frame_count=7))
    yield "no segments", changed(lambda values: values.update(segments=[]))
    yield "a segment less", changed(lambda values: values["segments"].pop())
    yield "rate of zero", changed(lambda values: values.update(frame_rate="0"))
    yield "no rate", changed(lambda values: values.update(frame_rate="1/0"))
    yield "clock", changed(lambda values: values.update(timescale=1))
    yield "ticks", changed(lambda values: values.update(frame_ticks=-512))
    yield "delay", changed(lambda values: values.update(reorder_frames=0))
    for key, value in (
        ("packet_digests", "AAAA"),
        ("packet_digests", "no base64!"),
        ("fingerprints", ""),
        ("packet_sizes", [1]),
        ("packet_sizes", ["many"]),
        ("packet_frames", [0] * 18),
        ("payload_bytes", 1),
        ("payload_offset", -1),
        ("keyframes", []),
        ("keyframes", [0, 99]),
        ("parameter_sets", ["", ""]),
        ("parameter_sets", ["no", "hex"]),
        ("samples", [{"frame": 0, "thumbnail": "AAAA"}]),
        ("samples", [{"frame": 1, "thumbnail": ""}]),
    ):
        yield (
            f"{key} {value}"[:40],
            changed(lambda values, key=key, value=value: values["segments"][0].update({key: value})),
        )


def test_a_damaged_certificate_is_refused_whatever_is_wrong_with_it(small: Film, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4.certificate.json"
    write_certificate(small.certificate, path)
    for name, text in list(damage_certificate(path.read_text())):
        path.write_text(text)
        with pytest.raises(MediaError, match="not a certificate"):
            pytest.fail(f"{name}: accepted {read_certificate(path)}")


def test_a_certificate_of_a_later_version_says_so(small: Film, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4.certificate.json"
    write_certificate(replace(small.certificate, version=9), path)
    with pytest.raises(MediaError, match="version 9"):
        read_certificate(path)


def test_a_certificate_that_cannot_be_read_or_written_is_a_storage_error(small: Film, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="gone"):
        read_certificate(tmp_path / "gone.json")
    with pytest.raises(StorageError, match="gone"):
        write_certificate(small.certificate, tmp_path / "gone" / "certificate.json")


# Whatever else may happen to a film


def test_every_flipped_byte_is_found_and_none_breaks_the_check(small: Film, tmp_path: Path) -> None:
    data, dice = small.path.read_bytes(), random.Random(20)
    mdat = next(span for span in read_layout(small.path).spans if span.kind == "mdat")
    damaged = tmp_path / "damaged.mp4"
    for number in range(200):
        where = (0, mdat.content_byte) if number % 2 else (mdat.content_byte, mdat.end_byte)
        place, flipped = dice.randrange(*where), 1 << dice.randrange(8)
        patch(small.path, damaged, place, bytes((data[place] ^ flipped,)))
        assert find_damage(damaged, small.certificate, full=number % 8 == 0), f"bit {flipped} of byte {place}"


def test_every_cut_or_garbled_file_is_found_and_none_breaks_the_check(small: Film, tmp_path: Path) -> None:
    data, dice = small.path.read_bytes(), random.Random(21)
    damaged = tmp_path / "damaged.mp4"
    for number in range(150):
        start, length = dice.randrange(len(data)), dice.randrange(1, 200)
        middle = dice.choice([b"", bytes(length), dice.randbytes(length), data[start : start + length] * 2])
        changed = data[:start] + middle + (b"" if number % 3 == 0 else data[start + length :])
        damaged.write_bytes(changed)
        assert changed == data or find_damage(damaged, small.certificate, full=number % 5 == 0), f"run {number}"


def test_any_two_certificates_and_films_can_be_compared(small: Film, rendered: Rendered, sounding: Film) -> None:
    films = (small, rendered.film, rendered.ntsc, sounding)
    for film in films:
        for other in films:
            try:
                sound = not find_damage(film.path, other.certificate, full=True)
            except FanreelError as error:  # pragma: no cover
                pytest.fail(f"{film.path} against {other.path}: {error}")
            assert sound is (film is other)


def without(film: Film, place: int):
    """The film's track without one packet, everything else as it was."""
    track = film.track
    assert track.sync_samples is not None
    assert track.composition_ticks is not None
    marks = track.sync_samples[track.sync_samples != place]
    return replace(
        track,
        sample_sizes=np.delete(track.sample_sizes, place),
        composition_ticks=np.delete(track.composition_ticks, place),
        sync_samples=np.where(marks > place, marks - 1, marks),
    )


def drop(payloads: list[bytes], place: int) -> list[bytes]:
    return payloads[:place] + payloads[place + 1 :]


def black() -> tuple[np.ndarray, ...]:
    return np.full((180, 320), 16, np.uint8), np.full((90, 160), 128, np.uint8), np.full((90, 160), 128, np.uint8)
