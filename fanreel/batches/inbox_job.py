"""The raw job of an inbox's sub-folder, with names that lead to its photos."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import Any

from fanreel.batches.inbox import InboxFolder
from fanreel.errors import InvalidJobError
from fanreel.intake.job_file import base_folder, decode_raw_job, read_raw_job
from fanreel.remote.s3_uri import parse_s3_uri

__all__ = ["folder_base", "name_photos", "read_inbox_raw_job"]

MOST_NAMED = 1000
"""Most photos that a job names one by one: Prefect bounds the parameters of a flow run to 512 KiB."""


def read_inbox_raw_job(folder: InboxFolder) -> dict[str, Any]:
    """Return the raw job in a sub-folder's job file; empty if it has none. In S3, its names become whole URIs.

    Raises:
        InvalidJobError: It cannot be read, or there are several.
        StorageError: The store cannot be read.
    """
    if len(folder.job_files) > 1:
        raise InvalidJobError(f"{' and '.join(folder.job_files)}: a sub-folder has one job file; remove the others")
    for name in folder.job_files:
        if not folder.location.startswith("s3://"):
            return read_raw_job(Path(folder.location, name))
        from fanreel.remote.s3 import s3

        content = s3().read(parse_s3_uri(folder.location) / name)
        if content is None:
            raise InvalidJobError(f"{name}: it was removed before it could be read")
        return _with_uris(decode_raw_job(content, name=name), folder)
    return {}


def name_photos(folder: InboxFolder) -> list[str]:
    """Return the entries of a job's `photos` for the photos in a sub-folder, without those in nested folders."""
    in_s3 = folder.location.startswith("s3://")
    stands_for_all = not (any(file.is_nested for file in folder.files if file.is_photo) if in_s3 else folder.ignored)
    if len(folder.photos) > MOST_NAMED and stands_for_all:
        return [f"{folder.location}/"]
    if in_s3:
        return [f"{folder.location}/{name}" for name in folder.photos]
    return [str(Path(folder.location, name)) for name in folder.photos]


def folder_base(folder: InboxFolder, raw_job: dict[str, Any]) -> str:
    """Return the folder that relative paths of its job start from; an empty string in S3."""
    if folder.location.startswith("s3://"):
        return ""
    return str(base_folder(Path(folder.location, "job.yaml"), raw_job))


def _with_uris(raw_job: dict[str, Any], folder: InboxFolder) -> dict[str, Any]:
    """Return the raw job with photos and output as URIs; the job's model will refuse values of a wrong type."""
    found = dict(raw_job)
    base = str(found.pop("base", "") or "").strip("/")
    if isinstance(found.get("photos"), list):
        found["photos"] = [name for entry in found["photos"] for name in _uris(entry, folder, base)]
    if isinstance(found.get("slides"), list):
        found["slides"] = [
            {**slide, "photo": _uri(slide["photo"], folder, base)}
            if isinstance(slide, dict) and "photo" in slide
            else slide
            for slide in found["slides"]
        ]
    if "output" in found:
        found["output"] = _uri(found["output"], folder, base)
    return found


def _uris(entry: Any, folder: InboxFolder, base: str) -> Iterable[Any]:  # noqa: ANN401 -- what YAML has
    """Return the URIs that one entry of `photos` stands for; a pattern is matched with the listing."""
    if not isinstance(entry, str) or _is_whole(entry) or not has_magic(entry):
        return [_uri(entry, folder, base)]
    parts = _join(base, entry).split("/")
    names = [file.name for file in folder.files if file.is_photo and _matches(file.name.split("/"), parts)]
    return [f"{folder.location}/{name}" for name in names] or [_uri(entry, folder, base)]


def _uri(name: Any, folder: InboxFolder, base: str) -> Any:  # noqa: ANN401 -- what YAML has
    if not isinstance(name, str) or not name or _is_whole(name):
        return name
    return f"{folder.location}/{_join(base, name)}"


def _is_whole(name: str) -> bool:
    return "://" in name or name.startswith(("/", "~"))


def _join(base: str, name: str) -> str:
    name = "" if name == "." else name.removeprefix("./")
    if ".." in f"{base}/{name}".split("/"):
        raise InvalidJobError(f"{name!r}: `..` is not allowed in S3; give the whole URI, s3://bucket/...")
    return f"{base}/{name}" if base else name


def _matches(name: list[str], pattern: list[str]) -> bool:
    return len(name) == len(pattern) and all(map(fnmatchcase, name, pattern))
