"""Read numbers of any width out of the headers of coded streams."""

from __future__ import annotations

__all__ = ["BitReader"]


class BitReader:
    """Reads bits from the left. Reading past the end raises `ValueError`."""

    def __init__(self, data: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._position = 0

    def read(self, count: int) -> int:
        """Return the number in the next `count` bits."""
        end = self._position + count
        if end > len(self._bits):
            raise ValueError(f"a header of {len(self._bits)} bits is cut short")
        value = int(self._bits[self._position : end] or "0", 2)
        self._position = end
        return value

    def read_exponential(self) -> int:
        """Return the next unsigned Exp-Golomb number. Source: ITU-T H.264, 9.1; H.265, 9.2."""
        one = self._bits.find("1", self._position)
        if one < 0:
            raise ValueError(f"a header of {len(self._bits)} bits is cut short")
        zeros = one - self._position
        self._position = one
        return self.read(zeros + 1) - 1
