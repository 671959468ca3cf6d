"""Runs a contestant in a process of its own and says what the whole tree of processes cost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Cost", "MemorySampler", "run_contestant"]

SAMPLE_SECONDS = 0.05
LAUNCHER = "fanreel.sessions.session_server"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a contestant took.

    Attributes:
        wall_seconds: From its start to its end.
        cpu_seconds: User and system time of the process and of all that it waited for.
        peak_pss_bytes: The largest sum of proportional set sizes over the tree.
        peak_session_pss_bytes: The largest of any one encoder session of ours; 0 where there was none.
        output: What it wrote to standard output.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_pss_bytes: int
    peak_session_pss_bytes: int
    output: str

    def beside(self, **more: Any) -> dict[str, Any]:
        """Return the figures to print, with `more` after them."""
        return {
            "cpu_seconds": round(self.cpu_seconds, 2),
            "wall_seconds": round(self.wall_seconds, 2),
            "pss_mb": round(self.peak_pss_bytes / 1e6),
            **more,
        }


@dataclass(slots=True)
class MemorySampler:
    """Watches the proportional set size of a process and of all below it, from outside, in a thread.

    Use it as a context. Peaks shorter than a look's distance to the next can be missed. A look costs some ms for each
    process, so what runs for minutes beside what is measured is looked at less often.
    """

    pid: int
    every_seconds: float = SAMPLE_SECONDS
    peak_bytes: int = 0
    peak_session_bytes: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> MemorySampler:
        """Begin to watch."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.every_seconds):
            tree = process_tree(self.pid)
            sizes = {pid: pss_bytes(pid) for pid in tree}
            self.peak_bytes = max(self.peak_bytes, sum(sizes.values()))
            # A session is a fork of the launcher, and a launcher is no fork of one.
            sessions = [pid for pid, parent in tree.items() if parent in tree and _is_launcher(parent)]
            self.peak_session_bytes = max(self.peak_session_bytes, *(sizes[pid] for pid in sessions), 0)


def process_tree(pid: int) -> dict[int, int]:
    """Return the process and all below it, each with its parent."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {pid: parents.get(pid, 0)}
    waiting = [pid]
    while waiting:
        above = waiting.pop()
        below = [child for child, parent in parents.items() if parent == above]
        found |= dict.fromkeys(below, above)
        waiting += below
    return found


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process; 0 if it is gone."""
    with contextlib.suppress(OSError):
        match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(match[1]) * 1024 if match else 0
    return 0


def _is_launcher(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return LAUNCHER in Path(f"/proc/{pid}/cmdline").read_text()
    return False


def run_contestant(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, limit_seconds: float = 1200) -> Cost:
    """Run a command to its end and return what it took.

    Raises:
        RuntimeError: It failed, or ran past the limit; with the end of what it wrote.
    """
    started_at = time.monotonic()
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd) as process,
        MemorySampler(process.pid) as memory,
    ):
        killer = threading.Timer(limit_seconds, process.kill)
        killer.start()
        words: list[bytes] = []
        reader = threading.Thread(target=lambda: words.append(process.stdout.read() if process.stdout else b""))
        reader.start()
        # wait4 instead of RUSAGE_CHILDREN: its sum is of this child and what it waited for, and of nothing else.
        _, status, usage = os.wait4(process.pid, 0)
        wall_seconds = time.monotonic() - started_at
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        reader.join()
    output = b"".join(words).decode(errors="replace")
    if process.returncode:
        late = " (killed at its limit)" if process.returncode == -signal.SIGKILL else ""
        raise RuntimeError(f"{command[:4]} ended with {process.returncode}{late}:\n{output[-3000:]}")
    return Cost(wall_seconds, usage.ru_utime + usage.ru_stime, memory.peak_bytes, memory.peak_session_bytes, output)
