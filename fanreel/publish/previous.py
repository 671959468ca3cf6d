"""What lies where a film is to go: a film that fanreel made, which gives way, or a file that is not to be lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fanreel.errors import OutputExistsError
from fanreel.join.identify import FilmIdentity

__all__ = ["PreviousFile", "look_again", "refuse_foreign"]

MOST_LOOKS = 3
"""Looks at a film and its certificate until one is of the other: other runs may publish between the two."""


@dataclass(frozen=True, slots=True)
class PreviousFile:
    """The file that has the name of a film's output; as text, which one it is.

    Attributes:
        size_bytes: Its size.
        modified_at: Unix time at which it was last written.
        is_ours: It is a film that fanreel made: the certificate beside it is of this very file.
        identity: What its certificate says; None if it has none that can be read.
    """

    size_bytes: int
    modified_at: float
    is_ours: bool
    identity: FilmIdentity | None = None

    def __str__(self) -> str:
        """Return which one it is, for people."""
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(max(self.modified_at, 0.0), 4e9)))
        if not self.is_ours:
            return f"a file that fanreel did not make ({self.size_bytes:,} bytes, {date})"
        return f"the film of {date}" + (f", {self.identity.seconds:.2f} s long" if self.identity else "")


def look_again(look: Callable[[], PreviousFile | None]) -> PreviousFile | None:
    """Return what `look` finds, looking again if that is no film of ours: it may be in the midst of a change."""
    found = look()
    for _ in range(MOST_LOOKS - 1):
        if found is None or found.is_ours:
            break
        found = look()
    return found


def refuse_foreign(previous: PreviousFile | None, *, output: str, overwrite: bool) -> None:
    """Return if a film may take this place.

    Args:
        previous: What lies there.
        output: Where, for the message.
        overwrite: The job allows that any file is replaced.

    Raises:
        OutputExistsError: A file lies there that fanreel did not make.
    """
    if previous is not None and not previous.is_ours and not overwrite:
        raise OutputExistsError(
            f"output: {output} is {previous}, and stays; name another output, "
            "or have it replaced with `overwrite: true` in the job, `--overwrite` at the prompt"
        )
