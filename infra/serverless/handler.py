"""A worker for rented GPUs that speak RunPod's serverless protocol: one request is one film, or one run of segments.

`{"input": {"job": {...}}}` renders the job, publishes its films and returns their reports. `{"input": {"plan": ADDRESS,
"start_segment": 0, "end_segment": 20}}` renders segments of a plan that the store holds, and returns their addresses.
Photos, store and output have to be places that this machine reaches: s3:// by the environment's credentials.

    python infra/serverless/handler.py --test_input '{"input": {"job": {...}}}'
    python infra/serverless/handler.py --rp_serve_api          # POST /runsync on 127.0.0.1:8000
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from fanreel.errors import FanreelError, InvalidJobError
from fanreel.host.host import Host, current_host
from fanreel.job.parse import parse_job
from fanreel.render.here import render_job, render_segments
from fanreel.report.progress import Snapshot

__all__ = ["handle", "handle_request"]

PROGRESS_SECONDS = 5.0
"""How often the platform is told how far a film is; each time is a request to it."""

Tell = Callable[[Snapshot], None]


async def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Return what a request yields, as plain JSON; a request that fails yields `error`, which the platform looks for.

    The work is done in a thread: this one answers the platform's questions meanwhile.
    """
    tell = _tell_platform(request)
    return await asyncio.to_thread(handle_request, request.get("input"), tell=tell)


def handle_request(asked: Any, *, tell: Tell = lambda snapshot: None, host: Host | None = None) -> dict[str, Any]:  # noqa: ANN401 -- it came from outside
    """Return what `asked` yields.

    Args:
        asked: A job, or a plan and which of its segments.
        tell: Told how far it is.
        host: Where; this process's by default.
    """
    try:
        kind, values = _read(asked)
        host = host or current_host()
        if kind == "job":
            reports = render_job(parse_job(values), host=host, on_progress=tell)
            return {"films": [_plain(asdict(report)) for report in reports]}
        return _render_segments(values, host=host, tell=tell)
    except FanreelError as error:
        name = type(error).__name__
        # The platform keeps `error` and calls the request failed; what else there is, a program may look at.
        return {"error": f"{name}: {error}", "error_type": name, "transient": error.transient}


def _read(asked: Any) -> tuple[str, dict[str, Any]]:  # noqa: ANN401 -- it came from outside
    if isinstance(asked, Mapping):
        if set(asked) == {"job"} and isinstance(asked["job"], Mapping):
            return "job", dict(asked["job"])
        if set(asked) == {"plan", "start_segment", "end_segment"}:
            return "segments", dict(asked)
        asked = sorted(asked)
    raise InvalidJobError(f"input: {asked!r} is not allowed; either job, or plan, start_segment and end_segment")


def _render_segments(values: Mapping[str, Any], *, host: Host, tell: Tell) -> dict[str, Any]:
    address, start, end = values["plan"], values["start_segment"], values["end_segment"]
    if not (isinstance(address, str) and re.fullmatch(r"[0-9a-f]{64}", address)):
        raise InvalidJobError(f"plan: {address!r} is not allowed; the address of a plan, 64 hexadecimal digits")
    if not (type(start) is int and type(end) is int):
        raise InvalidJobError(f"segments [{start!r}, {end!r}) are not allowed; two whole numbers")
    segments = render_segments(host.store.get_plan(address), start, end, host=host, on_progress=tell)
    return {"plan": address, "segments": list(segments)}


def _plain(value: Any) -> Any:  # noqa: ANN401 -- any part of a report
    """Return `value` as JSON has it: tuples as lists, mappings as dicts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _tell_platform(request: dict[str, Any]) -> Tell:
    from runpod.serverless import progress_update

    told_at = time.monotonic()

    def tell(snapshot: Snapshot) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PROGRESS_SECONDS:
            told_at = time.monotonic()
            progress_update(request, str(snapshot))

    return tell


if __name__ == "__main__":
    import runpod  # the engine's part works without it

    runpod.serverless.start({"handler": handle})
