"""Job files: raw jobs, as they stand in YAML or JSON, before the job's model reads them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import yaml

from fanreel.errors import InvalidJobError
from fanreel.printable import printable

__all__ = ["base_folder", "decode_raw_job", "read_raw_job"]


def read_raw_job(path: Path) -> dict[str, Any]:
    """Return the raw job in a file, as plain mappings, lists and scalars.

    Raises:
        InvalidJobError: The file cannot be read, or is no mapping in YAML or JSON.
    """
    try:
        return decode_raw_job(path.read_bytes(), name=str(path))
    except OSError as error:
        raise InvalidJobError(f"{printable(path)}: {error.strerror or error}") from None


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
        if name.endswith(".json"):
            values: Any = json.loads(text, object_pairs_hook=_json_mapping)
        else:
            values = yaml.load(text, _Loader)  # noqa: S506 -- it derives from the safe one
    except InvalidJobError as error:
        raise InvalidJobError(f"{printable(name)}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidJobError(f"{printable(name)}: not YAML or JSON: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InvalidJobError(f"{printable(name)}: a job is a mapping of keys to values")
    return {str(key): value for key, value in values.items()}


class _Loader(yaml.SafeLoader):
    """Reads YAML that gives each key of a mapping once, and takes JSON's two escapes of one character for it."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:  # noqa: ANN401 -- PyYAML's own
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                raise _given_twice(key.value, where=f"lines {lines[name]} and {line}: ")
            lines[name] = line
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:  # noqa: ANN401 -- PyYAML's own
        value = super().construct_scalar(node)
        return _whole(value) if isinstance(value, str) else value


def _json_mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise _given_twice(key)
        for inner in value if isinstance(value, list) else [key, value]:
            if isinstance(inner, str):
                _whole(inner)
        values[key] = value
    return values


def _given_twice(key: str, *, where: str = "") -> InvalidJobError:
    return InvalidJobError(f"{where}`{printable(key)}` is given twice; keep one of them")


def _whole(text: str) -> str:
    """Return a text in which the halves of a character stand together as that character. Source: RFC 8259, 7."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        half = next(letter for letter in text if "\ud800" <= letter <= "\udfff")
        told = f"{text!a} has half of a character, {printable(half)}; write the character itself, or both halves of it"
        raise InvalidJobError(told) from None


def base_folder(path: Path, raw_job: dict[str, Any]) -> Path:
    """Return the folder from which relative paths of a job file start: its own folder, joined with its `base`."""
    return path.absolute().parent / os.path.expanduser(str(raw_job.get("base") or ""))  # noqa: PTH111
