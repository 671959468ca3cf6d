"""What a benchmark says: a figure, the bound it is held against, and what stands beside it."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["Measurement", "machine_facts", "print_table", "ratio", "write_results"]

HOLDS, MISSES, NOT_MEASURED, QUICK = "holds", "misses", "not measured", "quick, no verdict"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured figure.

    Attributes:
        name: What was measured.
        value: The figure; None where it could not be taken, and `beside["why"]` says why.
        bound: What is demanded of it.
        at_least: Whether the bound is the least allowed; else it is the most allowed.
        unit: Of value and bound: "x" for a ratio.
        beside: What it was made from and what else was seen, in the order to print.
        quick: Taken on films too short to be compared with anything.
    """

    name: str
    value: float | None
    bound: float
    at_least: bool
    unit: str
    beside: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False

    @property
    def verdict(self) -> str:
        """Return whether the bound holds; a quick run never says so, whatever it saw."""
        if self.value is None:
            return NOT_MEASURED
        if self.quick:
            return QUICK
        # Not rounded: what is shown as 1.25 may be less.
        return HOLDS if (self.value >= self.bound if self.at_least else self.value <= self.bound) else MISSES


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Return the smallest of theirs over the smallest of ours: a busy machine only ever adds.

    Raises:
        ValueError: One has no rounds.
    """
    return min(theirs) / min(ours)


def print_table(measurements: Iterable[Measurement]) -> None:
    """Print a line for each figure, and under it what stands beside it."""
    for one in measurements:
        value = "-" if one.value is None else f"{one.value:.3f} {one.unit}"
        bound = f"{'at least' if one.at_least else 'at most'} {one.bound:g}"
        print(f"{one.verdict:<18} {value:>14}  {bound:<15}  {one.name}")
        for key, seen in one.beside.items():
            print(f"{'':<20}{key}: {_shown(seen)}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def write_results(path: Path, measurements: Iterable[Measurement]) -> None:
    """Write figures, verdicts and the machine they were taken on as JSON."""
    rows = [
        {
            "name": one.name,
            "verdict": one.verdict,
            "value": one.value,
            "bound": one.bound,
            "at_least": one.at_least,
            "unit": one.unit,
            "quick": one.quick,
            "beside": dict(one.beside),
        }
        for one in measurements
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine_facts(), "measurements": rows}, indent=1) + "\n")


def machine_facts() -> dict[str, Any]:
    """Return what the figures depend on: processor, memory, versions."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    flags = set((_found(r"^flags\s*:\s*(.*)$", cpuinfo) or "").split())
    return {
        "cpu": _found(r"^model name\s*:\s*(.*)$", cpuinfo),
        "cores": len(os.sched_getaffinity(0)),
        "simd": sorted(flags & {"sse4_2", "avx", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "vbmi"}),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("av", "numba", "numpy", "opencv-python-headless", "prefect")},
    }


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else None
