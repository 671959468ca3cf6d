"""A Prefect worker of this host, and the limit on the host's GPU sessions for as long as one runs.

`python -m deployments.worker --pool local`, in the checkout, takes the options of `prefect worker start` that concern
processes, and two more. `--idle-exit SECONDS` ends it when it had nothing to do for so long, as rented machines should.
`--fork-engines` starts runs in less time (docs/decisions/0014).

Without `--limit` it runs as many shards side by side as the host has encoder sessions for its pool. A worker of a pool
of GPUs does not start on a host whose GPUs do not encode, and says why. SIGTERM makes it hand back its runs
(host_worker.py). A second SIGTERM, or a second Ctrl-C, kills it at once; the next worker takes over its limit.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.logging.configuration import setup_logging
from prefect.settings import PREFECT_API_URL

from deployments.engine_launcher import EngineLauncher
from deployments.host_worker import HostWorker
from deployments.pools import POOL_TYPE
from fanreel.codecs import EncoderChoice
from fanreel.dispatch.pools import DeviceKind
from fanreel.errors import FanreelError, InvalidJobError, RequestError
from fanreel.host.host import open_host
from fanreel.sessions.capacity import choose_sessions, read_capacity
from fanreel.settings import Settings, read_settings
from tasks.child_runs import read_pool_devices
from tasks.lost_slots import changing_gate, gate_of_this_server, lost_slots_given_back
from tasks.prefect_limit import limit_name

__all__ = ["count_children", "count_gpu_sessions", "run_worker", "shown_limit"]

FAILED = 1
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

MOST_CHILDREN = 1024
"""The most shards side by side on one host."""

USUAL_FILM_PX = (1920, 1080)

MOST_WORKERS = 64
"""The most workers of one host for one server; each holds one of so many locks."""

CHANGE_SECONDS = 120.0
"""Longer than Prefect's client waits for a server that does not answer, and holds the lock meanwhile."""


def run_worker(arguments: Sequence[str], *, session_count: int | None = None) -> int:
    """Run a worker until it ends, and return its exit code.

    Args:
        arguments: Of the command line, without the command.
        session_count: GPU sessions of the host; by default its GPUs are looked for.
    """
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminate)  # until the worker's own takes over
    setup_logging()
    try:
        settings = read_settings()
        _require_pool_of_processes(options.pool)
        device = _pool_device(options.pool)
        count = _require_gpu_sessions(settings, device) if session_count is None else session_count
        if device is not None and options.limit is None:
            options.limit = count_children(device, gpu_sessions=count)
        with ExitStack() as held:
            held.enter_context(shown_limit(limit_name(), count, folder=settings.lock_folder))
            asyncio.run(_work(options, held))
        return 0
    except FanreelError as error:
        _say(str(error))
        return error.exit_code
    except (HTTPError, PrefectException) as error:
        _say(f"the Prefect server at {PREFECT_API_URL.value()} cannot be used: {error}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deployments.worker", description="A Prefect worker of this host.")
    parser.add_argument("--pool", "-p", required=True, help="the work pool to take runs from")
    parser.add_argument("--name", "-n", type=_worker_name, help="of the worker, in the UI")
    parser.add_argument("--work-queue", "-q", action="append", help="take runs from this queue only; may be repeated")
    parser.add_argument("--limit", "-l", type=_count, help="runs at once; without it, what the host can encode at once")
    parser.add_argument("--prefetch-seconds", type=int, help="take runs that are due so soon")
    parser.add_argument("--run-once", action="store_true", help="take what is due, and end when it has run")
    parser.add_argument("--with-healthcheck", action="store_true", help="say at port 8080 whether the worker is well")
    parser.add_argument("--idle-exit", type=_count, default=0, metavar="SECONDS", help="end when idle for so long")
    parser.add_argument("--fork-engines", action="store_true", help="start runs in less time, as forks of one process")
    return parser


def _count(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text) < 10**7:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a whole number from 1")


def _worker_name(text: str) -> str:
    if not {"/", "%"} & set(text):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not allowed: / and % are not for names of workers")


async def _work(options: argparse.Namespace, held: ExitStack) -> None:
    engines = EngineLauncher() if options.fork_engines else None
    if engines is not None:
        engines.start()  # it imports while the worker asks for runs
        held.callback(engines.close)
    worker = HostWorker(
        work_pool_name=options.pool,
        work_queues=options.work_queue,
        name=options.name,
        limit=options.limit,
        prefetch_seconds=options.prefetch_seconds,
        idle_seconds=options.idle_exit,
        before_end=held.close,
        engine_command=engines and engines.command,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.leave)
    say = partial(print, flush=True)
    await worker.start(run_once=options.run_once, with_healthcheck=options.with_healthcheck, printer=say)


def count_gpu_sessions(settings: Settings) -> int:
    """Return how many encoder sessions the GPUs of this host may run at once."""
    return _require_gpu_sessions(settings, None)


def count_children(device: DeviceKind, *, gpu_sessions: int) -> int:
    """Return how many shards this host renders side by side on devices of a kind.

    On GPUs these are a few more than there are sessions, so that the next has started when one ends. On the CPU these
    are as many as there are cores for and, at 1080p, memory.
    """
    if device is DeviceKind.GPU:
        return gpu_sessions + max(1, gpu_sessions // 4)
    width_px, height_px = USUAL_FILM_PX
    return choose_sessions(
        read_capacity(), width_px=width_px, height_px=height_px, segment_count=MOST_CHILDREN
    ).sessions


def _require_gpu_sessions(settings: Settings, device: DeviceKind | None) -> int:
    """Return how many sessions the GPUs may run at once.

    Raises:
        EncoderError: There are none, and the worker's pool is one of GPUs.
    """
    host = open_host(settings)
    with closing(host.launcher):
        gpus = host.devices.usable((EncoderChoice.NVENC.value,))
        if device is DeviceKind.GPU and not gpus:
            why = host.devices.why_no_gpu()
            raise type(why)(f"this host does not encode for a pool of GPUs: {why}; `fanreel doctor` says more")
        return sum(gpu.gate.capacity for gpu in gpus)


def _require_pool_of_processes(pool: str) -> None:
    """Refuse a pool whose runs are not processes; one that does not exist is made by the worker."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_work_pool(pool).type
        except ObjectNotFound:
            return
    if found != POOL_TYPE:
        raise RequestError(f"--pool: {pool!r} is not allowed: it is of type {found!r}, and this worker runs processes")


def _pool_device(pool: str) -> DeviceKind | None:
    """Return what the shards of a pool are encoded with; None if it renders none, or does not exist."""
    try:
        return read_pool_devices([pool])[pool]
    except InvalidJobError:
        return None


@contextmanager
def shown_limit(name: str, slot_count: int, *, folder: Path) -> Iterator[None]:
    """Keep a limit on the server for as long as a worker of this host runs; none for a host without slots.

    The first worker makes it, or sets a limit that was left over to `slot_count`. The others leave it as it is, for an
    operator may have turned it down. The last one removes it. A worker that is killed counts as gone at once.
    """
    if slot_count < 1:
        yield
        return
    changing = changing_gate(name, folder=folder)
    workers = gate_of_this_server(name, "workers", capacity=MOST_WORKERS, folder=folder)
    with ExitStack() as working:
        with changing.hold(timeout_seconds=CHANGE_SECONDS):
            working.enter_context(workers.hold(timeout_seconds=0))
            _make_limit(name, slot_count, keep=workers.slots_in_use() > 1)
        try:
            with lost_slots_given_back(name, folder=folder, warn=_say):
                yield
        finally:
            with changing.hold(timeout_seconds=CHANGE_SECONDS):
                working.close()
                if workers.slots_in_use() == 0:
                    _remove_limit(name)


def _make_limit(name: str, slot_count: int, *, keep: bool) -> None:
    with get_client(sync_client=True) as client:
        if keep:
            try:
                client.read_global_concurrency_limit_by_name(name)
            except ObjectNotFound:
                pass  # an operator deleted it; the next worker makes it again
            else:
                return
        client.upsert_global_concurrency_limit_by_name(name, slot_count)


def _remove_limit(name: str) -> None:
    try:
        with get_client(sync_client=True) as client:
            client.delete_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        return
    except (HTTPError, PrefectException) as error:
        _say(f"the limit {name!r} is left on the server, the next worker takes it over: {error}")


def _terminate(*_: object) -> NoReturn:
    raise SystemExit(TERMINATED)


def _say(message: str) -> None:
    print(f"fanreel: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1:]))
