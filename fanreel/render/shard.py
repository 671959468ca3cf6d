"""Render: from shards to segments in the store."""

from __future__ import annotations

import logging
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fanreel.codecs import CODEC_ENCODERS, Codec
from fanreel.errors import EncoderError, GpuLostError, SessionLimitError
from fanreel.host.host import Host
from fanreel.intake.photo_sharing import localize_photos
from fanreel.plan.film import FilmPlan
from fanreel.plan.segments import Segment
from fanreel.plan.shards import Shard
from fanreel.policy import is_worth_another_device
from fanreel.render.order import choose_encoders, finder, missing_segments
from fanreel.segments.record import SegmentEvent, SegmentRecord
from fanreel.sessions.devices import Device, DeviceFailure, GateWrap
from fanreel.sessions.gate import SessionSlot
from fanreel.sessions.messages import FramesMade, SegmentMade, ShardRequest

__all__ = ["ShardWatch", "render_shard"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardWatch:
    """Callbacks that hear of a shard while it is made; they may also end it, or bound when it starts.

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
        watch: Hears how the shard goes.

    Returns:
        The addresses of all its segments, each in the store.

    Raises:
        EncoderError: No session was free, or the session failed, died or hung.
        MediaError: A photo changed or does not decode.
        StorageError: The store cannot be written.
    """
    making = _ShardMaking(
        host=host,
        label=f"{shard.label} of {plan.name}",
        segments=shard.segments,
        encoders=tuple(encoders) or choose_encoders(plan, host),
        threads=threads,
        retries=retries,
        watch=watch,
    )
    making.make_all(plan, fallback=fallback)
    return tuple(segment.address for segment in shard.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ShardMaking:
    """What stays the same while a shard is made, on whichever device."""

    host: Host
    label: str
    segments: tuple[Segment, ...]
    encoders: tuple[str, ...]
    threads: int
    retries: int
    watch: ShardWatch

    def make_all(self, plan: FilmPlan, *, fallback: str) -> None:
        """Make what is missing on one device after another, until one has made it all.

        Raises:
            EncoderError: No device is left, or the error is worth another try later.
        """
        failed: list[DeviceFailure] = []
        while missing := self.missing():
            # Before a slot is taken: a shard that waits for a network holds none.
            plan = localize_photos(plan, missing, settings=self.host.settings, store=self.host.store)
            devices = _devices_left(plan, self.encoders, self.host, [failure.device for failure in failed])
            if not devices:
                raise _explain_end(plan, failed[-1].error) if failed else self.host.devices.why_no_gpu()
            why = _explain_fallback(self.host.devices.faults() + failed, devices[0]) or fallback
            with self.held(devices) as (device, slot, waited_seconds):
                try:
                    self.make(plan, device, slot, waited_seconds=waited_seconds, fallback=why)
                except EncoderError as error:
                    _note_failure(self.host, device, error)
                    if not is_worth_another_device(error, retries=self.retries):
                        raise
                    failed.append(DeviceFailure(device, error))
                else:
                    break

    def missing(self) -> tuple[Segment, ...]:
        """Return those of its segments that the store lacks now."""
        return missing_segments(self.segments, self.encoders, finder(self.host))

    @contextmanager
    def held(self, devices: Sequence[Device]) -> Iterator[tuple[Device, SessionSlot, float]]:
        """Hold the first of `devices` that is free; yield it, its slot, and how many seconds that took."""
        asked_at = time.monotonic()
        weight = 1 if devices[0].gpu else self.threads
        on_wait, around_gpus = self.watch.on_wait, self.watch.around_gpus
        with self.host.devices.hold(devices, weight=weight, on_wait=on_wait, around_gpus=around_gpus) as (device, slot):
            yield device, slot, time.monotonic() - asked_at

    def make(self, plan: FilmPlan, device: Device, slot: SessionSlot, *, waited_seconds: float, fallback: str) -> None:
        """Have one session on a device make what is missing, and put it into the store."""
        missing = self.missing()  # looked at again: another run may have made it while this one waited
        if not missing:
            return
        host, watch = self.host, self.watch
        if fallback:
            watch.on_line(logging.WARNING, f"FALLBACK {self.label}: {device.encoder} takes over ({fallback})")
        with host.store.scratch() as folder, host.launcher.start(locks=slot.filenos()) as session:
            name = f"{self.label}: session {session.pid}, {device.encoder} on {device.name}"
            watch.on_line(logging.INFO, f"START {name}, after {1000 * waited_seconds:.0f} ms of waiting")
            started_at = time.monotonic()
            request = ShardRequest(plan, missing, self.threads, str(folder), device.encoder, device.gpu)
            event = SegmentEvent(
                host=platform.node(),
                waited_seconds=round(waited_seconds, 3),
                retries=self.retries,
                device=device.name,
                fallback=fallback,
            )
            frames = 0
            for message in session.render(request, hang_seconds=host.settings.hang_seconds):
                slot.mark_open()
                if isinstance(message, FramesMade):
                    frames += message.count
                    watch.on_frames(message.count)
                elif isinstance(message, SegmentMade):
                    record = _with_event(message.record, event)
                    host.store.put(record, Path(message.path))
                    watch.on_segment(record)
            milliseconds = 1000 * (time.monotonic() - started_at)
            watch.on_line(logging.INFO, f"DONE {name}, {frames} frames in {milliseconds:.0f} ms")


def _with_event(record: SegmentRecord, owners: SegmentEvent) -> SegmentRecord:
    """Return a record whose event says what the session's owner knows, beside what the session itself noted."""
    made = record.event
    return replace(
        record, event=replace(owners, session=made.session, started_at=made.started_at, ended_at=made.ended_at)
    )


def _note_failure(host: Host, device: Device, error: EncoderError) -> None:
    """Remember what an error says of its device, for the host's other shards."""
    if isinstance(error, SessionLimitError):
        device.note_refusal()
    elif isinstance(error, GpuLostError):
        host.devices.lose(device, error)


def _devices_left(plan: FilmPlan, encoders: Sequence[str], host: Host, failed: Sequence[Device | None]) -> list[Device]:
    """Return the devices that may still do, of one kind: GPUs as long as there is one, then the CPU."""
    left = [device for device in host.devices.usable(encoders, codec=plan.encoding.codec) if device not in failed]
    return [device for device in left if device.encoder == left[0].encoder]


def _explain_end(plan: FilmPlan, error: EncoderError) -> EncoderError:
    """Return the error of the last device that could have made a shard, with what to do where no other may."""
    codec = plan.encoding.codec
    on_cpu = CODEC_ENCODERS[codec][-1]
    if codec is Codec.H264 or plan.encoding.encoder is on_cpu:
        return error
    advised = type(error)(f"{error}; a film in {codec} is of one encoder: ask for {on_cpu} to have all of it made anew")
    advised.code = error.code
    return advised


def _explain_fallback(failed: Sequence[DeviceFailure], device: Device) -> str:
    """Return why a shard is not made by the encoder that failed; nothing while another GPU has the same."""
    if not failed or failed[-1].encoder == device.encoder:
        return ""
    encoder, error = failed[-1].encoder, failed[-1].error
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
    return f"{encoder}: {words}{f' ({error.code})' if error.code else ''}"
