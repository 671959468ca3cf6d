"""Photos examined: before anything is rendered, each is decoded once, in a process that may die of it.

What is examined is kept by its digest. A decoder that paints over damage gives a warning at most, which becomes a note.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import pi_heif
import PIL
from PIL import Image
from pydantic import TypeAdapter

from fanreel.errors import PhotoChangedError, SandboxDeathError, UnreadablePhotoError
from fanreel.photos.photo import read_whole_photo, reading
from fanreel.plan.content import Photo
from fanreel.printable import printable
from fanreel.sandbox.call import Bounds
from fanreel.sandbox.sandbox import Sandbox

__all__ = ["EXAMINER", "Examination", "check_file_size", "examine_photo", "open_sandbox"]

EXAMINATION_REVISION = 1
"""Raised when reading says something else of a photo than before: those that were examined are examined again."""

EXAMINER = f"{EXAMINATION_REVISION} opencv {cv2.__version__} pillow {PIL.__version__} pi-heif {pi_heif.__version__}"
"""What examined a photo: another one may find something else."""

BYTES_PER_PIXEL = 48
"""Bound of the memory that decoding takes, beside `SPARE_BYTES`. Measured: 12.7 of a WebP,
43 of an AVIF of 10 bits with transparency."""

SPARE_BYTES = 1 << 30
"""For the file itself, which may hold more than pixels, and for what decoders keep."""

WALL_SECONDS_PER_CPU_SECOND = 10.0
"""How busy a machine may be: a process that has had a tenth of a core by then is one that waits for something."""

_ABOUT_OTHER_THINGS = "libpng warning:"
"""What libpng says of profiles and times; a pixel that it cannot decode is an error."""

_PHOTO = TypeAdapter(Photo)


@dataclass(frozen=True, slots=True)
class Examination:
    """What came out when a photo was examined.

    Attributes:
        photo: What it is.
        notes: What people should know of it; each goes on from the photo's name.
    """

    photo: Photo
    notes: tuple[str, ...] = ()


def open_sandbox(*, max_megapixels: float, photo_seconds: float) -> Sandbox:
    """Return where photos are examined; its first call starts it.

    Args:
        max_megapixels: Size of the largest photo that may be read: it decides how much memory may be taken.
        photo_seconds: The time on a core that one photo may take.
    """
    bounds = Bounds(
        cpu_seconds=photo_seconds,
        wall_seconds=photo_seconds * WALL_SECONDS_PER_CPU_SECOND,
        memory_bytes=_memory_bytes(max_megapixels),
    )
    return Sandbox(_warm, bounds=bounds)


def check_file_size(path: Path, size_bytes: int, *, max_megapixels: float) -> None:
    """Raise `UnreadablePhotoError` if the file of a photo is longer than the memory that it may be decoded in."""
    if size_bytes > _memory_bytes(max_megapixels):
        raise UnreadablePhotoError(
            f"{printable(path)}: a file of {size_bytes / 1e6:.0f} MB, where photos have up to {max_megapixels:g}"
            " megapixels; FANREEL_MAX_PHOTO_MEGAPIXELS raises it"
        )


def examine_photo(path: Path, *, descriptor: int, digest: str, max_megapixels: float, sandbox: Sandbox) -> Examination:
    """Return what the photo at `path` is, after all of it was decoded.

    Args:
        path: What error messages call it.
        descriptor: Its file, opened.
        digest: BLAKE3 of the file's bytes.
        max_megapixels: Larger ones are refused.
        sandbox: As `open_sandbox` returned it.

    Raises:
        UnreadablePhotoError: It is no picture, is cut short or damaged, is larger than `max_megapixels`, or ends or
            occupies the process that decodes it.
        PhotoChangedError: Somebody is writing the file.
        SandboxLostError: No process can be started.
        StorageError: The disk fails.
    """
    name = printable(path)
    try:
        answer = sandbox.call(_examine, name, max_megapixels, descriptors=[descriptor], returns=_PHOTO)
    except SandboxDeathError as error:
        raise UnreadablePhotoError(
            f"{name}: the process that decodes it {error}; open and save it again, or leave it out"
        ) from None
    if answer.value.digest != digest:
        raise PhotoChangedError(f"{name}: changes while it is read; run the same command again when it is whole")
    warnings = [line for line in answer.words if not line.startswith(_ABOUT_OTHER_THINGS)]
    notes = (f"its decoder warns: {warnings[0]}; look at it in the film",) if warnings else ()
    return Examination(answer.value, notes)


def _memory_bytes(max_megapixels: float) -> int:
    return round(max_megapixels * 1e6) * BYTES_PER_PIXEL + SPARE_BYTES


def _warm() -> None:
    """Have each library decode once, which it then begins quickly; called in a sandbox's server."""
    cv2.setNumThreads(1)
    for kind in ("JPEG", "PNG", "TIFF", "GIF"):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, kind)
        read_whole_photo(Path(kind), file.getvalue(), max_megapixels=1)


def _examine(name: str, max_megapixels: float, descriptor: int) -> Photo:
    """Return what an open photo is; called in a sandbox."""
    path = Path(name)
    with reading(path), os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        data = file.read()
    return read_whole_photo(path, data, max_megapixels=max_megapixels)
