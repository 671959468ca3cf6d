"""No credential is written anywhere: films are made, and fail, with marked ones, and all that was written is searched.

The marks are the S3 secret key, the auth string of the Prefect server and the query of a web address. The last is in
the parameters of the film's own flow run: they are what the user gave to Prefect, and Prefect keeps and shows them, so
a job that others must not see names its photos otherwise. Nothing of ours copies the query from there.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pool_farm import AUTH_MARK, Farm, Film
from s3_server import SECRET_KEY
from test_web_sources import certificate
from web_server import WebServer, say, serve_web

from fanreel.media.film import prove_film

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

QUERY_MARK = "marked-query-93ab"
MARKS = (SECRET_KEY, AUTH_MARK, QUERY_MARK)


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What vouches for the web server."""
    return certificate(tmp_path_factory.mktemp("tls"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@pytest.fixture(scope="module")
def web(farm: Farm, trusted: Path) -> Iterator[WebServer]:
    """Serves the farm's photos by https."""
    with serve_web(certificate=trusted) as server:
        for photo in (farm.folder / "photos").iterdir():
            server.answers[f"/{photo.name}"] = say(200, photo.read_bytes())
        server.answers["/refused.jpg"] = say(403)
        yield server


def films(farm: Farm, web: WebServer) -> Iterator[tuple[Film, str]]:
    """Yield films that are made and that fail, with the state that each ends in."""
    query = f"?token={QUERY_MARK}"
    photos = [f"{web.url}/photo-{number:02}.jpg{query}" for number in range(8)]
    made = farm.job("secret", quality=50, photos=photos, output="s3://films/out/secret.mp4")
    yield farm.start(made), "COMPLETED"
    yield farm.start(farm.job("refused", quality=50, photos=[f"{web.url}/refused.jpg{query}"])), "FAILED"
    yield farm.start(farm.job("gone", quality=50, photos=[f"{web.url}/gone.jpg{query}"])), "FAILED"
    yield farm.start(farm.job("nowhere", quality=50, output="s3://no-such-bucket/film.mp4")), "FAILED"
    yield farm.start(farm.job("away", quality=50, photos=[f"https://127.0.0.1:9/away.jpg{query}"])), "FAILED"


def test_no_credential_is_written_anywhere(farm: Farm, web: WebServer, trusted: Path) -> None:
    hosts = f"127.0.0.1:{web.port},127.0.0.1:9"
    with farm.parents_with(FANREEL_PRIVATE_HOSTS=hosts, SSL_CERT_FILE=str(trusted)):
        for film, state in films(farm, web):
            film.wait(state)
            if state == "FAILED":
                message = film.read()["state"]["message"]
                assert not found_in(message), message
    assert any(QUERY_MARK in path for path in web.paths)
    certified = farm.folder / "secret.mp4"
    for name in ("secret.mp4", "secret.mp4.certificate.json"):
        (farm.folder / name).write_bytes((farm.s3.bucket / "out" / name).read_bytes())
    assert prove_film(certified, full=True).frame_count > 0

    refused = farm.prefect("--check", module="deployments.apply", env={"PREFECT_API_AUTH_STRING": f"no:{AUTH_MARK}"})
    assert refused.returncode == 1
    assert "401" in refused.stderr
    assert not found_in(refused.stdout + refused.stderr)

    assert written_in_files(farm) == {}
    assert written_in_database(farm) == {}


def found_in(text: str) -> list[str]:
    """Return the marks that stand in a text."""
    return [mark for mark in MARKS if mark in text]


def written_in_files(farm: Farm) -> dict[str, list[str]]:
    """Return the marks that stand in each file of the farm: logs, objects of the store, workspaces, films.

    The checkout is left out: the tests in it have the marks.
    """
    searched, found = 0, {}
    for path in sorted(farm.folder.rglob("*")):
        if path.is_file() and farm.checkout not in path.parents:
            searched += 1
            data = path.read_bytes()
            if marks := [mark for mark in MARKS if mark.encode() in data]:
                found[str(path.relative_to(farm.folder))] = marks
    assert searched > 50
    return found


def written_in_database(farm: Farm) -> dict[str, list[str]]:
    """Return the marks that stand in each table of the server, parameters of the films' own flow runs apart."""
    found: dict[str, set[str]] = {}
    dump = farm.database.dump()
    assert {"flow_run", "task_run", "log", "artifact", "flow_run_state", "events"} <= dump.keys()
    assert sum(map(len, dump.values())) > 200
    for table, rows in dump.items():
        for row in rows:
            kept = without_parameters(json.loads(row)) if table == "flow_run" else row
            for mark in found_in(kept):
                found.setdefault(table, set()).add(mark)
    return {table: sorted(marks) for table, marks in found.items()}


def without_parameters(run: dict[str, Any]) -> str:
    """Return a flow run without its parameters if it is a film's; those of a shard are ours."""
    is_film = "job" in run["parameters"]
    return json.dumps({name: value for name, value in run.items() if not (is_film and name == "parameters")})


def test_a_mark_is_found_where_there_is_one(farm: Farm, tmp_path: Path) -> None:
    """The search itself: the one place that is allowed to have the query has it, and a file with a mark is seen."""
    runs = [json.loads(row) for row in farm.database.dump()["flow_run"]]
    assert any(QUERY_MARK in json.dumps(run["parameters"]) for run in runs)
    planted = farm.folder / "planted.txt"
    planted.write_text(f"secret: {AUTH_MARK}")
    assert written_in_files(farm) == {"planted.txt": [AUTH_MARK]}
    planted.unlink()
