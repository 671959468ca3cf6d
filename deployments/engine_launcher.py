"""The engines of a worker's runs, as forks of one process that has imported Prefect already (docs/decisions/0014).

To import Prefect and the packages of our flows takes 3 s of a core, and each run pays it again. With `--fork-engines` a
worker starts `start_run.py` for a run in place of the engine. It asks the fork server (engine_server.py) for a fork
that is the engine, and ends as that one ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deployments.engine_server import CANNOT_FORK
from fanreel.forks.server_process import ServerProcess

__all__ = ["EngineLauncher"]

_ROOT = Path(__file__).parents[1]


class EngineLauncher:
    """Has the fork server of a worker, and starts another one if it dies."""

    def __init__(self) -> None:
        self._server: ServerProcess | None = None

    def start(self) -> ServerProcess:
        """Return the server, started if it does not run. A run that comes while it imports waits for it."""
        if self._server is None or self._server.wait() not in (None, CANNOT_FORK):
            self._server = ServerProcess([sys.executable, "-m", "deployments.engine_server"], cwd=_ROOT)
        return self._server

    def command(self) -> list[str]:
        """Return the command that is a run's engine."""
        name = self.start().address.removeprefix("\0")
        return [sys.executable, "-I", "-S", str(_ROOT / "deployments/start_run.py"), name]

    def close(self) -> None:
        """Have the server end when its runs have ended, which go on without a worker."""
        if self._server is not None:
            self._server.disown()
