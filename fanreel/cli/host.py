"""The host that commands run on, and the commands that are about it: `fanreel doctor` and `fanreel calibrate`."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fanreel.cli.terminal import say
from fanreel.errors import EncoderError, RequestError, StorageError

if TYPE_CHECKING:
    from fanreel.host.host import Host

__all__ = ["add_calibrate", "add_doctor", "opened_host", "session_count"]

MOST_SESSIONS = 1024
"""As in the job."""


@contextlib.contextmanager
def opened_host() -> Iterator[Host]:
    """Yield this machine as the environment's settings describe it; end its sessions afterwards."""
    from fanreel.host.host import open_host
    from fanreel.settings import read_settings

    host = open_host(read_settings())
    with contextlib.closing(host.launcher):
        yield host


def add_doctor(doctor: argparse.ArgumentParser) -> None:
    """Give the parser of `fanreel doctor` its work."""
    doctor.set_defaults(run=_doctor)


def add_calibrate(calibrate: argparse.ArgumentParser) -> None:
    """Give the parser of `fanreel calibrate` its arguments and its work."""
    calibrate.add_argument("--ceiling", action="store_true", help="also look for the GPUs' session limit, up to 16")
    calibrate.add_argument(
        "--size", type=_size, default=(1920, 1080), metavar="WxH", help="of the film to measure with"
    )
    calibrate.add_argument("--seconds", type=float, default=3.0, help="how long each number of sessions is measured")
    calibrate.add_argument("--most", type=session_count, default=8, help="sessions of one GPU that are tried")
    calibrate.set_defaults(run=_calibrate)


def session_count(text: str) -> int:
    """Return the number of sessions that an argument gives.

    Raises:
        argparse.ArgumentTypeError: It is not a number from 0 to `MOST_SESSIONS`.
    """
    if not (text.isascii() and text.isdecimal() and int(text) <= MOST_SESSIONS):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a number from 0 to {MOST_SESSIONS}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in (width, height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a size such as 1920x1080")
    return int(width), int(height)


def _doctor(options: argparse.Namespace) -> int:
    from fanreel.host.doctor import diagnose

    marks = {True: "yes", False: "no", None: "-"}
    encoder_usable, storage_usable = False, True
    with opened_host() as host:
        for diagnosis in diagnose(host):
            encoder_usable |= diagnosis.subject in ("x264", "nvenc") and bool(diagnosis.usable)
            storage_usable &= diagnosis.subject not in ("store", "sessions") or bool(diagnosis.usable)
            print(f"{diagnosis.subject:<10} {marks[diagnosis.usable]:<4} {diagnosis.finding}")
    if not encoder_usable:
        return EncoderError.exit_code
    return 0 if storage_usable else StorageError.exit_code


def _calibrate(options: argparse.Namespace) -> int:
    from fanreel.host.calibrate import Effort, calibrate
    from fanreel.host.calibration_report import calibration_table, keep_calibration
    from fanreel.host.reference_film import ReferenceFilm

    if not 0.1 <= options.seconds <= 60 or options.most < 1:
        raise RequestError("--seconds is a number from 0.1 to 60, --most a number from 1")
    effort = Effort(ReferenceFilm(*options.size), seconds=options.seconds, most=options.most)
    with opened_host() as host:
        calibration = calibrate(host, ceiling=options.ceiling, effort=effort, on_line=say)
    kept = keep_calibration(calibration, host.settings.calibration)
    print(calibration_table(calibration), *(f"kept in {path}" for path in kept), sep="\n")
    if host.settings.gpu_sessions is not None:
        say(f"fanreel: FANREEL_GPU_SESSIONS is set, so films get {host.settings.gpu_sessions} sessions a GPU")
    for reason in calibration.left_out:
        say(f"fanreel: {reason}")
    return EncoderError.exit_code if calibration.left_out else 0
