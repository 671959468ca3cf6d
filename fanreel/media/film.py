"""From segments in the store to a published film: join, prove, publish."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fanreel.errors import storage_error
from fanreel.media.audio import AudioTrack
from fanreel.media.certificate import certificate_path, certify, write_certificate
from fanreel.media.concat import concat_segments
from fanreel.media.destination import Destination, LocalFolder
from fanreel.media.host import Host
from fanreel.media.render import RenderOrder
from fanreel.media.verify import require_sound
from fanreel.plan.film import FilmPlan
from fanreel.report import FilmReport

__all__ = ["Draft", "destination_of", "join_film", "publish_film", "report_film"]

log = logging.getLogger(__name__)

SLOW_JOIN_BYTES_PER_SECOND = 50e6
"""A join is a copy; one below the speed of an old disk is worth a warning."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A film that is joined and proven, waiting to be published.

    Attributes:
        path: Where it waits; its certificate lies beside it.
        size_bytes: Its size.
        encoders: Segments made by each encoder.
        join_seconds: How long the join took, the proof apart.
    """

    path: str
    size_bytes: int
    encoders: Mapping[str, int]
    join_seconds: float


def join_film(plan: FilmPlan, *, host: Host, audio: AudioTrack | None = None) -> Draft:
    """Join the film's segments and prove the result, from disk.

    Args:
        plan: The film; all its segments are in the store.
        host: Gives the store.
        audio: Interleaved, if there is any.

    Raises:
        SegmentMissingError: The store lacks a segment.
        StorageError: The film cannot be written.
        VerificationError: The film is not what its certificate says; it is not kept.
    """
    records = [host.store.get(segment.address) for segment in plan.segments]
    path = host.store.draft_path(plan)
    with host.store.scratch() as folder:
        made = folder / path.name
        started_at = time.monotonic()
        size_bytes = concat_segments(made, plan=plan, records=records, store=host.store, audio=audio)
        seconds = time.monotonic() - started_at
        _log_join(plan, size_bytes, seconds)
        certificate = certify(plan, records, audio=audio)
        require_sound(made, certificate)
        write_certificate(certificate, certificate_path(made))
        _keep(made, path)
    return Draft(str(path), size_bytes, dict(Counter(record.encoder for record in records)), seconds)


def destination_of(plan: FilmPlan) -> Destination:
    """Return where the film goes."""
    return LocalFolder(Path(plan.output))


def publish_film(plan: FilmPlan, draft: Draft) -> str:
    """Move a draft to the film's output and return where it is now.

    Raises:
        StorageError: It cannot be published; what was there before still is.
    """
    return destination_of(plan).publish(Path(draft.path))


def report_film(
    plan: FilmPlan, order: RenderOrder, draft: Draft, *, film: str, fps: float, seconds: float
) -> FilmReport:
    """Return what to tell of a film that was published at `film`, `seconds` after it was begun."""
    return FilmReport(
        film=film,
        seconds=plan.seconds,
        frame_count=plan.frame_count,
        size=f"{plan.encoding.width_px}x{plan.encoding.height_px}",
        size_bytes=draft.size_bytes,
        elapsed_seconds=seconds,
        fps=fps,
        segments_rendered=len(plan.segments) - order.reused,
        segments_reused=order.reused,
        sessions=order.sessions.reason,
        verified=True,  # join_film raises otherwise
        encoders=draft.encoders,
    )


def _keep(made: Path, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        certificate_path(made).replace(certificate_path(path))
        made.replace(path)
    except OSError as error:
        raise storage_error(error, doing=f"keep the draft {path}") from error


def _log_join(plan: FilmPlan, size_bytes: int, seconds: float) -> None:
    speed = size_bytes / max(seconds, 1e-9)
    slow = speed < SLOW_JOIN_BYTES_PER_SECOND and seconds > 1
    log.log(
        logging.WARNING if slow else logging.INFO,
        "joined %d segments, %.1f MB in %.2f s%s",
        len(plan.segments),
        size_bytes / 1e6,
        seconds,
        f", only {speed / 1e6:.0f} MB/s: is the disk full or far away?" if slow else "",
    )
