"""What a Python program asks of fanreel: `fanreel.render(job)` and `fanreel.plan(job)`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from fanreel.errors import InvalidJobError
from fanreel.host.host import open_host
from fanreel.intake.sources import load_job
from fanreel.job.film import FilmJob
from fanreel.job.parse import parse_job
from fanreel.plan.film import FilmPlan
from fanreel.render.here import plan_job, render_job
from fanreel.report.film_report import FilmReport
from fanreel.report.progress import Snapshot
from fanreel.settings import read_settings

__all__ = ["JobLike", "plan", "render"]

JobLike: TypeAlias = FilmJob | Mapping[str, Any] | str | os.PathLike[str]
"""A job, the keys and values of one, or the path of a job file."""


def render(job: JobLike, *, on_progress: Callable[[Snapshot], None] = lambda snapshot: None) -> list[FilmReport]:
    """Make the films of a job, prove them, and publish them under their names.

    Settings come from the environment, as for the command. What was rendered is kept: the same call goes on where
    another one failed.

    Args:
        job: A job, the keys and values of one, or the path of a job file. Relative paths start from its `base`, else
            from the current folder; those of a file start from that file.
        on_progress: Told how far a film is, about four times a second, from any thread. What it raises ends the film.

    Returns:
        What became of each film. A slideshow is one film.

    Raises:
        FanreelError: The job is wrong, or a film cannot be made; no other error is raised on purpose.
    """
    asked = _job(job)
    host = open_host(read_settings())
    with contextlib.closing(host.launcher):
        return render_job(asked, host=host, on_progress=on_progress)


def plan(job: JobLike) -> list[FilmPlan]:
    """Return what every frame of a job's films will show, and how they are cut. Photos are read; no film is made.

    Args:
        job: As for `render`.

    Raises:
        FanreelError: The job is wrong, or a photo cannot be used.
    """
    asked = _job(job)
    host = open_host(read_settings())
    with contextlib.closing(host.launcher):
        return list(plan_job(asked, host=host))


def _job(job: JobLike) -> FilmJob:
    if isinstance(job, FilmJob):
        return job.model_copy(update={"base": _from_here(job.base)})
    if isinstance(job, Mapping):
        base = job.get("base") or ""
        return parse_job({**job, "base": _from_here(base) if isinstance(base, str | os.PathLike) else base})
    if isinstance(job, str | os.PathLike):
        return load_job(Path(job))
    raise InvalidJobError(
        f"a job, a mapping of its keys, or the path of a job file is needed, not {type(job).__name__}"
    )


def _from_here(base: str | os.PathLike[str]) -> str:
    return str(Path.cwd() / os.path.expanduser(base))  # noqa: PTH111 -- unlike pathlib, it takes a user that is not there
