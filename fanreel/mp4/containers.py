"""Open a file that a stranger may have sent: the only place where libavformat does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import av
from av.container import InputContainer

__all__ = ["open_mp4"]

ONLY_THIS_FILE = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2",
    # An MP4 may say that its samples lie in another file.
    "enable_drefs": "0",
}
"""Libavformat opens this file and nothing else: no playlist that names other files, no network protocol."""


def open_mp4(path: Path, *, options: Mapping[str, str] | None = None) -> InputContainer:
    """Return an MP4, opened. Any other format is refused, whatever the file's name, and no other file is opened.

    Args:
        path: The file.
        options: More options for libavformat.

    Raises:
        av.error.FFmpegError: It is no MP4, or cannot be read.
    """
    # Absolute, so that no name is taken for a protocol.
    return av.open(str(path.absolute()), format="mp4", options={**(options or {}), **ONLY_THIS_FILE})
