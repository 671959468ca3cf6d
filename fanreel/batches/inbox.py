"""Inboxes: a folder, or an S3 prefix, whose sub-folders become films: what they contain, and which are complete."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from blake3 import blake3

from fanreel.errors import InvalidJobError, storage_error
from fanreel.photos.names import is_photo_name, natural_order
from fanreel.printable import printable
from fanreel.remote.s3_uri import parse_s3_uri

__all__ = [
    "AUDIO_SUFFIXES",
    "JOB_FILES",
    "LONGEST_QUIET_SECONDS",
    "CompleteWhen",
    "Inbox",
    "InboxFile",
    "InboxFolder",
    "list_inbox",
    "reason_to_wait",
]

JOB_FILES = ("job.yaml", "job.yml", "job.json")

AUDIO_SUFFIXES = frozenset({".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav", ".wma"})

LONGEST_QUIET_SECONDS = 604800
"""A week."""


class CompleteWhen(StrEnum):
    """What shows that all files of a sub-folder have arrived."""

    EITHER = "marker-or-quiet"
    MARKER = "marker"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class InboxFile:
    """A file of a sub-folder.

    Attributes:
        name: Its name, from the sub-folder on, with ``/`` between folders.
        size_bytes: Its size.
        changed_at: When the file system or S3 last changed it, in Unix seconds. Not the time of modification, which a
            copy keeps from its original.
        etag: S3's identifier of its bytes; empty for a local file.
    """

    name: str
    size_bytes: int
    changed_at: float
    etag: str = ""

    @property
    def is_photo(self) -> bool:
        """Whether its name is that of a photo."""
        return is_photo_name(self.name)

    @property
    def is_nested(self) -> bool:
        """Whether it lies in a folder of the sub-folder."""
        return "/" in self.name


@dataclass(frozen=True, slots=True)
class InboxFolder:
    """A sub-folder of an inbox, of which a film is made.

    Attributes:
        name: Its name, which becomes the film's.
        location: Absolute path, or ``s3://bucket/key``.
        files: All files in it and below it, in natural order.
        changed_at: When it, or anything in it, last changed, in Unix seconds.
        ignored: Files in it that are not used, each with the reason.
        refused: Why it could not be read; empty if it could.
    """

    name: str
    location: str
    files: tuple[InboxFile, ...]
    changed_at: float
    ignored: tuple[str, ...] = ()
    refused: str = ""

    @property
    def photos(self) -> tuple[str, ...]:
        """The names of the photos in it, in natural order; not of those in folders of its own."""
        return tuple(file.name for file in self.files if file.is_photo and not file.is_nested)

    @property
    def audio(self) -> tuple[str, ...]:
        """The names of its music and narration."""
        return tuple(file.name for file in self.files if PurePosixPath(file.name).suffix.lower() in AUDIO_SUFFIXES)

    @property
    def job_files(self) -> tuple[str, ...]:
        """The names of its job files; more than one is a mistake."""
        return tuple(file.name for file in self.files if file.name in JOB_FILES)

    def holds(self, name: str) -> bool:
        """Return whether a file of this name lies in it."""
        return any(file.name == name for file in self.files)

    def listing_digest(self) -> str:
        """Return a digest that changes when one of its photos does, nested ones too: 64 hexadecimal digits."""
        digest = blake3()
        for file in self.files:
            if file.is_photo:
                digest.update(f"{file.name!a} {file.size_bytes} {file.changed_at!r}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Inbox:
    """The content of an inbox.

    Attributes:
        location: Absolute path, or ``s3://bucket/key``.
        folders: Its sub-folders in natural order.
        seen_at: When it was listed, in Unix seconds by the clock that also sets `InboxFolder.changed_at`.
        ignored: Links that were not followed, each with the reason.
    """

    location: str
    folders: tuple[InboxFolder, ...]
    seen_at: float
    ignored: tuple[str, ...] = ()


def reason_to_wait(
    folder: InboxFolder, *, marker: str, complete_when: CompleteWhen, quiet_seconds: float, now: float
) -> str:
    """Return why a sub-folder is not complete; an empty string if it is.

    Args:
        folder: The sub-folder.
        marker: Name of the file that says that the sub-folder is complete.
        complete_when: What counts.
        quiet_seconds: For how long nothing in it must have changed; 0 for no such time.
        now: Unix seconds.
    """
    if complete_when is not CompleteWhen.QUIET and folder.holds(marker):
        return ""
    if complete_when is CompleteWhen.MARKER:
        return f"waiting for {marker}"
    quiet_for = now - folder.changed_at
    if quiet_seconds and quiet_for < quiet_seconds:
        either = f"{marker}, or for " if complete_when is CompleteWhen.EITHER else ""
        return f"waiting for {either}{quiet_seconds:g} s without a change; the last one was {_ago(quiet_for)}"
    return ""


def list_inbox(location: str) -> Inbox:
    """Return the content of an inbox. In S3 this is one listing, whatever the number of sub-folders.

    Names that begin with a dot are left out. Links that lead out of the inbox are not followed, but reported.

    Args:
        location: A folder, or ``s3://bucket/prefix/``.

    Raises:
        InvalidJobError: There is no such folder.
        StorageError: It cannot be read.
    """
    return _list_s3(location) if location.startswith("s3://") else _list_folder(Path(location))


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds >= 0 else "in the future, by this machine's clock"


def _ordered(files: Iterable[InboxFile]) -> tuple[InboxFile, ...]:
    return tuple(sorted(files, key=lambda file: natural_order(file.name)))


def _list_folder(inbox: Path) -> Inbox:
    folders: list[InboxFolder] = []
    ignored: list[str] = []
    seen_at = time.time()
    try:
        root = os.path.realpath(inbox, strict=True)
        with os.scandir(inbox) as found:
            entries = sorted((entry for entry in found if entry.name[0] != "."), key=lambda e: natural_order(e.name))
        for entry in entries:
            if entry.is_symlink() and not _leads_inside(entry, root):
                ignored.append(f"{printable(Path(entry.path))}: a link that leads out of the inbox")
            elif entry.is_dir():
                folders.append(_look_into(entry, root))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidJobError(
            f"inbox: {printable(inbox)}: {error.strerror}; give the folder whose sub-folders are films"
        ) from None
    except OSError as error:
        raise storage_error(error, doing=f"read the inbox {printable(inbox)}") from None
    return Inbox(str(inbox), tuple(folders), seen_at, tuple(ignored))


def _look_into(folder: os.DirEntry[str], root: str) -> InboxFolder:
    ignored: list[str] = []
    changed: list[float] = []
    try:
        changed.append(folder.stat().st_ctime)
        files = _ordered(_walk(folder.path, "", root, changed, ignored))
    except FileNotFoundError:  # it is being removed or renamed
        return InboxFolder(folder.name, folder.path, (), time.time())
    except OSError as error:
        refused = str(storage_error(error, doing=f"read {printable(Path(error.filename or folder.path))}"))
        return InboxFolder(folder.name, folder.path, (), 0.0, refused=refused)
    newest = max([*changed, *(file.changed_at for file in files)])
    return InboxFolder(folder.name, folder.path, files, newest, tuple(ignored))


def _walk(path: str, prefix: str, root: str, changed: list[float], ignored: list[str]) -> Iterator[InboxFile]:
    """Yield the files below a folder; add the folders' times of change to `changed`, and links out to `ignored`."""
    with os.scandir(path) as found:
        entries = list(found)
    for entry in entries:
        name = f"{prefix}{entry.name}"
        try:
            if entry.is_symlink() and not _leads_inside(entry, root):
                ignored.append(f"{printable(Path(entry.path))}: a link that leads out of the inbox")
            elif entry.is_dir(follow_symlinks=False):
                changed.append(entry.stat().st_ctime)
                yield from _walk(entry.path, f"{name}/", root, changed, ignored)
            elif entry.is_file() or entry.is_symlink():
                # A link that leads nowhere is yielded too: reading it raises the error.
                status = entry.stat(follow_symlinks=entry.is_file())
                yield InboxFile(name, status.st_size, status.st_ctime)
        except FileNotFoundError:  # removed or renamed since the folder was listed
            changed.append(time.time())


def _leads_inside(link: os.DirEntry[str], root: str) -> bool:
    target = os.path.realpath(link.path)
    return target.startswith(f"{root.rstrip('/')}/")


def _list_s3(url: str) -> Inbox:
    from fanreel.remote.s3 import s3  # importing boto3 takes half a second

    uri = parse_s3_uri(url)
    seen_at = s3().now(uri).timestamp()
    start = len(f"{uri.key}/" if uri.key else "")
    files: dict[str, list[InboxFile]] = defaultdict(list)
    for found in s3().list(uri):
        name, slash, rest = found.uri.key[start:].partition("/")
        # A key that ends in a slash is an empty object that stands for a folder.
        if slash and rest and not name.startswith(".") and name and not rest.endswith("/"):
            files[name].append(InboxFile(rest, found.size_bytes, found.modified_at.timestamp(), found.etag))
    folders = [
        InboxFolder(name, str(uri / name), _ordered(files[name]), max(file.changed_at for file in files[name]))
        for name in sorted(files, key=natural_order)
    ]
    return Inbox(str(uri), tuple(folders), seen_at)
