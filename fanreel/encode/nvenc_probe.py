"""What an NVENC session says of its GPU. Asked inside a session's process only: the driver leaves its state there."""

from __future__ import annotations

import contextlib
import ctypes
from fractions import Fraction

import av
import av.error
import numpy as np

from fanreel.encode.libav import open_context
from fanreel.encode.nvenc_faults import classify_fault
from fanreel.errors import EncodeFaultError
from fanreel.job.encoding import Encoding, Preset
from fanreel.plan.encoding import plan_encoding

__all__ = ["count_engines", "try_codec"]

PROBE_FRAMES = 8
PROBE_PX = (320, 180)
"""Above the smallest frame that NVENC takes, in every codec."""

_API = 11 | 1 << 24
"""Version 11.1, the first that knows how to ask for engines; newer drivers speak it. Source: nvEncodeAPI.h."""

_GET_CAPS, _DESTROY, _OPEN = 7, 27, 29
"""Places in NV_ENCODE_API_FUNCTION_LIST. Source: nvEncodeAPI.h."""

_CUDA, _NUM_ENCODER_ENGINES = 1, 49
"""NV_ENC_DEVICE_TYPE_CUDA and NV_ENC_CAPS_NUM_ENCODER_ENGINES."""


def try_codec(codec: str) -> None:
    """Encode a few frames for real: a codec is listed, and may even open, where it makes nothing.

    Args:
        codec: FFmpeg's name of the encoder.

    Raises:
        EncoderError: It does not work here, in the class that `classify_fault` finds.
    """
    width_px, height_px = PROBE_PX
    plan = plan_encoding(Encoding(preset=Preset.DRAFT), width_px=width_px, height_px=height_px, frame_rate=Fraction(30))
    context = open_context(
        plan,
        encoder=codec,
        pixel_format="nv12",
        threads=1,
        options={"gpu": "0"},
        explain=lambda _, said: classify_fault(codec, said),
    )
    grey = av.VideoFrame.from_ndarray(np.full((height_px * 3 // 2, width_px), 128, np.uint8), format="nv12")
    packets = 0
    try:
        for frame in [*range(PROBE_FRAMES), None]:
            if frame is not None:
                grey.pts, grey.time_base = frame, context.time_base
            packets += sum(bool(packet.size) for packet in context.encode(None if frame is None else grey))
    except av.error.FFmpegError as error:
        raise classify_fault(codec, [str(error)]) from None
    if packets < PROBE_FRAMES:
        raise EncodeFaultError(f"{codec} made {packets} packets of {PROBE_FRAMES} test frames")


class _Guid(ctypes.Structure):
    _fields_ = (("a", ctypes.c_uint32), ("b", ctypes.c_uint16), ("c", ctypes.c_uint16), ("d", ctypes.c_ubyte * 8))


class _Functions(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("reserved", ctypes.c_uint32), ("calls", ctypes.c_void_p * 318))


class _OpenParameters(ctypes.Structure):
    _fields_ = (
        *(("version", ctypes.c_uint32), ("kind", ctypes.c_uint32), ("device", ctypes.c_void_p)),
        *(("reserved", ctypes.c_void_p), ("api", ctypes.c_uint32), ("reserved1", ctypes.c_uint32 * 253)),
        ("reserved2", ctypes.c_void_p * 64),
    )


class _CapsParameters(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("asked", ctypes.c_uint32), ("reserved", ctypes.c_uint32 * 62))


_H264 = _Guid(0x6BC82762, 0x4E63, 0x4CA4, (ctypes.c_ubyte * 8)(0xAA, 0x85, 0x1E, 0x50, 0xF3, 0x21, 0xF6, 0xBF))


def count_engines() -> int | None:
    """Return how many NVENC engines the GPU of this process has; None if the driver does not say.

    NVML does not know; only a session may be asked. Source: nvEncodeAPI.h, NV_ENC_CAPS_NUM_ENCODER_ENGINES.
    """
    with contextlib.suppress(OSError, AttributeError):
        cuda, nvenc = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libnvidia-encode.so.1")
        device, context = ctypes.c_int(), ctypes.c_void_p()
        if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
            return None
        if cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device):
            return None
        functions = _Functions(version=_version(2))
        if nvenc.NvEncodeAPICreateInstance(ctypes.byref(functions)):
            return None
        return _ask_engines(functions, context)
    return None


def _ask_engines(functions: _Functions, context: ctypes.c_void_p) -> int | None:
    pointer = ctypes.c_void_p
    opened = _OpenParameters(version=_version(1), kind=_CUDA, device=context, api=_API)
    session, value = pointer(), ctypes.c_int()
    calls = functions.calls
    open_session = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)(calls[_OPEN])
    get_caps = ctypes.CFUNCTYPE(ctypes.c_int, pointer, _Guid, pointer, pointer)(calls[_GET_CAPS])
    destroy = ctypes.CFUNCTYPE(ctypes.c_int, pointer)(calls[_DESTROY])
    if open_session(ctypes.addressof(opened), ctypes.addressof(session)) or not session.value:
        return None
    asked = _CapsParameters(version=_version(1), asked=_NUM_ENCODER_ENGINES)
    code = get_caps(session, _H264, ctypes.addressof(asked), ctypes.addressof(value))
    destroy(session)
    return value.value if not code and 0 < value.value < 100 else None


def _version(of_struct: int) -> int:
    return _API | of_struct << 16 | 7 << 28
