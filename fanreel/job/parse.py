"""From the values in a job file to the job of the kind that they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from fanreel.errors import InvalidJobError
from fanreel.job.film import FilmJob, FilmKind
from fanreel.job.mistakes import explain_mistakes
from fanreel.job.slideshow import SlideshowJob

__all__ = ["check_job", "job_model", "parse_job"]

_MODELS: Mapping[FilmKind, type[FilmJob]] = {FilmKind.SLIDESHOW: SlideshowJob}


def job_model(values: Mapping[str, Any]) -> type[FilmJob]:
    """Return the model of the kind of film that `values` name, a slideshow's if they name none that there is."""
    return next((model for kind, model in _MODELS.items() if kind == values.get("film")), SlideshowJob)


def check_job(job: FilmJob | Mapping[str, Any]) -> FilmJob:
    """Return a job that may have come as its values; see `parse_job`."""
    return job if isinstance(job, FilmJob) else parse_job(job)


def parse_job(values: Mapping[str, Any]) -> FilmJob:
    """Return the job that `values` describe.

    Args:
        values: What a YAML or JSON file holds, as plain mappings, lists and scalars.

    Raises:
        InvalidJobError: With one line per mistake: the key, its value, what is allowed.
    """
    if not isinstance(values, Mapping):
        raise InvalidJobError(f"a job is a mapping of keys to values, not {type(values).__name__}")
    model = job_model(values)
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise InvalidJobError("\n".join(explain_mistakes(error, model))) from None
