"""The command `fanreel`: render, plan, verify, doctor. No Prefect, no server."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from fanreel.errors import FanreelError
from fanreel.media.certificate import certificate_path, read_certificate
from fanreel.media.doctor import diagnose
from fanreel.media.host import open_host
from fanreel.media.render import RenderOrder
from fanreel.media.sources import load_job
from fanreel.media.verify import require_sound
from fanreel.pipeline import plan_job, render_job
from fanreel.plan.film import FilmPlan, plan_to_json
from fanreel.progress import Snapshot
from fanreel.settings import read_settings

__all__ = ["main"]

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, or 2 request, 3 media, 4 encoder, 5 storage, 6 verification."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING, format="%(message)s")
    try:
        return options.run(options)
    except FanreelError as error:
        print(f"fanreel: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nfanreel: interrupted; finished segments are kept, run the same command to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fanreel", description=__doc__)
    parser.add_argument("--verbose", "-v", action="store_true", help="say more about each step")
    commands = parser.add_subparsers(required=True, metavar="command")
    render = commands.add_parser("render", help="make the film that a job file asks for")
    render.add_argument("job", type=Path, metavar="JOB.yaml")
    render.add_argument("--sessions", type=int, default=None, help="encoder sessions at once, over the job's own")
    render.set_defaults(run=_render)
    plan = commands.add_parser("plan", help="show what would be rendered and why it is cut so")
    plan.add_argument("job", type=Path, metavar="JOB.yaml")
    plan.add_argument("--json", action="store_true", help="the whole plan, for programs")
    plan.set_defaults(run=_plan)
    verify = commands.add_parser("verify", help="prove a film against the certificate beside it")
    verify.add_argument("film", type=Path, metavar="FILM.mp4")
    verify.add_argument("--full", action="store_true", help="decode every frame as well")
    verify.set_defaults(run=_verify)
    doctor = commands.add_parser("doctor", help="show what this machine can encode with, and why not with the rest")
    doctor.set_defaults(run=_doctor)
    return parser


def _render(options: argparse.Namespace) -> int:
    host = open_host(read_settings())
    job = load_job(options.job)
    if options.sessions is not None:
        job = job.model_copy(update={"sessions": max(0, options.sessions)})
    try:
        for report in render_job(
            job, host=host, on_order=_show_order, on_progress=_show_progress, on_retry=_show_retry
        ):
            _clear_line()
            print(report)
    finally:
        host.launcher.close()
    return 0


def _plan(options: argparse.Namespace) -> int:
    host = open_host(read_settings())
    for plan in plan_job(load_job(options.job), host=host):
        print(plan_to_json(plan).decode() if options.json else _describe(plan))
    return 0


def _verify(options: argparse.Namespace) -> int:
    certificate = read_certificate(certificate_path(options.film))
    require_sound(options.film, certificate, full=options.full)
    how = "every frame decoded" if options.full else "every packet and sampled frames"
    print(f"{options.film}: sound, {certificate.frame_count} frames in {len(certificate.segments)} segments, {how}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    marks = {True: "yes", False: "no", None: "-"}
    usable = False
    for diagnosis in diagnose(open_host(read_settings())):
        usable |= diagnosis.subject in ("x264", "nvenc") and bool(diagnosis.usable)
        print(f"{diagnosis.subject:<10} {marks[diagnosis.usable]:<4} {diagnosis.finding}")
    return 0 if usable else 4


def _describe(plan: FilmPlan) -> str:
    encoding = plan.encoding
    lines = [
        f"{plan.output}: {plan.frame_count} frames, {plan.seconds:.2f} s, "
        f"{encoding.width_px}x{encoding.height_px} at {encoding.frame_rate} fps, "
        f"{encoding.encoder} {encoding.preset} quality {encoding.quality}, {len(plan.segments)} segments"
    ]
    for segment in plan.segments:
        clips = plan.timeline.clips_between(segment.start_frame, segment.end_frame)
        names = ", ".join(dict.fromkeys(Path(plan.photo_paths[clip.photo.digest]).name for clip in clips))
        span = f"[{segment.start_frame}, {segment.end_frame})"
        lines.append(f"{segment.index:5d}  {span:<16} {segment.address[:12]}  {names}  | cut {segment.cut}")
    return "\n".join(lines)


def _show_order(order: RenderOrder) -> None:
    count = sum(len(shard.segments) for shard in order.shards)
    print(f"{count} segments to render, {order.reused} reused; {order.sessions.reason}", file=sys.stderr)


def _show_progress(snapshot: Snapshot) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{snapshot}", end="", file=sys.stderr, flush=True)


def _show_retry(error: FanreelError, delay_seconds: float) -> None:
    _clear_line()
    print(f"fanreel: {error}; trying again in {delay_seconds:.0f} s", file=sys.stderr)


def _clear_line() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
