"""What a kernel is compiled from, as a number for its key in numba's cache."""

from __future__ import annotations

from pathlib import Path

from blake3 import blake3

__all__ = ["hash_sources"]


def hash_sources(*names: str) -> int:
    """Return a number that changes with the bytes of these files of this folder.

    Numba's key for a compiled function holds its signature, the CPU with its features, the function's own bytecode and
    the values that it closes over, but not what it calls. A kernel that closes over this number is compiled anew when
    any of its sources changes.

    Args:
        names: Every file with code or constants that are compiled into the kernel.

    Returns:
        Below 2**63, which numba takes for an int64.
    """
    sources = b"".join(blake3(Path(__file__).with_name(name).read_bytes()).digest() for name in names)
    return int.from_bytes(blake3(sources).digest(length=8)) >> 1
