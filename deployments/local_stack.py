"""`make up` and `make down`: a Prefect server of this machine alone, and a worker for each pool, in the background.

`python -m deployments.local_stack up [--port 4200]`, in the checkout. The server has a PostgreSQL of its own
(postgresql.py), keeps its leases below `.demo/up`, as PostgreSQL its files, listens on 127.0.0.1 only and reports to
nobody; the logs of the processes lie beside.
The pool `nvenc` gets a worker if a GPU encodes. A second `up` starts what is missing. `down` ends what `up` started,
with everything below, and nothing else. Every user of the machine can use such a server, so it is for one person alone.
"""

from __future__ import annotations

import argparse
import json
import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments import apply
from deployments.local_processes import end_all, environment_of, leaders, marked, start_process
from deployments.pools import POOLS
from deployments.postgresql import Cluster
from deployments.worker import count_gpu_sessions
from fanreel.errors import FanreelError, RequestError, SessionBusyError
from fanreel.sessions.gate import KernelLockGate
from fanreel.settings import read_settings

__all__ = ["Stack", "main"]

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
GPU_POOL = "nvenc"
WORKERS = [f"worker-{pool.name}" for pool in POOLS]

START_SECONDS = 300.0
"""On a busy machine a server needs a minute to make its database; one that cannot start ends by itself."""

WORKER_GRACE_SECONDS = 40.0
"""A worker hands its runs back within 20 s of SIGTERM."""

SERVER_GRACE_SECONDS = 15.0
_POLL_SECONDS = 0.3


class StartError(FanreelError):
    """A process did not start; the message names its log."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What `up` starts: `postgresql`, `server`, `worker-cpu` ...

    Attributes:
        folder: Holds logs and the database; a process is known by this folder and its name.
    """

    folder: Path

    @property
    def database(self) -> Cluster:
        """The database of the server."""
        return Cluster(self.folder / "postgresql")

    def mark(self, name: str) -> str:
        """What `name`, and all below it, are known by."""
        return f"{self.folder}/{name}"

    def log(self, name: str) -> Path:
        """The file that has what `name` wrote."""
        return self.folder / f"{name}.log"

    def is_running(self, name: str) -> bool:
        """Whether `name` runs."""
        return bool(leaders(self.mark(name)))

    def port(self) -> int | None:
        """The port of the server that what runs of the stack belongs to; None if nothing runs."""
        for name in ("server", *WORKERS):
            for pid in marked(self.mark(name)):
                if address := environment_of(pid).get("PREFECT_API_URL"):
                    return httpx.URL(address).port
        return None

    def start(self, name: str, command: Sequence[str], *, url: str) -> None:
        """Start a process of the stack."""
        environment = {
            "PREFECT_API_URL": url,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_PROFILE": "",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            # A run holds a slot of its deployment's limit: with leases in memory, a server that restarts would end it.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        if name == "server":
            environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = self.database.address
            # So that `prefect deployment run --watch` shows the log of a run, and why it fails.
            environment["PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED"] = "true"
            environment["PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED"] = "true"
        start_process(command, mark=self.mark(name), log=self.log(name), folder=ROOT, environment=environment)


def main(arguments: Sequence[str]) -> int:
    """Start or end the stack, and return the exit code.

    Args:
        arguments: Of the command line, without the command.
    """
    parser = argparse.ArgumentParser(prog="python -m deployments.local_stack", description="A local Prefect server.")
    parser.add_argument("what", choices=("up", "down"))
    parser.add_argument("--port", type=int, default=4200, help="of the server (PORT=4300 make up)")
    parser.add_argument("--folder", type=Path, default=ROOT / ".demo" / "up", help="for its database and logs")
    options = parser.parse_args(arguments)
    stack = Stack(options.folder.absolute())
    try:
        stack.folder.mkdir(parents=True, exist_ok=True)
        with KernelLockGate("up-or-down", capacity=1, folder=stack.folder).hold(timeout_seconds=0):
            return up(stack, port=options.port) if options.what == "up" else down(stack)
    except SessionBusyError:
        return _fail(f"another make up or make down is at work in {stack.folder}; wait for it")
    except FanreelError as error:
        return _fail(str(error))


def up(stack: Stack, *, port: int) -> int:
    """Start what does not run, apply the deployments, tell where the UI is, and return the exit code."""
    port = stack.port() or port
    url = f"http://{HOST}:{port}/api"
    _start_database(stack)
    _start_server(stack, port=port, url=url)
    with temporary_settings({PREFECT_API_URL: url}):
        if code := apply.main([]):
            return code
        pools = [pool.name for pool in POOLS]
        if not count_gpu_sessions(read_settings()):
            pools.remove(GPU_POOL)
            print(f"worker {GPU_POOL}: none, for no GPU of this machine encodes; fanreel doctor says why")
        try:
            _start_workers(stack, pools, url=url)
        except (httpx.HTTPError, PrefectException) as error:
            raise StartError(apply.describe_failure(error)) from error
    job = {
        "photos": [str(ROOT / ".demo/photos")],
        "size": "1280x720",
        "render_on": [pool for pool in (GPU_POOL, "cpu") if pool in pools],
        "output": str(ROOT / ".demo/films/first.mp4"),
    }
    run = [f"{Path(sys.executable).parent}/prefect", "deployment", "run", "render-slideshow/pools", "--watch"]
    print(f"\nThe UI is at http://{HOST}:{port} and a film is made by\n")
    print(f"    PREFECT_API_URL={url} {shlex.join([*run, '--params', json.dumps({'job': job})])}\n")
    print(f"Logs are in {stack.folder}; make down ends it all.")
    return 0


def down(stack: Stack) -> int:
    """End what runs of the stack and everything below, workers first; return the exit code."""
    worker_count = sum(map(stack.is_running, WORKERS))
    count = end_all([stack.mark(name) for name in WORKERS], grace_seconds=WORKER_GRACE_SECONDS)
    # The server ends last: workers tell it what they held.
    count += end_all([stack.mark("server")], grace_seconds=SERVER_GRACE_SECONDS)
    count += end_all([stack.mark("postgresql")], grace_seconds=SERVER_GRACE_SECONDS)
    stack.database.end_orphan()
    ended = f"the server, its PostgreSQL, {worker_count} workers, and all below"
    print(f"Ended {count} processes: {ended}." if count else "Nothing runs.")
    return 0


def _start_database(stack: Stack) -> None:
    if stack.is_running("postgresql"):
        return
    stack.database.end_orphan()
    command = [sys.executable, "-m", "deployments.postgresql", str(stack.database.folder)]
    start_process(command, mark=stack.mark("postgresql"), log=stack.log("postgresql"), folder=ROOT, environment={})
    _wait(stack, {"postgresql": stack.database.is_ready})
    print("PostgreSQL: started")


def _start_server(stack: Stack, *, port: int, url: str) -> None:
    if stack.is_running("server"):
        print(f"server: runs already, on port {port}")
    else:
        _refuse_taken(port)
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
        stack.start("server", command, url=url)

    def is_up() -> bool:
        try:
            return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    if not is_up():
        _wait(stack, {"server": is_up})
        print("server: started")


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise RequestError(
                f"port {port} of {HOST} cannot be used: {error}; PORT=4300 make up takes another"
            ) from None


def _start_workers(stack: Stack, pools: Sequence[str], *, url: str) -> None:
    waiting: dict[str, Callable[[], bool]] = {}
    for pool in pools:
        name = f"worker-{pool}"
        if stack.is_running(name):
            print(f"worker {pool}: runs already")
            continue
        started_at = datetime.now(UTC)
        command = [sys.executable, "-m", "deployments.worker", "--pool", pool, "--name", f"make-up-{pool}"]
        stack.start(name, command, url=url)
        waiting[name] = lambda pool=pool, started_at=started_at: _is_online(pool, since=started_at)
    _wait(stack, waiting)
    for name in waiting:
        print(f"{name.replace('-', ' ', 1)}: started")


def _is_online(pool: str, *, since: datetime) -> bool:
    """Return whether the server has heard from our worker since then; one that ended lately still counts as online."""
    with get_client(sync_client=True) as client:
        return any(
            worker.name == f"make-up-{pool}"
            and worker.status is WorkerStatus.ONLINE
            and worker.last_heartbeat_time is not None
            and worker.last_heartbeat_time >= since
            for worker in client.read_workers_for_work_pool(pool)
        )


def _wait(stack: Stack, are_up: dict[str, Callable[[], bool]]) -> None:
    """Return when all are up.

    Raises:
        StartError: One of them ended, or is not up in time.
    """
    deadline, left = time.monotonic() + START_SECONDS, dict(are_up)
    while left:
        for name in [name for name, is_up in left.items() if is_up()]:
            del left[name]
        for name in left:
            if not stack.is_running(name):
                raise StartError(
                    f"{name} ended at once; its last words, in {stack.log(name)}: {_last_line(stack, name)}"
                )
            if time.monotonic() > deadline:
                raise StartError(f"{name} is not up after {START_SECONDS:g} s; {stack.log(name)} may say why")
        if left:
            time.sleep(_POLL_SECONDS)


def _last_line(stack: Stack, name: str) -> str:
    lines = stack.log(name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "none"


def _fail(message: str) -> int:
    print(f"fanreel: {message}", file=sys.stderr)
    return apply.FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
