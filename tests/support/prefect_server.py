"""A real Prefect server, the project's deployments on it, and a worker; all of them this machine's alone."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import prefect
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_HOME, temporary_settings
from prefect.testing.utilities import prefect_test_harness
from support.processes import running, wait_until

ROOT = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


@dataclass(frozen=True)
class Served:
    """A server that runs, and a checkout that is deployed on it.

    Attributes:
        first_apply: What `deployments.apply` said when the server was empty.
    """

    url: str
    checkout: Path
    env: dict[str, str]
    folder: Path
    first_apply: list[str] = field(default_factory=list)

    @property
    def client(self) -> dict[str, str]:
        """The environment's part that makes a process use this server."""
        return {"PREFECT_API_URL": self.env["PREFECT_API_URL"]}

    def run(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `prefect` in the checkout, as a person or CI would."""
        return subprocess.run(
            [*PREFECT, *arguments],
            cwd=self.checkout,
            env=self.env,
            input=text,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def apply(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run `python -m deployments.apply` in the checkout."""
        return subprocess.run(
            [sys.executable, "-m", "deployments.apply", *arguments],
            cwd=self.checkout,
            env=self.env | (env or {}),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return what the server's API answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/{path}", data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    @contextlib.contextmanager
    def worker(self) -> Iterator[int]:
        """Run a worker of the pool `local`, started somewhere else than in the checkout; return its pid."""
        command = [*PREFECT, "worker", "start", "--pool", "local"]
        with running(command, log=self.folder / "worker.log", env=self.env, cwd=self.folder) as process:
            yield process.pid


@contextlib.contextmanager
def serve(folder: Path, *, database: str = "") -> Iterator[Served]:
    """Run a server with the pools and deployments of a copy of the working tree.

    Its database is one of SQLite of its own, or that at an address.
    """
    port = free_port()
    served = Served(
        url=f"http://127.0.0.1:{port}",
        checkout=copy_checkout(folder / "a checkout"),
        env=server_environment(folder, port)
        | ({"PREFECT_SERVER_DATABASE_CONNECTION_URL": database} if database else {}),
        folder=folder,
    )
    if not database:
        give_database(Path(served.env["PREFECT_HOME"]))
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(command, log=folder / "server.log", env=served.env, cwd=folder) as process:

        def is_up() -> bool:
            assert process.poll() is None, (folder / "server.log").read_text()
            with contextlib.suppress(OSError):
                return served.ask("health") is True
            return False

        wait_until(is_up, seconds=120, what="the server is up")
        done = served.apply()
        assert done.returncode == 0, done.stdout + done.stderr
        served.first_apply.extend(done.stdout.splitlines())
        yield served


def give_database(home: Path) -> None:
    """Give a Prefect home the database of a server that was there before: to make one takes 14 s of a core."""
    home.mkdir(parents=True, exist_ok=True)
    shutil.copytree(_empty_home(), home, dirs_exist_ok=True)


@contextlib.contextmanager
def harness(folder: Path) -> Iterator[None]:
    """Run flows of this process against a server of Prefect's test harness, whose database was there before too."""
    shutil.copy2(_empty_home() / "prefect.db", folder / "prefect-test.db")
    settings = {PREFECT_HOME: folder, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with (
        temporary_settings(settings),
        mock.patch("prefect.testing.utilities.mkdtemp", return_value=str(folder)),
        prefect_test_harness(server_startup_timeout=240),
    ):
        yield


def _empty_home() -> Path:
    """Return a home whose database holds nothing yet."""

    def make(folder: Path) -> None:
        upgrade_database(PREFECT_HOME=str(folder))

    return made_once(f"prefect-{prefect.__version__}", make)


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder of this checkout's that `make` has made, once for all processes and runs."""
    folder = ROOT / ".pytest_cache" / name
    folder.parent.mkdir(exist_ok=True)
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(prefix="new-", dir=folder.parent) as new:
                make(Path(new, "made"))
                Path(new, "made").rename(folder)
    return folder


def upgrade_database(**variables: str) -> None:
    """Make Prefect's tables in the database that `variables` name."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    command = [*PREFECT, "server", "database", "upgrade", "--yes"]
    subprocess.run(command, env=env | {"DO_NOT_TRACK": "1"} | variables, capture_output=True, timeout=240, check=True)


def copy_checkout(target: Path) -> Path:
    """Copy the working tree, with what Numba compiled if there is, as a clone with a remote that cannot be reached."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for compiled in ROOT.glob("fanreel/draw/__pycache__/*.nb[ci]"):
        # Numba's cache: each of the many processes of a server's tests would else compile for half a minute.
        (target / "fanreel/draw/__pycache__").mkdir(exist_ok=True)
        shutil.copy2(compiled, target / "fanreel/draw/__pycache__")
    for command in (["init", "--quiet"], ["remote", "add", "origin", "https://example.invalid/fanreel.git"]):
        subprocess.run(["git", *command], cwd=target, check=True)
    return target


def server_environment(folder: Path, port: int) -> dict[str, str]:
    """Return the environment of a server, its workers and their clients, whose files lie below `folder`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "FANREEL_STORE"))}
    return kept | {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # A film's parent holds a slot of its deployment: with leases in memory, a server that restarts would end it.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "FANREEL_STORE": str(folder / "store"),
        "FANREEL_LOCK_FOLDER": str(folder / "locks"),
        "FANREEL_CALIBRATION": str(folder / "calibration.json"),
    }


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
