"""The job's form and a run's page, in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from support.deployed import NAME, flow_run_in, job_parameters
from support.jobs import draw_photo
from support.prefect_server import Served

from fanreel.job.encoding import Encoding
from fanreel.job.machines import Machines
from fanreel.job.slideshow import SlideshowJob

pytestmark = pytest.mark.soak

QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and os.environ.get("FANREEL_REQUIRE_CHROMIUM") == "1":
        pytest.fail("FANREEL_REQUIRE_CHROMIUM=1, but there is no chromium")
    if found is None:
        pytest.skip("no chromium: apt-get install chromium")
    return found


def _read_page(chromium: str, url: str, folder: Path) -> str:
    """Return the words of a page as a person sees them, and leave a picture of it in `folder`."""
    command = [chromium, *QUIET, f"--user-data-dir={folder / 'profile'}", "--window-size=1300,2600"]
    command += ["--virtual-time-budget=20000"]
    picture = f"--screenshot={folder / 'page.png'}"
    subprocess.run([*command, picture, url], capture_output=True, timeout=120, check=True)
    page = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True)
    text = re.sub(r"<(script|style).*?</\1>", " ", page.stdout, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def test_the_form_shows_every_field_with_its_words(chromium: str, served: Served, tmp_path: Path) -> None:
    deployment = served.ask(f"deployments/name/{NAME}")
    page = _read_page(chromium, f"{served.url}/deployments/deployment/{deployment['id']}/run", tmp_path)

    fields = [item for model in (SlideshowJob, Encoding, Machines) for item in model.model_fields.items()]
    for name, field in fields:
        if name != "film":
            title = field.title or name.replace("_", " ").title()
            assert title in page, f"{name}: no title {title!r} in {page}"
            assert field.description in page, f"{name}: no description in {page}"
    assert "Add item" in page
    shown = [page.index(field.description) for name, field in SlideshowJob.model_fields.items() if name != "film"]
    assert shown == sorted(shown)


def test_a_runs_page_names_its_film_and_steps(chromium: str, served: Served, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    draw_photo(tmp_path / "photos/photo.jpg", seed=300)
    with served.worker():
        done = served.run("deployment", "run", NAME, "--params", job_parameters(tmp_path), "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    run = flow_run_in(served, tmp_path)
    page = _read_page(chromium, f"{served.url}/runs/flow-run/{run['id']}", tmp_path)

    assert "film.mp4" in page
    assert "Completed" in page
    assert "fetch photos for film.mp4" in page
    assert "of film.mp4" in page
