"""What runs in the fork server of engines. A fork is `python -m prefect.engine`, with its imports done before.

Our own code is imported after the fork, so that a run has the checkout as it is when it starts. The fork runs the file
of `prefect.engine`, as that command does; tests/edge/test_engine_launcher.py holds both to one behaviour.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import threading
from pathlib import Path

from fanreel.forks.server import ForkRequest, ForkServer, end_quickly

__all__ = ["CANNOT_FORK", "main"]

PRELOADED = (
    *("prefect.flow_engine", "prefect.task_engine", "prefect.artifacts", "prefect.runner.storage"),
    *("prefect.deployments.steps.core", "prefect.concurrency.sync", "prefect.deployments"),
    *("numpy", "cv2", "av", "PIL.Image", "pi_heif", "blake3", "pydantic", "yaml", "boto3", "pynvml"),
)
"""What runs import of packages, as far as it is installed."""

CANNOT_FORK = 3
"""Exit status of a server that has threads: another one would have them too, so runs start without it."""


def main() -> None:
    """Be the server; in a fork, be the engine of a run."""
    with end_quickly():
        server = ForkServer.from_arguments()
        with server.end_with_owner():
            for name in PRELOADED:
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
        if threading.active_count() > 1:
            print(f"runs start without forks: an import began {threading.enumerate()[1:]}", file=sys.stderr)
            sys.exit(CANNOT_FORK)
        request = server.serve(outlive_owner=True)
        if request is not None:
            _be_engine(request)


def _be_engine(request: ForkRequest) -> None:
    """Be `python -m prefect.engine` in the environment, in the folder and with the output that are asked for."""
    import prefect
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(request.descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    asked = json.loads(request.data)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.path[0] = asked["folder"]
    for name in [name for name in sys.modules if name.partition(".")[0] in ("deployments", "fanreel")]:
        del sys.modules[name]  # the run's checkout may be another one
    refresh_global_settings_context()
    setup_logging()
    engine = str(Path(prefect.__path__[0], "engine.py"))
    sys.argv[:] = [engine]
    runpy.run_path(engine, run_name="__main__")


if __name__ == "__main__":
    main()
