"""Shards: every segment once, in order, in parts of about equal size."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanreel.plan.segments import Segment
from fanreel.plan.shards import LARGEST_SHARD_COUNT, SHARDS_A_SESSION, plan_shards

LENGTHS = st.lists(st.integers(48, 600), max_size=300)
SESSIONS = st.integers(1, 1024)
each_film = settings(deadline=None)


def segments_of(lengths):
    ends = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    return [
        Segment(number, end - length, end, (end - length,), f"f{number}", f"a{number}", "")
        for number, (length, end) in enumerate(zip(lengths, ends, strict=True))
    ]


@each_film
@given(LENGTHS, SESSIONS)
def test_shards_hold_every_segment_once_and_in_order(lengths, sessions):
    segments = segments_of(lengths)
    shards = plan_shards(segments, session_count=sessions)
    assert [segment for shard in shards for segment in shard.segments] == segments
    assert [shard.index for shard in shards] == list(range(len(shards)))


@each_film
@given(LENGTHS, SESSIONS)
def test_no_shard_is_empty_and_there_are_as_many_as_wanted(lengths, sessions):
    shards = plan_shards(segments_of(lengths), session_count=sessions)
    assert all(shard.segments for shard in shards)
    assert len(shards) == min(len(lengths), LARGEST_SHARD_COUNT, SHARDS_A_SESSION * sessions)


@each_film
@given(LENGTHS.filter(bool), SESSIONS)
def test_shards_are_equal_but_for_one_segment(lengths, sessions):
    shards = plan_shards(segments_of(lengths), session_count=sessions)
    fair = Fraction(sum(lengths), len(shards))
    assert sum(shard.frame_count for shard in shards) == sum(lengths)
    assert all(abs(shard.frame_count - fair) <= max(lengths) for shard in shards)


def test_segments_left_from_a_film_that_was_begun_keep_their_numbers():
    missing = [segment for segment in segments_of([300] * 10) if segment.index not in {1, 2, 7}]
    shards = plan_shards(missing, session_count=1)
    assert [segment.index for shard in shards for segment in shard.segments] == [0, 3, 4, 5, 6, 8, 9]


@pytest.mark.parametrize("sessions", [1, 2, 16, 1024])
def test_a_film_costs_at_most_32_task_runs(sessions):
    assert len(plan_shards(segments_of([250] * 3600), session_count=sessions)) == min(32, 3 * sessions)


def test_equal_segments_make_equal_shards():
    shards = plan_shards(segments_of([240] * 96), session_count=16)
    assert {len(shard.segments) for shard in shards} == {3}


def test_nothing_to_render_is_no_shard():
    assert plan_shards([], session_count=4) == ()


def test_a_shard_is_called_after_its_segments():
    one, *_ = plan_shards(segments_of([100]), session_count=1)
    assert one.label == "segment 0"
    shards = plan_shards(segments_of([100] * 6), session_count=1)
    assert [shard.label for shard in shards] == ["segments 0-1", "segments 2-3", "segments 4-5"]
