"""The raw job of an inbox's sub-folder, with names that lead to its photos."""

from __future__ import annotations

from glob import escape, has_magic
from pathlib import Path
from typing import Any

from fanreel.batches.inbox import InboxFolder
from fanreel.errors import InvalidJobError
from fanreel.intake.job_file import base_folder, decode_raw_job, read_raw_job
from fanreel.job.fields import one_as_list
from fanreel.remote.s3_uri import parse_s3_uri

__all__ = ["folder_base", "name_photos", "read_inbox_raw_job"]


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
    if not folder.ignored:
        return [f"{folder.location}/"]
    # The folder would mean more: it has links that lead out of the inbox.
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
    for key, place in (("photos", _place_of_photos), ("slides", _place_of_slide)):
        entries = one_as_list(found.get(key))
        if isinstance(entries, list):
            found[key] = [place(entry, folder, base) for entry in entries]
    if "output" in found:
        found["output"] = _uri(found["output"], folder, base)
    return found


def _place_of_photos(entry: Any, folder: InboxFolder, base: str) -> Any:  # noqa: ANN401 -- what YAML has
    if not isinstance(entry, str) or _is_whole(entry) or not has_magic(entry):
        return _uri(entry, folder, base)
    # Only the job's own text is a pattern; brackets in the name of the sub-folder are not.
    return f"{escape(folder.location)}/{_join(base, entry)}"


def _place_of_slide(slide: Any, folder: InboxFolder, base: str) -> Any:  # noqa: ANN401 -- what YAML has
    if isinstance(slide, dict) and "photo" in slide:
        return {**slide, "photo": _uri(slide["photo"], folder, base)}
    return _uri(slide, folder, base)


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
