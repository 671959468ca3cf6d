"""A photo that ends whatever reads it: one named photo, and never a dead film, batch, inbox or flow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.jobs import draw_photo, make_job
from support.photo_files import chart, deadly_heic
from support.processes import descendants, environment_in

from fanreel.batches.inbox_films import FilmState, look_into_inbox, order_inbox
from fanreel.cli.command import main
from fanreel.errors import UnreadablePhotoError
from fanreel.render.here import plan_job, render_job
from fanreel.render.inbox import make_inbox_film

ROOT = Path(__file__).parents[2]
DEATH = "the process that decodes it died of SIG"
SMALL = {"size": "64x64", "fps": "8", "seconds_per_slide": 1, "encoding": {"preset": "draft", "quality": 40}}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(2):
        draw_photo(folder / f"{seed}.jpg", seed=seed, size=(120, 90))
    return folder


def kill(folder):
    """Write the photo that kills, as a.heic."""
    path = folder / "a.heic"
    path.write_bytes(deadly_heic(chart()))
    return path


def test_a_film_is_refused_with_its_name_or_made_without_it(host, photos, tmp_path):
    deadly = kill(photos)
    with pytest.raises(UnreadablePhotoError, match=rf"^photos: {deadly}: {DEATH}"):
        plan_job(make_job(tmp_path, **SMALL), host=host)
    (report,) = render_job(make_job(tmp_path, on_bad_photo="skip", **SMALL), host=host)
    assert report.verified
    assert report.frame_count == 2 * 8
    assert [line.partition("SIG")[0] for line in report.left_out] == [f"{deadly}: {DEATH[:-3]}"]


def test_a_batch_makes_the_other_films(photos, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("FANREEL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("FANREEL_LOCK_FOLDER", str(tmp_path / "locks"))
    deadly = kill(tmp_path)
    rows = ["output,photos", "1.mp4,photos/0.jpg", "2.mp4,a.heic|photos/0.jpg", "3.mp4,photos/1.jpg", "4.mp4,photos"]
    (tmp_path / "films.csv").write_text("\n".join(rows))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(SMALL))
    command = ["batch", str(tmp_path / "films.csv"), "--template", str(tmp_path / "job.yaml"), "--continue"]
    assert main(command) == UnreadablePhotoError.exit_code
    said = capfd.readouterr().err
    assert f"row 3, column photos: {deadly}: {DEATH}" in said
    assert "3 of 4 films made; not: row 3" in said
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["1.mp4", "3.mp4", "4.mp4"]


def test_an_inbox_goes_on_with_the_other_folders(host, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).mkdir(parents=True)
        draw_photo(tmp_path / "in" / name / "1.jpg", seed=ord(name), size=(120, 90))
        (tmp_path / "in" / name / "job.yaml").write_text(yaml.safe_dump(SMALL))
    deadly = kill(tmp_path / "in" / "b")
    order = order_inbox(str(tmp_path / "in"), quiet_seconds=0)
    rows, _ = look_into_inbox(order, settings=host.settings)
    made = [make_inbox_film(row, order, render=lambda job: render_job(job, host=host)[0]) for row in rows]
    assert [row.state for row in made] == [FilmState.RENDERED, FilmState.BROKEN, FilmState.RENDERED]
    assert f"{deadly}: {DEATH}" in made[1].detail


@pytest.mark.soak
def test_a_flow_ends_with_its_name_and_leaves_no_server(photos, tmp_path):
    deadly = kill(photos)
    job = SMALL | {"photos": ["photos"], "output": "film.mp4"}
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    command = [sys.executable, "-m", "flows.render_slideshow", str(tmp_path / "job.yaml")]
    before = descendants(os.getpid()).keys()
    done = subprocess.run(
        command, cwd=ROOT, env=environment_in(tmp_path), capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == UnreadablePhotoError.exit_code
    assert f"fanreel: photos: {deadly}: {DEATH}" in done.stderr
    assert descendants(os.getpid()).keys() <= before
    left = [path for path in Path("/proc").glob("[0-9]*/environ") if str(tmp_path).encode() in _read(path)]
    assert left == []


def _read(path):
    try:
        return path.read_bytes()
    except OSError:  # gone, or another user's
        return b""
