"""Processes killed at a moment of their work, and what is left of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def state_and_parent(pid: int) -> tuple[str, int]:
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "X", 0
    return state, int(parent)


def is_running(pid: int) -> bool:
    return state_and_parent(pid)[0] not in "ZX"


def open_files(pid: int) -> list[str]:
    found = []
    with contextlib.suppress(OSError):  # gone
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed while we look
                found.append(os.readlink(descriptor))  # noqa: PTH115 - sockets are no paths
    return found


def makes_a_segment(pid: int) -> bool:
    """Return whether an encoder session is in the middle of a segment."""
    return any(name.endswith(".packets") for name in open_files(pid))


def kill_at_work(pid: int) -> bool:
    """kill -9 a process that has not ended by itself; return whether there was one."""
    with contextlib.suppress(ProcessLookupError):
        is_stopped = _stop(pid)
        os.kill(pid, signal.SIGKILL)
        return is_stopped
    return False


def stop_at_work(pid: int) -> bool:
    """Stop an encoder session in the middle of a segment; return whether it was there. Otherwise it goes on."""
    with contextlib.suppress(ProcessLookupError):
        if _stop(pid) and makes_a_segment(pid):
            return True
        os.kill(pid, signal.SIGCONT)
    return False


def _stop(pid: int) -> bool:
    os.kill(pid, signal.SIGSTOP)
    while (state := state_and_parent(pid)[0]) not in "TZX":
        time.sleep(0.001)
    return state == "T"
