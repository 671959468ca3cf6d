"""The fork server of sandboxes: it makes ready what calls need, and forks a process for each of them.

No process serves two calls: what one file does to its process is done to no other file.
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
from pathlib import Path

from pydantic_core import to_json

from fanreel.errors import FanreelError
from fanreel.forks.server import ForkRequest, ForkServer, end_quickly, offer_to_the_memory_killer
from fanreel.sandbox.call import DESCRIPTORS, MEMORY_RAN_OUT, MOST_WRITTEN_BYTES, Bounds, Call, decode_call

__all__ = ["main"]

SERVER_OFFER, CALL_OFFER = 200, 500
"""By how many thousandths of the memory there is a process looks larger to the kernel than it is: calls go first."""


def main() -> None:
    """Be the server; in a fork, answer the one call that it was made for."""
    with end_quickly():
        offer_to_the_memory_killer(SERVER_OFFER)
        server = ForkServer.from_arguments()
        with server.end_with_owner():
            module, warm = sys.argv[1:-3]
            getattr(importlib.import_module(module), warm)()
        request = server.serve()
        if request is not None:
            offer_to_the_memory_killer(CALL_OFFER)
            _answer(request)


def _answer(request: ForkRequest) -> None:
    """Make the call; write the class of its error, or nothing, and behind a line break what it said or returned."""
    words, answer = request.descriptors[:DESCRIPTORS]
    os.dup2(words, 2)
    call = decode_call(request.data)
    _keep_within(call.bounds)
    try:
        kind, text = "", to_json(_call(call, request.descriptors[DESCRIPTORS:]))
    except FanreelError as error:
        kind, text = type(error).__name__, str(error).encode()
    except MemoryError:
        kind, text = MEMORY_RAN_OUT, b""
    with os.fdopen(answer, "wb") as file:
        file.write(kind.encode() + b"\n" + text)


def _call(call: Call, descriptors: tuple[int, ...]) -> object:
    return getattr(importlib.import_module(call.module), call.function)(*call.arguments, *descriptors)


def _keep_within(bounds: Bounds) -> None:
    """Bound this process. A write that is too long fails, for Python ignores the signal."""
    data_pages = int(Path("/proc/self/statm").read_text().split()[5])  # Source: proc_pid_statm(5)
    cpu_seconds = max(1, round(bounds.cpu_seconds))
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, MOST_WRITTEN_BYTES),
        (resource.RLIMIT_DATA, data_pages * resource.getpagesize() + bounds.memory_bytes),
    ):
        _bound(kind, most, most)
    # The hard bound, a second later, kills; at the soft one the kernel sends SIGXCPU, which tells why.
    _bound(resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 1)


def _bound(kind: int, soft: int, hard: int) -> None:
    """Bound this process, by less than asked where less is allowed already."""
    _, allowed = resource.getrlimit(kind)
    most = hard if allowed == resource.RLIM_INFINITY else min(hard, allowed)
    resource.setrlimit(kind, (min(soft, most), most))
