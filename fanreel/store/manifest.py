"""A film's manifest: what the film needs of the store, which is not pruned while the film is in work."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from fanreel.errors import StorageError
from fanreel.plan.film import FilmPlan, plan_digest
from fanreel.remote.locations import shown_location

__all__ = ["FilmManifest", "manifest_from_json", "manifest_of", "manifest_to_json"]

WORK_SECONDS = 7 * 86_400.0
"""A film that is not published after so long belongs to a run that died, and pins nothing any more."""


@dataclass(frozen=True, slots=True)
class FilmManifest:
    """What a film needs of the store.

    Attributes:
        plan: Address of its plan.
        name: What people call it.
        output: Where it goes, for people: without credentials, printable.
        segments: Addresses of its segments, each once.
        photos: Digests of its photos.
        begun_at: Unix time at which it was last begun.
        published_at: Unix time at which it was published; 0 if it was not published since it was begun.
        stopped_at: Unix time at which a run ended without publishing it; 0 if none did since it was begun. What it
            needs stays for the next run as if it were in work.
    """

    plan: str
    name: str
    output: str
    segments: tuple[str, ...]
    photos: tuple[str, ...]
    begun_at: float
    published_at: float = 0.0
    stopped_at: float = 0.0

    def is_in_work(self, now: float) -> bool:
        """Return whether what it names has to stay: the film is neither published nor given up."""
        return not self.published_at and now - self.begun_at < WORK_SECONDS


def manifest_of(plan: FilmPlan, *, begun_at: float) -> FilmManifest:
    """Return what a film needs of the store.

    Args:
        plan: The film.
        begun_at: Unix time.
    """
    return FilmManifest(
        plan=plan_digest(plan),
        name=plan.name,
        # The job's model refuses credentials in a URI; this removes them even if it should let some through.
        output=shown_location(plan.output),
        segments=tuple(dict.fromkeys(segment.address for segment in plan.segments)),
        photos=tuple(plan.photo_paths),
        begun_at=begun_at,
    )


def manifest_to_json(manifest: FilmManifest) -> bytes:
    """Return the manifest as JSON."""
    return _MANIFEST.dump_json(manifest)


def manifest_from_json(text: bytes, *, plan: str) -> FilmManifest:
    """Return the manifest that `text` holds.

    Args:
        text: What was stored.
        plan: The address that it was stored under.

    Raises:
        StorageError: It is no manifest, or another film's.
    """
    try:
        manifest = _MANIFEST.validate_json(text)
    except ValidationError as error:
        raise StorageError(f"the manifest of film {plan[:12]} is damaged: {error.errors()[0]['msg']}") from None
    if manifest.plan != plan:
        raise StorageError(f"the manifest of film {plan[:12]} is that of {manifest.plan[:12]}")
    return manifest


_MANIFEST = TypeAdapter(FilmManifest)
