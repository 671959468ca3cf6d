"""What every flow's command line shares: `python -m flows.<flow> JOB.yaml`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fanreel.batches.inbox import LONGEST_QUIET_SECONDS, CompleteWhen
from fanreel.errors import FanreelError
from fanreel.host.host import current_host
from fanreel.intake.sources import load_job
from tasks.stacks import spare_stacks

__all__ = ["run_calibration", "run_inbox", "run_job"]

USAGE = 2
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


def run_job(render: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Run a flow on a job file, tell what became of it, and return the exit code.

    Args:
        render: The flow; a job of its kind of film is its parameter.
        arguments: Of the command line, without the command.
    """
    if len(arguments) != 1 or arguments[0].startswith("-"):
        return _usage("JOB.yaml")

    def run() -> None:
        job = load_job(Path(arguments[0]))
        current_host()  # settings that are wrong are told of before anything starts
        print(*render(job), sep="\n\n")

    return _run(run, kept="finished segments are kept, run the same command to go on")


def run_calibration(calibrate: Callable[[bool], object], arguments: Sequence[str]) -> int:
    """Run the flow `calibrate-host`, which tells by itself what it found, and return the exit code.

    Args:
        calibrate: The flow; whether to look for the session limit is its parameter.
        arguments: Of the command line, without the command.
    """
    if list(arguments) not in ([], ["--ceiling"]):
        return _usage("[--ceiling]")

    def run() -> None:
        current_host()
        calibrate(bool(arguments))

    return _run(run, kept="nothing is kept")


def run_inbox(render: Callable[..., Any], arguments: Sequence[str]) -> int:
    """Run the flow `render-inbox`, tell what became of each sub-folder, and return the exit code.

    Args:
        render: The flow.
        arguments: Of the command line, without the command.
    """
    parameters = vars(_inbox_parser().parse_args(arguments))

    def run() -> None:
        current_host()
        for key in ("inbox", "output"):
            # Relative to where the command was given; a deployment has no such folder.
            given = parameters[key]
            parameters[key] = given if "://" in given or not given else str(Path(given).absolute())
        print(*render(**parameters), sep="\n")

    return _run(run, kept="films that are done stay done, run the same command to go on")


def _run(run: Callable[[], None], *, kept: str) -> int:
    """Call `run`, and return the exit code: its error, or an interrupt, becomes one line that says what is kept."""
    signal.signal(signal.SIGTERM, _terminate)
    spare_stacks()
    try:
        run()
    except FanreelError as error:
        return _give_up(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _give_up(f"interrupted; {kept}", INTERRUPTED)
    return 0


def _usage(arguments: str) -> int:
    print(f"usage: python -m flows.{Path(sys.argv[0]).stem} {arguments}", file=sys.stderr)
    return USAGE


def _inbox_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.render_inbox", description="A film of each sub-folder.")
    parser.add_argument("inbox", help="a folder, or s3://bucket/prefix/")
    parser.add_argument("--output", default="", help="where the films go; beside the sub-folders if left out")
    parser.add_argument("--ready", default=".ready", help="name of the file that says that a sub-folder is complete")
    parser.add_argument(
        "--complete-when",
        type=CompleteWhen,
        choices=list(CompleteWhen),
        default=CompleteWhen.EITHER,
        help="what counts as complete: the marker, that nothing changed for a while, or either",
    )
    parser.add_argument("--quiet-seconds", type=_quiet_seconds, default=60, help="how long that while is")
    parser.add_argument("--render-on", default="here", help="here, or work pools with commas between them")
    return parser


def _quiet_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= LONGEST_QUIET_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a number from 0 to {LONGEST_QUIET_SECONDS:,}")
    return seconds


def _give_up(message: str, code: int) -> int:
    # The last line is ours: the temporary server is stopped, and says so, when this process exits.
    logging.getLogger("prefect").setLevel(logging.WARNING)
    print(f"fanreel: {message}", file=sys.stderr)
    return code


def _terminate(signal_number: int, frame: Any) -> None:  # noqa: ANN401 -- a signal handler's signature
    # An exit and not a death by signal, which would leave the temporary server behind.
    message = "terminated; finished segments are kept, run the same command to go on"
    raise SystemExit(_give_up(message, TERMINATED))
