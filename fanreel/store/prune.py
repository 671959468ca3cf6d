"""Prune a store: remove what was not used for long, or is too much."""

from __future__ import annotations

from dataclasses import dataclass

from fanreel.errors import StorageError
from fanreel.store.files import StoredFiles
from fanreel.store.inventory import Inventory, Item, Kind, take_inventory
from fanreel.store.workspace import DRAFT_SECONDS

__all__ = ["FRESH_SECONDS", "Pruned", "choose_items", "prune_store"]

FRESH_SECONDS = 3600.0
"""Younger items stay: a run may be writing the other half of one."""

UPLOAD_SECONDS = 86_400.0
"""An upload that has not ended after so long belongs to a run that died."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed, or would be.

    Attributes:
        removed: The items.
        kept_bytes: Size of what is left.
        over_bytes: How much of that is over the bound, because it is pinned or fresh.
        uploads: How many uploads that never ended were removed.
    """

    removed: tuple[Item, ...]
    kept_bytes: int
    over_bytes: int
    uploads: int

    @property
    def removed_bytes(self) -> int:
        """Size of what was removed."""
        return sum(item.size_bytes for item in self.removed)


def prune_store(
    files: StoredFiles, *, older_seconds: float | None = None, max_bytes: int | None = None, dry_run: bool = False
) -> Pruned:
    """Remove items not used for so long, then the least recently used until the rest is small enough.

    What a film in work needs stays, and so does what is younger than an hour. A film that is begun while this runs
    may lose segments that it counted on; it renders them again.

    Args:
        files: All files of a store.
        older_seconds: Items not used for longer are removed; None removes none for their age.
        max_bytes: How much may be left; None for any amount.
        dry_run: Only say what would be removed.

    Raises:
        StorageError: The store cannot be read or written, or a manifest is damaged, so that its pins are not known.
    """
    inventory = take_inventory(files)
    if inventory.unreadable:
        names = ", ".join(inventory.unreadable[:3])
        raise StorageError(
            f"{files}: {names}: what this film needs cannot be read, so that nothing is removed; "
            "`fanreel store verify --discard` removes the manifest"
        )
    chosen = choose_items(inventory, older_seconds=older_seconds, max_bytes=max_bytes)
    kept_bytes = sum(item.size_bytes for item in inventory.items) - sum(item.size_bytes for item in chosen)
    uploads = 0
    if not dry_run:
        # Records first: without one a segment does not exist, so no record is ever left without its video.
        files.remove(*(item.names[0] for item in chosen))
        files.remove(*(name for item in chosen for name in item.names[1:]))
        uploads = files.sweep(older_seconds=UPLOAD_SECONDS)
    return Pruned(tuple(chosen), kept_bytes, max(0, kept_bytes - max_bytes) if max_bytes is not None else 0, uploads)


def choose_items(inventory: Inventory, *, older_seconds: float | None, max_bytes: int | None) -> list[Item]:
    """Return what `prune_store` removes, the least recently used first."""
    free = [
        item
        for item in sorted(inventory.items, key=lambda item: item.used_at)
        if not item.is_pinned and inventory.now - item.written_at >= FRESH_SECONDS
    ]
    published = {film.manifest.plan for film in inventory.films if film.manifest.published_at}
    chosen = [item for item in free if _is_over(item, inventory.now, older_seconds, published)]
    if max_bytes is not None:
        gone = set(map(id, chosen))
        kept_bytes = sum(item.size_bytes for item in inventory.items if id(item) not in gone)
        for item in free:
            if kept_bytes <= max_bytes:
                break
            if id(item) not in gone and item.kind in (Kind.SEGMENT, Kind.PHOTO):
                chosen.append(item)
                kept_bytes -= item.size_bytes
    return chosen


def _is_over(item: Item, now: float, older_seconds: float | None, published: set[str]) -> bool:
    """Return whether an item that nothing pins is to be removed for its age."""
    idle_seconds = now - item.used_at
    if item.kind is Kind.ORPHAN:
        return True
    if item.kind is Kind.DRAFT:
        return idle_seconds >= DRAFT_SECONDS
    if item.kind is Kind.MANIFEST and item.digest not in published:
        return True  # its film was given up: it pins nothing
    return older_seconds is not None and idle_seconds >= older_seconds
