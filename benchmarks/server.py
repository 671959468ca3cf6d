"""A Prefect server of this machine's alone, for as long as a measurement needs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.films import environment
from benchmarks.photos import ROOT
from benchmarks.process_tree import process_tree
from deployments.postgresql import Cluster

__all__ = ["PREFECT", "Server", "running", "serve"]

PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
START_SECONDS = 120.0
BUSY_TRIES, SERVICE_UNAVAILABLE = 40, 503


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes:
        url: Of its API.
        env: What a process needs to use it; with an empty store.
        folder: Where its logs and its database are.
    """

    url: str
    env: Mapping[str, str]
    folder: Path

    def tracebacks(self) -> int:
        """Return how many tracebacks the server has written into its log."""
        return (self.folder / "server.log").read_text(errors="replace").count("Traceback (most recent call last)")

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Return what the API answers; asked again while its database is busy, as Prefect's own client does."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, {"content-type": "application/json"})
        for tries_left in reversed(range(BUSY_TRIES)):
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != SERVICE_UNAVAILABLE or not tries_left:
                    raise RuntimeError(f"{path}: {error.code} {error.read()[:500]!r}") from error
                time.sleep(0.5)
        raise AssertionError("the last try returns or raises")

    def run(self, *arguments: str) -> None:
        """Run `prefect` in the checkout.

        Raises:
            RuntimeError: It failed.
        """
        done = subprocess.run(
            [*PREFECT, *arguments], cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=240, check=False
        )
        if done.returncode:
            raise RuntimeError(f"prefect {arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run a server on the PostgreSQL that comes along.

    Args:
        folder: For its logs and its database.
    """
    with _database(folder) as database, _serve(folder, database) as server:
        yield server


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[str]:
    """Keep a database, and return it as Prefect names it."""
    cluster = Cluster(folder / "postgresql")
    command = [sys.executable, "-m", "deployments.postgresql", str(cluster.folder)]
    with running(command, log=folder / "postgresql.log", env=os.environ) as keeper:
        deadline = time.monotonic() + START_SECONDS
        while not cluster.is_ready():
            if keeper.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no PostgreSQL:\n{(folder / 'postgresql.log').read_text()[-3000:]}")
            time.sleep(0.2)
        yield cluster.address


@contextlib.contextmanager
def _serve(folder: Path, database: str) -> Iterator[Server]:
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    env = environment(folder / "store") | {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_API_URL": url}
    env |= {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
    server = Server(url, env, folder)
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, log=folder / "server.log", env=env) as process:
        deadline = time.monotonic() + START_SECONDS
        while not _is_up(server):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{(folder / 'server.log').read_text()[-3000:]}")
            time.sleep(0.2)
        yield server


@contextlib.contextmanager
def running(command: Sequence[str], *, log: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command; end it and all below it with the context."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=env, cwd=ROOT, start_new_session=True
        )
    try:
        yield process
    finally:
        below = process_tree(process.pid)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(20)


def _is_up(server: Server) -> bool:
    with contextlib.suppress(OSError):
        return server.ask("health") is True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
