"""The timeline: every frame of a film shows exactly one clip, and the right frame of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanreel.plan.camera import CameraPath, Rect
from fanreel.plan.content import ColourContent, Photo, StillContent
from fanreel.plan.timeline import FULL_OPACITY, Clip, Layer, Timeline, layers_at

PATH = CameraPath(Rect(0, 0, 16, 9), Rect(16, 9, 32, 18))
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=12)
each_film = settings(deadline=None)


def film_of(lengths):
    """Return a film whose clips have photos named 0, 1, 2 and so on."""
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    return Timeline(
        tuple(
            Clip(StillContent(Photo(str(number), 32, 18), PATH), start_frame=end - length, end_frame=end)
            for number, (length, end) in enumerate(zip(lengths, ends, strict=True))
        )
    )


def shown(lengths):
    """Return what each frame must show: (photo, frame of the clip), frame by frame."""
    return [(str(number), frame) for number, length in enumerate(lengths) for frame in range(length)]


@each_film
@given(LENGTHS)
def test_every_frame_shows_exactly_one_clip(lengths):
    film = film_of(lengths)
    assert film.frame_count == sum(lengths)
    for frame, (photo, _) in enumerate(shown(lengths)):
        assert [layer.content.photo.digest for layer in layers_at(film, frame)] == [photo]


@each_film
@given(LENGTHS)
def test_a_layer_knows_its_place_in_its_content_and_the_content_s_length(lengths):
    film = film_of(lengths)
    for frame, (photo, inner) in enumerate(shown(lengths)):
        (layer,) = layers_at(film, frame)
        assert (layer.frame, layer.frame_count, layer.opacity) == (inner, lengths[int(photo)], FULL_OPACITY)


@each_film
@given(LENGTHS, st.data())
def test_a_range_of_frames_shows_the_clips_that_its_frames_show(lengths, data):
    start = data.draw(st.integers(0, sum(lengths) - 1))
    end = data.draw(st.integers(start + 1, sum(lengths)))
    expected = list(dict.fromkeys(photo for photo, _ in shown(lengths)[start:end]))
    assert [clip.content.photo.digest for clip in film_of(lengths).clips_between(start, end)] == expected


def test_a_clip_ends_before_its_end_frame():
    film = film_of([10, 1, 5])
    assert [layers_at(film, frame)[0].content.photo.digest for frame in (9, 10, 11, 15)] == ["0", "1", "2", "2"]
    assert [clip.content.photo.digest for clip in film.clips_between(0, 10)] == ["0"]
    assert [clip.content.photo.digest for clip in film.clips_between(9, 11)] == ["0", "1"]
    assert [clip.content.photo.digest for clip in film.clips_between(10, 11)] == ["1"]
    assert [clip.content.photo.digest for clip in film.clips_between(0, 16)] == ["0", "1", "2"]


@pytest.mark.parametrize("frame", [-1, 16, 10**9])
def test_a_frame_outside_the_film_is_an_error(frame):
    with pytest.raises(IndexError, match=rf"^frame {frame} is not in \[0, 16\)$"):
        layers_at(film_of([10, 1, 5]), frame)


def test_an_empty_film_has_no_frame():
    assert Timeline(()).frame_count == 0
    with pytest.raises(IndexError):
        layers_at(Timeline(()), 0)


def test_a_photo_shown_twice_in_a_row_is_two_clips():
    photo = StillContent(Photo("a", 32, 18), PATH)
    film = Timeline((Clip(photo, 0, 3), Clip(photo, 3, 6)))
    assert [layers_at(film, frame)[0].frame for frame in range(6)] == [0, 1, 2] * 2


def test_of_clips_that_share_frames_the_later_one_lies_above():
    below, above = ColourContent((0, 0, 0)), ColourContent((255, 255, 255))
    film = Timeline((Clip(below, 0, 6), Clip(above, 4, 9, opacity=64), Clip(below, 4, 9)))
    assert film.frame_count == 9
    assert layers_at(film, 3) == (Layer(below, 3, 6),)
    assert layers_at(film, 5) == (Layer(below, 5, 6), Layer(above, 1, 5, opacity=64), Layer(below, 1, 5))
    assert layers_at(film, 6) == (Layer(above, 2, 5, opacity=64), Layer(below, 2, 5))


def test_a_frame_between_clips_has_no_layer():
    film = Timeline((Clip(ColourContent((1, 2, 3)), 0, 2), Clip(ColourContent((1, 2, 3)), 4, 6)))
    assert [len(layers_at(film, frame)) for frame in range(6)] == [1, 1, 0, 0, 1, 1]


def test_a_content_says_what_it_needs_and_what_people_call_it():
    still = StillContent(Photo("a", 32, 18), PATH)
    assert (still.source_digests, still.decoded_px, still.label({"a": "/photos/sea.jpg"})) == (("a",), 576, "sea.jpg")
    red = ColourContent((255, 0, 9))
    assert (red.source_digests, red.decoded_px, red.label({})) == ((), 0, "colour #ff0009")
