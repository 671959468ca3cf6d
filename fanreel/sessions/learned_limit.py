"""How many NVENC sessions a GPU lets us have, as far as that was learned from its refusals."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from fanreel.sessions.lock_file import make_shared, open_shared

__all__ = ["LearnedLimit"]

LEARNED_SECONDS = 60.0
"""How long a refusal is remembered: by then another program's session, or the limit itself, may be gone."""

_TEXT_BYTES = 64
"""The file always has so many bytes, written at once: a reader has either the old text or the new one."""


@dataclass(frozen=True, slots=True)
class LearnedLimit:
    """What this host's processes know of a GPU's session limit, in a file that they share.

    It is advice, not a lock: a session that ignores it is refused by the driver, and tries again.

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
        """Remember that the driver refused one more than `sessions`; a lower number that is remembered still holds."""
        known = self.read()
        lowest = max(1, min(sessions, known or sessions))
        text = json.dumps({"sessions": lowest, "until": time.time() + LEARNED_SECONDS})
        # Not replaced: in a folder with the sticky bit nobody may replace another user's file.
        with contextlib.suppress(OSError):
            descriptor = make_shared(self.path)
            try:
                os.pwrite(descriptor, text.encode().ljust(_TEXT_BYTES), 0)
                os.ftruncate(descriptor, _TEXT_BYTES)
            finally:
                os.close(descriptor)

    def _read(self) -> bytes:
        descriptor = open_shared(self.path)
        try:
            return os.pread(descriptor, _TEXT_BYTES, 0)
        finally:
            os.close(descriptor)
