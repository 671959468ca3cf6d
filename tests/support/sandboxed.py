"""Functions that are called in a sandbox, most of which end it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

from fanreel.errors import UnreadablePhotoError

READY = []


def warm():
    READY.append(True)


def made_ready():
    return READY


def echo(value, *descriptors):
    return [value, [os.pread(descriptor, 100, 0).decode() for descriptor in descriptors]]


def whoami():
    return os.getpid(), os.getppid()


def say(text):
    ctypes.CDLL(None).dprintf(2, b"%s", text.encode())
    return len(text)


def say_much(count):
    for _ in range(count):
        os.write(2, b"Corrupt a block\n" * 100)


def refuse(text):
    raise UnreadablePhotoError(text)


def fail():
    print("an idea", file=sys.stderr)
    raise KeyError("no such field")


def crash(number):
    os.write(2, b"double free\n")
    os.kill(os.getpid(), number)


def abort():
    os.abort()


def read_address_0():
    ctypes.string_at(0)


def take_memory():
    kept = []
    while True:
        kept.append(bytearray(16 << 20))


def take_memory_in_c():
    """As a decoder does that looks at no answer of malloc's."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while True:
        ctypes.memset(libc.malloc(ctypes.c_size_t(64 << 20)), 1, 64 << 20)


def spin():
    while True:
        pass


def sleep():
    time.sleep(3600)


def return_much(count):
    return "x" * count


def write_much(path, count):
    Path(path).write_bytes(bytes(count))


def die_once(path):
    """Die of SIGKILL the first time, as by the kernel where memory is short."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "alive"
    os.kill(os.getpid(), signal.SIGKILL)
    return "never said"


def limits():
    return [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_CORE, resource.RLIMIT_CPU)]


def open_descriptors():
    return sorted(map(str, Path("/proc/self/fd").iterdir()))
