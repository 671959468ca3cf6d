"""Doctor: which encoders this machine can use, and why not the others."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from fractions import Fraction

import av
import cv2
import imageio_ffmpeg
import numba

from fanreel.codecs import EncoderChoice
from fanreel.encode.encoder import open_encoder
from fanreel.errors import FanreelError, SessionBusyError
from fanreel.host.diagnosis import Diagnosis
from fanreel.host.gpu_doctor import diagnose_gpus
from fanreel.host.host import Host
from fanreel.job.encoding import Encoding, Preset
from fanreel.plan.encoding import plan_encoding

__all__ = ["Diagnosis", "diagnose"]

PROBE_PX = (320, 180)


def diagnose(host: Host) -> Iterator[Diagnosis]:
    """Yield what was found, one thing at a time, each by trying it."""
    yield Diagnosis("machine", None, f"{platform.machine()}, {host.capacity.reason}")
    yield Diagnosis("libraries", None, _libraries())
    yield _diagnose_x264()
    yield from diagnose_gpus(host)
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
            pass
        if not host.settings.remote_store:
            return Diagnosis("store", True, f"{host.settings.store} can be written")
        host.store.find_listed("0" * 64)  # asks the server; there is no such segment
        return Diagnosis(
            "store", True, f"{host.settings.remote_store} answers; {host.settings.store} can be written, its workspace"
        )
    except FanreelError as error:
        return Diagnosis("store", False, str(error))
