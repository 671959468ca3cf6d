"""What people see runs called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from prefect.runtime import flow_run, task_run

from fanreel.printable import printable

__all__ = ["name_flow_run", "name_task_run"]


def name_flow_run() -> str:
    """Return the name of the present flow run: its film's file name."""
    return _film_name(flow_run.parameters)


def name_task_run(verb: str) -> Callable[[], str]:
    """Return what names the runs of a task whose parameter is a job: the verb and the film's file name."""
    return lambda: f"{verb} {_film_name(task_run.parameters)}"


def _film_name(parameters: Mapping[str, Any]) -> str:
    job = parameters["job"]  # of a run that a server started, still its values
    output = job.get("output", "") if isinstance(job, Mapping) else job.output
    return printable(PurePath(str(output)).name) or "film"
