"""Prefect's server of a farm, behind an auth string: started, asked, killed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from support.prefect_server import PREFECT
from support.processes import descendants, wait_until

__all__ = ["AUTH", "AUTH_MARK", "PATIENCE_SECONDS", "FarmServer"]

AUTH_MARK = "marked-auth-string-4f1c"
AUTH = f"fanreel:{AUTH_MARK}"
PATIENCE_SECONDS = 400.0
"""Only a farm that does not work waits so long, on the busiest machine."""


class FarmServer:
    """A server that can be killed and started again.

    Args:
        folder: Where its log is.
        port: Of the loopback interface.
        env: Its environment.
    """

    def __init__(self, folder: Path, *, port: int, env: Mapping[str, str]) -> None:
        self._folder, self._port, self._env = folder, port, env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        log_path = self._folder / "server.log"
        command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(self._port)]
        with log_path.open("ab") as log:
            process = subprocess.Popen(command, cwd=self._folder, env=self._env, stdout=log, stderr=log)
        self._process = process

        def is_up() -> bool:
            assert process.poll() is None, log_path.read_text()
            with contextlib.suppress(OSError):
                return self.ask("health") is True
            return False

        wait_until(is_up, seconds=PATIENCE_SECONDS, what="the server is up", pause_seconds=0.2)

    def pids(self) -> set[int]:
        """Return its processes; none before its start."""
        return {self._process.pid, *descendants(self._process.pid)} if self._process else set()

    def kill(self) -> None:
        """kill -9 it, if it was started."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process:
            self._process.wait(60)

    def ask(self, path: str, body: dict[str, Any] | None = None, *, auth: str = AUTH) -> Any:
        """Return what its API answers."""
        headers = {"content-type": "application/json"}
        if auth:
            headers["authorization"] = "Basic " + base64.b64encode(auth.encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/api/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def status_of(self, path: str, *, auth: str = AUTH) -> int:
        """Return the status that its API answers with to a question that has no body to speak of."""
        try:
            self.ask(path, {}, auth=auth)
        except urllib.error.HTTPError as error:
            return error.code
        return HTTPStatus.OK
