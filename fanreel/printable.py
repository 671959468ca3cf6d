"""Names and numbers as they can be shown: on one line, and without what commands a terminal."""

from __future__ import annotations

__all__ = ["counted", "printable"]


def counted(count: int, noun: str) -> str:
    """Return a number of things in words, such as ``1 photo`` or ``2 photos``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(name: object) -> str:
    """Return a name, such as a path, as one line of text that can be printed, whatever letters and bytes it has."""
    text = str(name)
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(letter: str) -> str:
    byte = ord(letter) - 0xDC00  # a byte of a file name that is not UTF-8, as PEP 383 keeps it
    if 0x80 <= byte <= 0xFF:
        return f"\\x{byte:02x}"
    return letter if letter.isprintable() else ascii(letter)[1:-1]
