"""Photos examined once on a machine: what was found is kept in its workspace, by the digest of the photo's bytes."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from blake3 import blake3
from pydantic import TypeAdapter, ValidationError

from fanreel.errors import StorageError
from fanreel.photos.examination import EXAMINER, Examination, check_file_size, examine_photo, open_sandbox
from fanreel.photos.photo import check_size, reading
from fanreel.sandbox.sandbox import Sandbox
from fanreel.settings import Settings
from fanreel.store.workspace import Fetched, Workspace

__all__ = ["Examinations", "open_examinations"]

KEPT_SECONDS = 14 * 86_400.0
"""A record not asked for in this time is removed; one has 4 KB on most disks, and saves 0.02 to 1 s of a core."""

READ_BYTES = 1 << 20


@contextlib.contextmanager
def open_examinations(settings: Settings) -> Iterator[Examinations]:
    """Yield what examines photos; the processes that it starts end with the context."""
    with open_sandbox(max_megapixels=settings.max_photo_megapixels, photo_seconds=settings.photo_seconds) as sandbox:
        yield Examinations(settings, sandbox)


@dataclass(frozen=True, slots=True)
class _Record:
    """What was found, and what found it: another version of a decoder examines the photo again."""

    examiner: str
    found: Examination


_RECORD = TypeAdapter(_Record)


class Examinations:
    """Examines photos; thread-safe.

    Args:
        settings: Bound what is read, and name the folder of the records.
        sandbox: Where photos are decoded.
    """

    def __init__(self, settings: Settings, sandbox: Sandbox) -> None:
        self._max_megapixels = settings.max_photo_megapixels
        self._records = Fetched(Workspace.of(settings).root / "examined", idle_seconds=KEPT_SECONDS)
        self._sandbox = sandbox

    def examine(self, path: Path) -> Examination:
        """Return what the photo at `path` is: as it was found before, or after all of it was decoded.

        Raises:
            PhotoNotFoundError: There is no such file.
            MediaError: The photo cannot be used.
            SandboxLostError: No process can be started to decode it.
            StorageError: The disk fails.
        """
        with contextlib.ExitStack() as opened:
            with reading(path):
                file = opened.enter_context(path.open("rb", buffering=0))
                check_file_size(path, os.fstat(file.fileno()).st_size, max_megapixels=self._max_megapixels)
                digest = _digest(file)
            found = self._recall(digest)
            if found is not None:
                check_size(path, found.photo, max_megapixels=self._max_megapixels)
                return found
            found = examine_photo(
                path,
                descriptor=file.fileno(),
                digest=digest,
                max_megapixels=self._max_megapixels,
                sandbox=self._sandbox,
            )
        self._keep(found)
        return found

    def _recall(self, digest: str) -> Examination | None:
        path = self._records.path(f"{digest}.json")
        with contextlib.suppress(OSError, ValidationError):
            record = _RECORD.validate_json(path.read_bytes())
            if (record.examiner, record.found.photo.digest) == (EXAMINER, digest):
                self._records.has(path)  # and stays
                return record.found
        return None

    def _keep(self, found: Examination) -> None:
        """Keep a record, if that can be: a full or protected disk only costs the time of examining again."""
        part = self._records.path(secrets.token_hex(16))
        with contextlib.suppress(OSError, StorageError):
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(_RECORD.dump_json(_Record(EXAMINER, found)))
            self._records.keep(part, self._records.path(f"{found.photo.digest}.json"))


def _digest(file: IO[bytes]) -> str:
    digest = blake3()
    while part := file.read(READ_BYTES):
        digest.update(part)
    return digest.hexdigest()
