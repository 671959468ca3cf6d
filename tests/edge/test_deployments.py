"""The deployments on a real server, run by a real worker from a checkout of its own."""

from __future__ import annotations

import contextlib
import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.deployed import NAME, flow_run_in, flow_runs, job_parameters
from support.jobs import draw_photo
from support.prefect_server import Served
from support.processes import sessions_below, wait_until

from fanreel.job.parse import parse_job
from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.join.verify import find_damage

ROOT = Path(__file__).parents[2]


def test_every_deployment_fits_one_screen_and_names_no_machine() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    assert len(text.splitlines()) <= 80  # six deployments of a dozen lines, as a tall terminal shows them
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
    for deployment in yaml.safe_load(text)["deployments"]:
        assert (ROOT / deployment["entrypoint"].split(":")[0]).is_file()


def test_the_example_is_a_job() -> None:
    (example,) = (ROOT / "deployments/jobs").glob("*.json")
    parameters = json.loads(example.read_text())
    assert list(parameters) == ["job"]
    assert parse_job(parameters["job"]).base


@pytest.fixture(scope="module")
def worker(served: Served) -> Iterator[int]:
    with served.worker() as pid:
        yield pid


def _draw(folder: Path, *, first_seed: int) -> None:
    (folder / "photos").mkdir()
    for seed in range(first_seed, first_seed + 2):
        draw_photo(folder / "photos" / f"photo-{seed}.jpg", seed=seed)


def _has_begun(store: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # a scratch folder that goes while we look
        return any((store / "scratch").glob("*/*.packets"))
    return False


@pytest.mark.soak
@pytest.mark.usefixtures("worker")
def test_a_run_that_is_watched_ends_with_a_film(served: Served, tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=200)
    done = served.run("deployment", "run", NAME, "--params", "-", "--watch", text=job_parameters(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    film = tmp_path / "out/film.mp4"
    assert find_damage(film, read_certificate(certificate_path(film)), full=True) == ()
    run = flow_run_in(served, tmp_path)
    assert (run["name"], run["state_type"]) == ("film.mp4", "COMPLETED")


@pytest.mark.soak
def test_a_bad_job_is_refused_before_a_run_exists(served: Served, tmp_path: Path) -> None:
    before = len(flow_runs(served))
    done = served.run("deployment", "run", NAME, "--params", job_parameters(tmp_path, sise="320x180"), "--watch")
    assert done.returncode == 1
    deployment = served.ask(f"deployments/name/{NAME}")["id"]
    for words in ({"output": 3}, {"encoding": {"preset": "quick"}}):
        asked = {"parameters": json.loads(job_parameters(tmp_path, **words))}
        with pytest.raises(urllib.error.HTTPError, match="409"):
            served.ask(f"deployments/{deployment}/create_flow_run", asked)
    assert len(flow_runs(served)) == before


@pytest.mark.soak
@pytest.mark.usefixtures("worker")
def test_a_run_without_photos_fails(served: Served, tmp_path: Path) -> None:
    done = served.run("deployment", "run", NAME, "--params", job_parameters(tmp_path, photos=["gone.jpg"]), "--watch")

    assert done.returncode == 1
    run = flow_run_in(served, tmp_path)
    assert run["state_type"] == "FAILED"
    assert "gone.jpg" in run["state"]["message"]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_cancelled_run_leaves_no_session(served: Served, worker: int, tmp_path: Path) -> None:
    _draw(tmp_path, first_seed=220)
    long = job_parameters(tmp_path, size="1920x1080", fps="30", seconds_per_slide=600, encoding={"preset": "best"})
    assert served.run("deployment", "run", NAME, "--params", long).returncode == 0
    wait_until(lambda: _has_begun(Path(served.env["FANREEL_STORE"])), seconds=240, what="a segment is begun")
    sessions = sessions_below(worker)
    assert sessions
    run = flow_run_in(served, tmp_path)

    assert served.run("flow-run", "cancel", run["id"]).returncode == 0

    def is_over() -> bool:
        alive = [pid for pid in sessions if Path(f"/proc/{pid}").exists()]
        return not alive and served.ask(f"flow_runs/{run['id']}")["state_type"] == "CANCELLED"

    wait_until(is_over, seconds=200, what="the run is cancelled and its sessions are gone")
    assert not (tmp_path / "out/film.mp4").exists()
