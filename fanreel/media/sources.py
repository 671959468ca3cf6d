"""Fetch: from the names in a job to photos that are known by their content."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from fanreel.errors import (
    FanreelError,
    InvalidJobError,
    MediaError,
    PhotoNotFoundError,
    UnreadablePhotoError,
    storage_error,
)
from fanreel.job import OnBadPhoto, Slide, SlideshowJob, parse_job
from fanreel.media.photo_header import shown_path
from fanreel.media.photos import read_photo
from fanreel.plan.film import FetchedStills, Source, Still

__all__ = ["fetch_stills", "load_job", "output_path"]

PHOTO_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)
READERS = 4
"""Photos read and hashed side by side; both release the interpreter, and a disk likes a few at once."""


def load_job(path: Path) -> SlideshowJob:
    """Return the job in a YAML or JSON file; its relative paths start from the file's folder.

    Raises:
        InvalidJobError: The file cannot be read, is not YAML, or asks for what cannot be.
    """
    try:
        text = path.read_text(encoding="utf-8")
        # YAML is a superset of JSON but for tabs between the words.
        values: Any = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise InvalidJobError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidJobError(f"{path}: not YAML or JSON: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InvalidJobError(f"{path}: a job is a mapping of keys to values")
    base = path.absolute().parent / _expand_user(str(values.get("base") or ""))
    return parse_job({**values, "base": str(base)})


def output_path(job: SlideshowJob) -> Path:
    """Return the absolute path of the job's film; a folder gets a file named after it.

    Raises:
        InvalidJobError: The path is relative and the job has no base.
    """
    path = _absolute(job, job.output, key="output")
    if path.is_dir() or job.output.endswith("/"):
        return path / f"{path.name}.mp4"
    if path.suffix != ".mp4":
        raise InvalidJobError(f"output: {job.output!r} is not allowed; a file ending in .mp4, or a folder ending in /")
    return path


def fetch_stills(job: SlideshowJob, *, max_megapixels: float) -> FetchedStills:
    """Return the job's slides in order, each with its photo read, hashed and measured.

    Where the job says so, photos that are missing or cannot be used are left out.

    Raises:
        PhotoNotFoundError: Some do not exist; the message lists every bad photo.
        UnreadablePhotoError: All exist, some are no pictures; the message lists them.
        StorageError: A disk fails; then no photo is left out for it.
    """
    slides = list(_slides(job))
    names = list(dict.fromkeys(path for path, _ in slides))
    with ThreadPoolExecutor(READERS) as pool:
        results = dict(zip(names, pool.map(lambda path: _read(job, path, max_megapixels), names), strict=True))
    errors = [result for result in results.values() if isinstance(result, FanreelError)]
    sources = {path: result for path, result in results.items() if isinstance(result, Source)}
    if job.on_bad_photo is OnBadPhoto.FAIL or not sources or not all(map(_is_the_photo_s, errors)):
        _refuse_bad(errors, is_skipping=job.on_bad_photo is OnBadPhoto.SKIP and not sources)
    stills = tuple(_still(job, sources[path], slide) for path, slide in slides if path in sources)
    return FetchedStills(stills, left_out=tuple(map(str, errors)))


def _is_the_photo_s(error: FanreelError) -> bool:
    """Return whether the film may go on without the photo; without a disk that fails it may not."""
    return isinstance(error, PhotoNotFoundError | MediaError)


def _still(job: SlideshowJob, source: Source, slide: Slide | None) -> Still:
    if slide is None:
        return Still(source, job.seconds_per_slide, job.move)
    return Still(
        source,
        seconds=slide.seconds or job.seconds_per_slide,
        move=slide.move or job.move,
        views=(tuple(slide.start), tuple(slide.end)) if slide.start else (),
    )


def _slides(job: SlideshowJob) -> Iterator[tuple[Path, Slide | None]]:
    for slide in job.slides:
        yield _absolute(job, slide.photo, key="slides.photo"), slide
    for entry in job.photos:
        for path in _expand(job, entry):
            yield path, None


def _expand(job: SlideshowJob, name: str) -> Sequence[Path]:
    """Return the files that one entry of `photos` names; an entry that names none stands for itself."""
    path = _absolute(job, name, key="photos")
    try:
        if path.is_dir():
            found = _photos_in(path)
        elif path.exists() or not glob.has_magic(name):
            found = [path]
        else:
            # Only what the person wrote is a pattern; brackets in the base folder's own name are not.
            matches = glob.glob(_expand_user(name), root_dir=_base(job), recursive=True)  # noqa: PTH207
            found = [Path(os.path.normpath(_base(job) / match)) for match in matches]
        return sorted((inner for inner in found if not inner.is_dir()), key=_natural_order) or [path]
    except OSError:
        return [path]  # what is wrong with it is said when it is read


def _photos_in(folder: Path) -> list[Path]:
    """Return what lies in a folder and looks like a photo; `._photo.jpg` is another system's note about one."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in visible if path.suffix.lower() in PHOTO_SUFFIXES]


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    """Return a key under which photo2 comes before photo10."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _read(job: SlideshowJob, path: Path, max_megapixels: float) -> Source | FanreelError:
    try:
        return _refusal(job, path) or Source(read_photo(path, max_megapixels=max_megapixels), str(path))
    except PermissionError as error:
        return UnreadablePhotoError(f"{shown_path(path)}: {error.strerror}; let this user read it, or leave it out")
    except OSError as error:
        return storage_error(error, doing=f"read the photo {shown_path(path)}")
    except FanreelError as error:
        return error


def _refusal(job: SlideshowJob, path: Path) -> FanreelError | None:
    """Return why the path names no photo, as far as that can be told without reading it."""
    shown = shown_path(path)
    if os.fsencode(path).decode(errors="backslashreplace") != str(path):
        return UnreadablePhotoError(f"{shown}: the name is not UTF-8, so that no plan can hold it; rename the file")
    if path.is_dir():
        if _photos_in(path):
            return PhotoNotFoundError(f"{shown}: a folder, where one file is asked for")
        return PhotoNotFoundError(f"{shown}: the folder holds no photo ({', '.join(sorted(PHOTO_SUFFIXES))})")
    if path.is_file():
        return None
    if path.exists():
        return PhotoNotFoundError(f"{shown}: a device or a pipe, not a file")
    is_pattern = glob.has_magic(str(path).removeprefix(str(_base(job))))
    return PhotoNotFoundError(f"{shown}: {'matches no file' if is_pattern else 'no such file'}")


def _refuse_bad(errors: Sequence[FanreelError], *, is_skipping: bool) -> None:
    if not errors:
        return
    lines = ["none of them can be used"] if is_skipping and len(errors) > 1 else []
    text = "\n".join(f"photos: {line}" for line in [*lines, *errors])
    if any(isinstance(error, PhotoNotFoundError) for error in errors):
        raise PhotoNotFoundError(text)
    if all(isinstance(error, MediaError) for error in errors):
        raise UnreadablePhotoError(text)
    raise type(errors[0])(text)


def _absolute(job: SlideshowJob, name: str, *, key: str) -> Path:
    path = _expand_user(name)
    if not Path(path).is_absolute() and not job.base:
        raise InvalidJobError(f"{key}: {name!r} is relative; give `base`, the folder it starts from")
    absolute = Path(os.path.normpath(_base(job) / path))
    try:
        os.fsencode(absolute)
    except UnicodeEncodeError:
        message = f"{key}: {name!a}: this locale has no such letters; set PYTHONUTF8=1 and run it again"
        raise InvalidJobError(message) from None
    return absolute


def _base(job: SlideshowJob) -> Path:
    return Path(_expand_user(job.base)).absolute()


def _expand_user(name: str) -> str:
    """Return `name` with `~` as the home folder; unlike pathlib, with `~name` as it is if there is no such user."""
    return os.path.expanduser(name)  # noqa: PTH111
