"""How many NVENC sessions a GPU lets us have, as far as that was learned from its refusals."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from fanreel.sessions.gate import open_shared

__all__ = ["LearnedLimit"]

LEARNED_SECONDS = 60.0
"""How long a refusal is remembered: another program's session, or the limit itself, may be gone by then."""

_TEXT_BYTES = 64
"""Always so many, written at once: who reads meanwhile has the old ones or the new ones."""


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
            learned = json.loads(self._read())
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
        # Not replaced: in a folder with the sticky bit nobody may replace another user's file.
        with contextlib.suppress(OSError):
            descriptor = open_shared(self.path, make=True)
            try:
                os.pwrite(descriptor, text.encode().ljust(_TEXT_BYTES), 0)
                os.ftruncate(descriptor, _TEXT_BYTES)
            finally:
                os.close(descriptor)

    def _read(self) -> bytes:
        descriptor = open_shared(self.path, make=False)
        try:
            return os.pread(descriptor, _TEXT_BYTES, 0)
        finally:
            os.close(descriptor)
