"""A farm on one machine: a Prefect server on PostgreSQL behind an auth string, S3, and workers of the pools.

    with run_farm(folder) as farm:
        film = farm.start(farm.job("one"))
        film.wait()

Each worker is a machine of its own: it has its own workspace and its own locks, and starts its runs Prefect's own way.
Workers share the store, which is in S3, and the GPU of the emulated driver. Whatever a farm starts carries its mark in
its environment, so that it is found wherever the kernel hung it when its parent died.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from support.emulated_nvenc import EmulatedDriver
from support.farm_films import SIZE, Film
from support.farm_machine import Machine, SessionLog
from support.farm_server import AUTH, PATIENCE_SECONDS, FarmServer
from support.jobs import draw_photo
from support.kills import is_running
from support.postgresql import Database, made_database
from support.prefect_server import copy_checkout, free_port, server_environment
from support.s3_server import S3Server, serve_s3

from fanreel.host.calibration import Calibration, CurvePoint, DeviceCalibration, calibration_to_json
from fanreel.store.local import LocalStore

__all__ = ["PREFIX", "Farm", "run_farm"]

PREFIX = "farm"
WARM = "from fanreel.draw import planes; planes.warm()"
PHOTO_COUNT = 24
SEGMENTS_A_SHARD, FRAMES_A_SEGMENT = 6, 96
CHILD_FPS = 120.0
"""What both pools' children are said to make a second, so that both get shards, and each worker and GPU session one."""


class Farm:
    """See the module.

    Attributes:
        folder: All its files are below.
        checkout: What the workers run.
        env: Of all its processes; the machines' own apart.
        server: Prefect's.
        s3: The store's server.
        database: Of Prefect's server.
        gpus: What the workers of the pool `nvenc` have.
        machines: The workers that it has, by name.
        left: Those that it had.
    """

    def __init__(self, folder: Path, *, s3: S3Server, database: Database, gpus: EmulatedDriver) -> None:
        self.folder, self.s3, self.database, self.gpus = folder, s3, database, gpus
        self.checkout = copy_checkout(folder / "checkout")
        self.machines: dict[str, Machine] = {}
        self.left: list[Machine] = []
        port = free_port()
        self.env = (
            server_environment(folder, port)
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
        self.server = FarmServer(folder, port=port, env=self.env)

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
        machine = Machine(name, pool, self.folder / name, self.checkout, self.env, **words)
        self.machines[name] = machine
        return machine.start()

    def remove(self, machine: Machine) -> None:
        """End a worker as a supervisor does, for good."""
        machine.stop()
        self.left.append(self.machines.pop(machine.name))

    def processes(self) -> dict[int, str]:
        """Return the command line of everything that carries the farm's mark, the servers' processes apart."""
        mark = f"FANREEL_FARM={self.folder}\0".encode()
        servers = self.server.pids()
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
        return [session for machine in (*self.machines.values(), *self.left) for session in machine.sessions()]

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
        made = self.server.ask(f"deployments/{self._deployment_id}/create_flow_run", asked)
        return Film(self, job, made["id"], env)

    @functools.cached_property
    def _deployment_id(self) -> str:
        return self.server.ask("deployments/name/render-slideshow/pools")["id"]

    def cancel(self, film: Film) -> None:
        """Cancel a film, as the UI does."""
        self.server.ask(f"flow_runs/{film.id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})

    def held_slots(self) -> dict[str, float]:
        """Return the limits of which somebody holds a slot, and how many."""
        limits = self.server.ask("v2/concurrency_limits/filter", {})
        return {limit["name"]: limit["active_slots"] for limit in limits if limit["active_slots"]}


@contextlib.contextmanager
def run_farm(folder: Path) -> Iterator[Farm]:
    """Run a farm: `control`, `cpu-1`, `cpu-2` and `nvenc-1`; end it, and all of it."""
    with made_database() as database, serve_s3(folder / "s3") as s3:
        gpus = EmulatedDriver(folder / "hardware", gpus=1, engines=2, microseconds_per_frame=2000)
        farm = Farm(folder, s3=s3, database=database, gpus=gpus)
        (folder / "photos").mkdir()
        for number in range(PHOTO_COUNT):
            draw_photo(folder / "photos" / f"photo-{number:02}.jpg", seed=5000 + number)
        try:
            warm = subprocess.Popen([sys.executable, "-c", WARM], cwd=farm.checkout, env=farm.env)
            farm.server.start()
            assert warm.wait(PATIENCE_SECONDS) == 0
            applied = farm.prefect(module="deployments.apply")
            assert applied.returncode == 0, applied.stdout + applied.stderr
            farm.server.ask("variables/", {"name": "calibration_farm", "value": _calibration()})
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
    farm.server.kill()
    for pid in farm.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for machine in farm.machines.values():
        if machine.process:
            machine.process.wait(60)
