"""Open the destination that a film's output names."""

from __future__ import annotations

from pathlib import Path

from fanreel.publish.destination import Destination, LocalFolder
from fanreel.publish.previous import refuse_foreign
from fanreel.remote.locations import check_allowed, scheme_of
from fanreel.settings import Settings

__all__ = ["check_output", "open_destination"]


def open_destination(output: str, *, settings: Settings) -> Destination:
    """Return where a film goes. Touches nothing.

    Args:
        output: An absolute path, or ``s3://bucket/folder/film.mp4``.
        settings: Say where this host may publish.

    Raises:
        NotAllowedError: This host may not publish there.
    """
    check_allowed(output, settings=settings)
    if not scheme_of(output):
        return LocalFolder(Path(output))
    # Imported here: boto3 takes long to import, which a film in a folder need not wait for.
    from fanreel.publish.s3_destination import S3Folder

    return S3Folder(output, settings)


def check_output(output: str, *, overwrite: bool, settings: Settings) -> None:
    """Return if a film can be published there, as far as that can be known before it is made.

    Args:
        output: As in `open_destination`.
        overwrite: The job allows that any file is replaced.
        settings: Say where this host may publish.

    Raises:
        RequestError: This host may not publish there, or a file lies there that fanreel did not make.
        StorageError: The place cannot be used.
    """
    destination = open_destination(output, settings=settings)
    destination.check()
    refuse_foreign(destination.previous(), output=output, overwrite=overwrite)
