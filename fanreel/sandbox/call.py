"""A call as it travels to its process: JSON, and so is its answer, for no answer may run code in its reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_json

__all__ = ["DESCRIPTORS", "MEMORY_RAN_OUT", "MOST_WRITTEN_BYTES", "Bounds", "Call", "decode_call", "encode_call"]

DESCRIPTORS = 2
"""What a process is handed before the caller's own descriptors: a file for its words, a file for its answer."""

MOST_WRITTEN_BYTES = 16 << 20
"""The longest file that a call may write: its answer, or what decoders print about a file that is all damage."""

MEMORY_RAN_OUT = "MemoryError"
"""In place of an error's class."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one call may use. A process that takes more ends, and the call with it.

    Attributes:
        cpu_seconds: Time on a core: on a busy machine a call takes longer, but no more of this.
        wall_seconds: Time on the clock, for a call that waits for ever.
        memory_bytes: Memory beyond what its server has imported.
    """

    cpu_seconds: float
    wall_seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function of a module, what it is called with, and within which bounds."""

    module: str
    function: str
    arguments: list[Any]
    bounds: Bounds


_CALL = TypeAdapter(Call)


def encode_call(function: Callable[..., Any], arguments: Sequence[Any], bounds: Bounds) -> bytes:
    """Return a call as bytes; `decode_call` gives an equal one back."""
    return to_json(Call(function.__module__, function.__qualname__, list(arguments), bounds))


def decode_call(data: bytes) -> Call:
    """Return the call that `data` holds."""
    return _CALL.validate_json(data)
