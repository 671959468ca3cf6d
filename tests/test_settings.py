"""The settings: what the environment says, and what wrong values are answered with."""

import pytest

from fanreel.errors import RequestError
from fanreel.settings import read_settings


def test_settings_have_defaults(monkeypatch, tmp_path):
    for name in ("STORE", "LOCK_FOLDER", "HANG_SECONDS", "WAIT_SECONDS", "MAX_PHOTO_MEGAPIXELS"):
        monkeypatch.delenv(f"FANREEL_{name}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = read_settings()
    assert found.store == tmp_path / "fanreel"
    assert (found.hang_seconds, found.wait_seconds, found.max_photo_megapixels) == (60, 3600, 400)


@pytest.mark.parametrize(
    "name",
    ["FANREEL_HANG_SECONDS", "FANREEL_WAIT_SECONDS", "FANREEL_MAX_PHOTO_MEGAPIXELS", "FANREEL_PHOTO_SECONDS"],
)
@pytest.mark.parametrize("text", ["a minute", "1,5", "nan", "inf", "0", "-3", "1e12", " ", "60s"])
def test_a_wrong_number_names_its_variable(monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    with pytest.raises(RequestError, match=f"^{name}: {text!r} is not ") as caught:
        read_settings()
    assert "\n" not in str(caught.value)


def test_sessions_give_way_unless_they_are_told_not_to(monkeypatch):
    monkeypatch.delenv("FANREEL_SESSION_NICENESS", raising=False)
    assert read_settings().session_niceness == 10
    for text in ("0", "19"):
        monkeypatch.setenv("FANREEL_SESSION_NICENESS", text)
        assert read_settings().session_niceness == int(text)
    for text in ("-1", "20", "low"):
        monkeypatch.setenv("FANREEL_SESSION_NICENESS", text)
        with pytest.raises(RequestError, match=r"^FANREEL_SESSION_NICENESS: .* a whole number from 0 to 19$"):
            read_settings()


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch):
    monkeypatch.setenv("FANREEL_HANG_SECONDS", "")
    monkeypatch.setenv("FANREEL_LOCK_FOLDER", "")
    assert read_settings().hang_seconds == 60
    assert read_settings().lock_folder.is_absolute()


@pytest.mark.parametrize(("variable", "field"), [("FANREEL_STORE", "store"), ("FANREEL_LOCK_FOLDER", "lock_folder")])
def test_a_folder_is_the_same_from_everywhere(monkeypatch, tmp_path, variable, field):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for text, folder in [("~/place", tmp_path / "place"), ("place", tmp_path / "place"), ("/place", None)]:
        monkeypatch.setenv(variable, text)
        assert str(getattr(read_settings(), field)) == str(folder or text)


@pytest.mark.parametrize("variable", ["FANREEL_STORE", "FANREEL_LOCK_FOLDER"])
def test_a_folder_of_nobody_names_its_variable(monkeypatch, variable):
    monkeypatch.setenv(variable, "~no-such-user-of-this-host/place")
    with pytest.raises(RequestError, match=f"^{variable}: '~no-such-user-of-this-host/place' is not allowed; "):
        read_settings()
