"""What can be wrong with a film, in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import av.error

__all__ = ["Damage", "Finding", "gather_findings"]

MOST_FINDINGS_A_KIND = 3
"""One cause, such as a dropped packet, shows in every packet after it; the first ones tell enough."""

UNREADABLE = (av.error.FFmpegError, ArithmeticError, LookupError, ValueError)
"""What PyAV raises on files that are no films: FFmpeg's errors, missing streams, names that are not text."""


class Damage(StrEnum):
    """What can be wrong with a film."""

    CONTAINER = "container"
    FORMAT = "format"
    COLOUR = "colour"
    PARAMETER_SETS = "parameter sets"
    DURATION = "duration"
    PACKET_COUNT = "packet count"
    PAYLOAD = "payload"
    TIMES = "times"
    KEYFRAMES = "keyframes"
    PICTURE = "picture"
    FROZEN = "frozen"
    AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference between a film and its certificate, in words."""

    damage: Damage
    message: str


def gather_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return the first three findings of each kind and how many more there are; an error of the reader is one too."""
    kept: dict[Damage, list[Finding]] = {}
    more: dict[Damage, int] = {}
    try:
        for finding in findings:
            alike = kept.setdefault(finding.damage, [])
            if len(alike) < MOST_FINDINGS_A_KIND:
                alike.append(finding)
            else:
                more[finding.damage] = more.get(finding.damage, 0) + 1
    except UNREADABLE as error:
        said = getattr(error, "strerror", None) or error
        kept.setdefault(Damage.CONTAINER, []).append(Finding(Damage.CONTAINER, f"libavformat cannot read it: {said}"))
    shown: list[Finding] = []
    for damage, alike in kept.items():
        shown += alike
        if damage in more:
            shown.append(Finding(damage, f"and {more[damage]} more like these"))
    return shown
