"""Differences between a server and the files here, and what mends them. Pure: the caller reads both sides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect.client.orchestration import SyncPrefectClient

__all__ = ["MISSING", "Change", "Difference", "Findings", "compare_limits", "compare_values"]

_LONGEST_VALUE = 90
"""Characters of a value that are shown: a difference in a form's schema can fill pages."""


MISSING: Any = object()
"""Stands for a value that does not exist."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs between the server and the files here.

    Attributes:
        where: The object, such as ``work pool cpu``.
        what: The name of the value; empty if the whole object is missing on the server.
        there: The server's value, or `MISSING`.
        here: The value in the files here, or `MISSING`.
    """

    where: str
    what: str = ""
    there: Any = MISSING
    here: Any = MISSING

    def __str__(self) -> str:
        if not self.what:
            return f"{self.where}: missing there"
        return f"{self.where}: {self.what} is {_show(self.there)} there, {_show(self.here)} here"

    def mended(self) -> str:
        """Return the line that says how it was mended."""
        if not self.what:
            return f"{self.where}: made"
        return f"{self.where}: {self.what} was {_show(self.there)}, is {_show(self.here)}"


@dataclass(frozen=True, slots=True)
class Change:
    """One request that mends some differences.

    Attributes:
        differences: At least one.
        make: Sends the request.
    """

    differences: tuple[Difference, ...]
    make: Callable[[SyncPrefectClient], object]


@dataclass(slots=True)
class Findings:
    """What was found on a server.

    Attributes:
        changes: To be made in this order.
        kept: What an operator has changed and may change, one line each.
    """

    changes: list[Change] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def differences(self) -> list[Difference]:
        """All differences, in the order of the changes that mend them."""
        return [difference for change in self.changes for difference in change.differences]

    def add(self, differences: Iterable[Difference], make: Callable[[SyncPrefectClient], object]) -> None:
        """Note a change, if there are differences."""
        if found := tuple(differences):
            self.changes.append(Change(found, make))

    def keep(self, where: str, what: str) -> None:
        """Note what an operator has changed, and that it stays so."""
        self.kept.append(f"{where}: {what} there, and left so")

    def extend(self, other: Findings) -> None:
        """Add the findings of another object."""
        self.changes += other.changes
        self.kept += other.kept


def compare_values(where: str, what: str, there: Any, here: Any) -> list[Difference]:  # noqa: ANN401 -- JSON
    """Return where two JSON values differ; for mappings, the keys that differ."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = [*here, *(key for key in there if key not in here)]
        pairs = [(f"{what}.{key}", there.get(key, MISSING), here.get(key, MISSING)) for key in keys]
        return [found for name, old, new in pairs for found in compare_values(where, name, old, new)]
    return [] if there == here else [Difference(where, what, there, here)]


def compare_limits(findings: Findings, where: str, there: int | None, here: int | None) -> list[Difference]:
    """Return the difference if the server's limit is higher than the one here; a lower one is an operator's choice.

    Args:
        findings: Gets a note of a limit that was turned down.
        where: The object that has the limit.
        there: The server's limit; None if it has none.
        here: The limit here; None leaves it to the operator.
    """
    if here is None or there == here:
        if there != here:
            findings.keep(where, f"limited to {there}")
        return []
    if there is None or there > here:
        return [Difference(where, "concurrency limit", there, here)]
    findings.keep(where, f"limit turned down from {here} to {there}")
    return []


def _show(value: Any) -> str:  # noqa: ANN401 -- JSON, or MISSING
    if value is None:
        return "none"
    text = "missing" if value is MISSING else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
