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
from fanreel.job.slideshow import Encoding, Preset
from fanreel.plan.encoding import plan_encoding
from fanreel.policy import is_worth_retrying, retry_delay_seconds
from fanreel.sessions.gate import FirstFreeGate, KernelLockGate, SessionGate, SessionSlot
from fanreel.sessions.gpus import Gpu, count_sessions
from fanreel.sessions.launcher import Launcher
from fanreel.sessions.learned_limit import LearnedLimit
from fanreel.sessions.messages import GpusFound, ProbeRequest, SessionMessage, SessionRequest, SurveyRequest
from fanreel.settings import Settings

__all__ = ["CPU", "Device", "Devices", "GateWrap"]

log = logging.getLogger(__name__)

GateWrap = Callable[[SessionGate], SessionGate]
"""Puts a gate around another one: whoever passes holds both."""

CPU = "cpu"

PROBE_PX = (320, 180)
"""Above the smallest frame that NVENC takes (about 145 x 49). Source: NVENC's own refusals."""

PROBE_SECONDS = 30.0
"""A driver that needs longer for its first frame does not work; loading it takes a second or two."""

_PASSING = (EncoderBusyError, EncodeFaultError, SessionLostError)
"""What a moment's trouble shows itself as. A look that hangs is not repeated: everything else waits for it."""


@dataclass(frozen=True, slots=True)
class Device:
    """One that encodes.

    Attributes:
        encoder: The encoder that runs on it.
        gpu: UUID of the GPU; empty for the CPU.
        name: For people.
        gate: Who may open a session on it.
        limit: What was learned of a GPU's session limit; None for the CPU.
        capacity_reason: Where the number of a GPU's sessions came from; empty for the CPU.
    """

    encoder: str
    gpu: str
    name: str
    gate: KernelLockGate
    limit: LearnedLimit | None = None
    capacity_reason: str = ""

    def note_refusal(self) -> None:
        """Remember that the driver refused the session for which a slot is held now."""
        if self.limit is not None:
            self.limit.learn(self.gate.slots_in_use() - 1)


class Devices:
    """What can encode here. GPUs are looked for, and tried, when they are first asked for; thread-safe.

    Args:
        settings: What the host's operator decided.
        cpu_gate: Who may open a session on the CPU.
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
        self._faults: dict[Device, EncoderError] = {}
        self._without: dict[Device, EncoderError] = {}
        self._refusal: EncoderError | None = None

    def usable(self, encoders: Collection[str], *, codec: Codec = Codec.H264) -> tuple[Device, ...]:
        """Return the devices that make `codec` with one of `encoders`, GPUs first."""
        gpus = self._find_gpus(codec) if EncoderChoice.NVENC.value in encoders else ()
        found = [device for device in gpus if device not in self._faults]
        on_cpu = [encoder for encoder in encoders if encoder != EncoderChoice.NVENC]
        return (*found, *(replace(self._cpu, encoder=encoder) for encoder in on_cpu))

    def why_no_gpu(self) -> EncoderError:
        """Return why no GPU is used; after `usable` was asked for NVENC."""
        fault = next(iter(self._faults.values()), None)
        return fault or self._refusal or EncoderUnavailableError("nvenc: no GPU of this machine works")

    def found(self) -> list[tuple[Device, EncoderError | None]]:
        """Return every GPU that CUDA shows, with why it is not used: it has no NVENC, or ought to work and does not."""
        works = [(gpu, self._faults.get(gpu)) for gpu in self._find_gpus(Codec.H264)]
        faulty = [pair for pair in self._faults.items() if pair[0].gpu and pair not in works]
        return [*works, *faulty, *self._without.items()]

    def lose(self, device: Device, error: EncoderError) -> None:
        """Use a GPU no more in this process: it fell off the bus."""
        self._faults[device] = error

    def faults(self) -> list[tuple[Device, EncoderError]]:
        """Return the GPUs that ought to work and do not, with the reason; one without NVENC is not among them."""
        return list(self._faults.items())

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
                self._gpus = tuple(self._device(gpu) for gpu in self._survey())
            if codec not in self._working:
                self._working[codec] = tuple(device for device in self._gpus if self._works(device, codec))
            return self._working[codec]

    def _survey(self) -> tuple[Gpu, ...]:
        try:
            said = self._ask(SurveyRequest(), locks=())
        except EncoderError as error:
            self._refusal = error
            # No driver and no GPU are no fault; a driver that hangs, or fails, is one, of GPUs that nobody can name.
            if not isinstance(error, NoEncodeDeviceError) and (error.code or not isinstance(error, DriverError)):
                log.warning("no GPU is used: %s", error)
                unknown = replace(self._cpu, encoder=EncoderChoice.NVENC.value, name="the GPUs of this machine")
                self._faults[unknown] = error
            return ()
        return next((message.gpus for message in said if isinstance(message, GpusFound)), ())

    def _ask(self, request: SessionRequest, *, locks: Sequence[int]) -> list[SessionMessage]:
        """Return what a session answers; it is asked again, as often as the policy says, if what failed may pass."""
        retries = 0
        while True:
            try:
                with self._launcher.start(locks=locks) as session:
                    return list(session.render(request, hang_seconds=self._probe_seconds()))
            except _PASSING as error:
                if not is_worth_retrying(error, retries=retries):
                    raise
                log.info("looked at again in a moment: %s", error)
            time.sleep(retry_delay_seconds(0))
            retries += 1

    def _works(self, device: Device, codec: Codec) -> bool:
        """Return whether a GPU's NVENC makes packets. One whose sessions are all taken does."""
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
        except NoEncodeDeviceError as error:
            log.info("%s is not used: %s", device.name, error)
            self._refusal = self._without[device] = error
            return False
        except EncoderError as error:
            if codec is not Codec.H264 and isinstance(error, EncoderSettingsError):
                log.info("%s does not make %s: %s", device.name, codec, error)
                self._refusal = error
                return False
            log.warning("%s is not used: %s", device.name, error)
            self._faults[device] = error
            return False
        return True

    def _probe_seconds(self) -> float:
        return min(PROBE_SECONDS, self._settings.hang_seconds)

    def _device(self, gpu: Gpu) -> Device:
        folder, (capacity, reason) = self._settings.lock_folder, self._gpu_sessions(gpu.uuid)
        limit = LearnedLimit(folder / f"{quote(gpu.uuid, safe='')}.limit")

        def allowed(ours: int) -> int:
            sessions = count_sessions(gpu.uuid)
            # One of ours that is open and not yet known to be counts as another's for a moment: we wait a little.
            others = 0 if sessions is None else max(0, sessions - ours)
            return min(capacity - others, limit.read() or capacity)

        gate = KernelLockGate(gpu.uuid, capacity=capacity, folder=folder, turn="nvenc", allowed=allowed)
        return Device(EncoderChoice.NVENC.value, gpu.uuid, f"{gpu.name} ({gpu.uuid})", gate, limit, reason)
