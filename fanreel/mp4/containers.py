"""The one place where libavformat opens a file that someone gave us."""

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
"""Holds libavformat to the file: playlists, which name others, are formats of their own, and the net a protocol."""


def open_mp4(path: Path, *, options: Mapping[str, str] | None = None) -> InputContainer:
    """Return an MP4, opened. What is none is refused, whatever it is called, and makes nothing else be opened.

    Args:
        path: The file.
        options: More of libavformat's.

    Raises:
        av.error.FFmpegError: It is no MP4, or cannot be read.
    """
    # Absolute, so that no name is taken for a protocol.
    return av.open(str(path.absolute()), format="mp4", options={**(options or {}), **ONLY_THIS_FILE})
