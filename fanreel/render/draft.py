"""From segments in the store to a published film: join, verify, publish."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fanreel.audio.track import AudioTrack
from fanreel.errors import FanreelError, FilmDamagedError, SegmentDamagedError, StorageError, storage_error
from fanreel.host.host import Host
from fanreel.join.certificate import certificate_path, certify, write_certificate
from fanreel.join.concat import concat_segments
from fanreel.join.verify import require_sound
from fanreel.plan.encoding import allowed_encoders
from fanreel.plan.film import FilmPlan, plan_digest
from fanreel.printable import counted
from fanreel.publish.open import open_destination
from fanreel.publish.previous import refuse_foreign
from fanreel.segments.record import SegmentRecord
from fanreel.settings import Settings

__all__ = ["Draft", "Join", "Published", "join_film", "publish_film"]

log = logging.getLogger(__name__)

JOIN_GRACE_BYTES = 50_000_000
"""Added to a film's size before its join is called slow: opening segments and flushing take time at any size."""


@dataclass(frozen=True, slots=True)
class Join:
    """How a join went, its verification apart; as text, one line for the log.

    Attributes:
        segment_count: Segments joined.
        size_bytes: What was written.
        seconds: How long it took.
        is_slow: It took longer than `Settings.slow_join_mb_per_second` allows: a join is no more than a copy.
    """

    segment_count: int
    size_bytes: int
    seconds: float
    is_slow: bool

    @property
    def log_level(self) -> int:
        """A warning if it was slow."""
        return logging.WARNING if self.is_slow else logging.INFO

    def __str__(self) -> str:
        """Return the line that people see."""
        speed = self.size_bytes / max(self.seconds, 1e-9)
        made = (
            f"joined {counted(self.segment_count, 'segment')}, {self.size_bytes / 1e6:.1f} MB in {self.seconds:.2f} s"
        )
        slow = ", which is slow: is the disk full, busy or far away?" if self.is_slow else ""
        return f"{made} ({speed / 1e6:.0f} MB/s){slow}"


@dataclass(frozen=True, slots=True)
class Draft:
    """A film that is joined and verified, and waits to be published.

    Attributes:
        path: Where it waits; its certificate lies beside it.
        size_bytes: Its size.
        encoders: Segments made by each encoder.
        fallbacks: Segments that were not made by the best encoder that the job allows, by the reason.
        join: How the join went.
    """

    path: str
    size_bytes: int
    encoders: Mapping[str, int]
    fallbacks: Mapping[str, int]
    join: Join


def join_film(
    plan: FilmPlan,
    *,
    host: Host,
    encoders: Sequence[str] = (),
    audio: AudioTrack | None = None,
    folder: Path | None = None,
) -> Draft:
    """Join the film's segments, and verify the result from disk.

    Args:
        plan: The film; all its segments are in the store.
        host: Gives the store.
        encoders: Whose segments the film may have, the best one first, as its order says; what its job allows if
            not given.
        audio: Interleaved, if there is any.
        folder: Where the draft is left, on the store's file system; in the store's care if not given.

    Raises:
        SegmentMissingError: The store lacks a segment.
        SegmentDamagedError: A segment disappeared or changed while it was joined.
        StorageError: The film cannot be written.
        VerificationError: The film is not what its certificate says; it is not kept.
    """
    encoders = encoders or allowed_encoders(plan.encoding)
    records = [host.store.read_record(segment.address, encoders=encoders) for segment in plan.segments]
    path = folder / "film.mp4" if folder is not None else host.store.draft_path(plan)
    with host.store.scratch() as scratch:
        made = scratch / path.name
        certificate = certify(plan, records, audio=audio)
        started_at = time.monotonic()
        try:
            size_bytes = concat_segments(made, plan=plan, records=records, store=host.store, audio=audio)
            join = _judge_join(plan, size_bytes, time.monotonic() - started_at, host)
            require_sound(made, certificate)
        except (StorageError, FilmDamagedError, SegmentDamagedError) as error:
            _blame_segments(records, host, error)
            raise
        log.log(join.log_level, "%s", join)
        write_certificate(certificate, certificate_path(made))
        _keep(made, path)
    made_by = Counter(record.encoder for record in records)
    fallbacks = Counter(record.event.fallback for record in records if record.event.fallback)
    return Draft(str(path), size_bytes, dict(made_by), dict(fallbacks), join)


@dataclass(frozen=True, slots=True)
class Published:
    """A film under its final name.

    Attributes:
        film: Where it is.
        replaced: The file that had this name before, as text; empty if none had, or the same film.
    """

    film: str
    replaced: str = ""


def publish_film(plan: FilmPlan, draft: Draft, *, settings: Settings) -> Published:
    """Move a draft to the film's output and return where it is now. Done again, it changes nothing.

    Raises:
        OutputExistsError: A file that fanreel did not make lies there.
        NotAllowedError: This host may not publish there.
        StorageError: It cannot be published; what was there before still is.
    """
    destination, digest = open_destination(plan.output, settings=settings), plan_digest(plan)
    if not Path(draft.path).exists() and destination.holds(digest):
        return Published(plan.output)
    previous = destination.previous()
    refuse_foreign(previous, output=plan.output, overwrite=plan.overwrite)
    is_same = previous is not None and previous.identity is not None and previous.identity.plan == digest
    film = destination.publish(Path(draft.path))
    return Published(film, "" if previous is None or is_same else str(previous))


def _blame_segments(records: Sequence[SegmentRecord], host: Host, error: FanreelError) -> None:
    """Raise `SegmentDamagedError` if a segment is no longer whole: that segment has to be made again, then the film."""
    for record in records:
        if host.store.discard_if_damaged(record):
            raise SegmentDamagedError(f"segment {record.address[:12]} went while it was joined: {error}") from error


def _keep(made: Path, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        certificate_path(made).replace(certificate_path(path))
        made.replace(path)
    except OSError as error:
        raise storage_error(error, doing=f"keep the draft {path}") from error


def _judge_join(plan: FilmPlan, size_bytes: int, seconds: float, host: Host) -> Join:
    bound = (size_bytes + JOIN_GRACE_BYTES) / (host.settings.slow_join_mb_per_second * 1e6)
    return Join(len(plan.segments), size_bytes, seconds, is_slow=seconds > bound)
