"""Where the relative paths of a job start."""

from __future__ import annotations

import os
from pathlib import Path

from fanreel.errors import InvalidJobError
from fanreel.job.film import FilmJob

__all__ = ["absolute_path", "base_of", "expand_user", "one_spelling"]


def absolute_path(job: FilmJob, name: str, *, key: str) -> Path:
    """Return a path that a job names, absolute and without `..`.

    Args:
        job: Its base is where relative paths start.
        name: The path.
        key: Where it stands in the job.

    Raises:
        InvalidJobError: It is relative and the job has no base, or it cannot be a path here.
    """
    path = expand_user(name)
    if not Path(path).is_absolute() and not job.base:
        raise InvalidJobError(f"{key}: {name!r} is relative; give `base`, the folder it starts from")
    absolute = Path(os.path.normpath(base_of(job) / path))
    try:
        os.fsencode(absolute)
    except UnicodeEncodeError:
        message = f"{key}: {name!a}: this locale cannot show it; set PYTHONUTF8=1 and run it again"
        raise InvalidJobError(message) from None
    return absolute


def base_of(job: FilmJob) -> Path:
    """Return the folder that relative paths of a job start from."""
    return Path(expand_user(job.base)).absolute()


def expand_user(name: str) -> str:
    """Return `name` with `~` as the home folder; unlike pathlib, with `~name` as it is if there is no such user."""
    return os.path.expanduser(name)  # noqa: PTH111


def one_spelling(output: str) -> str:
    """Return what all locations of one film have in common, whatever links lead to its folder.

    Args:
        output: An absolute path or an S3 URI.
    """
    if "://" in output:
        return output
    folder, name = os.path.split(output)
    return os.path.join(os.path.realpath(folder), name)  # noqa: PTH118
