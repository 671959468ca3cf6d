"""The GPUs of this machine: as CUDA shows them to a process, and as NVML knows them.

CUDA decides what a session can use (`CUDA_VISIBLE_DEVICES`, containers, MIG), but leaves its state in the process that
asks, so only a session's does. NVML sees other programs' sessions too, and may be asked by anyone at any time.
"""

from __future__ import annotations

import ctypes
import logging
import queue
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pynvml

from fanreel.encode.nvenc_faults import classify_fault
from fanreel.errors import DriverError, EncoderError, NoEncodeDeviceError

__all__ = ["Gpu", "ask_nvml", "count_sessions", "list_gpus", "nvml_is_open"]

log = logging.getLogger(__name__)

T = TypeVar("T")

NVML_SECONDS = 5.0
"""NVML answers within milliseconds; after a fault of a GPU or its driver it may never answer, nor does nvidia-smi."""

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
        NoEncodeDeviceError: The driver shows no GPU.
        EncoderError: CUDA failed otherwise; the class is the one that `classify_fault` finds.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DriverError(f"nvenc: no NVIDIA driver: {error}; install it, or ask for the encoder x264") from None
    count = ctypes.c_int()
    if (code := cuda.cuInit(0)) or (code := cuda.cuDeviceGetCount(ctypes.byref(count))):
        raise _explain(_cuda_error(cuda, code))
    return tuple(_describe_gpu(cuda, index) for index in range(count.value))


def _explain(said: str) -> EncoderError:
    fault = classify_fault("the look for GPUs", [f"cuInit failed -> {said}"])
    if isinstance(fault, NoEncodeDeviceError):
        return NoEncodeDeviceError(
            f"nvenc: the NVIDIA driver shows no GPU: {said}; CUDA_VISIBLE_DEVICES, if it is set, has to name each once"
        )
    return fault


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
    """NVML, opened at the first question; if it is missing, or once does not answer, it is not asked again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open: bool | None = None

    def is_open(self) -> bool:
        with self._lock:
            if self._is_open is None:
                try:
                    _bounded(pynvml.nvmlInit)
                    self._is_open = True
                except pynvml.NVMLError as error:
                    self._is_open = False
                    _warn_if_silent(error)
            return self._is_open

    def ask(self, question: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 -- NVML's handles have no type
        if not self.is_open():
            raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
        try:
            return _bounded(question, *arguments)
        except pynvml.NVMLError as error:
            with self._lock:
                self._is_open = self._is_open and not _warn_if_silent(error)
            raise


_nvml = _Nvml()


def _bounded(question: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 -- as above
    """Return NVML's answer; a question that it does not answer in time is left behind in a thread of its own."""
    answers: queue.SimpleQueue[tuple[T | None, Exception | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((question(*arguments), None))
        except Exception as error:  # noqa: BLE001 -- raised where it was asked
            answers.put((None, error))

    threading.Thread(target=ask, name="NVML", daemon=True).start()
    try:
        answer, error = answers.get(timeout=NVML_SECONDS)
    except queue.Empty:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def _warn_if_silent(error: pynvml.NVMLError) -> bool:
    is_silent = vars(error).get("value") == pynvml.NVML_ERROR_TIMEOUT
    if is_silent:
        log.warning("NVML of the NVIDIA driver does not answer; other programs' sessions are not known from now on")
    return is_silent


def nvml_is_open() -> bool:
    """Return whether NVML can be asked."""
    return _nvml.is_open()


def ask_nvml(question: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 -- as above
    """Return what NVML answers to a function of `pynvml`.

    Raises:
        NVMLError: It is missing, does not know, or does not answer.
    """
    return _nvml.ask(question, *arguments)


def count_sessions(uuid: str) -> int | None:
    """Return how many encoder sessions all programs together have open on a GPU; None if nobody knows."""
    try:
        return ask_nvml(lambda: pynvml.nvmlDeviceGetEncoderStats(pynvml.nvmlDeviceGetHandleByUUID(uuid))[0])
    except pynvml.NVMLError:
        return None
