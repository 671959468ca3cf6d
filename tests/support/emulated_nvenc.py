"""An NVIDIA driver for tests: NVENC, CUDA and NVML without a GPU, whose pictures libx264 encodes.

Unmodified clients load it through `LD_LIBRARY_PATH`, which a process must be started with. It proves what a client does
with sessions, limits and faults; it proves nothing about speed. The C sources are in `tests/support/nvenc_driver`.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

__all__ = ["DEVICE_NAME", "EmulatedDriver", "Snapshot", "build_driver", "driver_or_skip"]

DEVICE_NAME = "fanreel emulated encoder (no GPU)"

_SOURCES = Path(__file__).with_name("nvenc_driver")
_LIBRARIES = {
    "libcuda.so.1": ["cuda.c", "settings.c", "state.c"],
    "libnvidia-encode.so.1": ["encode.c", "setup.c", "settings.c", "state.c"],
    "libnvidia-ml.so.1": ["nvml.c", "settings.c", "state.c"],
}
_HEADERS = {"ffnvcodec/nvEncodeAPI.h": "libffmpeg-nvenc-dev", "x264.h": "libx264-dev"}
_FIELDS = (_SOURCES / "state.h").read_text().partition("struct settings {")[2].partition("};")[0]
_SETTINGS = frozenset(re.findall(r"(\w+)(?=,|;|\[)", re.sub(r"/\*.*?\*/", "", _FIELDS)))
_COMPILER = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread"]

# As in tests/support/nvenc_driver/state.h.
_MAX_GPUS, _MAX_ENGINES, _MAX_SLOTS, _MAX_CODES, _BUCKETS, _SLOT_BYTES = 8, 8, 64, 32, 128, 1 << 24


class _Counts(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("attempts", "opens", "destroys", "pictures", "most_sessions")),
        ("refusals", ctypes.c_int64 * _MAX_CODES),
    ]


class _Engine(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("free_at", "busy_ns", "pictures")]


class _Gpu(ctypes.Structure):
    _fields_ = [("counts", _Counts), ("engines", _Engine * _MAX_ENGINES), ("buckets", ctypes.c_int64 * _BUCKETS)]


class _Slot(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("gpu", "pid", "number", "width", "height", "pictures", "first_picture_at", "latency_ns")
    ]


class _State(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("fault_taken", "hang_taken", "next_number")),
        ("total", _Counts),
        ("gpus", _Gpu * _MAX_GPUS),
        ("slots", _Slot * _MAX_SLOTS),
    ]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the engines had done at a moment.

    Attributes:
        at_ns: The moment, on the monotonic clock.
        busy_ns: For each GPU and each engine of it, how long it had been busy until then.
        pictures: For each GPU and each engine of it, the pictures booked until then, done or not.
    """

    at_ns: int
    busy_ns: tuple[tuple[int, ...], ...]
    pictures: tuple[tuple[int, ...], ...]


@cache
def _what_is_missing() -> str | None:
    if shutil.which("gcc") is None:
        return "no gcc: apt-get install gcc libc6-dev"
    for header, package in _HEADERS.items():
        found = subprocess.run(["gcc", "-E", "-"], input=f"#include <stdint.h>\n#include <{header}>\n".encode(),
                               capture_output=True, check=False)  # fmt: skip
        if found.returncode:
            return f"no {header}: apt-get install {package}"
    return None


def build_driver(folder: Path) -> Path:
    """Compile the three libraries into `folder`, which is returned; takes about a second."""
    folder.mkdir(parents=True, exist_ok=True)
    builds = [
        subprocess.Popen(
            [*_COMPILER, f"-Wl,-soname,{library}", "-o", folder / library, *sources], cwd=_SOURCES,
            stderr=subprocess.PIPE, text=True,
        )
        for library, sources in _LIBRARIES.items()
    ]  # fmt: skip
    said = [build.communicate()[1] for build in builds]
    if any(build.returncode for build in builds):
        raise RuntimeError("the emulated driver does not compile:\n" + "".join(said))
    return folder


@cache
def _build_once() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fanreel-nvenc-driver-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build_driver(folder)


def driver_or_skip() -> Path:
    """Return the folder of the libraries, built once a session; skip the test where they cannot be built."""
    missing = _what_is_missing()
    if missing and os.environ.get("FANREEL_REQUIRE_NVENC_DRIVER") == "1":
        pytest.fail(f"FANREEL_REQUIRE_NVENC_DRIVER=1, but there is {missing}")
    if missing:
        pytest.skip(missing)
    return _build_once()


class EmulatedDriver:
    """One machine's GPUs, to be broken by a test while processes use them.

    Settings are the fields of `struct settings` in nvenc_driver/state.h; a client sees a change at its next call.

    Attributes:
        libraries: The folder that LD_LIBRARY_PATH names.
        settings_file: What FANREEL_EMULATED_NVENC names; the hardware's state lies beside it.
    """

    def __init__(self, folder: Path, *, libraries: Path | None = None, **settings: int | str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.libraries = libraries or driver_or_skip()
        self.settings_file = folder / "gpus"
        self._settings: dict[str, int | str] = {}
        self.set(**settings)

    @property
    def environment(self) -> dict[str, str]:
        """What a child process must be started with, beside its own environment."""
        paths = [str(self.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {"LD_LIBRARY_PATH": ":".join(paths), "FANREEL_EMULATED_NVENC": str(self.settings_file)}

    def without(self, *names: str) -> EmulatedDriver:
        """Return the same machine with some of the driver's libraries missing."""
        folder = Path(tempfile.mkdtemp(prefix="without-", dir=self.settings_file.parent))
        for library in _LIBRARIES.keys() - set(names):
            (folder / library).symlink_to(self.libraries / library)
        other = object.__new__(EmulatedDriver)
        other.libraries, other.settings_file, other._settings = folder, self.settings_file, self._settings
        return other

    def set(self, **settings: int | str) -> None:
        """Change settings of all GPUs."""
        self._update("", settings)

    def set_gpu(self, gpu: int, **settings: int | str) -> None:
        """Change settings of one GPU, which come before those of all."""
        self._update(f"gpu{gpu}.", settings)

    def _update(self, whose: str, settings: dict[str, int | str]) -> None:
        if unknown := settings.keys() - _SETTINGS:
            raise ValueError(f"no such settings: {sorted(unknown)}")
        self._settings.update({whose + key: value for key, value in settings.items()})
        temporary = self.settings_file.with_name(f"gpus.{os.getpid()}.{threading.get_ident()}.new")
        temporary.write_text("".join(f"{key}={value}\n" for key, value in self._settings.items()))
        # The kernel's own time stamps are coarse, and inode numbers come back: two changes must not look alike.
        os.utime(temporary, ns=(time.time_ns(), time.time_ns()))
        temporary.replace(self.settings_file)

    def _read(self) -> _State:
        path = self.settings_file.with_name(self.settings_file.name + ".state")
        data = path.read_bytes() if path.exists() else b""
        return _State.from_buffer_copy(data.ljust(ctypes.sizeof(_State), b"\0"))

    def _held(self) -> list[_Slot]:
        """Return the slots whose lock someone holds; the kernel frees it, however its holder ended."""
        path = self.settings_file.with_name(self.settings_file.name + ".state")
        if not path.exists():
            return []
        held = []
        with path.open("r+b") as file:
            for index in range(_MAX_SLOTS):
                asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _SLOT_BYTES + index, 1, 0)
                found = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))
                if found[0] != fcntl.F_UNLCK:
                    held.append(index)
        slots = self._read().slots
        return [slots[index] for index in held]

    def _counts(self, gpu: int | None) -> _Counts:
        state = self._read()
        return state.total if gpu is None else state.gpus[gpu].counts

    def open_sessions(self, gpu: int | None = None) -> int:
        """Return how many sessions are open now."""
        return len(self.pids(gpu))

    def pids(self, gpu: int | None = None) -> list[int]:
        """Return the process of each open session."""
        return [slot.pid for slot in self._held() if gpu is None or slot.gpu == gpu]

    def most_sessions(self, gpu: int | None = None) -> int:
        """Return the highest number of sessions that were ever open at once."""
        return self._counts(gpu).most_sessions

    def opens(self, gpu: int | None = None) -> int:
        """Return how many sessions were opened."""
        return self._counts(gpu).opens

    def destroys(self, gpu: int | None = None) -> int:
        """Return how many sessions their clients closed; those of killed processes are not among them."""
        return self._counts(gpu).destroys

    def refusals(self, code: int, gpu: int | None = None) -> int:
        """Return how many opens were refused with `code`."""
        return self._counts(gpu).refusals[code]

    def pictures(self, gpu: int | None = None) -> int:
        """Return how many pictures were given to the engines."""
        return self._counts(gpu).pictures

    def snapshot(self) -> Snapshot:
        """Return what the engines have done until now."""
        # Each engine's time table has no gap from now on: what is booked beyond now is not yet work done.
        state, now = self._read(), time.monotonic_ns()
        busy = tuple(tuple(e.busy_ns - max(0, e.free_at - now) for e in gpu.engines) for gpu in state.gpus)
        return Snapshot(now, busy, tuple(tuple(e.pictures for e in gpu.engines) for gpu in state.gpus))

    def busy_share(self, since: Snapshot, until: Snapshot | None = None, *, gpu: int = 0) -> float:
        """Return which share of the time of a GPU's engines was spent on pictures between two moments."""
        until = until or self.snapshot()
        busy = sum(until.busy_ns[gpu]) - sum(since.busy_ns[gpu])
        engines = int(self._settings.get(f"gpu{gpu}.engines", self._settings.get("engines", 1)))
        return busy / (engines * (until.at_ns - since.at_ns))

    @staticmethod
    def uuid(gpu: int, instance: int | None = None) -> str:
        """Return the name of a GPU, or of one of its MIG instances, in NVML and in CUDA_VISIBLE_DEVICES."""
        kind, number = ("GPU", 0) if instance is None else ("MIG", instance + 1)
        return f"{kind}-fa11ee1e-e0{number:02x}-4000-8000-0000000000{gpu:02x}"

    def start(self, command: Sequence[str | Path], **environment: str) -> subprocess.Popen[str]:
        """Start a process that has this driver; its output is text."""
        return subprocess.Popen(
            [str(part) for part in command], env={**os.environ, **self.environment, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
