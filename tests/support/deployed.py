"""Deployments of the project on a test's server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.prefect_server import Served

NAME = "render-slideshow/local"


def job_parameters(base: Path, **words: Any) -> str:
    job = {
        "size": "320x180",
        "fps": "8",
        "photos": ["photos"],
        "encoding": {"preset": "draft", "quality": 30},
        "output": "out/film.mp4",
        "base": str(base),
    }
    return json.dumps({"job": job | words})


def flow_runs(served: Served) -> list[dict[str, Any]]:
    return served.ask("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC"})


def flow_run_in(served: Served, base: Path) -> dict[str, Any]:
    """Return the only run whose job has this base."""
    (run,) = [run for run in flow_runs(served) if run["parameters"].get("job", {}).get("base") == str(base)]
    return run
