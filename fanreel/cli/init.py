"""The command `fanreel init`: a job file to begin with."""

from __future__ import annotations

import argparse
import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanreel.errors import RequestError, storage_error

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["add_init"]

JOB = Path("job.yaml")

HEAD = """\
# A film for fanreel: `fanreel render job.yaml` makes it, `fanreel plan job.yaml` shows it before.
# Paths start at this file. Each key but photos and output may be left out; it then has the value that stands here.
"""

SLIDES = """\
# Instead of photos, slides gives each of them settings of its own:
# slides:
#   - {photo: first.jpg, seconds: 6, move: zoom-in}
#   - {photo: second.jpg}
"""

WIDTH = 100


def add_init(init: argparse.ArgumentParser) -> None:
    """Give the parser of `fanreel init` its arguments and its work."""
    init.add_argument(
        "photos", nargs="*", metavar="PHOTOS", help="photos and folders of photos; those found here if left out"
    )
    init.set_defaults(run=_init)


def _init(options: argparse.Namespace) -> int:
    photos = [_named(name) for name in options.photos] or _found_here()
    text = job_text(photos, output=f"{_film_name(photos)}.mp4")
    try:
        with JOB.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RequestError(f"{JOB} is there already and stays; rename it, or go to another folder") from None
    except OSError as error:
        raise storage_error(error, doing=f"write {JOB.absolute()}") from error
    print(f"{JOB} is written, for {', '.join(photos)}; edit it, then: fanreel render {JOB}")
    return 0


def job_text(photos: Sequence[str], *, output: str) -> str:
    """Return a job file that has all keys of a slideshow, each with what it means.

    Args:
        photos: Entries of its `photos`.
        output: Where its film goes.
    """
    from fanreel.job.parse import parse_job

    job = parse_job({"photos": list(photos), "output": output})
    values = job.model_dump(mode="json", exclude={"film", "base", "slides"})
    return "\n".join([HEAD, *_keys(values, type(job)), SLIDES])


def _keys(values: dict[str, Any], model: type[BaseModel]) -> Iterator[str]:
    for name, value in values.items():
        field = model.model_fields[name]
        comment = textwrap.fill(field.description or "", WIDTH, initial_indent="# ", subsequent_indent="# ")
        if isinstance(value, dict) and isinstance(field.annotation, type):
            inner = "\n".join(_keys(value, field.annotation))
            yield f"{comment}\n{name}:\n{textwrap.indent(inner, '  ')}"
        else:
            yield f"{comment}\n{name}: {json.dumps(value, ensure_ascii=False)}\n"  # JSON is YAML


def _named(name: str) -> str:
    """Return a photo or a folder as a job file in this folder names it."""
    from fanreel.remote.locations import scheme_of

    if scheme_of(name):
        return name
    path = Path(os.path.normpath(name))
    if path.is_dir() and not _has_photos(path):
        raise RequestError(f"{name}: the folder holds no photo")
    if not path.exists():
        raise RequestError(f"{name}: no such file or folder")
    return str(path)


def _found_here() -> list[str]:
    """Return what of this folder is photos: itself, or those of its folders that hold some."""
    from fanreel.photos.names import natural_order

    here = Path()
    if _has_photos(here):
        return ["."]
    found = [path.name for path in here.iterdir() if path.is_dir() and _has_photos(path)]
    if not found:
        raise RequestError("there are no photos here; say where they are: fanreel init PHOTOS")
    return sorted(found, key=natural_order)


def _has_photos(folder: Path) -> bool:
    from fanreel.photos.names import is_photo_name

    try:
        return any(is_photo_name(path.name) for path in folder.iterdir())
    except OSError:
        return False


def _film_name(photos: Sequence[str]) -> str:
    """Return a name for the film of these photos: that of their one folder, or of this one."""
    path = Path(photos[0])
    if len(photos) == 1 and "://" not in photos[0] and path.absolute() != Path.cwd():
        return path.stem if path.is_file() else path.name
    return Path.cwd().name or "film"
