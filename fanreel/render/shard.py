"""Render: from shards to segments in the store."""

from __future__ import annotations

import logging
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fanreel.codecs import ENCODERS, Codec
from fanreel.errors import EncoderError, GpuLostError, SessionLimitError
from fanreel.host.host import Host
from fanreel.intake.photo_places import localize_photos
from fanreel.plan.film import FilmPlan
from fanreel.plan.segments import Segment
from fanreel.plan.shards import Shard
from fanreel.policy import is_worth_another_device
from fanreel.render.order import choose_encoders, finder, missing_segments
from fanreel.segments.record import SegmentEvent, SegmentRecord
from fanreel.sessions.devices import Device, GateWrap
from fanreel.sessions.gate import SessionSlot
from fanreel.sessions.messages import FramesMade, SegmentMade, ShardRequest

__all__ = ["ShardWatch", "render_shard"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardWatch:
    """Who looks on while a shard is made, and has a say in when.

    Attributes:
        on_frames: Told how many more frames have been made, a few times a second.
        on_segment: Told of each segment when it is in the store.
        on_wait: Called while no session is free; what it raises ends the wait.
        on_line: Told, with a level of `logging`, when a session starts, is done, or another device takes over.
        around_gpus: Puts another gate around that of the GPUs: one that more than this host knows of.
    """

    on_frames: Callable[[int], None] = lambda count: None
    on_segment: Callable[[SegmentRecord], None] = lambda record: None
    on_wait: Callable[[], None] = lambda: None
    on_line: Callable[[int, str], None] = log.log
    around_gpus: GateWrap = lambda gate: gate


_NOBODY = ShardWatch()


def render_shard(
    plan: FilmPlan,
    shard: Shard,
    *,
    threads: int,
    host: Host,
    encoders: Sequence[str] = (),
    retries: int = 0,
    fallback: str = "",
    watch: ShardWatch = _NOBODY,
) -> tuple[str, ...]:
    """Make the segments of a shard that the store does not hold, with one encoder session.

    A device that cannot make them, and will not when it is asked again, is followed by the next one: another GPU,
    then the CPU, where the film may have segments of its encoder.

    Args:
        plan: The film.
        shard: Which of its segments.
        threads: Threads that the encoder may use on the CPU; as many slots of the gate are held.
        host: Where.
        encoders: Whose segments the film may have, the best one first; what its job allows if not given.
        retries: How often this shard has been tried before: decides what is raised, to be tried again later.
        fallback: Why it is not made by the best encoder that its film may have; empty if it is, or if that is planned.
        watch: Who is told.

    Returns:
        The addresses of all its segments, each in the store.

    Raises:
        EncoderError: No session was free, or the session failed, died or hung.
        MediaError: A photo changed or does not decode.
        StorageError: The store cannot be written.
    """
    encoders = tuple(encoders) or choose_encoders(plan, host)
    addresses = tuple(segment.address for segment in shard.segments)
    failed: list[tuple[Device, EncoderError]] = []
    while missing := missing_segments(shard.segments, encoders, finder(host)):
        # Before a slot is taken: a shard that waits for a network holds none.
        plan = localize_photos(plan, missing, settings=host.settings, store=host.store)
        devices = _devices_left(plan, encoders, host, [device for device, _ in failed])
        if not devices:
            raise _explain_end(plan, failed[-1][1]) if failed else host.devices.why_no_gpu()
        why = _explain_fallback(host.devices.faults() + failed, devices[0]) or fallback
        turn = _Turn(plan, shard, threads, host, encoders, retries, watch, why)
        device, error = turn.take(devices)
        if error is None:
            break
        if not is_worth_another_device(error, retries=retries):
            raise error
        failed.append((device, error))
    return addresses


@dataclass(frozen=True, slots=True)
class _Turn:
    """One session's turn at a shard."""

    plan: FilmPlan
    shard: Shard
    threads: int
    host: Host
    encoders: Sequence[str]
    retries: int
    watch: ShardWatch
    fallback: str
    asked_at: float = field(default_factory=time.monotonic)

    def take(self, devices: Sequence[Device]) -> tuple[Device, EncoderError | None]:
        """Make what is missing with the first of `devices` that is free; return it, and its encoder's error if any."""
        weight = 1 if devices[0].gpu else self.threads
        watch = self.watch
        hold = self.host.devices.hold(devices, weight=weight, on_wait=watch.on_wait, around_gpus=watch.around_gpus)
        with hold as (device, slot):
            waited_seconds = time.monotonic() - self.asked_at
            # Looked at again: whoever was waited for may have made the same segments.
            missing = missing_segments(self.shard.segments, self.encoders, finder(self.host))
            try:
                if missing:
                    self._render(device, slot, missing, waited_seconds)
            except SessionLimitError as error:
                device.note_refusal()
                return device, error
            except GpuLostError as error:
                self.host.devices.lose(device, error)
                return device, error
            except EncoderError as error:
                return device, error
        return device, None

    def _render(self, device: Device, slot: SessionSlot, missing: tuple[Segment, ...], waited: float) -> None:
        host, watch = self.host, self.watch
        if self.fallback:
            taken_over = f"{self.shard.label} of {self.plan.name}: {device.encoder} takes over"
            watch.on_line(logging.WARNING, f"FALLBACK {taken_over} ({self.fallback})")
        with host.store.scratch() as folder, host.launcher.start(locks=slot.filenos()) as session:
            place = f"{self.shard.label} of {self.plan.name}: session {session.pid}, {device.encoder} on {device.name}"
            watch.on_line(logging.INFO, f"START {place}, after {1000 * waited:.0f} ms of waiting")
            started_at = time.monotonic()
            request = ShardRequest(self.plan, missing, self.threads, str(folder), device.encoder, device.gpu)
            frames = 0
            for message in session.render(request, hang_seconds=host.settings.hang_seconds):
                slot.mark_open()
                if isinstance(message, FramesMade):
                    frames += message.count
                    watch.on_frames(message.count)
                elif isinstance(message, SegmentMade):
                    record = self._with_event(message.record, device, waited)
                    host.store.put(record, Path(message.path))
                    watch.on_segment(record)
            milliseconds = 1000 * (time.monotonic() - started_at)
            watch.on_line(logging.INFO, f"DONE {place}, {frames} frames in {milliseconds:.0f} ms")

    def _with_event(self, record: SegmentRecord, device: Device, waited_seconds: float) -> SegmentRecord:
        made: SegmentEvent = replace(
            record.event,
            host=platform.node(),
            waited_seconds=round(waited_seconds, 3),
            retries=self.retries,
            device=device.name,
            fallback=self.fallback,
        )
        return replace(record, event=made)


def _devices_left(plan: FilmPlan, encoders: Sequence[str], host: Host, failed: Sequence[Device]) -> list[Device]:
    """Return the devices that may still do, of one kind: GPUs as long as there is one, then the CPU."""
    left = [device for device in host.devices.usable(encoders, codec=plan.encoding.codec) if device not in failed]
    return [device for device in left if device.encoder == left[0].encoder]


def _explain_end(plan: FilmPlan, error: EncoderError) -> EncoderError:
    """Return the error of the last device that could have made a shard, with what to do where no other may."""
    codec = plan.encoding.codec
    on_cpu = ENCODERS[codec][-1]
    if codec is Codec.H264 or plan.encoding.encoder is on_cpu:
        return error
    advised = type(error)(f"{error}; a film in {codec} is of one encoder: ask for {on_cpu} to have all of it made anew")
    advised.code = error.code
    return advised


def _explain_fallback(failed: Sequence[tuple[Device, EncoderError]], device: Device) -> str:
    """Return why a shard is not made by the encoder that failed; nothing while another GPU has the same."""
    if not failed or failed[-1][0].encoder == device.encoder:
        return ""
    encoder, error = failed[-1][0].encoder, failed[-1][1]
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
    return f"{encoder}: {words}{f' ({error.code})' if error.code else ''}"
