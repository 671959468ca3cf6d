"""Job files: the words in a YAML or JSON file, before anything is made of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from fanreel.errors import InvalidJobError

__all__ = ["base_folder", "read_words", "words_in"]


def read_words(path: Path) -> dict[str, Any]:
    """Return what a job file says, as plain mappings, lists and scalars.

    Raises:
        InvalidJobError: The file cannot be read, or is no mapping in YAML or JSON.
    """
    try:
        return words_in(path.read_bytes(), name=str(path))
    except OSError as error:
        raise InvalidJobError(f"{path}: {error.strerror or error}") from None


def words_in(content: bytes, *, name: str) -> dict[str, Any]:
    """Return what the content of a job file says.

    Args:
        content: The file's bytes.
        name: What the message calls the file; one that ends in ``.json`` holds JSON.

    Raises:
        InvalidJobError: It is no mapping in YAML or JSON.
    """
    try:
        text = content.decode()
        # YAML is a superset of JSON but for tabs between the words.
        values: Any = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidJobError(f"{name}: not YAML or JSON: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InvalidJobError(f"{name}: a job is a mapping of keys to values")
    return {str(key): value for key, value in values.items()}


def base_folder(path: Path, words: dict[str, Any]) -> Path:
    """Return the folder that relative paths of a job file start from: its own, or what its `base` makes of it."""
    return path.absolute().parent / os.path.expanduser(str(words.get("base") or ""))  # noqa: PTH111
