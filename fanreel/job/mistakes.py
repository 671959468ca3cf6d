"""What is wrong with a job, in words for the person who wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

__all__ = ["contradiction", "explain_mistakes", "place_of"]

LONGEST_SHOWN = 60
"""Characters of a wrong value that its error line shows."""


def contradiction(message: str, *, at: str = "") -> PydanticCustomError:
    """Return the mistake of two keys that cannot stand together.

    Args:
        message: Told as it is.
        at: The key of the job that it is told at, if that is not the one that is judged.
    """
    return PydanticCustomError("contradiction", "{message}", {"message": message, "at": at})


def place_of(detail: Any) -> tuple[int | str, ...]:  # noqa: ANN401 -- pydantic's ErrorDetails
    """Return the keys that lead to a mistake."""
    at = detail.get("ctx", {}).get("at")
    return (at,) if at else detail["loc"]


def explain_mistakes(error: ValidationError, job: type[BaseModel]) -> list[str]:
    """Return one line per mistake: the key, its value, what is allowed.

    Args:
        error: What the model `job` raised.
        job: A model whose keys hold plain values, models of plain values, or lists of these.
    """
    return [_explain(detail, job) for detail in error.errors(include_url=False)]


def _explain(detail: Any, job: type[BaseModel]) -> str:  # noqa: ANN401 -- pydantic's ErrorDetails
    location = place_of(detail)
    place = ".".join(map(_named, location))
    model = _model_at(location, job)
    refused = f"{place}: {_shown(detail['input'])} is not allowed; "
    match detail["type"]:
        case "extra_forbidden":
            return f"{place}: unknown key; {_suggest(location, model)}"
        case "missing":
            return f"{place}: missing; {_description(location, job)}"
        case "contradiction":
            return f"{place}: {detail['msg']}"
        case "string_pattern_mismatch" | "string_type":
            return refused + _description(location, job)
        case "list_type":
            return f"{refused}a list is needed. {_description(location, job)}"
        case "model_type" | "model_attributes_type":
            inner = _nested_in(job, location[0]) or job
            return f"{refused}a mapping is needed, with keys such as {', '.join(inner.model_fields)}"
        case _:
            reason = str(detail["msg"]).removeprefix("Value error, ")
            return f"{refused}{reason[:1].lower()}{reason[1:]}"


def _named(part: str | int) -> str:
    text = str(part)
    return text if text.isprintable() and len(text) <= LONGEST_SHOWN else _shown(text)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # An integer of over 4300 digits, or a list that holds one.
        return f"this {type(value).__name__}"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def _model_at(location: tuple[str | int, ...], job: type[BaseModel]) -> type[BaseModel]:
    return _nested_in(job, location[0]) or job if len(location) > 1 else job


def _nested_in(job: type[BaseModel], key: str | int) -> type[BaseModel] | None:
    """Return the model that the values of a key have, alone or in a list; None if they are plain."""
    field = job.model_fields.get(str(key))
    annotation = field.annotation if field else None
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _keys_within(job: type[BaseModel], key: str) -> Iterable[str]:
    inner = _nested_in(job, key)
    return inner.model_fields if inner and inner is job.model_fields[key].annotation else ()


def _description(location: tuple[str | int, ...], job: type[BaseModel]) -> str:
    keys = [part for part in location if isinstance(part, str)]
    field = _model_at(location, job).model_fields.get(keys[-1])
    return (field.description if field else None) or "see the README for the job's keys"


def _suggest(location: tuple[str | int, ...], model: type[BaseModel]) -> str:
    key, known = str(location[-1]), list(model.model_fields)
    if owner := next((name for name in known if key in _keys_within(model, name)), None):
        return f"it is a key of {owner}: give it once, there"
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
