"""Fetch: from the names in a job to photos that are known by their content."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fanreel.errors import (
    FanreelError,
    InvalidJobError,
    MediaError,
    NotAllowedError,
    PhotoNotFoundError,
    UnreadablePhotoError,
    storage_error,
)
from fanreel.intake.downloads import Downloads
from fanreel.intake.job_file import base_folder, read_raw_job
from fanreel.job.film import FilmJob, FilmKind
from fanreel.job.parse import parse_job
from fanreel.job.slideshow import OnBadPhoto, Slide, SlideshowJob
from fanreel.photos.header import shown_path
from fanreel.photos.names import PHOTO_SUFFIXES, NameOrder, is_photo_name, natural_order
from fanreel.photos.photo import read_photo
from fanreel.plan.kinds import FetchedSources
from fanreel.plan.slideshow import FetchedStills, Source, Still
from fanreel.remote.locations import WEB, check_allowed, scheme_of, shown_location
from fanreel.remote.s3_uri import S3Object, S3Uri, parse_s3_uri
from fanreel.settings import Settings

__all__ = ["fetch_sources", "fetch_stills", "load_job", "output_location"]

READERS = 4
"""Photos read and hashed at the same time; both release the interpreter lock, and disks like a few at once."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A photo that a job names.

    Attributes:
        location: An absolute path or a URI.
        listed: What a listing of its folder in S3 said about it.
    """

    location: str
    listed: S3Object | None = None


def load_job(path: Path) -> FilmJob:
    """Return the job in a YAML or JSON file; its relative paths start from the file's folder.

    Raises:
        InvalidJobError: The file cannot be read, is not YAML, or asks for what cannot be.
    """
    raw_job = read_raw_job(path)
    return parse_job({**raw_job, "base": str(base_folder(path, raw_job))})


def output_location(job: FilmJob, *, settings: Settings) -> str:
    """Return where the job's film goes, an absolute path or an S3 URI; in a folder the film is named after the folder.

    Raises:
        InvalidJobError: The path is relative and the job has no base, or names no film.
        NotAllowedError: It lies where this host's jobs may not publish.
    """
    if scheme_of(job.output):
        location = _film_in(parse_s3_uri(job.output), is_folder=job.output.endswith("/"))
    else:
        path = _absolute(job, job.output, key="output")
        check_allowed(str(path), settings=settings)
        location = path / f"{path.name}.mp4" if os.path.isdir(path) or job.output.endswith("/") else path  # noqa: PTH112
    if not str(location).endswith(".mp4"):
        raise InvalidJobError(f"output: {job.output!r} is not allowed; a file ending in .mp4, or a folder ending in /")
    check_allowed(str(location), settings=settings)
    return str(location)


def fetch_stills(job: SlideshowJob, *, settings: Settings) -> FetchedStills:
    """Return the job's slides in order, each with its photo read, hashed and measured.

    Where the job says so, photos that are missing or cannot be used are left out.

    Raises:
        NotAllowedError: Some lie where this host's jobs may not read; then no photo is left out for it.
        PhotoNotFoundError: Some do not exist; the message lists every bad photo.
        UnreadablePhotoError: All exist, some are no pictures; the message lists them.
        StorageError: A disk or a server fails; then no photo is left out for it.
    """
    slides = list(_slides(job, settings))
    names = {name.location: name for name, _ in slides}
    downloads = Downloads(settings)
    with ThreadPoolExecutor(READERS) as pool:
        read = pool.map(lambda name: _read(job, name, settings, downloads), names.values())
        results = dict(zip(names, read, strict=True))
    errors = [result for result in results.values() if isinstance(result, FanreelError)]
    sources = {location: result for location, result in results.items() if isinstance(result, Source)}
    if job.on_bad_photo is OnBadPhoto.FAIL or not sources or not all(map(_is_the_photo_s, errors)):
        _refuse_bad(errors, is_skipping=job.on_bad_photo is OnBadPhoto.SKIP and not sources)
    stills = tuple(_still(job, sources[name.location], slide) for name, slide in slides if name.location in sources)
    return FetchedStills(stills, left_out=tuple(map(str, errors)))


def _film_in(uri: S3Uri, *, is_folder: bool) -> S3Uri:
    return uri / f"{uri.name or uri.bucket}.mp4" if is_folder or not uri.key else uri


def _is_the_photo_s(error: FanreelError) -> bool:
    """Return whether an error is about the photo itself, not about a disk or a server: a film may do without it."""
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


def _slides(job: SlideshowJob, settings: Settings) -> Iterator[tuple[_Named, Slide | None]]:
    for slide in job.slides:
        name = slide.photo
        yield _Named(name if scheme_of(name) else str(_absolute(job, name, key="slides.photo"))), slide
    for entry in job.photos:
        for named in _expand(job, entry, settings):
            yield named, None


def _expand(job: SlideshowJob, name: str, settings: Settings) -> Sequence[_Named]:
    """Return the photos that an entry of `photos` names; if it names none, the entry itself: reading it fails."""
    scheme = scheme_of(name)
    if not scheme:
        return [_Named(str(path)) for path in _expand_path(job, name, settings)]
    if scheme != "s3" or not name.endswith("/"):
        return [_Named(name)]
    check_allowed(name, settings=settings)
    # Importing boto3 takes half a second, which a job without S3 must not wait for.
    from fanreel.remote.s3 import s3

    objects = [found for found in s3().list(parse_s3_uri(name)) if is_photo_name(found.uri.key)]
    objects.sort(key=lambda found: natural_order(found.uri.key))
    return [_Named(str(found.uri), found) for found in objects] or [_Named(name)]


def _expand_path(job: SlideshowJob, name: str, settings: Settings) -> Sequence[Path]:
    path = _absolute(job, name, key="photos")
    _check_pattern(job, name, settings)
    try:
        if path.is_dir():
            found = _photos_in(path)
        elif path.exists() or not glob.has_magic(name):
            found = [path]
        else:
            # Only the job's own text is a pattern; brackets in the name of the base folder are not.
            matches = glob.glob(_expand_user(name), root_dir=_base(job), recursive=True)  # noqa: PTH207
            found = [Path(os.path.normpath(_base(job) / match)) for match in matches]
        return sorted((inner for inner in found if not inner.is_dir()), key=_natural_order) or [path]
    except OSError:
        return [path]  # reading it raises the error


def _check_pattern(job: SlideshowJob, name: str, settings: Settings) -> None:
    """Raise `NotAllowedError` if a pattern would look into a folder that this host's jobs may not read."""
    if not settings.roots:
        return
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), Path(_expand_user(name)).parts))
    start = str(_base(job).joinpath(*fixed))
    for location in (start, os.path.normpath(start)):  # which differ if `..` comes after a link
        check_allowed(location, settings=settings)
    if len(fixed) < len(Path(name).parts) and ".." in Path(name).parts:
        raise NotAllowedError(
            f"{shown_location(name)}: a pattern with `..` is not allowed on this host (FANREEL_ROOTS)"
        )


def _photos_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if is_photo_name(path.name)]


def _natural_order(path: Path) -> NameOrder:
    return natural_order(str(path))


def _read(job: SlideshowJob, name: _Named, settings: Settings, downloads: Downloads) -> Source | FanreelError:
    """Return the photo, or the error that says why it cannot be used; errors of all photos are raised together."""
    location, path, shown = name.location, Path(name.location), shown_location(name.location)
    try:
        if scheme := scheme_of(location):
            path = downloads.fetch(location, listed=name.listed)
        else:
            check_allowed(location, settings=settings)
            if wrong := _refusal(job, path):
                return wrong
        photo = read_photo(path, max_megapixels=settings.max_photo_megapixels)
        # Many people see a plan, and the query of a web URL may be secret.
        return Source(photo, shown if scheme in WEB else location)
    except PermissionError as error:
        return UnreadablePhotoError(f"{shown}: {error.strerror}; let this user read it, or leave it out")
    except OSError as error:
        return storage_error(error, doing=f"read the photo {shown}")
    except FanreelError as error:
        # People know a download by its URL, not by its path here.
        return type(error)(str(error).replace(f"{shown_path(path)}: ", f"{shown}: ", 1))


def _refusal(job: SlideshowJob, path: Path) -> FanreelError | None:
    """Return why a path cannot be a photo, or None; the file is not read."""
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
    for kind in (NotAllowedError, PhotoNotFoundError):
        if any(isinstance(error, kind) for error in errors):
            raise kind(text)
    if all(isinstance(error, MediaError) for error in errors):
        raise UnreadablePhotoError(text)
    raise type(next(error for error in errors if not isinstance(error, MediaError)))(text)


def _absolute(job: FilmJob, name: str, *, key: str) -> Path:
    path = _expand_user(name)
    if not Path(path).is_absolute() and not job.base:
        raise InvalidJobError(f"{key}: {name!r} is relative; give `base`, the folder it starts from")
    absolute = Path(os.path.normpath(_base(job) / path))
    try:
        os.fsencode(absolute)
    except UnicodeEncodeError:
        message = f"{key}: {name!a}: this locale cannot show it; set PYTHONUTF8=1 and run it again"
        raise InvalidJobError(message) from None
    return absolute


def _base(job: FilmJob) -> Path:
    return Path(_expand_user(job.base)).absolute()


def _expand_user(name: str) -> str:
    """Return `name` with `~` as the home folder; unlike pathlib, with `~name` as it is if there is no such user."""
    return os.path.expanduser(name)  # noqa: PTH111


_FETCHERS: Mapping[FilmKind, Callable[..., FetchedSources]] = {FilmKind.SLIDESHOW: fetch_stills}


def fetch_sources(job: FilmJob, *, settings: Settings) -> FetchedSources:
    """Return what a job's names lead to, read and hashed.

    Raises:
        FanreelError: As the function for its kind of film does.
    """
    return _FETCHERS[job.film](job, settings=settings)
