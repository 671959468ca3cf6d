"""Orders: what of a film has to be rendered, here or on work pools, and by how many sessions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from fanreel.codecs import EncoderChoice
from fanreel.dispatch.children import SegmentRun
from fanreel.dispatch.pools import DeviceKind, PoolChoice, encoders_on
from fanreel.errors import InvalidJobError
from fanreel.host.host import Host
from fanreel.job.encoding import Fallback
from fanreel.job.machines import Strategy
from fanreel.plan.encoding import allowed_encoders
from fanreel.plan.film import FilmPlan
from fanreel.plan.segments import Segment
from fanreel.plan.shards import Shard, plan_shards
from fanreel.printable import counted
from fanreel.segments.record import SegmentRecord
from fanreel.sessions.capacity import SessionPlan
from fanreel.sessions.devices import Device

__all__ = [
    "RenderOrder",
    "choose_encoders",
    "describe_order",
    "find_present",
    "finder",
    "missing_segments",
    "order_in_pools",
    "order_render",
    "order_run",
]

SMALLEST_NAMED_PX = 480
"""Smallest height of a wide film that people know by it, such as 720p."""

LOOKERS = 8
"""Segments that are looked for side by side: in a remote store each costs two round trips."""

Find = Callable[..., SegmentRecord | None]
"""How a store is asked for a segment: `SegmentStore.find_verified`, or `find_listed`, which reads no payload."""


@dataclass(frozen=True, slots=True)
class RenderOrder:
    """What of a film has to be rendered, and by how many sessions.

    Attributes:
        shards: Runs of the segments that are missing.
        reused: How many segments the store holds already.
        sessions: How many sessions work side by side, with how many threads, and why so many.
        encoders: The encoders whose segments the film may have, the best one first.
        pools: The work pools that render it, the preferred one first, and what each encodes with; empty if none do.
    """

    shards: tuple[Shard, ...]
    reused: int
    sessions: SessionPlan
    encoders: tuple[str, ...]
    pools: Mapping[str, DeviceKind] = field(default_factory=dict)

    @property
    def segment_count(self) -> int:
        """Segments to be rendered."""
        return sum(len(shard.segments) for shard in self.shards)

    @property
    def frame_count(self) -> int:
        """Frames to be rendered."""
        return sum(shard.frame_count for shard in self.shards)

    @property
    def label(self) -> str:
        """What renders the film, as text for people; empty if nothing has to be rendered."""
        if not self.shards:
            return ""
        return f"on the pools {', '.join(self.pools)}" if self.pools else self.sessions.label


def describe_order(plan: FilmPlan, order: RenderOrder) -> str:
    """Return in one line what will be made: of what, how long, how large, and by how many encoders."""
    asked, rate = plan.encoding, plan.encoding.frame_rate
    frames = f"{float(rate):.2f}".rstrip("0").rstrip(".")
    is_wide = 9 * asked.width_px == 16 * asked.height_px and asked.height_px >= SMALLEST_NAMED_PX
    size = f"{asked.height_px}p{frames}" if is_wide else f"{asked.width_px}x{asked.height_px} and {frames} fps"
    seconds = f"{plan.seconds:.1f}".removesuffix(".0")
    parts = [counted(plan.photo_count, "photo"), f"{seconds} s at {size}"]
    if plan.left_out:
        parts[0] += f" ({len(plan.left_out)} left out)"
    if order.shards:
        encoders = counted(min(order.sessions.sessions, len(order.shards)), "encoder")
        parts.append(f"on the pools {', '.join(order.pools)}" if order.pools else encoders)
    if order.reused:
        count = counted(order.reused + order.segment_count, "segment")
        parts.append(f"{order.reused} of {count} kept from before" if order.shards else f"all {count} kept from before")
    return ", ".join(parts)


def order_render(plan: FilmPlan, *, host: Host, segments: Sequence[Segment] | None = None) -> RenderOrder:
    """Return what is missing of a film, in shards.

    Args:
        plan: The film.
        host: Where.
        segments: Those of its segments that are asked for; all of them if not given.

    Raises:
        EncoderError: The job insists on an encoder that this machine does not have.
        StorageError: The store cannot be read.
    """
    segments = plan.segments if segments is None else segments
    encoders = choose_encoders(plan, host)
    missing = missing_segments(segments, encoders, finder(host))
    reused = len(segments) - len(missing)
    if plan.strategy is Strategy.FILM:
        # One thread, although cores are idle now: the films beside it in the queue use them.
        sessions = SessionPlan(1, 1, reason="strategy film: one session of one thread makes the whole film")
        return RenderOrder((Shard(0, missing),) if missing else (), reused, sessions, encoders)
    devices = _require_devices(plan, encoders, host) if missing else ()
    gpu_sessions = sum(device.gate.capacity for device in devices if device.gpu)
    sessions = host.sessions_for(plan, segment_count=len(missing), gpu_sessions=gpu_sessions)
    if gpu_sessions:
        who = ", ".join(dict.fromkeys(device.capacity_reason for device in devices if device.gpu))
        sessions = replace(sessions, reason=f"{sessions.reason}; GPU sessions: {gpu_sessions} ({who})")
    return RenderOrder(plan_shards(missing, session_count=sessions.sessions), reused, sessions, encoders)


def order_in_pools(plan: FilmPlan, choice: PoolChoice, *, host: Host) -> RenderOrder:
    """Return what is missing of a film that work pools render, as one run of segments; the dispatch cuts it later.

    Args:
        plan: The film.
        choice: Its pools.
        host: Gives the store, which the pools' workers share. Its segments are not read here; the join reads them.

    Raises:
        StorageError: The store cannot be read.
    """
    missing = missing_segments(plan.segments, choice.encoders, host.store.find_listed)
    reused = len(plan.segments) - len(missing)
    sessions = SessionPlan(1, 1, reason=f"rendered on the pools {', '.join(choice.devices)}")
    shards = (Shard(0, missing),) if missing else ()
    return RenderOrder(shards, reused, sessions, choice.encoders, dict(choice.devices))


def find_present(plan: FilmPlan, indices: Collection[int], *, encoders: Sequence[str], host: Host) -> set[int]:
    """Return which segments of a film, by index, the store has, without reading them.

    Raises:
        StorageError: The store cannot be read.
    """
    asked = [plan.segments[index] for index in indices]
    lacking = {segment.address for segment in missing_segments(asked, encoders, host.store.find_listed)}
    return {segment.index for segment in asked if segment.address not in lacking}


def order_run(
    plan: FilmPlan, run: SegmentRun, *, device: DeviceKind, encoders: Sequence[str], host: Host
) -> RenderOrder:
    """Return what is missing of a run of segments, as one shard for one session on a device of this kind.

    One thread: the other cores are those of the other children that a worker runs.

    Args:
        plan: The film.
        run: Which of its segments.
        device: What to encode with.
        encoders: Whose segments the film may have; what its job allows if empty.
        host: Where.

    Raises:
        InvalidJobError: No such device makes segments that the film may have, or it has no such segments.
        StorageError: The store cannot be read.
    """
    able = encoders_on(device, encoders or allowed_encoders(plan.encoding))
    segments = plan.segments[run.start : run.end]
    if not able or not segments:
        raise InvalidJobError(f"{plan.name}: segments {run.start} to {run.end} cannot be rendered on a {device}")
    missing = missing_segments(segments, able, host.store.find_listed)
    sessions = SessionPlan(1, 1, reason="one session of one thread for one shard")
    return RenderOrder((Shard(0, missing),) if missing else (), len(segments) - len(missing), sessions, able)


def choose_encoders(plan: FilmPlan, host: Host) -> tuple[str, ...]:
    """Return whose segments the film may have: what the job allows, or of this machine's only the best.

    Only the best if the job says so, and in every codec but H.264: two encoders' parameter sets share no such track.
    """
    encoders, asked = allowed_encoders(plan.encoding), plan.encoding
    if asked.encoder is not EncoderChoice.AUTO or asked.may_mix_encoders:
        return encoders
    best = _require_devices(plan, encoders, host)[0].encoder
    if best != encoders[0] and asked.fallback is Fallback.NEVER and host.devices.faults():
        raise host.devices.why_no_gpu()
    return (best,)


def _require_devices(plan: FilmPlan, encoders: Sequence[str], host: Host) -> tuple[Device, ...]:
    devices = host.devices.usable(encoders, codec=plan.encoding.codec)
    if not devices:
        raise host.devices.why_no_gpu()
    return devices


def missing_segments(segments: Sequence[Segment], encoders: Sequence[str], find: Find) -> tuple[Segment, ...]:
    """Return those segments that `find` does not find as the film wants them, each content once."""
    unique: dict[str, Segment] = {}
    for segment in segments:
        unique.setdefault(segment.address, segment)
    with ThreadPoolExecutor(LOOKERS) as pool:
        found = pool.map(lambda address: find(address, encoders=encoders), unique)
        return tuple(segment for segment, record in zip(unique.values(), found, strict=True) if record is None)


def finder(host: Host) -> Find:
    """Return how a host's store is asked for a segment before it is rendered.

    A store on this machine is read, so that what is damaged is made again now. One far away is not: what is damaged
    there is found by the join, which reads it anyway.
    """
    return host.store.find_listed if host.settings.remote_store else host.store.find_verified
