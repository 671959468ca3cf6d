"""A worker of a farm, as a machine of its own: its processes, its log, and how it dies."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.farm_server import PATIENCE_SECONDS
from support.kills import is_running, makes_a_segment, state_and_parent
from support.processes import descendants, wait_until

__all__ = ["Machine", "SessionLog", "do_all", "thaw"]

_SESSION = re.compile(r"START segments? (\d+)(?:-(\d+))? of (\S+): session (\d+), (\w+)")
_DONE = re.compile(r"DONE segments? \S+ of (\S+): session (\d+), .*, (\d+) frames in")


def do_all(*actions: Callable[[], object]) -> None:
    """Try each action until it has found what it is for, in turns: none may miss its moment for another's."""
    left = list(actions)

    def are_done() -> bool:
        left[:] = [action for action in left if not action()]
        return not left

    wait_until(are_done, seconds=PATIENCE_SECONDS, what="each fault has met what it is for")


def thaw(stopped: Sequence[int]) -> None:
    """Let the processes of a machine that was frozen go on, those that are still there."""
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


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

    name: str
    pool: str
    folder: Path
    checkout: Path
    shared_env: Mapping[str, str]
    limit: int | None = None
    extra: dict[str, str] = field(default_factory=dict)
    workspace: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    log_start: int = 0

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
        return {**self.shared_env, **own, **self.extra}

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
            self.process = subprocess.Popen(command, cwd=self.checkout, env=self.env, stdout=log, stderr=log)
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
        return [pid for pid in self.launchers() if makes_a_segment(pid)]

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

    def sessions(self) -> list[SessionLog]:
        """Return every encoder session that its log tells of."""
        text = self.said()
        done = {(film, int(pid)): int(frames) for film, pid, frames in _DONE.findall(text)}
        return [
            SessionLog(
                film, int(pid), encoder, range(int(first), int(last or first) + 1), done.get((film, int(pid)), -1)
            )
            for first, last, film, pid, encoder in _SESSION.findall(text)
        ]

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

    def kill_child_at_work(self) -> bool:
        """kill -9 its child runs while a session of theirs makes a segment; return whether there were any."""
        if not self.sessions_at_work():
            return False
        stopped = self.freeze()  # what is seen from now on stays so
        try:
            children = self.flow_processes() if self.sessions_at_work() else []
            for pid in children:
                os.kill(pid, signal.SIGKILL)
        finally:
            thaw(stopped)
        return bool(children)

    def kill_tree(self) -> None:
        """kill -9 the worker and all below it, as if the power went."""
        stopped = self.freeze()
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait(60)
        wait_until(lambda: not any(map(is_running, stopped)), seconds=60, what="its tree is gone")
