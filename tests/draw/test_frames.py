"""The frame source: what it keeps, what it makes ready, and how it fails."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from fanreel.draw import still
from fanreel.draw.frames import FrameSource
from fanreel.errors import PhotoChangedError
from fanreel.photos.photo import read_photo
from fanreel.plan.camera import plan_views
from fanreel.plan.content import StillContent
from fanreel.plan.timeline import Clip, Timeline

SIZE = (64, 64)
CLIP_FRAMES = 3
PATIENCE_SECONDS = 20


class Film:
    """A film of flat photos, clip k in grey level 6k + 1; three frames a clip."""

    def __init__(self, folder, count):
        self.paths, clips = {}, []
        for index in range(count):
            path = folder / f"{index}.png"
            Image.new("RGB", (80, 80), (6 * index + 1,) * 3).save(path)
            photo = read_photo(path, max_megapixels=1)
            camera = plan_views((0, 0, 1, 1), (0, 0, 1, 1), photo_px=(80, 80), film_px=SIZE)
            self.paths[photo.digest] = str(path)
            clips.append(Clip(StillContent(photo, camera), index * CLIP_FRAMES, (index + 1) * CLIP_FRAMES))
        self.timeline = Timeline(tuple(clips))

    def source(self, **words):
        return FrameSource(self.timeline, photo_paths=self.paths, width_px=SIZE[0], height_px=SIZE[1], **words)

    def path(self, index):
        return self.paths[self.timeline.clips[index].content.photo.digest]


def draw(source, frame):
    planes = [np.empty(shape, np.uint8) for shape in ((64, 64), (32, 32), (32, 32))]
    source.draw(frame, planes)
    return planes


def clip_drawn(source, frame):
    """The clip whose grey the frame has."""
    level = int(draw(source, frame)[0][30, 30])
    return round(((level - 16) / 219 * 255 - 1) / 6)


@pytest.fixture
def decoded(monkeypatch):
    """Places in the film of the photos that were decoded, in that order, told by their paths."""
    places = []
    prepare = still.prepare_planes

    def noted(path, *arguments, **words):
        planes = prepare(path, *arguments, **words)
        places.append(int(path.stem))
        return planes

    monkeypatch.setattr(still, "prepare_planes", noted)
    return places


def wait_until(true):
    end = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def held(source):
    contents = [clip.content for clip in source._timeline.clips]
    return [contents.index(content) for content in source._ready]


def test_no_more_than_the_current_and_the_next_photo_are_held(tmp_path, decoded):
    film = Film(tmp_path, 40)
    with film.source() as source:
        for frame in range(film.timeline.frame_count):
            current = frame // CLIP_FRAMES
            assert clip_drawn(source, frame) == current
            assert held(source) == [index for index in (current, current + 1) if index < 40]
    assert decoded == list(range(40)), "each photo is decoded once, in order"


def test_the_next_photo_is_ready_before_it_is_asked_for(tmp_path, decoded):
    film = Film(tmp_path, 3)
    with film.source() as source:
        draw(source, 0)
        wait_until(lambda: decoded == [0, 1])
        ready = source._ready[film.timeline.clips[1].content]
        wait_until(ready.done)
        draw(source, CLIP_FRAMES)
        assert source._ready[film.timeline.clips[1].content] is ready


def test_decoding_ahead_does_not_hold_up_the_frame_at_hand(tmp_path, monkeypatch):
    film = Film(tmp_path, 2)
    gate, prepare = threading.Event(), still.prepare_planes

    def slow_for_the_second(path, *arguments, **words):
        if path.stem == "1":
            assert gate.wait(PATIENCE_SECONDS)
        return prepare(path, *arguments, **words)

    monkeypatch.setattr(still, "prepare_planes", slow_for_the_second)
    with film.source() as source:
        for frame in range(CLIP_FRAMES):
            assert clip_drawn(source, frame) == 0
        gate.set()
        assert clip_drawn(source, CLIP_FRAMES) == 1


@pytest.mark.parametrize(
    ("ranges", "wanted"),
    [
        pytest.param([range(0, 6)], [0, 1], id="whole clips"),
        pytest.param([range(1, 5)], [0, 1], id="parts of clips"),
        pytest.param([range(4, 5)], [1], id="one frame"),
        pytest.param([range(0, 3), range(3, 6)], [0, 1], id="segments side by side"),
        pytest.param([range(0, 3), range(12, 15)], [0, 4], id="a gap"),
        pytest.param([range(0, 2), range(2, 3), range(10, 13)], [0, 3, 4], id="cuts inside clips"),
        pytest.param([range(12, 15)], [4], id="the end of the film"),
    ],
)
def test_no_photo_is_decoded_that_no_frame_of_the_ranges_shows(tmp_path, decoded, ranges, wanted):
    film = Film(tmp_path, 5)
    with film.source(ranges=ranges) as source:
        for each in ranges:
            for frame in each:
                assert clip_drawn(source, frame) == frame // CLIP_FRAMES
    assert decoded == wanted


def test_the_first_photo_after_a_gap_is_made_ready_during_the_clip_before(tmp_path, decoded):
    film = Film(tmp_path, 5)
    with film.source(ranges=[range(0, 3), range(12, 15)]) as source:
        draw(source, 0)
        wait_until(lambda: decoded == [0, 4])


def test_any_frame_can_be_drawn_whatever_the_ranges_are(tmp_path):
    film = Film(tmp_path, 5)
    with film.source(ranges=[range(0, 3)]) as source:
        assert [clip_drawn(source, frame) for frame in (14, 0, 7, 2, 3)] == [4, 0, 2, 0, 1]


def test_frames_beyond_the_film_are_refused(tmp_path):
    with Film(tmp_path, 1).source() as source:
        for frame in (CLIP_FRAMES, -1, 0, CLIP_FRAMES):
            if frame:
                with pytest.raises(IndexError, match=rf"frame {frame} is not in \[0, 3\)"):
                    draw(source, frame)
            else:
                draw(source, frame)


def test_a_photo_that_changed_is_told_when_its_first_frame_is_drawn(tmp_path):
    film = Film(tmp_path, 3)
    Image.new("RGB", (80, 80), "red").save(film.path(1))
    with film.source() as source:
        for frame in range(CLIP_FRAMES):
            draw(source, frame)
        with pytest.raises(PhotoChangedError, match=r"1\.png: changed"):
            draw(source, CLIP_FRAMES)
        assert clip_drawn(source, 2 * CLIP_FRAMES) == 2


def test_a_photo_that_is_gone_counts_as_changed_and_is_named(tmp_path):
    film = Film(tmp_path, 1)
    (tmp_path / "0.png").unlink()
    with film.source() as source, pytest.raises(PhotoChangedError, match=r"0\.png: gone since"):
        draw(source, 0)


def test_memory_that_runs_out_while_decoding_ahead_surfaces_as_itself(tmp_path, monkeypatch):
    film = Film(tmp_path, 1)

    def exhausted(*_arguments, **_words):
        raise MemoryError

    monkeypatch.setattr(still, "prepare_planes", exhausted)
    with film.source() as source, pytest.raises(MemoryError):
        draw(source, 0)


@pytest.mark.parametrize("drawn", [0, 1, 4])
def test_leaving_the_source_ends_its_thread(tmp_path, drawn):
    before = set(threading.enumerate())
    film = Film(tmp_path, 3)
    with film.source() as source:
        for frame in range(drawn):
            draw(source, frame)
    assert set(threading.enumerate()) == before


def test_leaving_by_an_error_ends_the_thread_and_lets_the_error_through(tmp_path):
    before = set(threading.enumerate())
    film = Film(tmp_path, 3)
    with pytest.raises(IndexError), film.source() as source:
        draw(source, -1)
    assert set(threading.enumerate()) == before


def test_planes_with_padded_rows_are_filled_and_the_padding_is_left_alone(tmp_path):
    film = Film(tmp_path, 1)
    whole = [np.full((side, side + 32), 0xA5, np.uint8) for side in (64, 32, 32)]
    with film.source() as source:
        source.draw(0, [plane[:, :-32] for plane in whole])
    for plane, level in zip(whole, (17, 128, 128), strict=True):
        assert np.all(plane[:, :-32] == level)
        assert np.all(plane[:, -32:] == 0xA5)
