"""A host's calibration: how fast its encoders are with how many sessions, and the file that keeps it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fanreel.dispatch.pools import DeviceKind, MeasuredSpeed
from fanreel.errors import storage_error

__all__ = [
    "Calibration",
    "CurvePoint",
    "DeviceCalibration",
    "calibration_from_json",
    "calibration_speeds",
    "calibration_to_json",
    "find_knee",
    "read_calibration",
    "write_calibration",
    "write_whole",
]

log = logging.getLogger(__name__)

FORMAT = 1
"""Raised when files of earlier versions would be misread; such a file is then ignored."""

KNEE_SHARE = 0.95
"""The knee reaches this share of the best throughput; further sessions cost memory and gain next to nothing."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """How fast a number of sessions is that run at once, and what they take.

    Attributes:
        sessions: At least 1.
        fps: Frames a second of all of them together.
        gpu_bytes: GPU memory that all of them took; None if the driver does not say, or there is no GPU.
        session_bytes: Memory of one session's process (PSS, the mean); None if the kernel does not say.
    """

    sessions: int
    fps: float
    gpu_bytes: int | None = None
    session_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceCalibration:
    """What was measured of one device.

    Attributes:
        device: UUID of a GPU, or "cpu".
        name: For people.
        encoder: The encoder that ran on it.
        driver: Version of the NVIDIA driver; empty for the CPU, and where NVML does not say.
        pyav: Version of PyAV.
        measured_at: When.
        film: What was encoded, in words.
        curve: By number of sessions, ascending; at least one point.
        knee: The fewest sessions that come close to the best throughput.
        limit: How many sessions at once the driver allows; None if it refused none of `tried`.
        tried: The most sessions that were asked for at once.
        engines: NVENC engines of the GPU; None if not known.
    """

    device: str
    name: str
    encoder: str
    driver: str
    pyav: str
    measured_at: datetime
    film: str
    curve: tuple[CurvePoint, ...]
    knee: int
    limit: int | None = None
    tried: int = 0
    engines: int | None = None

    @property
    def sessions(self) -> int:
        """How many sessions to run on it at once, at least 1."""
        return max(1, self.knee if self.limit is None else min(self.knee, self.limit))

    @property
    def best(self) -> CurvePoint:
        """The point of the knee."""
        return next((point for point in self.curve if point.sessions == self.knee), self.curve[-1])

    @property
    def gpu_bytes_a_session(self) -> int | None:
        """GPU memory of one session: the mean at the largest number that was measured; None if not known."""
        known = [point for point in self.curve if point.gpu_bytes is not None]
        return max(0, (known[-1].gpu_bytes or 0) // known[-1].sessions) if known else None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured of one host.

    Attributes:
        host: Its name.
        devices: Each once, GPUs first.
        left_out: Why something that was asked for could not be measured, this time; one line each.
    """

    host: str
    devices: tuple[DeviceCalibration, ...]
    left_out: tuple[str, ...] = ()
    format: int = FORMAT

    def find(self, device: str, *, driver: str) -> DeviceCalibration | None:
        """Return what was measured of a device with this version of its driver, if anything was."""
        found = (each for each in self.devices if each.device == device and each.driver == driver)
        return next(found, None)

    def without_curves(self) -> Calibration:
        """Return this calibration with the knee as each curve's only point: short enough for any place."""
        return replace(self, devices=tuple(replace(each, curve=(each.best,)) for each in self.devices))

    def replacing(self, older: Calibration | None) -> Calibration:
        """Return this calibration with the devices of `older` that it lacks."""
        known = {each.device for each in self.devices}
        kept = [each for each in older.devices if each.device not in known] if older else []
        gpus_first = sorted([*self.devices, *kept], key=lambda each: not each.driver)
        return replace(self, devices=tuple(gpus_first))


def find_knee(curve: Sequence[CurvePoint]) -> int:
    """Return the fewest sessions whose throughput is within 5 % of the best of the curve, which has a point."""
    best = max(point.fps for point in curve)
    return min(point.sessions for point in curve if point.fps >= KNEE_SHARE * best)


_CALIBRATION = TypeAdapter(Calibration)


def calibration_to_json(calibration: Calibration, *, indent: int | None = None) -> bytes:
    """Return a calibration as JSON; `calibration_from_json` returns an equal one."""
    return _CALIBRATION.dump_json(calibration, indent=indent)


def calibration_from_json(text: bytes) -> Calibration:
    """Return the calibration that `text` holds.

    Raises:
        ValueError: It is no calibration, or one that another version of fanreel wrote.
    """
    found = _CALIBRATION.validate_json(text)
    if found.format != FORMAT:
        raise ValueError(f"a calibration of format {found.format}, not {FORMAT}")
    for device in found.devices:
        counts = [device.knee, *(point.sessions for point in device.curve)]
        if not device.curve or min(counts) < 1 or max(counts) > 1024 or (device.limit or 1) < 1:
            raise ValueError(f"the numbers of {device.device} make no sense")
    return found


def calibration_speeds(calibration: Calibration) -> list[MeasuredSpeed]:
    """Return how fast one session is on each device of a host that runs as many sessions as it should."""
    speeds: list[MeasuredSpeed] = []
    for device in calibration.devices:
        if size := re.match(r"([1-9][0-9]{1,4})x([1-9][0-9]{1,4}) ", device.film):
            kind = DeviceKind.GPU if device.device != "cpu" else DeviceKind.CPU
            speeds.append(MeasuredSpeed(kind, device.best.fps / device.best.sessions * int(size[1]) * int(size[2])))
    return speeds


def read_calibration(path: Path | None) -> Calibration | None:
    """Return the calibration in a file; None if there is no file, or, after a warning, if it cannot be used."""
    if path is None:
        return None
    try:
        return calibration_from_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        said = f"{error.error_count()} faults" if isinstance(error, ValidationError) else error
        log.warning("the calibration %s is not used: %s; run `fanreel calibrate` again", path, said)
        return None


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Replace the file as a whole by a calibration; devices that this one lacks keep their entries.

    Raises:
        StorageError: It cannot be written.
    """
    text = calibration_to_json(calibration.replacing(read_calibration(path)), indent=2)
    write_whole(path, text + b"\n")


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file at once by a new one that every user may read; its folder is made where it is missing.

    Raises:
        StorageError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as part:
            try:
                part.write(data)
                part.flush()
                os.fsync(part.fileno())
                os.fchmod(part.fileno(), 0o644)
                Path(part.name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(part.name).unlink()
                raise
    except OSError as error:
        raise storage_error(error, doing=f"write {path} (FANREEL_CALIBRATION names another)") from error
