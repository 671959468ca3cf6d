"""The devices that encode on this host: its GPUs with NVENC, and its CPU."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from urllib.parse import quote

from fanreel.codecs import Codec, EncoderChoice
from fanreel.errors import (
    DriverError,
    EncodeFaultError,
    EncoderBusyError,
    EncoderError,
    EncoderSettingsError,
    EncoderUnavailableError,
    NoEncodeDeviceError,
    SessionBusyError,
    SessionLimitError,
    SessionLostError,
)
from fanreel.job.encoding import Encoding, Preset
from fanreel.plan.encoding import plan_encoding
from fanreel.policy import is_worth_retrying, retry_delay_seconds
from fanreel.sessions.gate import FirstFreeGate, KernelLockGate, SessionGate, SessionSlot
from fanreel.sessions.gpus import Gpu, count_sessions
from fanreel.sessions.launcher import Launcher
from fanreel.sessions.learned_limit import LearnedLimit
from fanreel.sessions.messages import GpusFound, ProbeRequest, SessionMessage, SessionRequest, SurveyRequest
from fanreel.settings import Settings

__all__ = ["CPU", "Device", "DeviceFailure", "Devices", "GateWrap"]

log = logging.getLogger(__name__)

GateWrap = Callable[[SessionGate], SessionGate]
"""Puts another gate around one: a session that passes holds slots of both."""

CPU = "cpu"

PROBE_PX = (320, 180)
"""Larger than the smallest frame that NVENC accepts, about 145 x 49. Source: the driver's refusals."""

PROBE_SECONDS = 30.0
"""A driver that needs longer for its first frame does not work; loading it takes a second or two."""

_PASSING = (EncoderBusyError, EncodeFaultError, SessionLostError)
"""Errors that may pass within a moment. A hang is not among them: everything waits for the look, so it is made once."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or the CPU, with the encoder that runs on it.

    Attributes:
        encoder: Name of the encoder.
        gpu: UUID of the GPU; empty for the CPU.
        name: For people.
        gate: Bounds its sessions.
        limit: What was learned of a GPU's session limit; None for the CPU.
        capacity_reason: What decided the number of a GPU's sessions; empty for the CPU.
    """

    encoder: str
    gpu: str
    name: str
    gate: KernelLockGate
    limit: LearnedLimit | None = None
    capacity_reason: str = ""

    def note_refusal(self) -> None:
        """Remember that the driver refused a session; the caller still holds the slot for it."""
        if self.limit is not None:
            self.limit.learn(self.gate.slots_in_use() - 1)


@dataclass(frozen=True, slots=True)
class DeviceFailure:
    """Why a device is not used.

    Attributes:
        device: The device; None if the GPUs could not even be listed.
        error: What it failed with.
        codec: The only codec that it fails with; None if it makes none.
    """

    device: Device | None
    error: EncoderError
    codec: Codec | None = None

    @property
    def name(self) -> str:
        """The device, for people."""
        return self.device.name if self.device else "the GPUs of this machine"

    @property
    def encoder(self) -> str:
        """Name of the encoder that cannot be used."""
        return self.device.encoder if self.device else EncoderChoice.NVENC.value

    @property
    def is_fault(self) -> bool:
        """Whether the device ought to work: no driver, no GPU, no NVENC and an old GPU's codecs are no faults."""
        is_without_driver = self.device is None and isinstance(self.error, DriverError) and not self.error.code
        return self.codec is None and not is_without_driver and not isinstance(self.error, NoEncodeDeviceError)


class Devices:
    """What can encode here. GPUs are looked for, and tried, when they are first asked for; thread-safe.

    Args:
        settings: What the host's operator decided.
        cpu_gate: Bounds the sessions on the CPU.
        launcher: Starts the sessions that look.
        gpu_sessions: Returns how many sessions a GPU, given its UUID, may have, and what decided that.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        cpu_gate: KernelLockGate,
        launcher: Launcher,
        gpu_sessions: Callable[[str], tuple[int, str]],
    ) -> None:
        self._settings, self._launcher, self._gpu_sessions = settings, launcher, gpu_sessions
        self._cpu = Device(EncoderChoice.X264.value, "", CPU, cpu_gate)
        self._lock = threading.Lock()
        self._gpus: tuple[Device, ...] | None = None
        self._working: dict[Codec, tuple[Device, ...]] = {}
        self._failures: list[DeviceFailure] = []

    def usable(self, encoders: Collection[str], *, codec: Codec = Codec.H264) -> tuple[Device, ...]:
        """Return the devices that make `codec` with one of `encoders`, GPUs first."""
        gpus = self._find_gpus(codec) if EncoderChoice.NVENC.value in encoders else ()
        faulty = {failure.device for failure in self.faults()}
        on_cpu = [encoder for encoder in encoders if encoder != EncoderChoice.NVENC]
        return (
            *(device for device in gpus if device not in faulty),
            *(replace(self._cpu, encoder=encoder) for encoder in on_cpu),
        )

    def why_no_gpu(self) -> EncoderError:
        """Return why no GPU is used; ask `usable` for NVENC before."""
        reasons = [*self.faults(), *reversed(self._failures)]
        return reasons[0].error if reasons else EncoderUnavailableError("nvenc: no GPU of this machine works")

    def found(self) -> list[tuple[Device, EncoderError | None]]:
        """Return every GPU that CUDA shows, and why it is not used: those that work first, those without NVENC last."""
        self._find_gpus(Codec.H264)
        errors = {failure.device: failure.error for failure in self._failures if failure.codec is None}
        pairs = [(device, errors.get(device)) for device in self._gpus or ()]
        return sorted(pairs, key=lambda pair: (pair[1] is not None, isinstance(pair[1], NoEncodeDeviceError)))

    def lose(self, device: Device, error: EncoderError) -> None:
        """Stop using a GPU in this process: it fell off the bus."""
        self._failures.append(DeviceFailure(device, error))

    def faults(self) -> list[DeviceFailure]:
        """Return the failures of GPUs that ought to work, the latest last."""
        return [failure for failure in self._failures if failure.is_fault]

    @contextlib.contextmanager
    def hold(
        self, devices: Sequence[Device], *, weight: int, on_wait: Callable[[], None], around_gpus: GateWrap
    ) -> Iterator[tuple[Device, SessionSlot]]:
        """Hold a slot of the first of `devices` that has one free, all of them GPUs or all the CPU.

        Args:
            devices: At least one.
            weight: Slots to take.
            on_wait: Called while none is free; what it raises ends the wait.
            around_gpus: Puts another gate around that of the GPUs.

        Raises:
            SessionBusyError: None became free within the host's `wait_seconds`.
        """
        by_name = {device.gate.device: device for device in devices}
        gate: SessionGate = FirstFreeGate(tuple(device.gate for device in devices))
        if devices[0].gpu:
            gate = around_gpus(gate)
        with gate.hold(weight=weight, timeout_seconds=self._settings.wait_seconds, on_wait=on_wait) as slot:
            yield by_name[slot.device], slot

    def _find_gpus(self, codec: Codec) -> tuple[Device, ...]:
        with self._lock:
            if self._gpus is None:
                self._gpus = tuple(self._device(gpu) for gpu in self._list_gpus())
            if codec not in self._working:
                self._working[codec] = tuple(device for device in self._gpus if self._works(device, codec))
            return self._working[codec]

    def _list_gpus(self) -> tuple[Gpu, ...]:
        try:
            answers = self._ask(SurveyRequest(), locks=())
        except EncoderError as error:
            self._note(DeviceFailure(None, error))
            return ()
        return next((message.gpus for message in answers if isinstance(message, GpusFound)), ())

    def _note(self, failure: DeviceFailure) -> None:
        self._failures.append(failure)
        if failure.is_fault:
            log.warning("%s: not used: %s", failure.name, failure.error)
        elif failure.device:
            log.info("%s: not used for %s: %s", failure.name, failure.codec or "any codec", failure.error)

    def _ask(self, request: SessionRequest, *, locks: Sequence[int]) -> list[SessionMessage]:
        """Return what a session answers; ask again, as often as the policy says, after an error that may pass."""
        retries = 0
        while True:
            try:
                with self._launcher.start(locks=locks) as session:
                    return list(session.render(request, hang_seconds=self._probe_seconds()))
            except _PASSING as error:
                if not is_worth_retrying(error, retries=retries):
                    raise
                log.info("the GPUs are looked at again in a moment: %s", error)
            time.sleep(retry_delay_seconds(0))
            retries += 1

    def _works(self, device: Device, codec: Codec) -> bool:
        """Return whether a GPU's NVENC makes packets; a GPU whose sessions are all in use counts as one that does."""
        encoding = plan_encoding(
            Encoding(codec=codec, encoder=EncoderChoice.NVENC, preset=Preset.DRAFT),
            width_px=PROBE_PX[0],
            height_px=PROBE_PX[1],
            frame_rate=Fraction(30),
        )
        try:
            with device.gate.hold(timeout_seconds=0) as slot:
                self._ask(ProbeRequest(encoding, device.encoder, device.gpu), locks=slot.filenos())
        except (SessionBusyError, SessionLimitError):
            return True
        except EncoderError as error:
            is_refused = codec is not Codec.H264 and isinstance(error, EncoderSettingsError)
            self._note(DeviceFailure(device, error, codec if is_refused else None))
            return False
        return True

    def _probe_seconds(self) -> float:
        return min(PROBE_SECONDS, self._settings.hang_seconds)

    def _device(self, gpu: Gpu) -> Device:
        folder, (capacity, reason) = self._settings.lock_folder, self._gpu_sessions(gpu.uuid)
        limit = LearnedLimit(folder / f"{quote(gpu.uuid, safe='')}.limit")

        def allowed(ours: int) -> int:
            sessions = count_sessions(gpu.uuid)
            # One of ours counts as another program's from when it opens until it is marked: we wait a little then.
            others = 0 if sessions is None else max(0, sessions - ours)
            return min(capacity - others, limit.read() or capacity)

        gate = KernelLockGate(gpu.uuid, capacity=capacity, folder=folder, turn="nvenc", allowed=allowed)
        return Device(EncoderChoice.NVENC.value, gpu.uuid, f"{gpu.name} ({gpu.uuid})", gate, limit, reason)
