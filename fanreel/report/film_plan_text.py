"""A film's plan as text for people: its slides one by one, how it is cut, and what they should know of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from fanreel.plan.film import FilmPlan
from fanreel.printable import counted, printable

__all__ = ["describe_plan"]


def describe_plan(plan: FilmPlan, *, with_reasons: bool) -> str:
    """Return the plan in lines.

    Args:
        plan: What is decided.
        with_reasons: Whether each segment's line says why the film is cut there.
    """
    encoding = plan.encoding
    head = (
        f"{printable(plan.output)}: {counted(plan.frame_count, 'frame')}, {plan.seconds:.2f} s, "
        f"{encoding.width_px}x{encoding.height_px} at {encoding.frame_rate} fps, "
        f"{encoding.encoder} {encoding.preset} quality {encoding.quality}, {counted(len(plan.segments), 'segment')}"
    )
    notes = [f"      note  {note}" for note in plan.notes]
    left_out = [f"  left out  {reason}" for reason in plan.left_out]
    return "\n".join([head, *_slide_lines(plan), *_segment_lines(plan, with_reasons=with_reasons), *notes, *left_out])


def _slide_lines(plan: FilmPlan) -> Iterator[str]:
    """Yield a line a slide: number, seconds, fit, move, how much of the photo is ever seen, its file; and warnings."""
    for number, slide in enumerate(plan.slides, 1):
        name = printable(PurePath(plan.photo_paths[slide.digest]).name)
        move = slide.move or "as drawn"
        seen = f"{slide.seen_share:.0%}"
        yield f"slide {number:4d}  {slide.seconds:6g} s  {slide.fit:<7}  {move:<9}  {seen:>4} seen  {name}"
        for warning in slide.warnings:
            yield f"   warning  {name}: {warning}"


def _segment_lines(plan: FilmPlan, *, with_reasons: bool) -> Iterator[str]:
    for segment in plan.segments:
        clips = plan.timeline.clips_between(segment.start_frame, segment.end_frame)
        names = ", ".join(dict.fromkeys(clip.content.label(plan.photo_paths) for clip in clips))
        span = f"[{segment.start_frame}, {segment.end_frame})"
        reason = f"  | cut {segment.cut}" if with_reasons else ""
        yield f"{segment.index:5d}  {span:<16} {segment.address[:12]}  {names}{reason}"
