"""What NVENC's clients say when something fails, as error classes.

Neither exit codes nor errno tell these apart: FFmpeg gives one number for a full session limit, for no encoder and
for a frame that is too wide. The number in brackets in the lines that it says is the driver's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fanreel.errors import (
    DriverError,
    EncodeFaultError,
    EncoderBusyError,
    EncoderError,
    EncoderSettingsError,
    GpuLostError,
    NoEncodeDeviceError,
    SessionLimitError,
)

__all__ = ["classify_fault"]

_BY_CODE: dict[int, tuple[type[EncoderError], str]] = {
    1: (NoEncodeDeviceError, "this GPU has no NVENC, or the container lacks NVIDIA_DRIVER_CAPABILITIES=video"),
    2: (NoEncodeDeviceError, "this GPU has no NVENC (A100, H100 and H200 have none)"),
    5: (GpuLostError, "the GPU is gone; look at the kernel's log for Xid errors"),
    8: (EncoderSettingsError, "ask for another size, preset or quality, or for the encoder x264"),
    10: (SessionLimitError, "the driver's limit of sessions is reached, or the GPU's memory is full"),
    12: (EncoderSettingsError, "this GPU has no such codec, profile or size; ask for the encoder x264"),
    13: (EncoderBusyError, "it passes"),
    15: (DriverError, "update the NVIDIA driver, after an update restart, or install a PyAV built for an older one"),
    18: (EncoderBusyError, "it passes"),
    20: (EncodeFaultError, "a new session may do"),
    21: (SessionLimitError, "the driver's limit of sessions is reached"),
}
"""What each of the driver's numbers means for us, and what to do. Source: nvEncodeAPI.h, NVENCSTATUS."""

_BY_TEXT: tuple[tuple[str, int], ...] = (
    (r"Cannot load (libcuda|libnvidia-encode|nvcuda|nvEncodeAPI)", 0),
    (r"does not support the required nvenc API version|Cannot load (cu|Nv)[A-Z]|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", 15),
    (r"CUDA_ERROR_(NO_DEVICE|INVALID_DEVICE)|No CUDA capable devices found", 1),
    (r"CUDA_ERROR_(DEVICE_UNAVAILABLE|UNKNOWN|SYSTEM_NOT_READY|ECC_UNCORRECTABLE|LAUNCH_FAILED)", 5),
    (r"CUDA_ERROR_OUT_OF_MEMORY", 10),
    (r"not supported|Unsupported|exceeds? \d|doesn't support required NVENC features", 12),
    (r"No capable devices found", 2),
    (r"Error setting|Undefined constant|Invalid argument|out of range", 8),
)
"""What is said without a number, and the number that means the same; 0: the driver is missing."""

# "what failed: name (number): details"; not everything that fails is said to: "Cannot get the preset configuration".
_NUMBER = re.compile(r"(?:\b(?:failed|error)[^()]*|: [a-z ]+)\((\d{1,2})\)", re.IGNORECASE)


def classify_fault(doing: str, said: Sequence[str]) -> EncoderError:
    """Return the error that libavcodec's lines amount to; its `code` is the driver's number, 0 if there is none.

    Args:
        doing: What was asked of NVENC, for the message.
        said: The lines, the first cause first.
    """
    code = _find_code(said)
    text = "; ".join(line.removesuffix(": (no details)").rstrip(": ") for line in said)
    if code == 0:
        return DriverError(f"no NVIDIA driver for NVENC: {text}; install it, or ask for the encoder x264")
    kind, advice = _BY_CODE.get(code or 0, (EncodeFaultError, "a new session may do"))
    fault = kind(f"nvenc: {doing}: {text}; {advice}")
    fault.code = code or 0
    return fault


def _find_code(said: Sequence[str]) -> int | None:
    """Return the driver's number, 0 for a missing driver, None for what we do not know."""
    for line in said:
        if found := _NUMBER.search(line):
            return int(found[1])
    for pattern, code in _BY_TEXT:
        if any(re.search(pattern, line) for line in said):
            return code
    return None
