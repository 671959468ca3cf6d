"""The fields that job models are made of: what each takes from YAML, a form or JSON, and how it is shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import core_schema

from fanreel.errors import InvalidJobError
from fanreel.job.mistakes import explain_mistakes

__all__ = [
    "Count",
    "LeftOut",
    "Model",
    "Name",
    "Number",
    "PoolName",
    "Seconds",
    "number_fields",
    "one_as_list",
    "without_default",
]


def number_fields(schema: dict[str, Any]) -> None:
    """Number the fields of a schema, as Prefect's form sorts them: PostgreSQL keeps no order of keys."""
    for position, field in enumerate(schema["properties"].values()):
        field["position"] = position


class _SaysWhatIsWrong(type(BaseModel)):
    """Has a model that a program makes with wrong values raise our own error, in words; pydantic has its own still."""

    if not TYPE_CHECKING:  # type checkers go by the model's fields

        def __call__(cls, *arguments: Any, **values: Any) -> Any:  # noqa: ANN401 -- the model
            try:
                return super().__call__(*arguments, **values)
            except ValidationError as error:
                raise InvalidJobError("\n".join(explain_mistakes(error, cls))) from None


class Model(BaseModel, metaclass=_SaysWhatIsWrong):
    """What every job model shares: unknown keys are refused, values cannot change.

    Raises:
        InvalidJobError: It is made with wrong values, one line for each, or one is to be changed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, json_schema_extra=number_fields)

    if not TYPE_CHECKING:

        def __setattr__(self, name: str, value: object) -> None:
            try:
                super().__setattr__(name, value)
            except ValidationError:
                raise InvalidJobError(f"{name}: the values of a job do not change; make another job") from None

    @model_validator(mode="before")
    @classmethod
    def _take_choices_in_any_spelling(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        texts = {key: value for key, value in values.items() if key in cls.model_fields and isinstance(value, str)}
        return {**values, **{key: _as_spelled(text, cls.model_fields[key].annotation) for key, text in texts.items()}}


def _as_spelled(text: str, annotation: Any) -> str:  # noqa: ANN401 -- a type, or a union of types
    """Return a text as one of a field's choices is spelled: `Zoom_In` as `zoom-in`; as it is if it is none of them."""
    spelled = re.sub(r"[ _-]+", "-", text.strip(" ")).casefold()
    kinds = (kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, Enum))
    return spelled if any(spelled == choice.value for kind in kinds for choice in kind) else text


def _refuse_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false (YAML reads yes, no, on and off as these)")
    return value


def one_as_list(value: object) -> object:
    """Return a text as a list of it; anything else as it is."""
    return [value] if isinstance(value, str) else value


def _path_as_text(value: object) -> object:
    """Return a path, which programs have in place of a name, as text; anything else as it is."""
    return os.fspath(value) if isinstance(value, os.PathLike) else value


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
Name = Annotated[str, Field(min_length=1), BeforeValidator(_path_as_text)]
PoolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$")]
