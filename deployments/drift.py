"""What differs between a server and what is written here, and what mends it. Pure: whoever asks brings both sides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefect.client.orchestration import SyncPrefectClient

__all__ = ["MISSING", "Change", "Difference", "Findings", "compare_limits", "compare_values"]

_LONGEST_VALUE = 90
"""Characters of a value that are shown: what differs in a form's schema can be pages."""


class _Missing:
    """The value of what is not there."""

    def __repr__(self) -> str:
        return "missing"


MISSING = _Missing()


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is otherwise on the server than it is here.

    Attributes:
        where: The object, such as ``work pool cpu``.
        what: Which of its values; empty if the whole object is missing.
        there: The server's value, or `MISSING`.
        here: The value that is written here, or `MISSING`.
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
        """Return what was done about it."""
        if not self.what:
            return f"{self.where}: made"
        return f"{self.where}: {self.what} was {_show(self.there)}, is {_show(self.here)}"


@dataclass(frozen=True, slots=True)
class Change:
    """What mends some differences, in one go.

    Attributes:
        differences: At least one.
        make: Changes the server.
    """

    differences: tuple[Difference, ...]
    make: Callable[[SyncPrefectClient], object]


@dataclass(slots=True)
class Findings:
    """What was found on a server.

    Attributes:
        changes: To be made in this order.
        kept: What an operator has set otherwise, and may: one line each.
    """

    changes: list[Change] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def differences(self) -> list[Difference]:
        """All differences, in the order of the changes that mend them."""
        return [difference for change in self.changes for difference in change.differences]

    def add(self, differences: Iterable[Difference], make: Callable[[SyncPrefectClient], object]) -> None:
        """Note what mends some differences; nothing if there are none."""
        if found := tuple(differences):
            self.changes.append(Change(found, make))

    def keep(self, where: str, what: str) -> None:
        """Note that something of an operator's is left as it is."""
        self.kept.append(f"{where}: {what} there, and left so")

    def extend(self, other: Findings) -> None:
        """Add what else was found."""
        self.changes += other.changes
        self.kept += other.kept


def compare_values(where: str, what: str, there: Any, here: Any) -> list[Difference]:  # noqa: ANN401 -- JSON
    """Return where two JSON values differ, for mappings down to the keys that do."""
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        keys = [*here, *(key for key in there if key not in here)]
        pairs = [(f"{what}.{key}", there.get(key, MISSING), here.get(key, MISSING)) for key in keys]
        return [found for name, old, new in pairs for found in compare_values(where, name, old, new)]
    return [] if there == here else [Difference(where, what, there, here)]


def compare_limits(findings: Findings, where: str, there: int | None, here: int | None) -> list[Difference]:
    """Return whether a limit lets more through than the one here; one that lets less through is an operator's.

    Args:
        findings: Where a limit that was turned down is noted.
        where: The object that has the limit.
        there: The server's limit; None is none.
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
    text = repr(value) if value is MISSING else json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
