"""Job files: raw jobs, as they stand in YAML or JSON, before the job's model reads them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from fanreel.errors import InvalidJobError

__all__ = ["base_folder", "decode_raw_job", "read_raw_job"]


def read_raw_job(path: Path) -> dict[str, Any]:
    """Return the raw job in a file, as plain mappings, lists and scalars.

    Raises:
        InvalidJobError: The file cannot be read, or is no mapping in YAML or JSON.
    """
    try:
        return decode_raw_job(path.read_bytes(), name=str(path))
    except OSError as error:
        raise InvalidJobError(f"{path}: {error.strerror or error}") from None


def decode_raw_job(content: bytes, *, name: str) -> dict[str, Any]:
    """Return the raw job in the content of a job file.

    Args:
        content: The file's bytes.
        name: What error messages call the file; a name that ends in ``.json`` means JSON.

    Raises:
        InvalidJobError: The content is no mapping in YAML or JSON.
    """
    try:
        text = content.decode()
        # YAML reads JSON too, unless tabs stand between its tokens.
        values: Any = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidJobError(f"{name}: not YAML or JSON: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InvalidJobError(f"{name}: a job is a mapping of keys to values")
    return {str(key): value for key, value in values.items()}


def base_folder(path: Path, raw_job: dict[str, Any]) -> Path:
    """Return the folder from which relative paths of a job file start: its own folder, joined with its `base`."""
    return path.absolute().parent / os.path.expanduser(str(raw_job.get("base") or ""))  # noqa: PTH111
