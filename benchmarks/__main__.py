"""Runs the measurements, prints the table and writes `.bench/results.json`.

`make bench` runs all of them; `.venv/bin/python -m benchmarks --only join --only planning` runs some; with `--quick`
the films last seconds, which tries the harness and measures nothing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Iterator

from benchmarks.engine import run_engine
from benchmarks.films import BENCH, Bench, fresh_folder, make_job
from benchmarks.measurement import MISSES, Measurement, machine_facts, print_table, write_results

MEASUREMENTS = (
    "frames",
    "zoompan",
    "against_moviepy",
    "encoder_alone",
    "flow",
    "memory",
    "join",
    "scaling",
    "planning",
    "film_queue",
    "pools",
    "scale",
)


def main(arguments: list[str] | None = None) -> int:
    """Return 0 if everything was measured and holds, 1 if something misses, 3 if something could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="measure this; may be given again")
    parser.add_argument("--quick", action="store_true", help="films of seconds: tries the harness, compares nothing")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each contestant (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds} must be 1 or more")
    print(f"machine: {machine_facts()}", flush=True)
    bench = Bench.prepare(quick=options.quick, rounds=options.rounds)
    _fill_caches(bench)
    found: list[Measurement] = []
    failed = False
    for name in options.only or MEASUREMENTS:
        started_at = time.monotonic()
        try:
            for one in _measure(name, bench):
                found.append(one)
                print_table([one])
                sys.stdout.flush()
        except Exception:  # noqa: BLE001 -- the other figures are still wanted; this one is said to be missing
            failed = True
            print(f"not measured       {name}\n{traceback.format_exc()}", flush=True)
        print(f"    ({name} took {time.monotonic() - started_at:.0f} s)", flush=True)
        write_results(BENCH / "results.json", found)
    print("\nAll of it again:")
    print_table(found)
    print(f"written to {BENCH / 'results.json'}")
    if failed or any(one.value is None for one in found):
        return 3
    return int(any(one.verdict == MISSES for one in found))


def _fill_caches(bench: Bench) -> None:
    """Render a tiny film, so that numba's and Python's caches are filled for all that follows."""
    folder = fresh_folder("warm")
    photo = str(bench.photos[0])
    run_engine(make_job(folder / "film.mp4", preset="draft", photos=[photo], seconds_per_slide=0.5), name="warm")


def _measure(name: str, bench: Bench) -> Iterator[Measurement]:
    # Imported when it is its turn: what one of them loads is no part of another's memory.
    yield from importlib.import_module(f"benchmarks.{name}").measure(bench)


if __name__ == "__main__":
    sys.exit(main())
