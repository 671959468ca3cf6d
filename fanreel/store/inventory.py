"""Inventory of a store: its items, when each was last used, and which have to stay."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from fanreel.errors import SegmentDamagedError, StorageError
from fanreel.segments.record import SegmentRecord
from fanreel.store import names
from fanreel.store.files import StoredFile, StoredFiles, read_file
from fanreel.store.manifest import WORK_SECONDS, FilmManifest, manifest_from_json
from fanreel.store.seals import open_record

__all__ = ["Inventory", "Item", "Kind", "StoredFilm", "file_of_record", "open_segment", "take_inventory"]

READERS = 8


class Kind(StrEnum):
    """What an item of a store is."""

    SEGMENT = "segment"
    PHOTO = "photo"
    PLAN = "plan"
    MANIFEST = "manifest"
    DRAFT = "draft"
    ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class Item:
    """Files that are kept or removed together.

    Attributes:
        kind: What it is; an orphan is one half of a segment.
        digest: Address of a segment or a plan, digest of a photo, of a manifest the address of its plan.
        files: The files, the record of a segment first.
        used_at: Unix time at which it was last written, or a film that names it was begun.
        is_pinned: A film in work needs it.
    """

    kind: Kind
    digest: str
    files: tuple[StoredFile, ...]
    used_at: float
    is_pinned: bool = False

    @property
    def size_bytes(self) -> int:
        """Size of all its files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def written_at(self) -> float:
        """Unix time at which the newest of its files was written."""
        return max(file.modified_at for file in self.files)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all its files, the record of a segment first."""
        return tuple(file.name for file in self.files)


@dataclass(frozen=True, slots=True)
class StoredFilm:
    """A film that the store knows of.

    Attributes:
        manifest: What it needs.
        segments_there: How many of its segments the store has, by whichever encoder.
        is_in_work: Whether what it needs is pinned.
    """

    manifest: FilmManifest
    segments_there: int
    is_in_work: bool


@dataclass(frozen=True, slots=True)
class Inventory:
    """What lies in a store. Files with other names than a store's own are left out.

    Attributes:
        items: Everything.
        films: What is known of films, the last one begun first.
        unreadable: Names of fresh manifests that cannot be read: what they pin is not known.
        now: Unix time at which it was taken, by the store's clock.
    """

    items: tuple[Item, ...]
    films: tuple[StoredFilm, ...]
    unreadable: tuple[str, ...]
    now: float

    def of(self, *kinds: Kind) -> list[Item]:
        """Return the items of these kinds."""
        return [item for item in self.items if item.kind in kinds]


def take_inventory(files: StoredFiles) -> Inventory:
    """Return what lies in a store, from a list of its files and from its manifests.

    Raises:
        StorageError: The store cannot be listed or read.
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
    said = names.parse(name)
    if said is None:
        raise SegmentDamagedError(f"{name} is no segment's name")
    return open_record(text, address=said.digest, encoder=said.encoder)


def file_of_record(record: SegmentRecord, parts: Iterable[StoredFile]) -> StoredFile | None:
    """Return which of the files of a segment holds the payload of its record, or None if none does."""
    named = {part: names.parse(part.name) for part in parts}
    by_payload = {name.payload: part for part, name in named.items() if name and name.suffix == names.VIDEO}
    return by_payload.get("") or by_payload.get(record.payload_digest[: names.PAYLOAD_DIGITS])


def _read_manifests(files: StoredFiles) -> tuple[list[FilmManifest], list[StoredFile]]:
    """Return the manifests of a store, and the files of those that cannot be read."""

    def read(file: StoredFile) -> FilmManifest | StoredFile | None:
        name = names.parse(file.name)
        text = read_file(files, file.name) if name else None
        if name is None or text is None:
            return None
        try:
            return manifest_from_json(text, plan=name.digest)
        except StorageError:
            return file

    with ThreadPoolExecutor(READERS) as pool:
        read_all = list(pool.map(read, files.list(names.MANIFESTS)))
    manifests = [found for found in read_all if isinstance(found, FilmManifest)]
    return manifests, [found for found in read_all if isinstance(found, StoredFile)]


def _sort(files: StoredFiles, listed: Iterable[StoredFile]) -> Iterator[tuple[Kind, str, list[StoredFile]]]:
    """Yield the kind, the digest and the files of each item."""
    segments: dict[tuple[str, str], list[StoredFile]] = {}
    for file in listed:
        name = names.parse(file.name)
        if name is None:
            if file.name.startswith(f"{names.DRAFTS}/"):
                yield Kind.DRAFT, "", [file]
        elif name.folder == names.SEGMENTS:
            segments.setdefault((name.digest, name.encoder), []).append(file)
        else:
            yield _KINDS[name.folder], name.digest, [file]
    for (address, _), parts in segments.items():
        for kind, some in _part(files, parts):
            yield kind, address, some


def _part(files: StoredFiles, parts: list[StoredFile]) -> Iterator[tuple[Kind, list[StoredFile]]]:
    """Yield what the files of one address and encoder are: a segment, and videos that no record names."""
    records = [part for part in parts if part.name.endswith(names.RECORD)]
    videos = [part for part in parts if part.name.endswith(names.VIDEO)]
    if not records or not videos:
        yield Kind.ORPHAN, parts
        return
    if len(videos) > 1:
        # Two writers put the segment at once: the record that stayed says whose video counts.
        text = read_file(files, records[0].name)
        live = None
        with contextlib.suppress(SegmentDamagedError):
            live = file_of_record(open_segment(text or b"", name=records[0].name), videos)
        if live is not None:
            yield Kind.ORPHAN, [video for video in videos if video is not live]
            videos = [live]
    yield Kind.SEGMENT, records + videos


_KINDS = {names.PHOTOS: Kind.PHOTO, names.PLANS: Kind.PLAN, names.MANIFESTS: Kind.MANIFEST}
