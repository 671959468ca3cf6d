"""Doctor: what this machine can encode with, and why not with what it cannot."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import ffmpeg
import imageio_ffmpeg
import numba
import pynvml

from fanreel.errors import FanreelError, SessionBusyError
from fanreel.job import EncoderChoice, Encoding, Preset
from fanreel.media.encoder import open_encoder
from fanreel.media.host import Host
from fanreel.plan.encoding import plan_encoding

__all__ = ["Diagnosis", "diagnose"]

PROBE_SECONDS = 30.0
PROBE_PX = (320, 180)
"""Above the smallest frame that NVENC takes (about 145 x 49)."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes:
        subject: What.
        usable: Whether films can be made with it; None if it is only for information.
        finding: What was found, and what to do if it is not usable.
    """

    subject: str
    usable: bool | None
    finding: str


def diagnose(host: Host) -> Iterator[Diagnosis]:
    """Yield what was found, one thing at a time, each by trying it."""
    yield Diagnosis("machine", None, f"{platform.machine()}, {host.capacity.reason}")
    yield Diagnosis("libraries", None, _libraries())
    yield _diagnose_x264()
    yield _diagnose_nvenc()
    yield from _diagnose_gpus()
    yield _diagnose_sessions(host)
    yield _diagnose_store(host)


def _libraries() -> str:
    try:
        ffmpeg_version = imageio_ffmpeg.get_ffmpeg_version()
    except (RuntimeError, OSError):  # none in the package for this machine, none installed
        ffmpeg_version = "missing"
    return f"PyAV {av.__version__}, ffmpeg {ffmpeg_version}, OpenCV {cv2.__version__}, numba {numba.__version__}"


def _diagnose_x264() -> Diagnosis:
    encoding = Encoding(encoder=EncoderChoice.X264, preset=Preset.DRAFT)
    plan = plan_encoding(encoding, width_px=PROBE_PX[0], height_px=PROBE_PX[1], frame_rate=Fraction(30))
    try:
        encoder = open_encoder(plan, encoder=EncoderChoice.X264, threads=1)
        packets = [*encoder.encode(lambda planes: None, keyframe=True), *encoder.finish()]
    except FanreelError as error:
        return Diagnosis("x264", False, str(error))
    return Diagnosis("x264", bool(packets), "encoded a test frame" if packets else "gave no packet for a test frame")


def _diagnose_nvenc() -> Diagnosis:
    """Try a real encode: `h264_nvenc` is listed among the encoders even where there is no driver."""
    picture = ffmpeg.input(f"testsrc2=size={PROBE_PX[0]}x{PROBE_PX[1]}:rate=30", f="lavfi", t=0.2)
    output = ffmpeg.output(picture, "-", f="null", vcodec="h264_nvenc")
    try:
        done = subprocess.run(
            [*output.compile(cmd=imageio_ffmpeg.get_ffmpeg_exe()), "-nostdin", "-hide_banner"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Diagnosis("nvenc", False, f"a test encode hung for {PROBE_SECONDS:g} s; look at the driver")
    except (RuntimeError, OSError) as error:
        return Diagnosis("nvenc", False, f"no ffmpeg to try it with: {error}")
    if done.returncode == 0:
        return Diagnosis("nvenc", None, "ffmpeg encoded a test clip, but fanreel does not use NVENC yet")
    lines = done.stderr.decode(errors="replace").splitlines()
    reasons = [line.split("] ", 1)[-1] for line in lines if line.startswith("[h264_nvenc @")] or lines[-1:]
    return Diagnosis("nvenc", False, "; ".join(reasons))


def _diagnose_gpus() -> Iterator[Diagnosis]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield Diagnosis("gpu", False, f"none seen by NVML: {error}")
        return
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        for index in range(pynvml.nvmlDeviceGetCount()):
            device = pynvml.nvmlDeviceGetHandleByIndex(index)
            name, uuid = pynvml.nvmlDeviceGetName(device), pynvml.nvmlDeviceGetUUID(device)
            yield Diagnosis("gpu", None, f"{name}, {uuid}, driver {driver}, {_encoder_sessions(device)}")
    except pynvml.NVMLError as error:
        yield Diagnosis("gpu", False, f"NVML failed: {error}")
    finally:
        pynvml.nvmlShutdown()


def _encoder_sessions(device: object) -> str:
    try:
        count, fps, _ = pynvml.nvmlDeviceGetEncoderStats(device)
    except pynvml.NVMLError as error:
        return f"no encoder statistics ({error})"
    return f"{count} encoder sessions at {fps} fps"


def _diagnose_sessions(host: Host) -> Diagnosis:
    try:
        with host.gate.hold(timeout_seconds=0):
            return Diagnosis("sessions", True, f"one is free; locks in {host.settings.lock_folder}")
    except SessionBusyError:
        return Diagnosis("sessions", True, "all are in use now, by films that are being made")
    except FanreelError as error:
        return Diagnosis("sessions", False, str(error))


def _diagnose_store(host: Host) -> Diagnosis:
    try:
        with host.store.scratch():
            return Diagnosis("store", True, f"{host.settings.store} can be written")
    except FanreelError as error:
        return Diagnosis("store", False, str(error))
