"""What NVML says of a GPU now: its driver, its memory, and whose encoder sessions there are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pynvml

from fanreel.sessions.gpus import ask_nvml

__all__ = ["EncoderSession", "GpuStatus", "list_nvml_gpus", "read_driver_version", "read_gpu_bytes", "read_status"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EncoderSession:
    """An encoder session of any program.

    Attributes:
        pid: Its process, as the driver counts them: in a container another one, or none, may have this number.
        process: The program's name; empty if it cannot be seen from here.
        ours: It is one of fanreel's.
    """

    pid: int
    process: str
    ours: bool

    def __str__(self) -> str:
        """Whose it is."""
        return "fanreel" if self.ours else f"{self.process or 'a process that is not seen here'} (pid {self.pid})"


@dataclass(frozen=True, slots=True)
class GpuStatus:
    """The state of a GPU now; None stands for what the driver does not say.

    Attributes:
        uuid: Of the GPU or the MIG instance.
        name: What its maker calls it.
        sessions: The open encoder sessions.
        encoder_fault: Why NVML does not list the sessions; empty if it does.
        encoder_percent: How busy the encoders were lately.
        used_bytes: Memory in use.
        total_bytes: Memory that there is.
        mig: Whether it is split into instances, or is one.
    """

    uuid: str
    name: str
    sessions: tuple[EncoderSession, ...] | None
    encoder_fault: str
    encoder_percent: int | None
    used_bytes: int | None
    total_bytes: int | None
    mig: bool | None


def read_driver_version() -> str:
    """Return the version of the NVIDIA driver, such as 570.86.15; empty if NVML does not say."""
    return _ask(pynvml.nvmlSystemGetDriverVersion) or ""


def list_nvml_gpus() -> tuple[str, ...]:
    """Return the UUID of every GPU that NVML sees, also of those that a process may not use."""
    handles = [_ask(pynvml.nvmlDeviceGetHandleByIndex, index) for index in range(_ask(pynvml.nvmlDeviceGetCount) or 0)]
    return tuple(uuid for handle in handles if handle and (uuid := _ask(pynvml.nvmlDeviceGetUUID, handle)))


def read_gpu_bytes(uuid: str) -> int | None:
    """Return the memory that all programs together use on a GPU; None for the CPU, or if NVML does not say."""
    handle = _ask(pynvml.nvmlDeviceGetHandleByUUID, uuid) if uuid else None
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle) if handle else None
    return int(memory.used) if memory else None


def read_status(uuid: str) -> GpuStatus | None:
    """Return what NVML says of a GPU; None if it does not know it."""
    handle = _ask(pynvml.nvmlDeviceGetHandleByUUID, uuid)
    if handle is None:
        return None
    sessions, fault = None, ""
    try:
        sessions = tuple(_describe(each.pid) for each in ask_nvml(pynvml.nvmlDeviceGetEncoderSessions, handle))
    except pynvml.NVMLError as error:
        fault = str(error)
    busy, memory = _ask(pynvml.nvmlDeviceGetEncoderUtilization, handle), _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    mode = _ask(pynvml.nvmlDeviceGetMigMode, handle)
    return GpuStatus(
        uuid=uuid,
        name=_ask(pynvml.nvmlDeviceGetName, handle) or "",
        sessions=sessions,
        encoder_fault=fault,
        encoder_percent=busy[0] if busy else None,
        used_bytes=int(memory.used) if memory else None,
        total_bytes=int(memory.total) if memory else None,
        mig=True if uuid.startswith("MIG-") else bool(mode[0]) if mode else None,
    )


def _ask(question: Callable[..., T], *arguments: Any) -> T | None:  # noqa: ANN401 -- NVML's handles have no type
    """Return what NVML answers; None if it is missing, or does not know."""
    with contextlib.suppress(pynvml.NVMLError):
        return ask_nvml(question, *arguments)
    return None


def _describe(pid: int) -> EncoderSession:
    # A session is a fork of fanreel's launcher, and carries its command line.
    words = _read(Path(f"/proc/{pid}/cmdline")).split("\0")
    return EncoderSession(pid, _read(Path(f"/proc/{pid}/comm")).strip(), "fanreel.sessions.session_server" in words)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""
