"""The report of a film as people read it."""

from fanreel.report.film_report import MOST_LINES_SHOWN, FilmReport

LEFT_OUT = ("a.jpg: no such file",)


def report(**words):
    values = {"film": "/films/a.mp4", "seconds": 1.0, "frame_count": 30, "size": "320x180", "size_bytes": 1000}
    rest = {"elapsed_seconds": 1.0, "fps": 30.0, "segments_rendered": 1, "segments_reused": 0, "sessions": ""}
    return FilmReport(**values, **rest, verified=True, **words)


def lines(done, name):
    return [line for line in str(done).splitlines() if line.startswith(name)]


def test_what_people_should_know_of_a_film_stands_before_what_is_left_out():
    done = report(notes=("23.976 is taken as 24000/1001",), left_out=LEFT_OUT)
    assert str(done).splitlines()[-2:] == [
        "note      23.976 is taken as 24000/1001",
        "left out  a.jpg: no such file",
    ]


def test_of_many_lines_the_first_ones_are_shown_and_the_others_counted():
    done = report(notes=tuple(map(str, range(MOST_LINES_SHOWN + 5))), left_out=LEFT_OUT)
    assert len(lines(done, "note")) == MOST_LINES_SHOWN + 1
    assert lines(done, "note")[-1] == "note      5 more"
    assert lines(done, "left out") == ["left out  a.jpg: no such file"]
