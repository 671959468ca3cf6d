"""Calibrate: measure how many encoder sessions at once this host's devices are best used with."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import av

from fanreel.codecs import EncoderChoice
from fanreel.errors import EncoderError, EncoderUnavailableError, SessionLimitError
from fanreel.host.calibration import Calibration, CurvePoint, DeviceCalibration, find_knee
from fanreel.host.host import Host
from fanreel.host.reference_film import ReferenceFilm, plan_reference_film
from fanreel.host.session_load import LoadOrder, run_load
from fanreel.plan.encoding import encoder_bytes_per_pixel
from fanreel.plan.film import FilmPlan
from fanreel.sessions.capacity import choose_sessions
from fanreel.sessions.devices import CPU, Device
from fanreel.sessions.gate import KernelLockGate, SessionSlot
from fanreel.sessions.gpu_status import list_nvml_gpus, read_driver_version, read_status
from fanreel.sessions.gpus import count_sessions
from fanreel.sessions.messages import NVENC_CODECS, CodecRequest, CodecWorks, HoldRequest

__all__ = ["MOST_TRIED", "Effort", "calibrate"]

MOST_TRIED = 16
"""Sessions that are opened at most to find the driver's limit; the highest there was on any card is 12."""

GAIN = 1.03
"""A curve ends where two further sessions gain less than this factor."""

ALONE_SECONDS = 2.0
"""How long to wait until the driver no longer counts our last session, or until a film that is ending has ended."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done for a calibration.

    Attributes:
        film: What is encoded.
        seconds: How long each number of sessions is measured.
        most: The most sessions of one GPU.
    """

    film: ReferenceFilm = field(default_factory=ReferenceFilm)
    seconds: float = 3.0
    most: int = 8


def calibrate(
    host: Host,
    *,
    ceiling: bool = False,
    effort: Effort | None = None,
    on_line: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Measure every device of the host while none of its films are rendered; write nothing.

    Args:
        host: Which one.
        ceiling: Also look for the driver's session limit, by opening up to 16 sessions at once.
        effort: How much to do; by default what a film of usual size needs.
        on_line: Told what is done, a line at a time.

    Raises:
        SessionBusyError: Films are being made on this host.
        EncoderError: The CPU could not be measured.
        StorageError: The reference film cannot be written.
    """
    effort = effort or Effort()
    host.launcher.warm()
    gpus = host.devices.usable((EncoderChoice.NVENC.value,))
    cpu = host.devices.usable((EncoderChoice.X264.value,))
    left_out = [f"{fault.name}: {fault.error}" for fault in host.devices.faults()]
    if not gpus and not left_out:
        on_line(f"no GPU is measured: {host.devices.why_no_gpu()}")
    measured: list[DeviceCalibration] = []
    with host.store.scratch() as folder, contextlib.ExitStack() as held:
        slots = [(device, held.enter_context(_hold_all(device.gate))) for device in (*cpu, *gpus)]
        plan = plan_reference_film(effort.film, folder)
        for device, slot in reversed(slots):
            measuring = _Measuring(host, device, slot, plan, effort, on_line, left_out)
            try:
                measured.append(measuring.measure(ceiling=ceiling))
            except EncoderError as error:
                if not device.gpu:
                    raise
                left_out.append(f"{device.name} is not calibrated: {error}")
    measured.sort(key=lambda each: (each.device == CPU, each.name))
    return Calibration(platform.node(), tuple(measured), tuple(left_out))


def _hold_all(gate: KernelLockGate) -> contextlib.AbstractContextManager[SessionSlot]:
    """Hold every slot that any of our processes could take, also one whose settings allow more."""
    capacity = gate.capacity if gate.device == CPU else max(gate.capacity, MOST_TRIED)
    whole = KernelLockGate(gate.device, capacity=capacity, folder=gate.folder, turn=gate.turn)
    return whole.hold(weight=capacity, timeout_seconds=ALONE_SECONDS)


@dataclass(frozen=True, slots=True)
class _Measuring:
    """One device, measured."""

    host: Host
    device: Device
    slot: SessionSlot
    plan: FilmPlan
    effort: Effort
    on_line: Callable[[str], None]
    left_out: list[str]

    def measure(self, *, ceiling: bool) -> DeviceCalibration:
        alone = not self.device.gpu or self._is_alone()
        curve, refused_at = self._curve()
        limit = refused_at - 1 if refused_at and alone else None
        tried = refused_at or curve[-1].sessions
        if ceiling and self.device.gpu:
            try:
                limit, tried = self._find_ceiling()
            except EncoderError as error:
                self.left_out.append(f"the session limit of {self.device.name} is not known: {error}")
        return DeviceCalibration(
            device=self.device.gpu or CPU,
            name=self.device.name.removesuffix(f" ({self.device.gpu})") if self.device.gpu else platform.machine(),
            encoder=self.device.encoder,
            driver=read_driver_version() if self.device.gpu else "",
            pyav=av.__version__,
            measured_at=datetime.now(UTC).replace(microsecond=0),
            film=str(self.effort.film),
            curve=tuple(curve),
            knee=find_knee(curve),
            limit=limit,
            tried=tried,
            engines=self._count_engines() if self.device.gpu else None,
        )

    def _is_alone(self) -> bool:
        """Return whether no program has a session on this GPU; False if nobody can say.

        Raises:
            EncoderUnavailableError: Another program has one.
        """
        count = _wait_for_none((self.device.gpu,))
        if count:
            raise EncoderUnavailableError(
                f"{_whose(self.device.gpu, count)}; end them, or calibrate when they have ended"
            )
        return count == 0

    def _curve(self) -> tuple[list[CurvePoint], int]:
        """Return the curve, and at how many sessions the driver refused one; 0 if at none."""
        curve: list[CurvePoint] = []
        for sessions in self._counts():
            try:
                load = self._run(sessions)
            except SessionLimitError as error:
                if not curve:
                    raise
                self.on_line(f"{self.device.name}: {sessions} sessions were refused: {error}")
                return curve, sessions
            except EncoderError as error:
                if not curve:
                    raise
                self.left_out.append(f"{self.device.name} was not tried with {sessions} sessions or more: {error}")
                return curve, 0
            curve.append(load)
            counted = "1 session" if sessions == 1 else f"{sessions} sessions"
            self.on_line(f"{self.device.name}: {counted}: {load.fps:.0f} frames/s")
            if _is_flat(curve):
                break
        return curve, 0

    def _run(self, sessions: int) -> CurvePoint:
        threads = 1 if self.device.gpu else max(1, self.host.capacity.cores // sessions)
        order = LoadOrder(self.device, self.plan, sessions, threads, self.effort.seconds)
        try:
            load = run_load(order, host=self.host, slot=self.slot)
        except SessionLimitError:
            # A driver may count a session that has just ended for a moment longer.
            time.sleep(ALONE_SECONDS / 2)
            load = run_load(order, host=self.host, slot=self.slot)
        return CurvePoint(sessions, load.fps, load.gpu_bytes, load.session_bytes)

    def _counts(self) -> Iterator[int]:
        """Yield the numbers of sessions to try: each one on a GPU; on many cores, some."""
        most = self.effort.most if self.device.gpu else self.host.capacity.cores
        fitting = choose_sessions(
            self.host.capacity,
            width_px=self.plan.encoding.width_px,
            height_px=self.plan.encoding.height_px,
            segment_count=most,
            bytes_per_pixel=encoder_bytes_per_pixel(self.plan.encoding),
            gpu_sessions=most,
        ).sessions
        sessions = 1
        while sessions < fitting:
            yield sessions
            sessions += 1 if self.device.gpu else max(1, sessions // 2)
        yield fitting

    def _find_ceiling(self) -> tuple[int | None, int]:
        """Return how many sessions the driver allows, None if it refused none, and how many were asked for.

        Raises:
            EncoderError: Other programs have sessions, or nobody can say; or not even one could be opened.
        """
        everywhere = {self.device.gpu, *list_nvml_gpus()}
        count = _wait_for_none(everywhere)
        if count is None:
            raise EncoderUnavailableError("NVML does not say whether other programs hold sessions, which then fail")
        if count:
            raise EncoderUnavailableError("; ".join(_whose(gpu, 1) for gpu in everywhere if count_sessions(gpu)))
        request = HoldRequest(self.plan.encoding, self.device.encoder, self.device.gpu)
        with contextlib.ExitStack() as opened:
            for sessions in range(1, MOST_TRIED + 1):
                session = opened.enter_context(self.host.launcher.start(locks=self.slot.filenos()))
                try:
                    next(session.render(request, hang_seconds=self.host.settings.hang_seconds))
                except SessionLimitError:
                    if sessions == 1:
                        raise
                    self.on_line(f"{self.device.name}: the driver allows {sessions - 1} sessions")
                    return sessions - 1, sessions
        self.on_line(f"{self.device.name}: the driver allows {MOST_TRIED} sessions, or more")
        return None, MOST_TRIED

    def _count_engines(self) -> int | None:
        engines = None
        with contextlib.suppress(EncoderError), self.host.launcher.start(locks=self.slot.filenos()) as session:
            request = CodecRequest(NVENC_CODECS[0], self.device.gpu)
            for message in session.render(request, hang_seconds=self.host.settings.hang_seconds):
                engines = message.engines if isinstance(message, CodecWorks) else engines
        return engines


def _wait_for_none(gpus: Sequence[str] | set[str]) -> int | None:
    """Return how many sessions there are on these GPUs, after a short wait for none; None if nobody can say."""
    deadline = time.monotonic() + ALONE_SECONDS
    while True:
        counts = [count_sessions(gpu) for gpu in gpus]
        known = [count for count in counts if count is not None]
        if not known:
            return None
        if sum(known) == 0 or time.monotonic() > deadline:
            return sum(known)
        time.sleep(0.1)


def _whose(gpu: str, count: int) -> str:
    status = read_status(gpu)
    names = ", ".join(str(session) for session in status.sessions or ()) if status else ""
    return f"other programs hold encoder sessions on {gpu}: {names or count}"


def _is_flat(curve: Sequence[CurvePoint]) -> bool:
    """Return whether the last two points bring less than 3 %."""
    rates = [point.fps for point in curve]
    return len(rates) > 2 and max(rates[-2:]) < GAIN * max(rates[:-2])
