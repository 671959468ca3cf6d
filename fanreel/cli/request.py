"""What a command is to make a film of: a job file, a job on standard input, or photos and folders of photos."""

from __future__ import annotations

import argparse
import contextlib
import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanreel.cli.terminal import say
from fanreel.errors import InvalidJobError, RequestError
from fanreel.printable import printable

if TYPE_CHECKING:
    from fanreel.job.film import FilmJob

__all__ = ["add_request", "read_request"]

STDIN = "-"

MANY_KEYS = 4
"""Of fewer keys that are all unknown, each is told: they may be misspelt."""

LOOKED_AT_BYTES = 4096
"""Of a file that is to be a job: text has no zero byte, and what is no text has one early."""


def add_request(command: argparse.ArgumentParser) -> None:
    """Give a parser the arguments that say which film is meant."""
    command.add_argument(
        "sources",
        nargs="+",
        type=_filled,
        metavar="SOURCE",
        help="a job file (YAML or JSON), - for a job on standard input, or photos and folders of photos",
    )
    command.add_argument(
        "-o",
        "--output",
        type=_filled,
        metavar="FILM.mp4",
        help="where the film goes, in place of the job's own output",
    )
    command.add_argument(
        "--overwrite", action="store_true", help="replace a file there, also one that fanreel did not make"
    )


def read_request(options: argparse.Namespace) -> FilmJob:
    """Return the job that the arguments of `add_request` ask for.

    Raises:
        InvalidJobError: The job cannot be read, or asks for what cannot be.
        RequestError: The sources do not belong together.
    """
    from fanreel.intake.job_file import base_folder, decode_raw_job, read_raw_job
    from fanreel.job.parse import parse_job

    file = _job_file(options.sources)
    if file is None:
        raw_job, base = _photos_job(options.sources), Path.cwd()
    elif file == Path(STDIN):
        if sys.stdin.isatty():
            say("fanreel reads a job from here; Ctrl-D ends it")
        raw_job = decode_raw_job(sys.stdin.buffer.read(), name="standard input")
        base = base_folder(file, raw_job)
    else:
        raw_job = read_raw_job(file)
        base = base_folder(file, raw_job)
        if Path(options.sources[0]).is_dir():
            say(f"{printable(file)} says how")
    _refuse_other_files(raw_job, name="standard input" if file == Path(STDIN) else str(file))
    raw_job |= {"base": str(base)}
    if options.output:
        raw_job["output"] = _output(options.output, usual=raw_job.get("output"))
    if options.overwrite:
        raw_job["overwrite"] = True
    return parse_job(raw_job)


def _filled(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty; was a variable of the shell not set?")
    return text


def _refuse_other_files(raw_job: dict[str, Any], *, name: str) -> None:
    """Raise an error if a file is of something else: then a line for each of its keys would say nothing."""
    from fanreel.job.machines import MACHINE_KEYS
    from fanreel.job.parse import job_model

    known = {*job_model(raw_job).model_fields, *MACHINE_KEYS}
    if len(raw_job) >= MANY_KEYS and not known & set(raw_job):
        raise InvalidJobError(
            f"{name}: no job: it has none of the keys of one; `fanreel init` writes one to begin with"
        )


def _job_file(sources: Sequence[str]) -> Path | None:
    """Return the job file that the sources are, or None if they are photos."""
    from fanreel.batches.inbox import JOB_FILES

    files = [source for source in sources if source == STDIN or _may_be_a_job(source)]
    if not files:
        here = [Path(sources[0], name) for name in JOB_FILES if os.path.isfile(os.path.join(sources[0], name))]  # noqa: PTH113, PTH118
        return here[0] if here and len(sources) == 1 else None
    if len(sources) > 1:
        raise RequestError(f"{files[0]}: one job file is taken, or any number of photos and folders, but not both")
    path = Path(files[0])
    with contextlib.suppress(OSError), path.open("rb") as file:  # reading the job raises what is wrong
        if path.is_file() and b"\0" in file.read(LOOKED_AT_BYTES):
            raise InvalidJobError(f"{path}: neither a job file (YAML or JSON) nor a photo that fanreel can read")
    return path


def _may_be_a_job(source: str) -> bool:
    """Return whether a source is to be read as a job file: it is none of what photos can be."""
    from fanreel.photos.names import is_photo_name
    from fanreel.remote.locations import scheme_of

    path = Path(source)
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        return True
    is_pattern = glob.has_magic(source) and not os.path.lexists(source)
    return not (scheme_of(source) or is_photo_name(path.name) or path.is_dir() or is_pattern)


def _photos_job(sources: Sequence[str]) -> dict[str, Any]:
    """Return a raw job of photos, which leaves all else as it usually is."""
    from fanreel.remote.locations import scheme_of

    photos = [source if scheme_of(source) else str(Path.cwd() / source) for source in sources]
    return {"photos": photos, "output": str(_film_beside(sources))}


def _film_beside(sources: Sequence[str]) -> Path:
    """Return where the film of some photos goes: beside their folder, and named after it."""
    from fanreel.remote.locations import scheme_of

    first = sources[0]
    if scheme_of(first):
        name = first.partition("?")[0].rstrip("/").rpartition("/")[2]
        return Path.cwd() / f"{Path(name).stem or 'film'}.mp4"
    path = Path(os.path.normpath(Path.cwd() / first))
    if path.is_file() and len(sources) == 1:
        return path.with_suffix(".mp4")
    folder = path if path.is_dir() else path.parent
    while glob.has_magic(folder.name) and not folder.exists():
        folder = folder.parent
    return folder.with_name(f"{folder.name}.mp4") if folder.name else Path.cwd() / "film.mp4"


def _output(given: str, *, usual: object) -> str:
    """Return where the film goes that was asked for; in a folder it has the name that it would have without."""
    from fanreel.remote.locations import scheme_of

    place = given if scheme_of(given) else os.path.join(Path.cwd(), os.path.expanduser(given))  # noqa: PTH111, PTH118
    if given.endswith("/") or os.path.isdir(place):  # noqa: PTH112
        name = str(usual or "").rpartition("/")[2]
        return f"{place.rstrip('/')}/{name if name.endswith('.mp4') else 'film.mp4'}"
    return place
