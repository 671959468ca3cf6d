"""Every error that fanreel raises, in one tree.

::

    FanreelError
    ├── RequestError          exit 2   the job asks for something that cannot be (also a ValueError)
    │   ├── InvalidJobError            a key, a value or the file's syntax
    │   ├── NotAllowedError            a place outside of what this host's operator allows
    │   ├── OutputExistsError          a file is there that fanreel did not make
    │   └── PhotoNotFoundError         photos that do not exist or patterns that match nothing
    ├── MediaError            exit 3   a file is there but cannot be used
    │   ├── UnreadablePhotoError       photos that do not decode
    │   ├── PhotoChangedError          a photo is not the one that was planned
    │   └── SandboxDeathError          a file ended the process that read it
    ├── EncoderError          exit 4   something between frames and packets failed
    │   ├── EncoderUnavailableError    no such encoder on this machine
    │   │   ├── DriverError            the NVIDIA driver is missing or too old
    │   │   └── NoEncodeDeviceError    a GPU without NVENC, or none at all
    │   ├── EncoderSettingsError       the encoder refused its settings
    │   ├── GpuLostError               a GPU is gone; others may be there
    │   ├── EncoderBusyError           the encoder is busy for a moment         (transient)
    │   ├── SessionBusyError           no free encoder session in time          (transient)
    │   ├── SessionLimitError          the driver refuses one more session      (transient)
    │   ├── SessionLostError           a session's process died                 (transient)
    │   ├── SessionMemoryError         memory ran out for a session             (transient)
    │   ├── SessionHungError           a session made no frame within its bound (transient)
    │   ├── EncodeFaultError           the encoder failed while encoding        (transient)
    │   ├── NoWorkerError              no worker of any pool took a shard in time
    │   └── ShardFailedError           a shard failed wherever it was tried
    ├── StorageError          exit 5   a folder or a store failed
    │   ├── StorageFullError           no space left
    │   ├── StorageAwayError           a remote store does not answer for now   (transient)
    │   └── SegmentMissingError        a segment that was stored is gone        (transient)
    ├── SandboxLostError      exit 4   no process could be started to read files  (transient)
    └── VerificationError     exit 6   a segment or a film is not what it must be
        ├── SegmentDamagedError        a stored segment differs from its record (transient)
        └── FilmDamagedError           the film differs from its certificate

``transient`` says whether the same request may succeed when it is tried again; who tries again,
and when, is decided in `fanreel.policy`, never here.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from fanreel.printable import printable

__all__ = [
    "DriverError",
    "EncodeFaultError",
    "EncoderBusyError",
    "EncoderError",
    "EncoderSettingsError",
    "EncoderUnavailableError",
    "FanreelError",
    "FilmDamagedError",
    "GpuLostError",
    "InvalidJobError",
    "MediaError",
    "NoEncodeDeviceError",
    "NoWorkerError",
    "NotAllowedError",
    "OutputExistsError",
    "PhotoChangedError",
    "PhotoNotFoundError",
    "RequestError",
    "SandboxDeathError",
    "SandboxLostError",
    "SegmentDamagedError",
    "SegmentMissingError",
    "SessionBusyError",
    "SessionHungError",
    "SessionLimitError",
    "SessionLostError",
    "SessionMemoryError",
    "ShardFailedError",
    "StorageAwayError",
    "StorageError",
    "StorageFullError",
    "UnreadablePhotoError",
    "VerificationError",
    "storage_error",
]


class FanreelError(Exception):
    """The base of every error that fanreel raises on purpose.

    Args:
        message: What was wrong, the value, and what to do about it; one sentence or a list of lines.
    """

    transient: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class RequestError(FanreelError, ValueError):
    """The job asks for something that cannot be; nothing has been written."""

    exit_code = 2


class InvalidJobError(RequestError):
    """A key, a value or the syntax of the job is wrong."""


class NotAllowedError(RequestError):
    """The job names a place that lies outside of what this host's operator allows; the message names the setting."""


class OutputExistsError(RequestError):
    """Where the film is to go lies a file that fanreel did not make, and the job does not allow to replace it."""


class PhotoNotFoundError(RequestError):
    """Photos that the job names do not exist; the message lists them all."""


class MediaError(FanreelError):
    """A file exists but cannot be used."""

    exit_code = 3


class UnreadablePhotoError(MediaError):
    """Photos do not decode; the message lists them all."""


class PhotoChangedError(MediaError):
    """A photo's bytes are not those that were planned."""


class SandboxDeathError(MediaError):
    """The process that read a file crashed, or took too long or too much memory."""


class SandboxLostError(FanreelError):
    """No process could be started to read files in; the files are not at fault."""

    exit_code = 4
    transient = True


class EncoderError(FanreelError):
    """Something between the frames and the packets failed.

    Attributes:
        code: The number that the NVIDIA driver gave, as in nvEncodeAPI.h; 0 if it gave none.
    """

    exit_code = 4
    code: int = 0


class EncoderUnavailableError(EncoderError):
    """The encoder that was asked for does not exist on this machine."""


class DriverError(EncoderUnavailableError):
    """The NVIDIA driver is missing or older than the encoder needs; the message names what is needed."""


class NoEncodeDeviceError(EncoderUnavailableError):
    """There is no GPU, or it has no NVENC engine, or the container was not given it."""


class EncoderSettingsError(EncoderError):
    """The encoder refused its settings."""


class GpuLostError(EncoderError):
    """A GPU does not exist any more; what it was making has to be made elsewhere."""


class EncoderBusyError(EncoderError):
    """The encoder is busy for a moment."""

    transient = True


class SessionBusyError(EncoderError):
    """No encoder session became free in time."""

    transient = True


class SessionLimitError(EncoderError):
    """The driver refuses one more session: its limit is reached, or the GPU's memory is full."""

    transient = True


class SessionLostError(EncoderError):
    """The process of an encoder session died."""

    transient = True


class SessionMemoryError(EncoderError):
    """A session had too little memory; the message names the limit."""

    transient = True


class SessionHungError(EncoderError):
    """An encoder session made no frame within its bound and was killed."""

    transient = True


class EncodeFaultError(EncoderError):
    """The encoder failed while it was encoding."""

    transient = True


class NoWorkerError(EncoderError):
    """No worker of any pool that the job names took a shard in time."""


class ShardFailedError(EncoderError):
    """A shard failed wherever it was tried; the message says why, pool by pool."""


class StorageError(FanreelError):
    """A folder or a store could not be read or written."""

    exit_code = 5


class StorageFullError(StorageError):
    """No space is left where a file had to be written."""


class StorageAwayError(StorageError):
    """A store or a source on the network does not answer, or answers that it cannot now."""

    transient = True


class SegmentMissingError(StorageError):
    """A segment that was stored is no longer there."""

    transient = True


class VerificationError(FanreelError):
    """A segment or a film is not what it must be."""

    exit_code = 6


class SegmentDamagedError(VerificationError):
    """A stored segment differs from its record; it counts as missing when tried again."""

    transient = True


class FilmDamagedError(VerificationError):
    """A film differs from its certificate; the message lists every difference found."""


def storage_error(error: OSError, *, doing: str) -> StorageError:
    """Return `error` as a `StorageError` that says what was being done.

    Args:
        error: What the operating system said.
        doing: What failed, as the object of "could not", for example ``"write /films/a.mp4"``.
    """
    reason, doing = error.strerror or str(error), printable(doing)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(f"could not {doing}: {reason}; free some space and run the same command again")
    if error.errno == errno.EMFILE:
        return StorageError(f"could not {doing}: {reason}; raise the limit of open files (ulimit -n)")
    return StorageError(f"could not {doing}: {reason}")
