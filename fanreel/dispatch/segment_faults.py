"""What went wrong with the segments of a film, and in which pools: where each is better not tried again."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

__all__ = ["SegmentFaults"]

ATTEMPTS_A_POOL = 2
"""How often one segment may fail in each pool, and in all as often again, before its film does."""


class SegmentFaults:
    """See the module.

    Attributes:
        avoided: By segment, how often each pool came to nothing with it; a segment without any is missing.
    """

    def __init__(self) -> None:
        self.avoided: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._told: defaultdict[int, list[str]] = defaultdict(list)

    def avoid(self, indices: Iterable[int], pool: str) -> None:
        """Take note of segments that a pool had, and did not make."""
        for index in indices:
            self.avoided[index][pool] += 1

    def note(self, index: int, fault: str, *, pool_count: int, is_hopeless: bool) -> str:
        """Take note of what went wrong with a segment; return why the film cannot be made, empty as long as it can."""
        told = self._told[index]
        told.append(fault)
        if not is_hopeless and len(told) < ATTEMPTS_A_POOL * (pool_count + 1):
            return ""
        tries = "1 try" if len(told) == 1 else f"{len(told)} tries"
        reasons = "\n".join(f"  {text}" for text in dict.fromkeys(told))
        return f"segment {index} could not be rendered in {tries}:\n{reasons}"

    def avoided_in(self, index: int) -> Mapping[str, int]:
        """Return how often each pool came to nothing with a segment; 0 for a pool that is not there."""
        return self.avoided.get(index, Counter[str]())

    def count(self, index: int) -> int:
        """Return how often something went wrong with a segment."""
        return len(self._told.get(index, ()))

    def last(self, index: int) -> str:
        """Return what went wrong with a segment last; empty if nothing did."""
        return self._told[index][-1] if index in self._told else ""
