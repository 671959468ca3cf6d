"""Reads a compose file as compose does: variables first, with their defaults and demands, then YAML with merges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<how>:\?|:-)(?P<text>[^}]*))?\})")


class MissingVariableError(Exception):
    """A variable that must have a value has none."""


def variables(text: str) -> dict[str, str]:
    """Return the variables that a compose file names, each with how: `:?` demanded, `:-` with a default, or empty."""
    found = {}
    for match in _VARIABLE.finditer(_without_comments(text)):
        if match["name"]:
            assert found.get(match["name"], match["how"] or "") == (match["how"] or ""), match["name"]
            found[match["name"]] = match["how"] or ""
    return found


def read_compose(path: Path, values: Mapping[str, str]) -> dict[str, Any]:
    """Return a compose file as it is with the variables' values.

    Raises:
        MissingVariableError: One that is demanded is empty.
    """

    def substitute(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        value = values.get(match["name"], "")
        if not value and match["how"] == ":?":
            raise MissingVariableError(f"{match['name']}: {match['text']}")
        return value or (match["text"] if match["how"] == ":-" else "")

    return yaml.safe_load(_VARIABLE.sub(substitute, _without_comments(path.read_text())))


def read_env(path: Path) -> dict[str, str]:
    """Return what a file of `NAME=value` lines says."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
