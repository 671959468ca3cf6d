"""A host: what one machine brings to rendering, opened once in each process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

from fanreel.host.calibration import read_calibration
from fanreel.plan.encoding import encoder_bytes_per_pixel
from fanreel.plan.film import FilmPlan
from fanreel.sessions.capacity import HostCapacity, SessionPlan, choose_sessions, read_capacity
from fanreel.sessions.devices import CPU, Devices
from fanreel.sessions.gate import KernelLockGate
from fanreel.sessions.gpu_status import read_driver_version
from fanreel.sessions.launcher import Launcher
from fanreel.settings import Settings, read_settings
from fanreel.store.open import open_store
from fanreel.store.segment_store import SegmentStore

__all__ = ["Host", "current_host", "open_host"]


UNCALIBRATED_SESSIONS = 2
"""Sessions of a GPU that was not measured: every NVENC bears two, and a single one leaves it idle between frames."""


@dataclass(frozen=True, slots=True)
class Host:
    """What rendering needs of a machine.

    Attributes:
        settings: What its operator decided.
        capacity: What this process may use of it.
        store: Where segments are kept.
        devices: The GPUs and the CPU that encode on it.
        gate: Bounds the encoder sessions on its CPU; one slot a core.
        launcher: Starts session processes.
    """

    settings: Settings
    capacity: HostCapacity
    store: SegmentStore
    devices: Devices
    gate: KernelLockGate
    launcher: Launcher

    def sessions_for(self, plan: FilmPlan, *, segment_count: int, gpu_sessions: int = 0) -> SessionPlan:
        """Return how many sessions may make `segment_count` segments of a film side by side.

        Args:
            plan: The film.
            segment_count: How many of its segments have to be made.
            gpu_sessions: NVENC sessions that there may be; 0 if the CPU encodes.
        """
        caps = [(plan.session_cap, "the job's sessions"), (self.settings.session_cap, "NUM_NVENC_STREAMS")]
        cap, cap_name = min((pair for pair in caps if pair[0]), default=caps[0])
        return choose_sessions(
            self.capacity,
            width_px=plan.encoding.width_px,
            height_px=plan.encoding.height_px,
            segment_count=max(1, segment_count),
            cap=cap,
            cap_name=cap_name,
            gpu_sessions=gpu_sessions,
            bytes_per_pixel=encoder_bytes_per_pixel(plan.encoding),
            largest_photo_px=max(clip.content.decoded_px for clip in plan.timeline.clips),
        )


def open_host(settings: Settings, *, launcher: Launcher | None = None) -> Host:
    """Return this machine as a host. Starts nothing.

    Args:
        settings: What its operator decided.
        launcher: Starts its sessions; a new one if not given.
    """
    capacity, launcher = read_capacity(), launcher or Launcher()
    gate = KernelLockGate(CPU, capacity=capacity.cores, folder=settings.lock_folder)
    return Host(
        settings=settings,
        capacity=capacity,
        store=open_store(settings),
        devices=Devices(settings, cpu_gate=gate, launcher=launcher, gpu_sessions=partial(_gpu_sessions, settings)),
        gate=gate,
        launcher=launcher,
    )


def _gpu_sessions(settings: Settings, uuid: str) -> tuple[int, str]:
    """Return how many sessions a GPU may have, and what decided that."""
    if settings.gpu_sessions is not None:
        return settings.gpu_sessions, "FANREEL_GPU_SESSIONS"
    calibration = read_calibration(settings.calibration)
    measured = calibration.find(uuid, driver=read_driver_version()) if calibration else None
    if measured is None:
        return UNCALIBRATED_SESSIONS, f"not calibrated: {UNCALIBRATED_SESSIONS} a GPU"
    return measured.sessions, "calibrated"


@lru_cache(maxsize=1)
def current_host() -> Host:
    """Return the host of this process, opened from the environment when it is first asked for."""
    return open_host(read_settings())
