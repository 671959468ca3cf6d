"""What a job's JSON schema says of it, so that a form or an API refuses a wrong job before there is a run of it.

Prefect's API answers with what a schema expected. For a pattern that is a regular expression; so a value that does not
match is asked to be a sentence (`const`) instead, which says what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fanreel.job.fields import number_fields
from fanreel.job.machines import MACHINE_KEYS
from fanreel.job.rates import NAMED_SIZES, RATE_PATTERN

__all__ = ["say_what_is_allowed"]

_EVEN_SIDE = "(6[468]|[7-9][02468]|[1-9][0-9][02468]|[1-7][0-9]{2}[02468]|80[0-9][02468]|81[0-8][02468]|819[02])"
"""An even number from 64 to 8192."""

_NAMES = "|".join("".join(f"[{each}{each.upper()}]" for each in name) for name in NAMED_SIZES)
"""Names of sizes, in any case."""

_HIDDEN = ("film", *MACHINE_KEYS)
"""Keys of a job that are no fields of the form: one has a single value, the others stand in `machines` there."""


def _told(pattern: str, sentence: str) -> dict[str, Any]:
    """Return the schema of a text that matches a pattern, whose mistake is told as the sentence."""
    return {"if": {"pattern": pattern}, "else": {"const": sentence}}


_TEXTS: Mapping[str, Mapping[str, Any]] = {
    "size": _told(
        rf"^ *({_EVEN_SIDE} *[xX\u00d7] *{_EVEN_SIDE}|{_NAMES}) *$",
        f"width x height, both even and from 64 to 8192 px, such as 1920x1080; or {', '.join(NAMED_SIZES)}",
    ),
    "fps": _told(RATE_PATTERN, "frames per second, such as 25, 30 or 30000/1001"),
    "output": _told(
        r"^(s3://[^/]+|(?![A-Za-z0-9+.-]+://)).*(\.[mM][pP]4|/)$",
        "a file ending in .mp4, or a folder ending in /; on the worker, or in s3://bucket/",
    ),
    "base": _told(r"^([/~]|$)", "an absolute folder of the worker, or nothing"),
}
_WHOLE_PATH = _told(r"^([/~]|[A-Za-z0-9+.-]+://|$)", "a whole path, such as /films/trip/photos; or give base")


def say_what_is_allowed(schema: dict[str, Any]) -> None:
    """Put into a job's schema what its fields alone do not say, and take out what is no field of a form."""
    fields = schema["properties"]
    fields.pop("film", None)
    del schema["additionalProperties"]
    schema["propertyNames"] = {"enum": [*fields, *_HIDDEN]}
    number_fields(schema)
    for key, words in _TEXTS.items():
        fields[key].pop("pattern", None)
        fields[key] |= words
    if "photos" not in fields:
        return
    whole = {"output": _WHOLE_PATH, "photos": {"items": _WHOLE_PATH}}
    has_base = {"required": ["base"], "properties": {"base": {"pattern": "."}}}
    has_slides = {"required": ["slides"], "properties": {"slides": {"minItems": 1}}}
    without_base = {"if": {"not": has_base}, "then": {"properties": whole}}
    no_photos = {"if": {"minItems": 1}, "then": {"const": "no photos, where slides are given"}}
    schema["if"] = has_slides
    schema["then"] = {"properties": {"photos": no_photos}, **without_base}
    schema["else"] = {"required": ["photos"], "properties": {"photos": {"minItems": 1}}, **without_base}
