"""Proof of what is stored: a record by its seal, a film by its record, a photo and a plan by their names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from fanreel.errors import SegmentDamagedError, StorageError
from fanreel.plan.film import FilmPlan, plan_from_json
from fanreel.segments.record import SegmentRecord, record_from_json, record_to_json

__all__ = [
    "check_film",
    "check_film_file",
    "file_digest",
    "open_plan",
    "open_record",
    "pieces_of",
    "require_digest",
    "seal_record",
]

BUFFER_BYTES = 1 << 20

_SEAL = (b'{"digest":"', b'","record":', b"}")
"""A stored record is JSON around the record's own, with the BLAKE3 of that."""


def seal_record(record: SegmentRecord) -> bytes:
    """Return what is stored of a record."""
    return _sealed(record_to_json(record))


def open_record(text: bytes, *, address: str, encoder: str) -> SegmentRecord:
    """Return the record that was stored for a segment.

    Raises:
        SegmentDamagedError: It is not as it was written, or of another segment.
    """
    head = len(_SEAL[0]) + 2 * blake3.digest_size + len(_SEAL[1])
    inner = text[head : -len(_SEAL[2])]
    if _sealed(inner) != text:
        raise SegmentDamagedError("a segment's record holds other bytes than were written")
    record = record_from_json(inner)
    if (record.address, record.encoder) != (address, encoder):
        raise SegmentDamagedError(f"segment {address[:12]} has the record of {record.address[:12]}")
    return record


def check_film(record: SegmentRecord, pieces: Iterable[bytes]) -> None:
    """Return if `pieces` are the segment's film.

    Raises:
        SegmentDamagedError: They are not.
    """
    digest, length_bytes = blake3(), 0
    for piece in pieces:
        head_bytes = min(len(piece), max(0, record.payload_offset - length_bytes))
        digest.update(memoryview(piece)[head_bytes:])
        length_bytes += len(piece)
    if length_bytes != record.payload_offset + record.payload_bytes:
        raise SegmentDamagedError(f"segment {record.address[:12]} is not as long as its record says")
    if digest.hexdigest() != record.payload_digest:
        raise SegmentDamagedError(f"segment {record.address[:12]} holds other bytes than its record says")


def check_film_file(record: SegmentRecord, path: Path) -> None:
    """Return if the file is the segment's film; of one that is longer or shorter nothing is read.

    Raises:
        SegmentDamagedError: It is not.
        OSError: It cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != record.payload_offset + record.payload_bytes:
            raise SegmentDamagedError(f"segment {record.address[:12]} is not as long as its record says")
        check_film(record, pieces_of(file))


def open_plan(text: bytes, *, address: str, where: str) -> FilmPlan:
    """Return the plan that was stored under an address.

    Raises:
        StorageError: It is not as it was written, or another version of fanreel wrote it.
    """
    with contextlib.suppress(ValueError):
        if blake3(text).hexdigest() == address:
            return plan_from_json(text)
    raise StorageError(f"the plan {address[:12]} in {where} is damaged or of another version; plan again")


def file_digest(path: Path) -> str:
    """Return the BLAKE3 of a file's bytes."""
    digest = blake3()
    with path.open("rb", buffering=0) as file:
        for piece in pieces_of(file):
            digest.update(piece)
    return digest.hexdigest()


def require_digest(digest: str) -> str:
    """Return a digest that may be part of a path: 64 hexadecimal digits.

    Raises:
        StorageError: It is none.
    """
    if len(digest) != 2 * blake3.digest_size or set(digest) - set("0123456789abcdef"):
        raise StorageError(f"{digest[:80]!r} is no digest, so that nothing is stored under it")
    return digest


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield what is left of a file in pieces of a megabyte."""
    while piece := file.read(BUFFER_BYTES):
        yield piece


def _sealed(record: bytes) -> bytes:
    return _SEAL[0] + blake3(record).hexdigest().encode() + _SEAL[1] + record + _SEAL[2]
