"""The plan of a film: everything that is decided before a frame is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import PurePath

from blake3 import blake3
from pydantic import TypeAdapter

from fanreel.job.film import FilmJob
from fanreel.job.machines import Strategy
from fanreel.job.slideshow import Fit, Move
from fanreel.plan.encoding import EncodingPlan, level_note, plan_encoding
from fanreel.plan.segments import Segment, plan_segments
from fanreel.plan.timebase import TimeBase, time_base
from fanreel.plan.timeline import Timeline
from fanreel.printable import printable

__all__ = ["FilmPlan", "Slide", "plan_digest", "plan_film", "plan_from_json", "plan_to_json"]


@dataclass(frozen=True, slots=True)
class Slide:
    """How one photo of a slideshow is shown, for people; the clip at the same place decides its frames.

    Attributes:
        digest: The photo's.
        seconds: As asked for.
        fit: As chosen: never `auto`.
        move: As chosen: never `auto`; None where a person drew the views.
        seen_share: Share of the photo's area that is in view at some time.
        warnings: What a person may not have meant, one line each.
    """

    digest: str
    seconds: float
    fit: Fit
    move: Move | None
    seen_share: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """A film, decided.

    Attributes:
        name: What people call it; the output's name without its folder, as it can be printed.
        timeline: What every frame shows.
        segments: How it is cut, in order.
        encoding: What is asked of the encoder.
        clock: The film's time base.
        photo_paths: Where each photo's bytes are, by digest.
        session_cap: Sessions at once that the job allows; 0 is as many as the machine can carry.
        strategy: How its segments are shared out among sessions.
        output: Absolute path of the film.
        left_out: Why each photo that was asked for and could not be used is not in it; one line each.
        notes: What people should know of it beside its numbers, such as which of a pair of photos it shows; one line
            each. The plan as text and the film's report show them.
        overwrite: Whatever file lies at its output may be replaced.
        slides: How each photo is shown, in order; none in a film of another kind than a slideshow.
    """

    name: str
    timeline: Timeline
    segments: tuple[Segment, ...]
    encoding: EncodingPlan
    clock: TimeBase
    photo_paths: Mapping[str, str]
    session_cap: int
    strategy: Strategy
    output: str
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    overwrite: bool = False
    slides: tuple[Slide, ...] = ()

    @property
    def frame_count(self) -> int:
        """Frames of the film."""
        return self.timeline.frame_count

    @property
    def seconds(self) -> float:
        """Length, rounded to a float; for people."""
        return float(self.frame_count / self.encoding.frame_rate)

    @property
    def photo_count(self) -> int:
        """Photos that it shows; one that comes twice counts twice."""
        return len({clip.start_frame for clip in self.timeline.clips if clip.content.source_digests})


def plan_film(
    job: FilmJob,
    timeline: Timeline,
    *,
    photo_paths: Mapping[str, str],
    output: str,
    left_out: Sequence[str] = (),
    notes: Sequence[str] = (),
    slides: Sequence[Slide] = (),
) -> FilmPlan:
    """Return the plan of a film that shows `timeline`, cut and encoded as its job asks.

    Args:
        job: The request.
        timeline: What every frame shows.
        photo_paths: Where each photo's bytes are, by digest.
        output: Absolute path of the film.
        left_out: Why each photo that was asked for and could not be used is not in it; one line each.
        notes: What people should know of it; one line each.
        slides: How each photo is shown, for people.
    """
    encoding = plan_encoding(job.encoding, width_px=job.width_px, height_px=job.height_px, frame_rate=job.frame_rate)
    return FilmPlan(
        name=printable(PurePath(output).name),
        timeline=timeline,
        segments=plan_segments(timeline, encoding),
        encoding=encoding,
        clock=time_base(job.frame_rate),
        photo_paths=photo_paths,
        session_cap=job.sessions,
        strategy=job.strategy,
        output=output,
        left_out=tuple(left_out),
        notes=(*_rate_notes(job), *filter(None, [level_note(encoding)]), *notes),
        overwrite=job.overwrite,
        slides=tuple(slides),
    )


def _rate_notes(job: FilmJob) -> list[str]:
    """Return the line that says which frame rate is meant, where the job has another one to its last digit."""
    written, meant = job.fps, job.frame_rate
    is_exact = meant == Fraction(written)
    return [] if is_exact else [f"{written} frames a second are taken as {meant}, which they stand for"]


_PLAN = TypeAdapter(FilmPlan)


def plan_to_json(plan: FilmPlan) -> bytes:
    """Return the plan as JSON; `plan_from_json` gives an equal one back."""
    return _PLAN.dump_json(plan)


def plan_from_json(text: bytes) -> FilmPlan:
    """Return the plan that `text` holds.

    Raises:
        ValueError: It holds no plan, or one that another version wrote.
    """
    return _PLAN.validate_json(text)


def plan_digest(plan: FilmPlan) -> str:
    """Return what identifies a plan, its paths and its output included: 64 hexadecimal digits."""
    return blake3(plan_to_json(plan)).hexdigest()
