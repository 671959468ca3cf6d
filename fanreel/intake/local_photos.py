"""The photos that a job names on this machine: files, those in a folder, those that a pattern matches."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from fanreel.errors import (
    FanreelError,
    NotAllowedError,
    PhotoNotFoundError,
    UnreadablePhotoError,
    storage_error,
)
from fanreel.intake.folders import Folders, each_file_once, is_folder
from fanreel.intake.listing import Found, Listing, NamedPhoto, fixed_parts, sort_out
from fanreel.intake.paths import absolute_path, base_of, expand_user
from fanreel.job.film import FilmJob
from fanreel.printable import printable
from fanreel.remote.locations import check_allowed, shown_location
from fanreel.settings import Settings

__all__ = ["list_local", "name_local", "reading_error"]


def name_local(job: FilmJob, name: str, *, settings: Settings) -> NamedPhoto:
    """Return the photo that a slide names."""
    path = str(absolute_path(job, name, key="slides.photo"))
    try:
        check_allowed(path, settings=settings)
        return NamedPhoto(Folders(settings).find(path))
    except OSError as error:
        return NamedPhoto(path, error=reading_error(error, printable(path)))
    except (NotAllowedError, PhotoNotFoundError) as error:
        return NamedPhoto(path, error=error)


def list_local(job: FilmJob, name: str, *, settings: Settings) -> Listing:
    """Return what an entry of `photos` names; what exists under this very name is no pattern.

    Raises:
        InvalidJobError: The entry is relative and the job has no base.
        NotAllowedError: It leads where this host's jobs may not read.
    """
    path = str(absolute_path(job, name, key="photos"))
    _check_pattern(job, name, settings)
    folders = Folders(settings)
    try:
        there = folders.find(path)
        if os.path.isdir(there):  # noqa: PTH112
            return sort_out(_in_folder(there, name, folders))
        if os.path.lexists(there) or not glob.has_magic(name):
            return Listing((NamedPhoto(there),))
        return sort_out(_matching(job, name, path, folders))
    except OSError as error:
        return Listing((NamedPhoto(path, error=reading_error(error, printable(path))),))
    except PhotoNotFoundError as error:
        return Listing((NamedPhoto(path, error=error),))


def reading_error(error: OSError, shown: str) -> FanreelError:
    """Return why a photo or a folder cannot be read: that of the file itself, or that of a disk which fails."""
    if isinstance(error, PermissionError):
        return UnreadablePhotoError(f"{shown}: {error.strerror}; let this user read it, or leave it out")
    return storage_error(error, doing=f"read the photo {shown}")


def _in_folder(folder: str, name: str, folders: Folders) -> Found:
    files: list[str] = []
    nested: dict[str, int] = {}
    for entry in folders.entries(folder):
        path = os.path.join(folder, entry.name)  # noqa: PTH118
        if not is_folder(entry):
            files.append(path)
        elif not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(path)):  # a link to a folder above
            nested[path] = folders.count_photos(path)
    nested = {path: count for path, count in nested.items() if count}
    return Found(folder, name, each_file_once(files), nested=nested)


def _matching(job: FilmJob, name: str, path: str, folders: Folders) -> Found:
    # Only the job's own text is a pattern; brackets in the name of the base folder are not.
    parts = Path(expand_user(name)).parts
    fixed = fixed_parts(parts)
    start = folders.find(os.path.normpath(base_of(job).joinpath(*fixed)))
    matches = [os.path.normpath(match) for match in folders.match(start, parts[len(fixed) :])]
    return Found(path, name, each_file_once(matches), left_out=folders.refused, is_pattern=True)


def _check_pattern(job: FilmJob, name: str, settings: Settings) -> None:
    """Raise `NotAllowedError` if a pattern would look into a folder that this host's jobs may not read."""
    if not settings.roots:
        return
    fixed = fixed_parts(Path(expand_user(name)).parts)
    start = str(base_of(job).joinpath(*fixed))
    for location in (start, os.path.normpath(start)):  # which differ if `..` comes after a link
        check_allowed(location, settings=settings)
    if len(fixed) < len(Path(name).parts) and ".." in Path(name).parts:
        raise NotAllowedError(
            f"{shown_location(name)}: a pattern with `..` is not allowed on this host (FANREEL_ROOTS)"
        )
