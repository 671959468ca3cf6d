"""An inbox's films: which job each sub-folder asks for, whether its film is done, and making those that are not."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from blake3 import blake3

from fanreel.batches.inbox import CompleteWhen, InboxFolder, list_inbox, reason_to_wait
from fanreel.batches.inbox_job import folder_base, name_photos, read_inbox_raw_job
from fanreel.batches.inbox_records import FilmRecords, film_size, open_records
from fanreel.errors import FanreelError, InvalidJobError, storage_error
from fanreel.intake.paths import one_spelling
from fanreel.intake.sources import output_location
from fanreel.job.film import FilmJob
from fanreel.job.machines import gather_machines
from fanreel.job.parse import parse_job
from fanreel.printable import printable
from fanreel.remote.locations import check_allowed, scheme_of
from fanreel.remote.s3_uri import parse_s3_uri
from fanreel.settings import Settings

__all__ = [
    "FilmState",
    "InboxFilm",
    "InboxOrder",
    "InboxRow",
    "content_digest",
    "is_done",
    "look_into_inbox",
    "order_inbox",
    "path_below",
    "row_of_broken_film",
]

LOOKERS = 8
"""Sub-folders looked into at the same time: for each, its note and its film are looked up, perhaps in S3."""

NOT_IN_THE_PICTURE = frozenset({"base", "output", "overwrite", "machines"})
"""Keys of a job that decide where and how fast a film is made, but not what it shows."""


class FilmState(StrEnum):
    """State of a sub-folder's film."""

    TO_MAKE = "to be made"
    RENDERED = "rendered"
    DONE = "done before"
    WAITING = "waiting"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class InboxOrder:
    """How an inbox is looked into.

    Attributes:
        inbox: Absolute folder, or ``s3://bucket/prefix``, without a slash at its end.
        films: The same, for films whose job has no output.
        marker: Name of the file that says that a sub-folder is complete.
        complete_when: What counts as complete.
        quiet_seconds: For how long nothing in it must have changed.
        render_on: As in the job, for sub-folders whose own does not say.
    """

    inbox: str
    films: str
    marker: str = ".ready"
    complete_when: CompleteWhen = CompleteWhen.EITHER
    quiet_seconds: float = 60.0
    render_on: tuple[str, ...] = ("here",)


@dataclass(frozen=True, slots=True)
class InboxFilm:
    """What a sub-folder asks for.

    Attributes:
        folder: The sub-folder.
        job: Its job.
        output: Where the film goes.
        job_digest: Digest of the keys of its job that decide what the film shows.
    """

    folder: InboxFolder
    job: FilmJob
    output: str
    job_digest: str


@dataclass(frozen=True, slots=True)
class InboxRow:
    """What became of a sub-folder, as people see it.

    Attributes:
        name: Its name, as it can be printed.
        state: State of its film.
        detail: Where the film is, or why there is none.
        notes: Further lines for its owner.
        film: What it asks for; None if that cannot be read.
        error: Why no film can be made of it; None if one can.
    """

    name: str
    state: FilmState
    detail: str
    notes: tuple[str, ...] = ()
    film: InboxFilm | None = None
    error: FanreelError | None = None

    def __str__(self) -> str:
        """Return the row as text."""
        return f"{self.state:<11} {self.name}  {self.detail}"


def order_inbox(
    inbox: str,
    *,
    films: str = "",
    marker: str = ".ready",
    complete_when: CompleteWhen = CompleteWhen.EITHER,
    quiet_seconds: float = 60.0,
    render_on: str = "here",
) -> InboxOrder:
    """Return how an inbox is looked into, from what a person wrote; see `InboxOrder`.

    Args:
        inbox: Absolute folder, or ``s3://bucket/prefix/``.
        films: The same; beside the sub-folders if empty.
        marker: Name of a file.
        complete_when: What counts as complete.
        quiet_seconds: For how long nothing must have changed.
        render_on: ``here``, or pools with commas between them.

    Raises:
        InvalidJobError: A value is not allowed.
    """
    if not marker or "/" in marker or marker in (".", ".."):
        raise InvalidJobError(f"ready: {marker!r} is not allowed; the name of a file, such as .ready")
    pools = [pool.strip() for pool in render_on.split(",")]
    try:
        checked = parse_job({"photos": ["."], "output": "film.mp4", "render_on": pools})
    except InvalidJobError as error:  # it is no key of `machines` here
        raise InvalidJobError(str(error).removeprefix("machines.")) from None
    location = _normalized(inbox, key="inbox")
    return InboxOrder(
        location,
        _normalized(films, key="output") if films else location,
        marker=marker,
        complete_when=complete_when,
        quiet_seconds=quiet_seconds,
        render_on=tuple(checked.machines.render_on),
    )


def look_into_inbox(order: InboxOrder, *, settings: Settings) -> tuple[list[InboxRow], tuple[str, ...]]:
    """Return a row for each sub-folder, and why other things in the inbox were not looked into.

    Raises:
        InvalidJobError: There is no such inbox.
        NotAllowedError: The inbox or the films lie outside of the host's roots.
        StorageError: The inbox cannot be read.
    """
    for location in (order.inbox, order.films):
        check_allowed(f"{location}/", settings=settings)
    found, records = list_inbox(order.inbox), open_records(order.films)
    folders = [folder for folder in found.folders if folder.location != order.films]
    with ThreadPoolExecutor(LOOKERS) as pool:
        rows = list(pool.map(lambda folder: _judge(folder, order, records, settings, found.seen_at), folders))
    return _refuse_shared_outputs(rows), found.ignored


def _normalized(text: str, *, key: str) -> str:
    if scheme_of(text) == "s3":
        return str(parse_s3_uri(text))
    path = Path(os.path.expanduser(text))  # noqa: PTH111
    if scheme_of(text) or not path.is_absolute():
        raise InvalidJobError(f"{key}: {text!r} is not allowed; an absolute folder, or s3://bucket/prefix/")
    return os.path.normpath(path)


def _judge(folder: InboxFolder, order: InboxOrder, records: FilmRecords, settings: Settings, now: float) -> InboxRow:
    row = InboxRow(printable(Path(folder.name)), FilmState.TO_MAKE, "", notes=_notes(folder))
    waits = reason_to_wait(
        folder,
        marker=order.marker,
        complete_when=order.complete_when,
        quiet_seconds=order.quiet_seconds,
        now=now,
    )
    try:
        _refuse_unreadable(folder)
        film = _read_film(folder, order, settings)
        if film is None:
            return _without_photos(row, folder, order)
        if is_done(film, records, order):
            return replace(row, state=FilmState.DONE, detail=printable(film.output), film=film)
    except FanreelError as error:
        # Perhaps only a part of the job file has arrived yet.
        return replace(row, state=FilmState.WAITING, detail=waits) if waits else row_of_broken_film(row, error)
    if waits:
        return replace(row, state=FilmState.WAITING, detail=waits, film=film)
    return replace(row, detail=printable(film.output), film=film)


def row_of_broken_film(row: InboxRow, error: FanreelError) -> InboxRow:
    """Return the row of a sub-folder whose film cannot be made because of `error`."""
    return replace(row, state=FilmState.BROKEN, detail=str(error), error=error)


def _notes(folder: InboxFolder) -> tuple[str, ...]:
    audio = [f"{printable(name)}: not used yet; films have no sound so far" for name in folder.audio]
    return (*folder.ignored, *audio)


def _refuse_unreadable(folder: InboxFolder) -> None:
    if folder.refused:
        raise InvalidJobError(folder.refused)
    for name in (folder.name, *folder.photos):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InvalidJobError(f"{printable(Path(name))}: the name is not UTF-8; rename it") from None


def _without_photos(row: InboxRow, folder: InboxFolder, order: InboxOrder) -> InboxRow:
    nested = any(file.is_photo for file in folder.files)
    detail = "no photos in it" + ("; those in its folders belong to the film if a job.yaml says so" if nested else "")
    if order.complete_when is not CompleteWhen.QUIET and folder.holds(order.marker):
        return row_of_broken_film(
            row, InvalidJobError(f"{order.marker} says that it is complete, and there are {detail}")
        )
    return replace(row, state=FilmState.WAITING, detail=detail)


def _read_film(folder: InboxFolder, order: InboxOrder, settings: Settings) -> InboxFilm | None:
    """Return what a sub-folder asks for; None if it has no photos and its job file names none."""
    raw_job = read_inbox_raw_job(folder)
    names_photos = bool(raw_job.get("photos") or raw_job.get("slides"))
    if not names_photos and not folder.photos:
        return None
    usual = {"output": f"{order.films}/{folder.name}.mp4"}
    raw_job = gather_machines(raw_job, render_on=list(order.render_on))
    own = {} if names_photos else {"photos": name_photos(folder)}
    try:
        job = parse_job({**usual, **raw_job, **own, "base": folder_base(folder, raw_job)})
    except InvalidJobError as error:
        raise InvalidJobError(f"{''.join(folder.job_files)}: {error}" if folder.job_files else str(error)) from None
    # Defaults are left out: a later release whose jobs have one more key must not make all films again.
    left_out = NOT_IN_THE_PICTURE if names_photos else NOT_IN_THE_PICTURE | {"photos"}
    shown = job.model_dump_json(exclude=set(left_out), exclude_defaults=True)
    try:
        output = output_location(job, settings=settings)
    except OSError as error:  # such as a name that is too long
        raise storage_error(error, doing=f"publish {job.output}") from None
    return InboxFilm(folder, job, output, blake3(shown.encode()).hexdigest())


def is_done(film: InboxFilm, records: FilmRecords, order: InboxOrder) -> bool:
    """Return whether the film of exactly these photos and this job is published.

    A film that was deleted or overwritten is not. Photos that were merely copied again are recognized by their bytes.
    """
    made = records.read(film.folder.name)
    if made is None or (made.film, made.job_digest) != (path_below(order.films, film.output), film.job_digest):
        return False
    if film_size(film.output) != made.size_bytes:
        return False
    listing = film.folder.listing_digest()
    if made.listing != listing and made.content and made.content == content_digest(film.folder):
        records.write(film.folder.name, replace(made, listing=listing))
        return True
    return made.listing == listing


def content_digest(folder: InboxFolder) -> str:
    """Return a digest of its photos' names and bytes; empty if one cannot be read: rendering raises the error."""
    whole = blake3()
    for photo in (file for file in folder.files if file.is_photo):
        digest = photo.etag or _file_digest(Path(folder.location, photo.name))
        if not digest:
            return ""
        whole.update(f"{photo.name} {photo.size_bytes} {digest}\n".encode())
    return whole.hexdigest()


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb", buffering=0) as file:
            return hashlib.file_digest(file, blake3).hexdigest()  # pyright: ignore[reportArgumentType]
    except OSError:
        return ""


def path_below(films: str, film: str) -> str:
    """Return the location of a film relative to that of the inbox's films, if it lies in there."""
    return film.removeprefix(f"{films}/")


def _refuse_shared_outputs(rows: list[InboxRow]) -> list[InboxRow]:
    first: dict[str, str] = {}
    for index, row in enumerate(rows):
        if row.film is None:
            continue
        owner = first.setdefault(one_spelling(row.film.output), row.name)
        if owner != row.name:
            message = f"output: {printable(row.film.output)} is the film of {owner} too; give each its own"
            rows[index] = row_of_broken_film(row, InvalidJobError(message))
    return rows
