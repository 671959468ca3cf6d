"""Digests and seals: whether stored bytes are those that were written.

A record is checked by its seal, a segment's file by its record, a photo and a plan by their names.
"""

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
    "check_segment",
    "check_segment_file",
    "file_digest",
    "open_plan",
    "open_record",
    "pieces_of",
    "seal_record",
]

BUFFER_BYTES = 1 << 20

_FRAME = (b'{"digest":"', b'","record":', b"}")
"""A stored record is a JSON object of two keys: the record's own JSON, and the BLAKE3 of that."""


def seal_record(record: SegmentRecord) -> bytes:
    """Return a record as it is stored: sealed with its digest."""
    return _seal(record_to_json(record))


def open_record(text: bytes, *, address: str, encoder: str) -> SegmentRecord:
    """Return the record that was stored for a segment.

    Raises:
        SegmentDamagedError: It is not as it was written, or is another segment's.
    """
    head = len(_FRAME[0]) + 2 * blake3.digest_size + len(_FRAME[1])
    inner = text[head : -len(_FRAME[2])]
    if _seal(inner) != text:
        raise SegmentDamagedError("a segment's record holds other bytes than were written")
    record = record_from_json(inner)
    if (record.address, record.encoder) != (address, encoder):
        raise SegmentDamagedError(f"segment {address[:12]} has the record of {record.address[:12]}")
    return record


def check_segment(record: SegmentRecord, pieces: Iterable[bytes]) -> None:
    """Return if `pieces`, one after another, are the bytes of the segment's file.

    Raises:
        SegmentDamagedError: They are not.
    """
    digest, length_bytes = blake3(), 0
    for piece in pieces:
        head_bytes = min(len(piece), max(0, record.payload_offset - length_bytes))
        digest.update(memoryview(piece)[head_bytes:])
        length_bytes += len(piece)
    if length_bytes != record.file_bytes:
        raise SegmentDamagedError(f"segment {record.address[:12]} is not as long as its record says")
    if digest.hexdigest() != record.payload_digest:
        raise SegmentDamagedError(f"segment {record.address[:12]} holds other bytes than its record says")


def check_segment_file(record: SegmentRecord, path: Path) -> None:
    """Return if the file at `path` is the segment's; one that is longer or shorter is not read.

    Raises:
        SegmentDamagedError: It is not.
        OSError: It cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size != record.file_bytes:
            raise SegmentDamagedError(f"segment {record.address[:12]} is not as long as its record says")
        check_segment(record, pieces_of(file))


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


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of a file in pieces of up to 1 MiB."""
    while piece := file.read(BUFFER_BYTES):
        yield piece


def _seal(record: bytes) -> bytes:
    return _FRAME[0] + blake3(record).hexdigest().encode() + _FRAME[1] + record + _FRAME[2]
