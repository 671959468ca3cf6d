"""The command `fanreel`: render, batch, plan, verify, doctor, calibrate. No Prefect, no server."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fanreel.cli.batch import add_batch
from fanreel.cli.store import add_store_command
from fanreel.errors import EncoderError, FanreelError, RequestError, StorageError

# What a command needs is imported by it: that takes most of a second, in which Ctrl-C has to end
# in one line too, and `--help` has no need of it.
if TYPE_CHECKING:
    from fanreel.host.host import Host
    from fanreel.job.film import FilmJob
    from fanreel.plan.film import FilmPlan
    from fanreel.render.order import RenderOrder
    from fanreel.report.film_report import FilmReport
    from fanreel.report.progress import Snapshot

__all__ = ["main"]

INTERRUPTED = 130

MOST_SESSIONS = 1024
"""As in the job."""

LINE_SECONDS = 5.0
"""How often progress becomes a line where it cannot stay in place: in a log."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, or 2 request, 3 media, 4 encoder, 5 storage, 6 verification."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that is no text, or a terminal that lacks its letters, must not end a film.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = options.run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except FanreelError as error:
        _say(f"fanreel: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        kept = "; finished segments are kept, run the same command to go on" if options.keeps_segments else ""
        _say(f"\nfanreel: interrupted{kept}")
        return INTERRUPTED
    except BrokenPipeError:
        _abandon_output()
        return 0
    except UnicodeEncodeError as error:
        _say(f"fanreel: {error.object!a}: this locale has no such letters; set PYTHONUTF8=1 and run it again")
        return RequestError.exit_code
    except MemoryError:
        _say("fanreel: memory ran out; allow more of it, or ask for fewer sessions or smaller photos")
        return EncoderError.exit_code
    except ImportError as error:
        _say(f"fanreel: a library cannot be loaded: {error}; allow more memory, or install fanreel again")
        return EncoderError.exit_code
    except OSError as error:
        _abandon_output()
        _say(f"fanreel: {error.filename or 'the output'}: {error.strerror or error}")
        return StorageError.exit_code
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fanreel", description=__doc__)
    parser.add_argument("--verbose", "-v", action="store_true", help="say more about each step")
    parser.set_defaults(keeps_segments=False)
    commands = parser.add_subparsers(required=True, metavar="command")
    render = commands.add_parser("render", help="make the film that a job file asks for")
    render.add_argument("job", type=Path, metavar="JOB.yaml")
    render.add_argument(
        "--sessions", type=_session_count, help="encoder sessions at once, over the job's own; 0 for what fits"
    )
    render.set_defaults(run=_render, keeps_segments=True)
    add_batch(commands.add_parser("batch", help="make a film of each row of a table"), render=_render_shown, say=_say)
    plan = commands.add_parser("plan", help="show what would be rendered and why it is cut so")
    plan.add_argument("job", type=Path, metavar="JOB.yaml")
    plan.add_argument("--json", action="store_true", help="the whole plan, for programs")
    plan.set_defaults(run=_plan)
    verify = commands.add_parser("verify", help="prove a film against the certificate beside it")
    verify.add_argument("film", metavar="FILM.mp4", help="a path, or s3://bucket/folder/film.mp4")
    verify.add_argument("--full", action="store_true", help="decode every frame as well")
    verify.set_defaults(run=_verify)
    doctor = commands.add_parser("doctor", help="show what this machine can encode with, and why not with the rest")
    doctor.set_defaults(run=_doctor)
    _add_calibrate(
        commands.add_parser("calibrate", help="measure how many sessions at once are best here, and keep it")
    )
    add_store_command(commands.add_parser("store", help="show, verify or prune the segment store"))
    return parser


def _add_calibrate(calibrate: argparse.ArgumentParser) -> None:
    calibrate.add_argument("--ceiling", action="store_true", help="also look for the GPUs' session limit, up to 16")
    calibrate.add_argument(
        "--size", type=_size, default=(1920, 1080), metavar="WxH", help="of the film to measure with"
    )
    calibrate.add_argument("--seconds", type=float, default=3.0, help="how long each number of sessions is measured")
    calibrate.add_argument("--most", type=_session_count, default=8, help="sessions of one GPU that are tried")
    calibrate.set_defaults(run=_calibrate)


def _session_count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= MOST_SESSIONS):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a number from 0 to {MOST_SESSIONS}")
    return int(text)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in (width, height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; a size such as 1920x1080")
    return int(width), int(height)


def _render(options: argparse.Namespace) -> int:
    from fanreel.host.host import open_host
    from fanreel.intake.sources import load_job
    from fanreel.settings import read_settings

    host = open_host(read_settings())
    job = load_job(options.job)
    if options.sessions is not None:
        job = job.model_copy(update={"sessions": options.sessions})
    if job.pools:
        _say(f"render_on names work pools, {', '.join(job.pools)}, which a Prefect flow hands films to; rendered here")
    with contextlib.closing(host.launcher):
        reports = _render_shown(job, host)
    print(*reports, sep="\n\n")
    return 0


def _render_shown(job: FilmJob, host: Host) -> list[FilmReport]:
    from fanreel.render.here import render_job

    display = _Display()
    try:
        return render_job(job, host=host, on_order=_show_order, on_progress=display.show, on_retry=display.show_retry)
    finally:
        display.clear()


def _plan(options: argparse.Namespace) -> int:
    from fanreel.host.host import open_host
    from fanreel.intake.sources import load_job
    from fanreel.plan.film import plan_to_json
    from fanreel.render.here import plan_job
    from fanreel.settings import read_settings

    host = open_host(read_settings())
    for plan in plan_job(load_job(options.job), host=host):
        print(plan_to_json(plan).decode() if options.json else _describe(plan))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from fanreel.publish.published import verify_published
    from fanreel.settings import read_settings

    certificate = verify_published(options.film, settings=read_settings(), full=options.full)
    how = "every frame decoded" if options.full else "every packet and sampled frames"
    print(f"{options.film}: sound, {certificate.frame_count} frames in {len(certificate.segments)} segments, {how}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from fanreel.host.doctor import diagnose
    from fanreel.host.host import open_host
    from fanreel.settings import read_settings

    marks = {True: "yes", False: "no", None: "-"}
    encoder_usable, storage_usable = False, True
    host = open_host(read_settings())
    with contextlib.closing(host.launcher):
        for diagnosis in diagnose(host):
            encoder_usable |= diagnosis.subject in ("x264", "nvenc") and bool(diagnosis.usable)
            storage_usable &= diagnosis.subject not in ("store", "sessions") or bool(diagnosis.usable)
            print(f"{diagnosis.subject:<10} {marks[diagnosis.usable]:<4} {diagnosis.finding}")
    if not encoder_usable:
        return EncoderError.exit_code
    return 0 if storage_usable else StorageError.exit_code


def _calibrate(options: argparse.Namespace) -> int:
    from fanreel.host.calibrate import Effort, calibrate
    from fanreel.host.calibration_report import calibration_table, keep_calibration
    from fanreel.host.host import open_host
    from fanreel.host.reference_film import ReferenceFilm
    from fanreel.settings import read_settings

    if not 0.1 <= options.seconds <= 60 or options.most < 1:
        raise RequestError("--seconds is a number from 0.1 to 60, --most a number from 1")
    host = open_host(read_settings())
    effort = Effort(ReferenceFilm(*options.size), seconds=options.seconds, most=options.most)
    with contextlib.closing(host.launcher):
        calibration = calibrate(host, ceiling=options.ceiling, effort=effort, on_line=_say)
    kept = keep_calibration(calibration, host.settings.calibration)
    print(calibration_table(calibration), *(f"kept in {path}" for path in kept), sep="\n")
    if host.settings.gpu_sessions is not None:
        _say(f"fanreel: FANREEL_GPU_SESSIONS is set, so films get {host.settings.gpu_sessions} sessions a GPU")
    for reason in calibration.left_out:
        _say(f"fanreel: {reason}")
    return EncoderError.exit_code if calibration.left_out else 0


def _describe(plan: FilmPlan) -> str:
    encoding = plan.encoding
    lines = [
        f"{plan.output}: {plan.frame_count} frames, {plan.seconds:.2f} s, "
        f"{encoding.width_px}x{encoding.height_px} at {encoding.frame_rate} fps, "
        f"{encoding.encoder} {encoding.preset} quality {encoding.quality}, {len(plan.segments)} segments"
    ]
    for segment in plan.segments:
        clips = plan.timeline.clips_between(segment.start_frame, segment.end_frame)
        names = ", ".join(dict.fromkeys(clip.content.label(plan.photo_paths) for clip in clips))
        span = f"[{segment.start_frame}, {segment.end_frame})"
        lines.append(f"{segment.index:5d}  {span:<16} {segment.address[:12]}  {names}  | cut {segment.cut}")
    lines += [f"  left out  {reason}" for reason in plan.left_out]
    return "\n".join(lines)


def _show_order(order: RenderOrder) -> None:
    how = f"; {order.sessions.reason}" if order.shards else ""
    _say(f"{order.segment_count} segments to render, {order.reused} reused{how}")


class _Display:
    """Shows progress: in place on a terminal, as a line now and then elsewhere."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._said_at = time.monotonic()

    def show(self, snapshot: Snapshot) -> None:
        """Show how far the film is."""
        if self._on_terminal:
            _say(f"\r\x1b[K{snapshot}", end="")
        elif time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            _say(str(snapshot))

    def show_retry(self, error: FanreelError, delay_seconds: float) -> None:
        """Say what is tried again."""
        self.clear()
        _say(f"fanreel: {error}; trying again in {delay_seconds:.0f} s")

    def clear(self) -> None:
        """Make room for a line that stays."""
        if self._on_terminal:
            _say("\r\x1b[K", end="")


def _say(text: str, *, end: str = "\n") -> None:
    """Tell the person, not the program that reads the output; a film does not end because nobody listens."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, end=end, file=sys.stderr, flush=True)


def _abandon_output() -> None:
    """Lead standard output nowhere: what is left in its buffer would fail again when the program ends."""
    with open(os.devnull, "w") as nowhere, contextlib.suppress(OSError, ValueError):  # noqa: PTH123
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
