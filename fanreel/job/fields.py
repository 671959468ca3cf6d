"""The fields that job models are made of: what each takes from YAML, a form or JSON, and how it is shown."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import core_schema

__all__ = [
    "FASTEST_RATE",
    "SLOWEST_RATE",
    "Count",
    "LeftOut",
    "Model",
    "Name",
    "Number",
    "PoolName",
    "Seconds",
    "one_as_list",
    "rate_as_text",
    "without_default",
]

SLOWEST_RATE, FASTEST_RATE = 1, 240


class Model(BaseModel):
    """What every job model shares: unknown keys are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def rate_as_text(value: object) -> object:
    """Return a number of frames a second as the text that the field has; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not SLOWEST_RATE <= value <= FASTEST_RATE:
        raise ValueError(f"from {SLOWEST_RATE} to {FASTEST_RATE} frames per second")
    return str(value)


def _refuse_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false (YAML reads yes, no, on and off as these)")
    return value


def one_as_list(value: object) -> object:
    """Return a text as a list of it; anything else as it is."""
    return [value] if isinstance(value, str) else value


class LeftOut:
    """Marks a value that may be left out: in the form it has its plain type, with neither a union nor a null."""

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema["schema"] if schema["type"] == "nullable" else schema)


def without_default(schema: dict[str, Any]) -> None:
    """Take the default out of a field's schema, where the form would show it as a value."""
    schema.pop("default", None)


Number = Annotated[float, BeforeValidator(_refuse_truth)]
Count = Annotated[int, BeforeValidator(_refuse_truth)]
Seconds = Annotated[Number, Field(gt=0, le=3600)]
Name = Annotated[str, Field(min_length=1)]
PoolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$")]
