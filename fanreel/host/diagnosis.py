"""What a look at this machine finds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Diagnosis"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found about one subject.

    Attributes:
        subject: What was looked at.
        usable: Whether films can be made with it; None if it is only for information.
        finding: What was found, and what to do if it is not usable.
    """

    subject: str
    usable: bool | None
    finding: str
