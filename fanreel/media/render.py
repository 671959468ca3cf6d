"""Render: from shards to segments in the store."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fanreel.job import Strategy
from fanreel.media.capacity import SessionPlan
from fanreel.media.host import Host
from fanreel.media.messages import FramesMade, SegmentMade, ShardRequest
from fanreel.media.record import SegmentRecord
from fanreel.media.store import accepts
from fanreel.plan.film import FilmPlan
from fanreel.plan.segments import Segment
from fanreel.plan.shards import Shard, plan_shards

__all__ = ["RenderOrder", "order_render", "render_shard"]


@dataclass(frozen=True, slots=True)
class RenderOrder:
    """What of a film has to be rendered, and by how many sessions.

    Attributes:
        shards: Runs of the segments that are missing.
        reused: How many segments the store holds already.
        sessions: How many sessions work side by side, with how many threads, and why so many.
    """

    shards: tuple[Shard, ...]
    reused: int
    sessions: SessionPlan

    @property
    def segment_count(self) -> int:
        """Segments to be rendered."""
        return sum(len(shard.segments) for shard in self.shards)

    @property
    def frame_count(self) -> int:
        """Frames to be rendered."""
        return sum(shard.frame_count for shard in self.shards)


def order_render(plan: FilmPlan, *, host: Host) -> RenderOrder:
    """Return what is missing of a film, in shards.

    Raises:
        StorageError: The store cannot be read.
    """
    missing = _missing(plan, plan.segments, host)
    reused = len(plan.segments) - len(missing)
    if plan.strategy is Strategy.FILM:
        # One thread, though cores are idle now: the films beside it in the queue take those.
        sessions = SessionPlan(1, 1, reason="strategy film: one session of one thread makes the whole film")
        return RenderOrder((Shard(0, missing),) if missing else (), reused=reused, sessions=sessions)
    sessions = host.sessions_for(plan, segment_count=len(missing))
    return RenderOrder(plan_shards(missing, session_count=sessions.sessions), reused=reused, sessions=sessions)


def render_shard(
    plan: FilmPlan,
    shard: Shard,
    *,
    threads: int,
    host: Host,
    retries: int = 0,
    on_frames: Callable[[int], None] = lambda count: None,
    on_segment: Callable[[SegmentRecord], None] = lambda record: None,
    on_wait: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """Make the segments of a shard that the store does not hold, with one encoder session.

    Args:
        plan: The film.
        shard: Which of its segments.
        threads: Threads that the encoder may use; as many slots of the gate are held.
        host: Where.
        retries: How often this shard has been tried before, for the segments' events.
        on_frames: Told how many more frames have been made, a few times a second.
        on_segment: Told of each segment when it is in the store.
        on_wait: Called while no session is free; what it raises ends the wait.

    Returns:
        The addresses of all its segments, each in the store.

    Raises:
        EncoderError: No session was free, or the session failed, died or hung.
        MediaError: A photo changed or does not decode.
        StorageError: The store cannot be written.
    """
    addresses = tuple(segment.address for segment in shard.segments)
    asked_at = time.monotonic()
    if not _missing(plan, shard.segments, host):
        return addresses
    with host.gate.hold(weight=threads, timeout_seconds=host.settings.wait_seconds, on_wait=on_wait) as slot:
        waited_seconds = time.monotonic() - asked_at
        # Looked at again: whoever was waited for may have made the same segments.
        missing = _missing(plan, shard.segments, host)
        if not missing:
            return addresses
        with host.store.scratch() as folder, host.launcher.start(locks=slot.filenos()) as session:
            request = ShardRequest(plan, missing, threads, str(folder))
            for message in session.render(request, hang_seconds=host.settings.hang_seconds):
                if isinstance(message, FramesMade):
                    on_frames(message.count)
                elif isinstance(message, SegmentMade):
                    record = _with_event(message.record, waited_seconds, retries)
                    host.store.put(record, Path(message.path))
                    on_segment(record)
    return addresses


def _missing(plan: FilmPlan, segments: Sequence[Segment], host: Host) -> tuple[Segment, ...]:
    """Return those segments that the store does not hold as the film wants them, each content once."""
    unique: dict[str, Segment] = {}
    for segment in segments:
        unique.setdefault(segment.address, segment)
    encoder = plan.encoding.encoder
    return tuple(segment for segment in unique.values() if not accepts(encoder, host.store.find(segment.address)))


def _with_event(record: SegmentRecord, waited_seconds: float, retries: int) -> SegmentRecord:
    event = replace(record.event, host=platform.node(), waited_seconds=round(waited_seconds, 3), retries=retries)
    return replace(record, event=event)
