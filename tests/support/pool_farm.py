"""A farm on one machine: a Prefect server on PostgreSQL behind an auth string, S3, and workers of the pools.

    with run_farm(folder) as farm:
        film = farm.start(farm.job("one"))
        film.wait()

Each worker is a machine of its own: it has its own workspace and its own locks, and starts its runs Prefect's own way.
They share the store, which is in S3,
and the GPU of the emulated driver. Whatever a farm starts carries its mark in its environment, so that it is found
wherever the kernel hung it when its parent died.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from support.emulated_nvenc import EmulatedDriver
from support.jobs import draw_photo
from support.kills import is_running, open_files, state_and_parent
from support.postgresql import Database, database_or_skip
from support.prefect_server import PREFECT, copy_checkout, free_port, server_environment
from support.processes import descendants, wait_until
from support.s3_server import S3Server, serve_s3

from fanreel.host.calibration import Calibration, CurvePoint, DeviceCalibration, calibration_to_json
from fanreel.store.local import LocalStore

__all__ = ["AUTH_MARK", "Farm", "Film", "Machine", "run_farm"]

AUTH_MARK = "marked-auth-string-4f1c"
AUTH = f"fanreel:{AUTH_MARK}"
PREFIX = "farm"
PATIENCE_SECONDS = 400.0
"""Only a farm that does not work waits so long, on the busiest machine."""

WARM = "from fanreel.draw import planes; planes.warm()"
PHOTO_COUNT = 24
SIZE = {"size": "320x180", "fps": "16", "seconds_per_slide": 6}
SEGMENTS_A_SHARD, FRAMES_A_SEGMENT = 6, 96
CHILD_FPS = 120.0
"""What both pools' children are said to make a second, so that both get shards, and each worker and GPU session one."""

_SESSION = re.compile(r"START segments? (\d+)(?:-(\d+))? of (\S+): session (\d+), (\w+)")
_DONE = re.compile(r"DONE segments? \S+ of (\S+): session (\d+), .*, (\d+) frames in")


@dataclass(frozen=True, slots=True)
class SessionLog:
    """An encoder session, as the log of its worker tells of it.

    Attributes:
        film: What it worked for.
        pid: Its process.
        encoder: What it encoded with.
        segments: Indices of the segments that it was asked for.
        frames: Frames that it made; -1 if it did not end by itself.
    """

    film: str
    pid: int
    encoder: str
    segments: range
    frames: int


@dataclass
class Machine:
    """A worker, with a workspace and locks of its own; it can die and be started again."""

    farm: Farm
    name: str
    pool: str
    limit: int | None = None
    extra: dict[str, str] = field(default_factory=dict)
    workspace: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    log_start: int = 0

    @property
    def folder(self) -> Path:
        return self.farm.folder / self.name

    @property
    def log(self) -> Path:
        return self.folder / "worker.log"

    @property
    def env(self) -> dict[str, str]:
        own = {
            "FANREEL_WORKSPACE": str(self.workspace or self.folder / "workspace"),
            "FANREEL_LOCK_FOLDER": str(self.folder / "locks"),
            "FANREEL_CALIBRATION": str(self.folder / "calibration.json"),
        }
        return self.farm.env | own | self.extra

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def is_running(self) -> bool:
        """Whether the worker is there."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> Machine:
        """Start the worker; `await_start` returns when it works."""
        self.folder.mkdir(exist_ok=True)
        arguments = ["--pool", self.pool, "--name", self.name]
        arguments += [] if self.limit is None else ["--limit", str(self.limit)]
        command = [sys.executable, "-m", "deployments.worker", *arguments]
        with self.log.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(command, cwd=self.farm.checkout, env=self.env, stdout=log, stderr=log)
        return self

    def await_start(self) -> Machine:
        """Return when it has started."""

        def has_started() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.said()
            return b"started!" in self.log.read_bytes()[self.log_start :]

        wait_until(has_started, seconds=PATIENCE_SECONDS, what=f"{self.name} has started")
        return self

    def said(self) -> str:
        """Return its log."""
        return self.log.read_text(errors="replace")

    def below(self) -> dict[int, str]:
        """Return what runs below it."""
        return descendants(self.pid)

    def flow_processes(self) -> list[int]:
        """Return the processes of the flow runs that it has started: its children."""
        return [pid for pid in self.below() if state_and_parent(pid)[1] == self.pid]

    def launchers(self) -> list[int]:
        """Return the launchers of encoder sessions below it, and the sessions, which are their forks."""
        return [pid for pid, line in self.below().items() if "fanreel.sessions.session_server" in line]

    def sessions_at_work(self) -> list[int]:
        """Return the encoder sessions below it that make a segment at this moment."""
        return [pid for pid in self.launchers() if any(name.endswith(".packets") for name in open_files(pid))]

    def tell_to_end(self) -> None:
        """Tell the worker to end, as a supervisor does."""
        assert self.process is not None
        self.process.terminate()

    def stop(self) -> None:
        """End the worker as a supervisor does, and wait for it."""
        self.tell_to_end()
        self.await_end()

    def await_end(self) -> None:
        """Return when the worker has ended."""
        assert self.process is not None
        self.process.wait(PATIENCE_SECONDS)

    def freeze(self) -> list[int]:
        """Stop the worker and all below it, as a machine that hangs; return its processes."""
        os.kill(self.pid, signal.SIGSTOP)
        stopped = [self.pid]
        while new := [pid for pid in self.below() if pid not in stopped]:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
        return stopped

    def kill_tree(self) -> None:
        """kill -9 the worker and all below it, as if the power went."""
        stopped = self.freeze()
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait(60)
        wait_until(lambda: not any(map(is_running, stopped)), seconds=60, what="its tree is gone")


class Film:
    """A film's flow run."""

    def __init__(self, farm: Farm, job: dict[str, Any], run_id: str, env: Mapping[str, str]) -> None:
        self.farm, self.job, self.id, self.env = farm, job, run_id, env
        self.name = Path(job["output"]).name
        self.started_at = time.monotonic()

    @property
    def path(self) -> Path:
        """Where the film is, the server's own file if it is in S3."""
        output: str = self.job["output"]
        in_bucket = output.removeprefix("s3://films/")
        return self.farm.s3.bucket / in_bucket if in_bucket != output else Path(self.job["base"]) / output

    def read(self) -> dict[str, Any]:
        """Return its run as the server has it."""
        return self.farm.ask(f"flow_runs/{self.id}")

    def is_over(self) -> bool:
        """Whether it has ended, however; not as far as a server tells that is away."""
        with contextlib.suppress(OSError):
            return self.read()["state_type"] in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
        return False

    def wait(self, state: str = "COMPLETED") -> float:
        """Return how many seconds it took to come to an end, which has to be of this type."""
        wait_until(self.is_over, seconds=PATIENCE_SECONDS, what=f"{self.name} is over", pause_seconds=0.5)
        run = self.read()
        assert run["state_type"] == state, f"{run['state_type']}: {run['state']['message']}"
        return time.monotonic() - self.started_at

    def children(self) -> list[dict[str, Any]]:
        """Return the child runs of this film, whichever parent started them."""
        asked = {"flow_runs": {"name": {"like_": f"{self.name} "}}, "sort": "START_TIME_ASC"}
        return self.farm.ask("flow_runs/filter", asked)

    def sessions(self) -> list[SessionLog]:
        """Return every encoder session that worked for this film."""
        return [session for session in self.farm.sessions() if session.film == self.name]


class Farm:
    """See the module.

    Attributes:
        folder: All its files are below.
        checkout: What the workers run.
        env: Of all its processes; the machines' own apart.
        s3: The store's server.
        database: Prefect's.
        gpus: What the workers of the pool `nvenc` have.
        machines: The workers that it has, by name.
        left: Those that it had.
    """

    def __init__(self, folder: Path, *, s3: S3Server, database: Database, gpus: EmulatedDriver) -> None:
        self.folder, self.s3, self.database, self.gpus = folder, s3, database, gpus
        self.checkout = copy_checkout(folder / "checkout")
        self.machines: dict[str, Machine] = {}
        self.left: list[Machine] = []
        self._port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        self.env = (
            server_environment(folder, self._port)
            | s3.env
            | {
                "FANREEL_FARM": str(folder),  # the mark
                "FANREEL_STORE": f"s3://films/{PREFIX}",
                "FANREEL_SHARD_SECONDS": str(SEGMENTS_A_SHARD * FRAMES_A_SEGMENT / CHILD_FPS),
                "FANREEL_LATE_SECONDS": "200",  # so that a busy machine is none of the faults
                "FANREEL_STALL_SECONDS": "200",
                "PREFECT_API_AUTH_STRING": AUTH,
                "PREFECT_SERVER_API_AUTH_STRING": AUTH,
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": database.url,
                "PYTHONUNBUFFERED": "1",
                "PYTHONFAULTHANDLER": "1",  # so that SIGABRT shows where a process hangs
            }
        )

    # The server

    def start_server(self) -> None:
        """Start Prefect's server, and return when it answers."""
        command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(self._port)]
        with (self.folder / "server.log").open("ab") as log:
            self._server = subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=log)

        def is_up() -> bool:
            assert self._server is not None
            assert self._server.poll() is None, (self.folder / "server.log").read_text()
            with contextlib.suppress(OSError):
                return self.ask("health") is True
            return False

        wait_until(is_up, seconds=PATIENCE_SECONDS, what="the server is up", pause_seconds=0.2)

    def kill_server(self) -> None:
        """kill -9 Prefect's server."""
        assert self._server is not None
        for pid in [self._server.pid, *descendants(self._server.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.wait(60)

    def ask(self, path: str, body: dict[str, Any] | None = None, *, auth: str = AUTH) -> Any:
        """Return what the server's API answers."""
        headers = {"content-type": "application/json"}
        if auth:
            headers["authorization"] = "Basic " + base64.b64encode(auth.encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/api/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def status_of(self, path: str, *, auth: str = AUTH) -> int:
        """Return the status that the server's API answers with to a question that has no body to speak of."""
        try:
            self.ask(path, {}, auth=auth)
        except urllib.error.HTTPError as error:
            return error.code
        return HTTPStatus.OK

    def prefect(
        self, *arguments: str, module: str = "prefect", env: Mapping[str, str] = {}
    ) -> subprocess.CompletedProcess[str]:
        """Run `prefect`, or another module, in the checkout."""
        command = [sys.executable, "-m", module, *arguments]
        given = {"cwd": self.checkout, "env": self.env | env, "timeout": PATIENCE_SECONDS}
        return subprocess.run(command, capture_output=True, text=True, check=False, **given)

    # Workers

    def add(self, name: str, pool: str, **words: Any) -> Machine:
        """Start a worker; `await_start` returns when it works."""
        machine = Machine(self, name, pool, **words)
        self.machines[name] = machine
        return machine.start()

    def remove(self, machine: Machine) -> None:
        """End a worker as a supervisor does, for good."""
        machine.stop()
        self.left.append(self.machines.pop(machine.name))

    def processes(self) -> dict[int, str]:
        """Return the command line of everything that carries the farm's mark, the servers' processes apart."""
        mark = f"FANREEL_FARM={self.folder}\0".encode()
        servers = {self._server.pid, *descendants(self._server.pid)} if self._server else set[int]()
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes() and int(entry.name) not in servers:
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        return {pid: line for pid, line in found.items() if is_running(pid)}

    def left_over(self) -> dict[int, str]:
        """Return what runs beside the servers and the workers themselves."""
        workers = {machine.pid for machine in self.machines.values() if machine.process}
        return {pid: line for pid, line in self.processes().items() if pid not in workers}

    def sessions(self) -> list[SessionLog]:
        """Return every encoder session that the workers' logs tell of."""
        found: list[SessionLog] = []
        for machine in (*self.machines.values(), *self.left):
            text = machine.said()
            done = {(film, int(pid)): int(frames) for film, pid, frames in _DONE.findall(text)}
            for first, last, film, pid, encoder in _SESSION.findall(text):
                segments = range(int(first), int(last or first) + 1)
                found.append(SessionLog(film, int(pid), encoder, segments, done.get((film, int(pid)), -1)))
        return found

    # The store

    def open_uploads(self) -> list[str]:
        """Return the uploads in parts that were begun and have not ended."""
        try:
            answer = self._client().list_multipart_uploads(Bucket="films")
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":  # how rclone says that there are none
                raise
            return []
        return [upload["Key"] for upload in answer.get("Uploads", [])]

    def objects(self, below: str = "") -> list[str]:
        """Return the key of each object of the store, without its prefix."""
        place = f"{PREFIX}/{below}"
        pages = self._client().get_paginator("list_objects_v2").paginate(Bucket="films", Prefix=place)
        return [found["Key"].removeprefix(f"{PREFIX}/") for page in pages for found in page.get("Contents", [])]

    def half_files(self) -> list[str]:
        """Return what is half made: in the store, and in the folders of the films and of the machines."""
        kept = {name.rpartition(".")[0] for name in self.objects("segments/") if name.endswith(".mp4")}
        records = [name.removesuffix(".json") for name in self.objects("segments/") if name.endswith(".json")]
        half = [name for name in records if not any(film.startswith(f"{name}.") for film in kept)]
        half += [str(path) for path in (self.folder / "out").glob(".*")]
        for machine in (*self.machines.values(), *self.left):
            workspace = LocalStore(machine.folder / "workspace")
            with workspace.scratch():  # whoever uses it next clears it
                pass
            half += [str(path) for path in (machine.folder / "workspace/scratch").glob("[!.]*")]
        return half

    def _client(self) -> Any:
        env = self.s3.env
        return boto3.client(
            "s3",
            endpoint_url=env["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            region_name=env["AWS_DEFAULT_REGION"],
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    # Films

    def job(self, name: str, *, quality: int, preset: str = "draft", **words: Any) -> dict[str, Any]:
        """Return a job for the pools; the same photos at another quality share no segment, and every frame."""
        return SIZE | {
            "photos": ["photos"],
            "encoding": {"preset": preset, "quality": quality},
            "output": f"out/{name}.mp4",
            "base": str(self.folder),
            "strategy": "segments",
            "render_on": ["nvenc", "cpu"],
        } | words  # fmt: skip

    def start(self, job: dict[str, Any], *, env: Mapping[str, str] = {}) -> Film:
        """Start a film, as whoever asks the server for it does, with `env` in its parent's environment."""
        asked = {"parameters": {"job": job}, "state": {"type": "SCHEDULED"}, "job_variables": {"env": dict(env)}}
        made = self.ask(f"deployments/{self._deployment_id}/create_flow_run", asked)
        return Film(self, job, made["id"], env)

    @functools.cached_property
    def _deployment_id(self) -> str:
        return self.ask("deployments/name/render-slideshow/pools")["id"]

    def cancel(self, film: Film) -> None:
        """Cancel a film, as the UI does."""
        self.ask(f"flow_runs/{film.id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def held_slots(self) -> dict[str, float]:
        """Return the limits of which somebody holds a slot, and how many."""
        limits = self.ask("v2/concurrency_limits/filter", {})
        return {limit["name"]: limit["active_slots"] for limit in limits if limit["active_slots"]}


@contextlib.contextmanager
def run_farm(folder: Path) -> Iterator[Farm]:
    """Run a farm: `control`, `cpu-1`, `cpu-2` and `nvenc-1`; end it, and all of it."""
    with database_or_skip() as database, serve_s3(folder / "s3") as s3:
        gpus = EmulatedDriver(folder / "hardware", gpus=1, engines=2, microseconds_per_frame=2000)
        farm = Farm(folder, s3=s3, database=database, gpus=gpus)
        (folder / "photos").mkdir()
        for number in range(PHOTO_COUNT):
            draw_photo(folder / "photos" / f"photo-{number:02}.jpg", seed=5000 + number)
        try:
            warm = subprocess.Popen([sys.executable, "-c", WARM], cwd=farm.checkout, env=farm.env)
            farm.start_server()
            assert warm.wait(PATIENCE_SECONDS) == 0
            applied = farm.prefect(module="deployments.apply")
            assert applied.returncode == 0, applied.stdout + applied.stderr
            farm.ask("variables/", {"name": "calibration_farm", "value": _calibration()})
            farm.add("control", "control")
            farm.add("cpu-1", "cpu", limit=1)
            farm.add("cpu-2", "cpu", limit=1)
            farm.add("nvenc-1", "nvenc", extra=gpus.environment)
            for machine in farm.machines.values():
                machine.await_start()
            yield farm
        finally:
            _end(farm)


def _calibration() -> Any:
    """Return a calibration of a host whose GPU and CPU are equally fast."""
    film, now = f"{SIZE['size']} at {SIZE['fps']} fps", datetime.now(UTC)
    gpu, cpu = (
        DeviceCalibration(device, device, encoder, "", "", now, film, (CurvePoint(1, CHILD_FPS),), knee=1)
        for device, encoder in (("GPU-1", "nvenc"), ("cpu", "x264"))
    )
    return json.loads(calibration_to_json(Calibration("farm", (gpu, cpu))))


def _end(farm: Farm) -> None:
    """End everything that carries the mark of the farm."""
    for machine in farm.machines.values():
        if machine.process and machine.process.poll() is None:
            machine.process.kill()
    if farm._server is not None:
        farm.kill_server()
    for pid in farm.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for machine in farm.machines.values():
        if machine.process:
            machine.process.wait(60)
