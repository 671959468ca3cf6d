"""What we ask of Pillow, OpenCV and libheif for a whole process, set while a photo is read and only then.

None of these settings can be given with a call, and a program that uses this engine may have settings of its own.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import cv2
import pi_heif
from PIL import AvifImagePlugin, Image

__all__ = ["photo_settings"]

_VALUES = (
    (Image, "MAX_IMAGE_PIXELS", None),  # the bound is ours (Settings.max_photo_megapixels); its error names the photo
    # A photo is decoded beside a session's own threads, of which there are as many as there are cores.
    (AvifImagePlugin, "DEFAULT_MAX_THREADS", 1),
    (pi_heif.options, "DECODE_THREADS", 1),
    *((pi_heif.options, name, False) for name in ("THUMBNAILS", "DEPTH_IMAGES", "AUX_IMAGES")),
)
_SILENT = logging.NullHandler()


@dataclass(slots=True)
class _Use:
    """How many calls are using the settings, and what restores those from before the first of them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: int = 0
    undo: ExitStack = field(default_factory=ExitStack)


_use = _Use()


@contextmanager
def photo_settings() -> Iterator[None]:
    """Apply the settings while at least one thread is in the context, and restore what was there before."""
    with _use.lock:
        if not _use.calls:
            _use.undo = _apply()
        _use.calls += 1
    try:
        yield
    finally:
        with _use.lock:
            _use.calls -= 1
            if not _use.calls:
                _use.undo.close()


def _apply() -> ExitStack:
    undo = ExitStack()
    for module, name, value in _VALUES:
        undo.callback(setattr, module, name, getattr(module, name))
        setattr(module, name, value)
    # What the libraries say about a file, such as a damaged EXIF block, does not name the photo.
    undo.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=r"PIL\.")
    undo.callback(logging.getLogger("PIL").removeHandler, _SILENT)
    logging.getLogger("PIL").addHandler(_SILENT)
    undo.callback(cv2.utils.logging.setLogLevel, cv2.utils.logging.getLogLevel())
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return undo
