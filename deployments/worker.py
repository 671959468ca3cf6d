"""A Prefect worker of this host, and the limit on the host's GPU sessions for as long as one runs.

`python -m deployments.worker --pool local`, in the checkout, takes the options of `prefect worker start`, which it is,
and `--idle-exit SECONDS`: end when there was nothing to do for so long, as rented machines should. Without `--limit` it
runs as many shards side by side as the host has encoder sessions for its pool; one of a pool of GPUs whose host has
none that encodes does not start, and says why. Told to end by SIGTERM, it hands back what it runs (host_worker.py).

Prefect has no hooks for the start and the end of a worker, so its command runs in this process: a supervisor's signals
reach the worker itself, no worker outlives this process, and the exit code is Prefect's. A second Ctrl-C or SIGTERM
kills the process at once, as it does Prefect's own command; the limit is then left for the next worker to take over.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from httpx import HTTPError
from prefect.cli import app
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_API_URL

from deployments.host_worker import HostWorker
from fanreel.dispatch.pools import DeviceKind
from fanreel.errors import FanreelError, InvalidJobError, RequestError
from fanreel.host.host import open_host
from fanreel.job.slideshow import EncoderChoice
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
"""Shards side by side on one host, whatever it has."""

USUAL_FILM_PX = (1920, 1080)

MOST_WORKERS = 64
"""Workers that one host may run for one server; each holds one of so many locks."""

CHANGE_SECONDS = 120.0
"""Longer than Prefect's client asks a server that does not answer: so long may another worker hold the limit."""


def run_worker(arguments: Sequence[str], *, session_count: int | None = None) -> int:
    """Run a worker until it ends, and return its exit code.

    Args:
        arguments: Options of `prefect worker start`.
        session_count: GPU sessions of the host; by default its GPUs are looked for.
    """
    signal.signal(signal.SIGTERM, _terminate)  # until the worker's own takes over
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script's `&` leaves it: Prefect ends by one
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if {"--help", "-h"} & set(arguments):
        return _start_worker(arguments)
    try:
        settings = read_settings()
        arguments, HostWorker.idle_seconds = _take_idle_exit(arguments)
        device = _pool_device(_option(arguments, "--pool", "-p"))
        count = _require_gpu_sessions(settings, device) if session_count is None else session_count
        if device is not None and _option(arguments, "--limit", "-l") is None:
            arguments = [*arguments, "--limit", str(count_children(device, gpu_sessions=count))]
        with shown_limit(limit_name(), count, folder=settings.lock_folder):
            return _start_worker(arguments)
    except FanreelError as error:
        _say(str(error))
        return error.exit_code
    except (HTTPError, PrefectException) as error:
        _say(f"the Prefect server at {PREFECT_API_URL.value()} cannot be used: {error}")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def count_gpu_sessions(settings: Settings) -> int:
    """Return how many encoder sessions the GPUs of this host may run at once."""
    return _require_gpu_sessions(settings, None)


def count_children(device: DeviceKind, *, gpu_sessions: int) -> int:
    """Return how many shards this host renders side by side on devices of a kind.

    On GPUs a few more than there are sessions, so that one has started when another ends; on the CPU as many as have
    cores and, at 1080p, memory.
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
        EncoderError: None, and the worker's pool is one of GPUs.
    """
    host = open_host(settings)
    with closing(host.launcher):
        gpus = host.devices.usable((EncoderChoice.NVENC.value,))
        if device is DeviceKind.GPU and not gpus:
            why = host.devices.why_no_gpu()
            raise type(why)(f"this host does not encode for a pool of GPUs: {why}; `fanreel doctor` says more")
        return sum(gpu.gate.capacity for gpu in gpus)


def _pool_device(pool: str | None) -> DeviceKind | None:
    """Return what the shards of a pool are encoded with; None if it renders none, or does not exist."""
    if pool is None:
        return None
    try:
        return read_pool_devices([pool])[pool]
    except InvalidJobError:
        return None


def _option(arguments: Sequence[str], *names: str) -> str | None:
    """Return the value of an option of Prefect's command; None if it is not given."""
    for place, argument in enumerate(arguments):
        name, is_joined, value = argument.partition("=")
        if name in names:
            return value if is_joined else next(iter(arguments[place + 1 :]), None)
    return None


def _take_idle_exit(arguments: Sequence[str]) -> tuple[list[str], float]:
    """Return the options without `--idle-exit`, which Prefect does not know, and its seconds; 0 if it is not given.

    Raises:
        RequestError: It is no number of seconds.
    """
    text = _option(arguments, "--idle-exit")
    if text is None:
        return list(arguments), 0.0
    if not re.fullmatch(r"[1-9][0-9]{0,6}", text):
        raise RequestError(f"--idle-exit: {text!r} is not allowed; a number of seconds from 1")
    place = next(place for place, argument in enumerate(arguments) if argument.partition("=")[0] == "--idle-exit")
    rest = arguments[place + (1 if "=" in arguments[place] else 2) :]
    return [*arguments[:place], *rest], float(text)


@contextmanager
def shown_limit(name: str, slot_count: int, *, folder: Path) -> Iterator[None]:
    """Have a limit on the server for as long as a worker of this host runs; none for a host without slots.

    The first worker makes it, and gives it `slot_count` where one was left over; the others leave it as it is, for
    an operator may have turned it down; the last one removes it. A worker that is killed counts as gone at once.
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
                pass  # an operator deleted it; a worker that starts makes it again
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


def _start_worker(arguments: Sequence[str]) -> int:
    sys.argv = ["prefect", "worker", "start", *arguments]  # as its entry point of the same name reads them
    try:
        app()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED if ended.code else 0
    return 0


def _terminate(signal_number: int, frame: Any) -> None:  # noqa: ANN401 -- a signal handler's signature
    raise SystemExit(TERMINATED)


def _say(message: str) -> None:
    print(f"fanreel: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1:]))
