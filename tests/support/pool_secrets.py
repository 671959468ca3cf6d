"""Marked credentials, which films are made and fail with, and the search for them in all that a farm has written.

The marks are the S3 secret key, the auth string of the Prefect server and the query of a web address. The last is in
the parameters of the film's own flow run: they are what the user gave to Prefect, and Prefect keeps and shows them, so
a job that others must not see names its photos otherwise. Nothing of ours copies the query from there.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from support.farm_films import Film
from support.farm_server import AUTH_MARK
from support.pool_farm import Farm
from support.s3_server import SECRET_KEY
from support.web_certificate import certificate
from support.web_server import WebServer, say, serve_web

__all__ = ["QUERY_MARK", "found_in", "serve_photos", "start_films", "written_in_database", "written_in_files"]

QUERY_MARK = "marked-query-93ab"
MARKS = (SECRET_KEY, AUTH_MARK, QUERY_MARK)


@contextlib.contextmanager
def serve_photos(farm: Farm, folder: Path) -> Iterator[tuple[WebServer, Path]]:
    """Serve the farm's photos by https; with the server comes the file that vouches for it."""
    trusted = certificate(folder, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    with serve_web(certificate=trusted) as server:
        for photo in (farm.folder / "photos").iterdir():
            server.answers[f"/{photo.name}"] = say(200, photo.read_bytes())
        server.answers["/refused.jpg"] = say(403)
        yield server, trusted


def start_films(farm: Farm, web: WebServer, *, env: Mapping[str, str]) -> list[tuple[Film, str]]:
    """Start a film that is made and some that fail, all at once; with each comes the state that it ends in."""
    query = f"?token={QUERY_MARK}"
    photos = [f"{web.url}/photo-{number:02}.jpg{query}" for number in range(8)]
    jobs = [
        (farm.job("secret", quality=50, photos=photos, output="s3://films/out/secret.mp4"), "COMPLETED"),
        (farm.job("refused", quality=50, photos=[f"{web.url}/refused.jpg{query}"]), "FAILED"),
        (farm.job("gone", quality=50, photos=[f"{web.url}/gone.jpg{query}"]), "FAILED"),
        (farm.job("nowhere", quality=51, output="s3://no-such-bucket/film.mp4"), "FAILED"),
        (farm.job("away", quality=50, photos=[f"https://127.0.0.1:9/away.jpg{query}"]), "FAILED"),
    ]
    return [(farm.start(job, env=env), state) for job, state in jobs]


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
