"""Fetch: from the names in a job to photos that are known by their content."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Mapping, Sequence
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
)
from fanreel.intake.downloads import Downloads
from fanreel.intake.examinations import Examinations, open_examinations
from fanreel.intake.job_file import base_folder, read_raw_job
from fanreel.intake.listing import Listing, NamedPhoto, one_of_each_pair, why_unread
from fanreel.intake.local_photos import list_local, name_local, reading_error
from fanreel.intake.paths import absolute_path, base_of
from fanreel.intake.s3_photos import list_s3, name_s3
from fanreel.job.film import FilmJob, FilmKind
from fanreel.job.parse import parse_job
from fanreel.job.slideshow import OnBadPhoto, Pairs, Slide, SlideshowJob
from fanreel.plan.content import Photo
from fanreel.plan.kinds import FetchedSources
from fanreel.plan.slideshow import FetchedStills, Source, Still
from fanreel.printable import printable
from fanreel.remote.locations import WEB, check_allowed, scheme_of, shown_location
from fanreel.remote.s3_uri import S3Uri, parse_s3_uri
from fanreel.settings import Settings

__all__ = ["fetch_sources", "fetch_stills", "load_job", "output_location"]

READERS = 4
"""Photos read, hashed and examined at the same time; all release the interpreter lock; disks like a few at once."""


@dataclass(frozen=True, slots=True)
class _Slides:
    """The slides that a job asks for.

    Attributes:
        named: Each slide's photo, and its own settings if it has some.
        left_out: What lies beside the photos and is not shown, one line each.
        notes: How they were chosen, one line each.
    """

    named: tuple[tuple[NamedPhoto, Slide | None], ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


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
        path = absolute_path(job, job.output, key="output")
        check_allowed(str(path), settings=settings)
        location = path / f"{path.name}.mp4" if os.path.isdir(path) or job.output.endswith("/") else path  # noqa: PTH112
    if not str(location).lower().endswith(".mp4"):
        raise InvalidJobError(f"output: {job.output!r} is not allowed; a file ending in .mp4, or a folder ending in /")
    check_allowed(str(location), settings=settings)
    return str(location)


def fetch_stills(job: SlideshowJob, *, settings: Settings) -> FetchedStills:
    """Return the job's slides in order, each with its photo read, hashed and examined.

    Where the job says so, photos that are missing or cannot be used are left out.

    Raises:
        NotAllowedError: Some lie where this host's jobs may not read; then no photo is left out for it.
        PhotoNotFoundError: Some do not exist; the message lists every bad photo.
        UnreadablePhotoError: All exist, some are no pictures; the message lists them.
        StorageError: A disk or a server fails; then no photo is left out for it.
    """
    slides = _slides(job, settings)
    names = {name.location: name for name, _ in slides.named}
    downloads = Downloads(settings)
    with open_examinations(settings) as examinations, ThreadPoolExecutor(READERS) as pool:
        read = pool.map(lambda name: _read(job, name, settings, downloads, examinations), names.values())
        results = dict(zip(names, read, strict=True))
    errors = [result for result in results.values() if isinstance(result, FanreelError)]
    sources = {location: result for location, result in results.items() if isinstance(result, Source)}
    if job.on_bad_photo is OnBadPhoto.FAIL or not sources or not all(map(_is_the_photo_s, errors)):
        _refuse_bad(errors, is_skipping=job.on_bad_photo is OnBadPhoto.SKIP and not sources)
    stills = [_still(job, sources[name.location], slide) for name, slide in slides.named if name.location in sources]
    notes = (
        *slides.notes,
        *map(_preview_note, filter(_is_preview, sources.values())),
        *(note for source in sources.values() for note in source.notes),
    )
    return FetchedStills(tuple(stills), (*slides.left_out, *map(str, errors)), notes)


def _film_in(uri: S3Uri, *, is_folder: bool) -> S3Uri:
    return uri / f"{uri.name or uri.bucket}.mp4" if is_folder or not uri.key else uri


def _is_the_photo_s(error: FanreelError) -> bool:
    """Return whether an error is about the photo itself, not about a disk or a server: a film may do without it."""
    return isinstance(error, PhotoNotFoundError | MediaError)


def _still(job: SlideshowJob, source: Source, slide: Slide | None) -> Still:
    if slide is None:
        return Still(source, job.seconds_per_slide, job.move, fit=job.fit)
    return Still(
        source,
        seconds=slide.seconds or job.seconds_per_slide,
        move=slide.move or job.move,
        views=(tuple(slide.start), tuple(slide.end)) if slide.start else (),
        fit=slide.fit or job.fit,
    )


def _slides(job: SlideshowJob, settings: Settings) -> _Slides:
    named = [(_name(job, slide.photo, settings), slide) for slide in job.slides]
    listings, notes = [_list(job, entry, settings) for entry in job.photos], ()
    if job.pairs is Pairs.ONE:
        listings, notes = one_of_each_pair(listings)
    found = [(photo, None) for listing in listings for photo in listing.photos]
    left_out = [line for listing in listings for line in (*why_unread(listing.unread), *listing.left_out)]
    return _Slides((*named, *found), tuple(dict.fromkeys(left_out)), notes)


def _name(job: SlideshowJob, name: str, settings: Settings) -> NamedPhoto:
    scheme = scheme_of(name)
    if scheme == "s3":
        return name_s3(name, settings=settings)
    return NamedPhoto(name) if scheme else name_local(job, name, settings=settings)


def _list(job: SlideshowJob, entry: str, settings: Settings) -> Listing:
    scheme = scheme_of(entry)
    if scheme == "s3":
        return list_s3(entry, settings=settings)
    return Listing((NamedPhoto(entry),)) if scheme else list_local(job, entry, settings=settings)


def _read(
    job: SlideshowJob, name: NamedPhoto, settings: Settings, downloads: Downloads, examinations: Examinations
) -> Source | FanreelError:
    """Return the photo, or the error that says why it cannot be used; errors of all photos are raised together."""
    location, path, shown = name.location, Path(name.location), shown_location(name.location)
    if name.error:
        return name.error
    try:
        if scheme := scheme_of(location):
            path = downloads.fetch(location, listed=name.listed)
        else:
            check_allowed(location, settings=settings)
            if wrong := _refusal(job, path):
                return wrong
        found = examinations.examine(path)
        if wrong := _small_preview(job, found.photo, shown):
            return wrong
        # Many people see a plan, and the query of a web URL may be secret.
        return Source(found.photo, shown if scheme in WEB else location, tuple(f"{shown}: {n}" for n in found.notes))
    except OSError as error:
        return reading_error(error, shown)
    except FanreelError as error:
        # People know a download by its URL, not by its path here.
        return type(error)(str(error).replace(f"{printable(path)}: ", f"{shown}: ", 1))


def _refusal(job: SlideshowJob, path: Path) -> FanreelError | None:
    """Return why a path cannot be a photo, or None; the file is not read."""
    shown = printable(path)
    if os.fsencode(path).decode(errors="backslashreplace") != str(path):
        return UnreadablePhotoError(f"{shown}: the name is not UTF-8, so that no plan can hold it; rename the file")
    if path.is_dir():
        return PhotoNotFoundError(f"{shown}: a folder, where one file is asked for")
    if path.is_file():
        return None
    if path.exists():
        return PhotoNotFoundError(f"{shown}: a device or a pipe, not a file")
    is_pattern = glob.has_magic(str(path).removeprefix(str(base_of(job))))
    return PhotoNotFoundError(f"{shown}: {'matches no file' if is_pattern else 'no such file'}")


def _small_preview(job: SlideshowJob, photo: Photo, shown: str) -> FanreelError | None:
    """Return why a RAW photo's preview cannot stand for it, or None: each side has to be half of the film's."""
    sides, film = sorted((photo.width_px, photo.height_px)), sorted((job.width_px, job.height_px))
    if not photo.preview_of or all(2 * side >= of for side, of in zip(sides, film, strict=True)):
        return None
    return UnreadablePhotoError(
        f"{shown}: a RAW photo ({photo.preview_of}) whose largest preview is {photo.width_px}x{photo.height_px};"
        " develop it to JPEG or TIFF"
    )


def _is_preview(source: Source) -> bool:
    return bool(source.photo.preview_of)


def _preview_note(source: Source) -> str:
    photo = source.photo
    return (
        f"{shown_location(source.path)}: a RAW photo ({photo.preview_of}), shown by the preview in it of"
        f" {photo.width_px}x{photo.height_px}"
    )


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


_FETCHERS: Mapping[FilmKind, Callable[..., FetchedSources]] = {FilmKind.SLIDESHOW: fetch_stills}


def fetch_sources(job: FilmJob, *, settings: Settings) -> FetchedSources:
    """Return what a job's names lead to, read and hashed.

    Raises:
        FanreelError: As the function for its kind of film does.
    """
    return _FETCHERS[job.film](job, settings=settings)
