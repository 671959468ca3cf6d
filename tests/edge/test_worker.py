"""The worker command on a real server: the limit is there for as long as a worker of the host is."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessWorker
from support.deployed import NAME, flow_run_in, job_parameters
from support.jobs import draw_photo
from support.kills import is_running
from support.prefect_server import Served
from support.processes import descendants, running, sessions_below, wait_until

from deployments import host_worker
from fanreel.sessions.gate import KernelLockGate
from tasks.limit_slots import LEASE_SECONDS
from tasks.prefect_limit import limit_name

ROOT = Path(__file__).parents[2]

# This machine need not have a GPU: how many sessions there are is told, not looked for.
WORKER = "import sys; from deployments.worker import run_worker; "
WORKER += "sys.exit(run_worker(sys.argv[2:], session_count=int(sys.argv[1])))"

IN_BACKGROUND = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"]
"""How a script's `&` starts a command: with Ctrl-C ignored."""


class Workers:
    """The workers of one test; their logs are apart."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served, self.folder, self.count = served, folder, 0

    @contextlib.contextmanager
    def start(
        self,
        *,
        sessions: int,
        pool: str = "local",
        starter: Sequence[str] = (),
        first: str = "",
        options: Sequence[str] = (),
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker; it has started when this is entered."""
        self.count += 1
        log = self.folder / f"worker-{self.count}.log"
        command = [
            *starter,
            sys.executable,
            "-c",
            first + WORKER,
            str(sessions),
            "--pool",
            pool,
            "--name",
            f"worker-{self.count}",
            *options,
        ]
        with running(command, log=log, env=self.served.env, cwd=self.served.checkout) as process:

            def has_started() -> bool:
                assert process.poll() is None, log.read_text()
                return "started!" in log.read_text()

            wait_until(has_started, seconds=240, what="the worker has started")
            yield process


@pytest.fixture
def workers(served: Served, tmp_path: Path) -> Workers:
    return Workers(served, tmp_path)


def read_limit(served: Served) -> int | None:
    """Return the host's limit; None if there is none."""
    found = {limit["name"]: limit["limit"] for limit in _limits(served)}
    assert set(found) <= {limit_name()}
    return found.get(limit_name())


def read_in_use(served: Served) -> int:
    (limit,) = _limits(served)
    return limit["active_slots"]


def _limits(served: Served) -> list[dict[str, Any]]:
    """Return the server's limits but those of deployments, which Prefect keeps under names of its own."""
    limits = served.ask("v2/concurrency_limits/filter", {})
    return [limit for limit in limits if not limit["name"].startswith("deployment:")]


def turn_down(served: Served, limit: int) -> None:
    done = served.run("gcl", "update", limit_name(), "--limit", str(limit))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.soak
@pytest.mark.parametrize(("ending", "starter"), [(signal.SIGTERM, IN_BACKGROUND), (signal.SIGINT, ())])
def test_the_limit_is_there_while_a_worker_is(
    served: Served, workers: Workers, ending: signal.Signals, starter: Sequence[str]
) -> None:
    assert read_limit(served) is None
    with workers.start(sessions=3, starter=starter) as worker:
        assert read_limit(served) == 3
        worker.send_signal(ending)
        assert worker.wait(60) in (0, 1, 130)
        assert read_limit(served) is None


@pytest.mark.soak
def test_workers_of_a_host_share_it_and_keep_what_an_operator_chose(served: Served, workers: Workers) -> None:
    with workers.start(sessions=3) as first:
        turn_down(served, 1)
        with workers.start(sessions=3) as second:
            assert read_limit(served) == 1
            first.terminate()
            first.wait(60)
            assert read_limit(served) == 1
            second.terminate()
            second.wait(60)
            assert read_limit(served) is None


@pytest.mark.soak
def test_what_a_killed_worker_left_is_taken_over(served: Served, workers: Workers) -> None:
    with workers.start(sessions=3) as first:
        turn_down(served, 1)
        first.kill()
        first.wait(60)
    assert read_limit(served) == 1
    with workers.start(sessions=2) as second:
        assert read_limit(served) == 2
        second.terminate()
        second.wait(60)
    assert read_limit(served) is None


@pytest.mark.soak
def test_a_worker_that_cannot_start_leaves_no_limit(served: Served) -> None:
    assert served.run("work-pool", "create", "of containers", "--type", "docker").returncode == 0
    command = [sys.executable, "-c", WORKER, "3", "--pool", "of containers"]
    done = subprocess.run(
        command, cwd=served.checkout, env=served.env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "it is of type 'docker'" in done.stderr
    assert read_limit(served) is None


@pytest.mark.soak
def test_the_command_looks_for_gpus_and_ends_when_it_has_nothing_to_do(served: Served) -> None:
    command = [sys.executable, "-m", "deployments.worker", "--pool", "local", "--idle-exit", "1"]
    done = subprocess.run(
        command, cwd=served.checkout, env=served.env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "started!" in done.stdout
    assert "fanreel: nothing to do for" in done.stderr
    assert read_limit(served) is None


@pytest.mark.filterwarnings("error")
def test_prefect_keeps_its_own_worker_of_processes() -> None:
    """Contract with Prefect 3.8.8: a subclass that is abstract by name is registered under no type.

    If this fails after an upgrade, `prefect worker start` in this process would start our worker, and importing it
    warns. Then look at `register_base_type` in prefect/utilities/dispatch.py for the way to define an unregistered one.
    """
    importlib.reload(host_worker)
    assert BaseWorker.get_worker_class_from_type("process") is ProcessWorker
    assert host_worker.HostWorker.type == "process", "else Prefect logs a mismatch with the pool's type"


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ({"env": {"FANREEL_STORE": "s3://x/y", "PREFECT_API_URL": "z"}}, "start 'my run'"),
        ({"env": {"LANG": "C"}}, f"{sys.executable} -m prefect.engine"),  # packages may read it when they are imported
        ({"command": "my command"}, "my command"),
    ],
)
def test_a_run_is_started_by_our_command_unless_its_deployment_wants_otherwise(
    words: dict[str, Any], command: str
) -> None:
    configuration = host_worker.configuration_with(lambda: ["start", "my run"])(**words)
    configuration.prepare_for_flow_run(FlowRun(flow_id=uuid4()))
    assert configuration.command == command


@pytest.mark.soak
def test_a_worker_that_cannot_encode_for_its_pool_says_why_and_does_not_start(served: Served) -> None:
    command = [sys.executable, "-m", "deployments.worker", "--pool", "nvenc"]
    done = subprocess.run(
        command, cwd=served.checkout, env=served.env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stderr.startswith("fanreel: this host does not encode for a pool of GPUs: nvenc: ")
    assert "started!" not in done.stdout


@pytest.mark.soak
@pytest.mark.parametrize("option", [(), ("--fork-engines",)], ids=["prefect's way", "forked"])
def test_told_to_end_it_puts_its_run_back_and_nobody_hears_of_a_crash(
    served: Served, workers: Workers, tmp_path: Path, option: tuple[str, ...]
) -> None:
    (tmp_path / "photos").mkdir()
    draw_photo(tmp_path / "photos/one.jpg", seed=230)
    job = job_parameters(tmp_path, size="1920x1080", fps="30", seconds_per_slide=600, encoding={"preset": "best"})
    with workers.start(sessions=0, options=option) as worker:
        assert served.run("deployment", "run", NAME, "--params", job).returncode == 0
        wait_until(lambda: sessions_below(worker.pid), seconds=240, what="the run encodes")
        assert read_limit(served) is None, "a host without sessions makes none"
        below = descendants(worker.pid)
        worker.terminate()
        assert worker.wait(60) == 0
        assert not [pid for pid in below if is_running(pid)]
    run = flow_run_in(served, tmp_path)
    states = served.ask(f"flow_run_states/?flow_run_id={run['id']}")
    assert "CRASHED" not in {state["type"] for state in states}
    assert run["state_type"] == "SCHEDULED"
    assert run["state"]["message"] == "handed back: its worker worker-1 has to end"
    served.ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLED"}, "force": True})


HOLDER = """
import sys, time
from pathlib import Path
from deployments import host_worker
from fanreel.sessions.gate import KernelLockGate
from tasks.prefect_limit import HostLimit
name, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
limit = HostLimit(name, folder=folder, warn=print)
with limit.around(KernelLockGate("GPU-0a1b", capacity=1, folder=folder)).hold(timeout_seconds=150):
    print("held", flush=True)
    time.sleep(seconds)
"""


def _hold(served: Served, folder: Path, *, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, limit_name(), str(folder), str(seconds)]
    return subprocess.Popen(command, cwd=served.checkout, env=served.env, stdout=subprocess.PIPE, text=True)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_kill_9_frees_the_host_at_once_and_the_limit_after_its_lease(
    served: Served, workers: Workers, tmp_path: Path
) -> None:
    kernel = KernelLockGate("GPU-0a1b", capacity=1, folder=tmp_path)
    with workers.start(sessions=1):
        holder = _hold(served, tmp_path, seconds=600)
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            assert (read_in_use(served), kernel.slots_in_use()) == (1, 1)
        finally:
            holder.kill()
            holder.communicate()
        killed_at = time.monotonic()
        assert (read_in_use(served), kernel.slots_in_use()) == (1, 0)

        next_one = _hold(served, tmp_path, seconds=0)
        assert next_one.communicate(timeout=160)[0] == "held\n"
        waited_seconds = time.monotonic() - killed_at
        assert next_one.returncode == 0
        assert LEASE_SECONDS / 4 < waited_seconds < LEASE_SECONDS + 60
        assert read_in_use(served) == 0


IMPATIENT = "from tasks import lost_slots; lost_slots.LOOK_SECONDS, lost_slots.PATIENCE_SECONDS = 0.5, 5.0; "


@pytest.mark.soak
def test_a_slot_that_the_server_lost_the_lease_of_comes_back_and_one_that_is_held_stays(
    served: Served, workers: Workers, tmp_path: Path
) -> None:
    with workers.start(sessions=3, first=IMPATIENT):
        holder = _hold(served, Path(served.env["FANREEL_LOCK_FOLDER"]), seconds=600)
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            # What a server leaves that is killed when it has counted a slot and not noted its lease.
            served.ask("v2/concurrency_limits/increment", {"names": [limit_name()], "slots": 1, "mode": "concurrency"})
            assert read_in_use(served) == 2
            wait_until(lambda: read_in_use(served) == 1, seconds=60, what="the lost slot is given back")
            time.sleep(8.0)
            assert read_in_use(served) == 1
        finally:
            holder.kill()
            holder.communicate()
    said = (workers.folder / "worker-1.log").read_text()
    assert (
        said.count(f"fanreel: slots of the limit {limit_name()!r} were lost with their lease, and are free again: 1")
        == 1
    )


def _without_server(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "PREFECT_HOME": str(folder),
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PREFECT_CLIENT_MAX_RETRIES": "0",
        "FANREEL_LOCK_FOLDER": str(folder / "locks"),
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.soak
def test_a_server_that_is_away_is_told_of_in_one_line(tmp_path: Path) -> None:
    done = _without_server(tmp_path, "-c", WORKER, "2", "--pool", "local")
    assert done.returncode == 1
    assert done.stderr.startswith("fanreel: the Prefect server at http://127.0.0.1:9/api cannot be used: ")
    assert len(done.stderr.splitlines()) == 1, done.stderr
