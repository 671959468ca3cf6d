"""Names that are shown: one line, whatever is in them, and nothing that a terminal obeys."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanreel.plan.camera import CameraPath, Rect
from fanreel.plan.content import Photo, StillContent
from fanreel.printable import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("été 写真 🎞.jpg", "été 写真 🎞.jpg"),
        ("red\x1b[31m.jpg", r"red\x1b[31m.jpg"),
        ("two\r\nlines.jpg", r"two\r\nlines.jpg"),
        (os.fsdecode(b"caf\xe9.jpg"), r"caf\xe9.jpg"),
        ("half \ud83d.jpg", r"half \ud83d.jpg"),
        ("gpj.\u202ebackwards", r"gpj.\u202ebackwards"),
        ("back\\slash.jpg", "back\\slash.jpg"),
    ],
)
def test_a_name_is_shown_on_one_line(name, shown):
    assert printable(name) == shown


@given(st.text())
def test_any_text_can_be_printed(text):
    assert printable(text).isprintable()
    assert len(printable(text).encode()) >= len(text)


def test_a_plan_calls_a_photo_by_a_name_that_can_be_printed():
    view = Rect(0.0, 0.0, 1.0, 1.0)
    content = StillContent(Photo("d", 1, 1), CameraPath(view, view))
    assert content.label({"d": "/photos/red\x1b[31m\r.jpg"}) == r"red\x1b[31m\r.jpg"
