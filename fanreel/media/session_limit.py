"""How many NVENC sessions a GPU lets us have, as far as that was learned from its refusals."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LearnedLimit"]

LEARNED_SECONDS = 60.0
"""How long a refusal is remembered: another program's session, or the limit itself, may be gone by then."""


@dataclass(frozen=True, slots=True)
class LearnedLimit:
    """What this host's processes know of a GPU's session limit, in a file that they share.

    It is advice, not a lock: whoever misses it is refused by the driver and tries again.

    Attributes:
        path: The file; anyone may write it.
    """

    path: Path

    def read(self) -> int | None:
        """Return how many sessions there may be, at least 1; None if nothing was learned lately."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            learned = json.loads(self.path.read_bytes())
            if 0 < learned["until"] - time.time() <= LEARNED_SECONDS:
                return max(1, int(learned["sessions"]))
        return None

    def learn(self, sessions: int) -> None:
        """Remember that the driver refused one more than `sessions`; the lowest number of late holds."""
        known = self.read()
        text = json.dumps(
            {
                "sessions": max(1, min(sessions, known or sessions)),
                "until": time.time() + LEARNED_SECONDS,
            }
        )
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            part.write_text(text)
            part.chmod(0o666)
            part.replace(self.path)
