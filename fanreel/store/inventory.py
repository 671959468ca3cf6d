"""Inventory: what lies in a store, what it belongs to, when it was last used and what has to stay."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from fanreel.errors import SegmentDamagedError, StorageError
from fanreel.segments.record import SegmentRecord
from fanreel.store.files import DRAFTS, StoredFile, StoredFiles
from fanreel.store.manifest import WORK_SECONDS, FilmManifest, manifest_from_json
from fanreel.store.seals import open_record

__all__ = ["DIGITS", "Inventory", "Item", "Kind", "StoredFilm", "film_of", "open_segment", "take_inventory"]

READERS = 8

DIGITS = 16
"""Of the payload's digest in the name of a film in an object store."""

_NAMES = {
    "segment": re.compile(r"segments/[0-9a-f]{2}/([0-9a-f]{64})\.([a-z0-9-]+)(?:\.([0-9a-f]{16}))?\.(mp4|json)"),
    "photo": re.compile(r"photos/[0-9a-f]{2}/([0-9a-f]{64})"),
    "plan": re.compile(r"plans/([0-9a-f]{64})\.json"),
    "film": re.compile(r"films/([0-9a-f]{64})\.json"),
}


class Kind(StrEnum):
    """What an item of a store is."""

    SEGMENT = "segment"
    PHOTO = "photo"
    PLAN = "plan"
    FILM = "film"
    DRAFT = "draft"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Item:
    """What is kept or removed as one.

    Attributes:
        kind: What it is: of a film the manifest; an orphan is one half of a segment.
        digest: Of a segment or a plan the address, of a photo its digest, of a film its plan's address.
        files: All of it, the record of a segment first.
        used_at: Unix time at which it was last written, or a film was begun that names it.
        is_pinned: A film in work needs it.
    """

    kind: Kind
    digest: str
    files: tuple[StoredFile, ...]
    used_at: float
    is_pinned: bool = False

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def written_at(self) -> float:
        """Unix time at which the newest of its files was written."""
        return max(file.modified_at for file in self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its files, the record of a segment first."""
        return tuple(file.name for file in self.files)


@dataclass(frozen=True, slots=True)
class StoredFilm:
    """A film that the store knows of.

    Attributes:
        manifest: What it needs.
        segments_there: How many of its segments are there, made by whichever encoder.
        is_in_work: It pins what it needs.
    """

    manifest: FilmManifest
    segments_there: int
    is_in_work: bool


@dataclass(frozen=True, slots=True)
class Inventory:
    """What lies in a store. Files of other names than ours are nobody's business here.

    Attributes:
        items: All of it.
        films: What is known of films, the last one begun first.
        unreadable: Names of manifests that cannot be read, so that what they pin is not known.
        now: When it was taken, by the store's clock.
    """

    items: tuple[Item, ...]
    films: tuple[StoredFilm, ...]
    unreadable: tuple[str, ...]
    now: float

    def of(self, *kinds: Kind) -> list[Item]:
        """Return the items of these kinds."""
        return [item for item in self.items if item.kind in kinds]


def take_inventory(files: StoredFiles) -> Inventory:
    """Return what lies in a store. Lists it, and reads the manifests of films.

    Raises:
        StorageError: It cannot be listed or read.
    """
    now = files.now()
    listed = list(files.list())
    # After the list: a film that is begun meanwhile pins what the list shows.
    manifests, unreadable = _read_manifests(files)
    begun: dict[str, float] = {}
    pinned: set[str] = set()
    for manifest in manifests:
        needed = (manifest.plan, *manifest.segments, *manifest.photos)
        begun |= {digest: max(manifest.begun_at, begun.get(digest, 0.0)) for digest in needed}
        if manifest.is_in_work(now):
            pinned |= set(needed)
    items = tuple(
        Item(
            kind,
            digest,
            tuple(parts),
            used_at=max(*(file.modified_at for file in parts), begun.get(digest, 0.0)),
            is_pinned=digest in pinned and kind is not Kind.ORPHAN,
        )
        for kind, digest, parts in _sort(files, listed)
    )
    there = {item.digest for item in items if item.kind is Kind.SEGMENT}
    films = [
        StoredFilm(film, sum(address in there for address in film.segments), film.is_in_work(now))
        for film in sorted(manifests, key=lambda film: -film.begun_at)
    ]
    fresh = tuple(file.name for file in unreadable if now - file.modified_at < WORK_SECONDS)
    return Inventory(items, tuple(films), fresh, now)


def open_segment(text: bytes, *, name: str) -> SegmentRecord:
    """Return the record that the file of this name holds.

    Raises:
        SegmentDamagedError: It holds none, or another segment's.
    """
    match = _match("segment", name)
    if match is None:
        raise SegmentDamagedError(f"{name} is no segment's name")
    return open_record(text, address=match[1], encoder=match[2])


def film_of(record: SegmentRecord, parts: Sequence[StoredFile]) -> StoredFile | None:
    """Return which of the files of a segment is the film of its record, or None if none is."""
    films = {match[3]: part for part in parts if (match := _match("segment", part.name)) and match[4] == "mp4"}
    return films.get(None) or films.get(record.payload_digest[:DIGITS])


def _match(kind: str, name: str) -> re.Match[str] | None:
    return _NAMES[kind].fullmatch(name)


def _read_manifests(files: StoredFiles) -> tuple[list[FilmManifest], list[StoredFile]]:
    def read(file: StoredFile) -> FilmManifest | StoredFile | None:
        match = _match("film", file.name)
        pieces = files.pieces(file.name) if match else None
        if match is None or pieces is None:
            return None
        text = b"".join(pieces)
        try:
            return manifest_from_json(text, plan=match[1])
        except StorageError:
            return file

    with ThreadPoolExecutor(READERS) as pool:
        read_all = list(pool.map(read, files.list("films")))
    manifests = [found for found in read_all if isinstance(found, FilmManifest)]
    return manifests, [found for found in read_all if isinstance(found, StoredFile)]


def _sort(files: StoredFiles, listed: Iterable[StoredFile]) -> Iterator[tuple[Kind, str, list[StoredFile]]]:
    """Yield the items that the files are, with their digests."""
    segments: dict[tuple[str, str], list[StoredFile]] = {}
    simple: Mapping[str, Kind] = {"photo": Kind.PHOTO, "plan": Kind.PLAN, "film": Kind.FILM}
    for file in listed:
        if match := _match("segment", file.name):
            segments.setdefault((match[1], match[2]), []).append(file)
        elif file.name.startswith(f"{DRAFTS}/"):
            yield Kind.DRAFT, "", [file]
        else:
            for kind_name, kind in simple.items():
                if match := _match(kind_name, file.name):
                    yield kind, match[1], [file]
    for (address, _), parts in segments.items():
        for kind, some in _part(files, parts):
            yield kind, address, some


def _part(files: StoredFiles, parts: list[StoredFile]) -> Iterator[tuple[Kind, list[StoredFile]]]:
    """Yield what the files of one address and encoder are: a segment, and films that no record is of."""
    records = [part for part in parts if part.name.endswith(".json")]
    films = [part for part in parts if part.name.endswith(".mp4")]
    if not records or not films:
        yield Kind.ORPHAN, parts
        return
    if len(films) > 1:
        # Two writers made it at once: one request more tells whose record stayed.
        pieces = files.pieces(records[0].name)
        live = None
        with contextlib.suppress(SegmentDamagedError):
            live = film_of(open_segment(b"".join(pieces or ()), name=records[0].name), films)
        if live is not None:
            yield Kind.ORPHAN, [film for film in films if film is not live]
            films = [live]
    yield Kind.SEGMENT, records + films
