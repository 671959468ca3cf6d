"""Where a film is made, and by how many encoder sessions, as a person asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from fanreel.job.fields import Count, Model, PoolName, one_as_list

__all__ = ["MACHINE_KEYS", "Machines", "Strategy", "gather_machines"]

HERE = "here"
"""What `render_on` calls the machine of the flow."""


class Strategy(StrEnum):
    """How a film's segments are shared out."""

    AUTO = "auto"
    FILM = "film"
    SEGMENTS = "segments"


class Machines(Model):
    """Where the film is made, and by how many encoder sessions."""

    render_on: Annotated[list[PoolName], BeforeValidator(one_as_list)] = Field(
        default=[HERE],
        description="here: on the machine of the flow. Or the work pools that render it, the preferred one first: "
        "nvenc, cpu.",
    )
    sessions: Count = Field(
        default=0,
        title="Encoder sessions",
        ge=0,
        le=1024,
        description="Encoder sessions at once; 0 is what the machine can carry.",
    )
    strategy: Strategy = Field(
        default=Strategy.AUTO,
        description="segments: the film is fanned out over sessions, to be done soonest. film: one session of one "
        "thread makes it whole, for many films side by side. auto: segments, where there is more than one.",
    )

    @field_validator("render_on")
    @classmethod
    def _is_here_or_pools(cls, render_on: list[str]) -> list[str]:
        if not render_on:
            raise ValueError("here, or the names of work pools")
        if HERE in render_on and len(render_on) > 1:
            raise ValueError("here stands alone: name pools, or here")
        if len(set(render_on)) < len(render_on):
            raise ValueError("each pool once")
        return render_on

    @property
    def pools(self) -> tuple[str, ...]:
        """The work pools that render it, the preferred one first; none if it is rendered where its flow runs."""
        return () if self.render_on == [HERE] else tuple(self.render_on)


MACHINE_KEYS = tuple(Machines.model_fields)
"""Keys of `machines` that a job may also have beside it."""


def gather_machines(values: Mapping[str, Any], **usual: object) -> dict[str, Any]:
    """Return a raw job whose keys of `machines` that stand beside it are moved in there.

    A key that stands in both places stays in both, and a `machines` that is no mapping stays: the model refuses them.

    Args:
        values: The raw job.
        usual: Values of keys of `machines` that the job leaves out.
    """
    inside = values.get("machines", {})
    if not isinstance(inside, Mapping):
        return dict(values)
    beside = {key: values[key] for key in MACHINE_KEYS if key in values and key not in inside}
    gathered = {**usual, **inside, **beside}
    left = {key: value for key, value in values.items() if key not in beside}
    return left | {"machines": gathered} if gathered else left
