"""A planned film, as tasks hand it on."""

from __future__ import annotations

from dataclasses import dataclass

from fanreel.render.order import RenderOrder

__all__ = ["PlannedFilm"]


@dataclass(frozen=True, slots=True)
class PlannedFilm:
    """A film that is planned; small, so that it can travel.

    Attributes:
        name: Its file name.
        plan: Address of its plan in the store.
        order: What has to be rendered.
        planned_at: Unix time.
        because: Why a part of it was given to this machine, where another one failed; empty if it was not.
    """

    name: str
    plan: str
    order: RenderOrder
    planned_at: float
    because: str = ""
