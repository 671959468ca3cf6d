"""Progress: what is told of a film while it is made."""

import pytest

from fanreel.report.progress import Progress, Snapshot


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_speed_and_what_is_left_come_from_the_frames_made():
    clock = Clock()
    progress = Progress(segment_count=6, frames_to_make=1000, clock=clock)
    assert progress.snapshot() == Snapshot(0, 6, 0, 1000, 0.0, None)
    progress.add_frames(250)
    progress.add_segment()
    clock.now += 5
    assert progress.snapshot() == Snapshot(1, 6, 250, 1000, 50.0, 15.0)
    assert str(progress.snapshot()) == "1/6 segments, 25 %, 50 fps, 0:15 left"


def test_work_done_twice_is_not_over_a_hundred_percent():
    progress = Progress(segment_count=1, frames_to_make=10, clock=Clock())
    for _ in range(2):
        progress.add_frames(10)
        progress.add_segment()
    assert str(progress.snapshot()) == "1/1 segment, 100 %, 0 fps"


def test_a_film_that_is_all_there_has_nothing_left():
    progress = Progress(segment_count=0, frames_to_make=0, clock=Clock())
    assert str(progress.snapshot()) == "every segment is there already"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")])
def test_time_left_reads_like_a_clock(seconds, text):
    assert str(Snapshot(0, 1, 1, 2, 1.0, seconds)).endswith(f", {text} left")
