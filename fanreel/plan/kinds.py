"""The kinds of film, and what plans each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fanreel.job.film import FilmJob, FilmKind
from fanreel.plan.film import FilmPlan
from fanreel.plan.slideshow import FetchedStills, plan_slideshow

__all__ = ["FetchedSources", "plan_films"]

FetchedSources = FetchedStills
"""What a job's names led to. A kind of film that is made of other sources adds its own type."""

_PLANNERS: Mapping[FilmKind, Callable[..., tuple[FilmPlan, ...]]] = {FilmKind.SLIDESHOW: plan_slideshow}


def plan_films(job: FilmJob, fetched: FetchedSources, *, output: str) -> tuple[FilmPlan, ...]:
    """Return the films that a job yields.

    Args:
        job: The request.
        fetched: What its names led to.
        output: Absolute path of the film.
    """
    return _PLANNERS[job.film](job, fetched, output=output)
