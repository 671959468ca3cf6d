"""Check of a store: every file is read and compared with its digest."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from blake3 import blake3

from fanreel.errors import SegmentDamagedError, StorageAwayError, StorageError
from fanreel.store import names
from fanreel.store.files import StoredFiles
from fanreel.store.inventory import Item, Kind, file_of_record, open_segment, take_inventory
from fanreel.store.manifest import manifest_from_json
from fanreel.store.seals import check_segment

__all__ = ["Checked", "DamagedItem", "check_store", "discard_items"]

READERS = 4


@dataclass(frozen=True, slots=True)
class DamagedItem:
    """An item that is not as it was written; as text, a line for people."""

    item: Item
    reason: str

    def __str__(self) -> str:
        """Return its name and what is wrong with it."""
        return f"{self.item.names[0]}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found.

    Attributes:
        item_count: Items read.
        size_bytes: Size of all of them.
        damaged: Those that are not as they were written.
    """

    item_count: int
    size_bytes: int
    damaged: tuple[DamagedItem, ...]


def check_store(files: StoredFiles) -> Checked:
    """Read every segment, photo, plan and manifest and check it. An item that is removed meanwhile is not damaged.

    Raises:
        StorageError: The store cannot be read.
    """
    inventory = take_inventory(files)
    items = inventory.of(Kind.SEGMENT, Kind.PHOTO, Kind.PLAN, Kind.MANIFEST)
    # A segment's file without a record may be one that is being put; a record without a file never is.
    items += [item for item in inventory.of(Kind.ORPHAN) if item.names[0].endswith(names.RECORD)]
    with ThreadPoolExecutor(READERS) as pool:
        reasons = list(pool.map(lambda item: _find_damage(files, item), items))
    damaged = tuple(DamagedItem(item, reason) for item, reason in zip(items, reasons, strict=True) if reason)
    return Checked(len(items), sum(item.size_bytes for item in items), damaged)


def discard_items(files: StoredFiles, damaged: tuple[DamagedItem, ...]) -> None:
    """Remove damaged items, records first, so that each is made anew when it is next needed."""
    files.remove(*(found.item.names[0] for found in damaged))
    files.remove(*(name for found in damaged for name in found.item.names[1:]))


def _find_damage(files: StoredFiles, item: Item) -> str:
    """Return what is wrong with an item, or nothing."""
    pieces = files.pieces(item.names[0])
    if pieces is None:
        return ""
    try:
        if item.kind in (Kind.SEGMENT, Kind.ORPHAN):
            _check_segment(files, item, b"".join(pieces))
        elif item.kind is Kind.MANIFEST:
            manifest_from_json(b"".join(pieces), plan=item.digest)
        elif _digest(pieces) != item.digest:
            return "holds other bytes than its name says"
    except StorageAwayError:
        raise
    except (SegmentDamagedError, StorageError) as error:
        if item.kind is not Kind.MANIFEST and isinstance(error, StorageError):
            raise
        return str(error)
    return ""


def _check_segment(files: StoredFiles, item: Item, text: bytes) -> None:
    record = open_segment(text, name=item.names[0])
    file = file_of_record(record, item.files)
    pieces = files.pieces(file.name) if file is not None else None
    if pieces is not None:
        check_segment(record, pieces)
    elif files.pieces(item.names[0]) is not None:  # else both were removed since they were listed
        raise SegmentDamagedError("its video is missing")


def _digest(pieces: Iterator[bytes]) -> str:
    digest = blake3()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
