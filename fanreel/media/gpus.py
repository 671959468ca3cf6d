"""The GPUs of this machine: as CUDA shows them to a process, and as NVML knows them.

CUDA decides what a session can use (`CUDA_VISIBLE_DEVICES`, containers, MIG), but leaves its state in the process that
asks, so only a session's does. NVML sees other programs' sessions too, and may be asked by anyone at any time.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import threading
import uuid
from dataclasses import dataclass

import pynvml

from fanreel.errors import DriverError, NoEncodeDeviceError

__all__ = ["Gpu", "count_sessions", "list_gpus", "nvml_is_open"]

_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or an instance of one that is partitioned (MIG).

    Attributes:
        uuid: ``GPU-...`` or ``MIG-...``, as ``nvidia-smi -L`` shows it.
        name: What its maker calls it.
    """

    uuid: str
    name: str


def list_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that CUDA shows this process, in its order.

    Raises:
        DriverError: There is no driver.
        NoEncodeDeviceError: There is a driver and no GPU that it shows.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DriverError(f"nvenc: no NVIDIA driver: {error}; install it, or ask for the encoder x264") from None
    count = ctypes.c_int()
    if (code := cuda.cuInit(0)) or (code := cuda.cuDeviceGetCount(ctypes.byref(count))):
        raise NoEncodeDeviceError(f"nvenc: the NVIDIA driver shows no GPU: {_cuda_error(cuda, code)}")
    return tuple(_describe_gpu(cuda, index) for index in range(count.value))


def _describe_gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    device, name, raw = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES), (ctypes.c_ubyte * 16)()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, _NAME_BYTES, device)
    # The second version gives an instance's own UUID where a GPU is partitioned, the first one the whole GPU's.
    read = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    read(ctypes.byref(raw), device)
    text = name.value.decode(errors="replace")
    kind = "MIG" if re.search(r"\bMIG\b", text) else "GPU"
    return Gpu(f"{kind}-{uuid.UUID(bytes=bytes(raw))}", text)


def _cuda_error(cuda: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    cuda.cuGetErrorName(code, ctypes.byref(text))
    return (text.value or f"CUDA error {code}".encode()).decode(errors="replace")


class _Nvml:
    """NVML, opened when it is first asked; missing, it knows nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open: bool | None = None

    def is_open(self) -> bool:
        with self._lock:
            if self._is_open is None:
                self._is_open = False
                with contextlib.suppress(pynvml.NVMLError):
                    pynvml.nvmlInit()
                    self._is_open = True
            return self._is_open


_nvml = _Nvml()


def nvml_is_open() -> bool:
    """Return whether NVML can be asked."""
    return _nvml.is_open()


def count_sessions(uuid: str) -> int | None:
    """Return how many encoder sessions all programs together have open on a GPU; None if nobody knows."""
    if not _nvml.is_open():
        return None
    with contextlib.suppress(pynvml.NVMLError):
        return pynvml.nvmlDeviceGetEncoderStats(pynvml.nvmlDeviceGetHandleByUUID(uuid))[0]
    return None
