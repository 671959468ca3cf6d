"""The plan of a film: everything that is decided before a frame is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from blake3 import blake3
from pydantic import TypeAdapter

from fanreel.job.slideshow import Move, SlideshowJob, Strategy
from fanreel.plan.camera import CameraPath, plan_move, plan_views
from fanreel.plan.content import Photo, StillContent
from fanreel.plan.encoding import EncodingPlan, plan_encoding
from fanreel.plan.segments import Segment, plan_segments
from fanreel.plan.timebase import TimeBase, frame_count, time_base
from fanreel.plan.timeline import Clip, Timeline

__all__ = [
    "FetchedStills",
    "FilmPlan",
    "Source",
    "Still",
    "plan_digest",
    "plan_films",
    "plan_from_json",
    "plan_to_json",
]


@dataclass(frozen=True, slots=True)
class Source:
    """A photo and where its bytes were found; the place decides nothing about the film."""

    photo: Photo
    path: str


@dataclass(frozen=True, slots=True)
class Still:
    """One slide as asked for: a source and the words that hold for it.

    Attributes:
        source: The photo.
        seconds: How long it is shown.
        move: A named move; not used where `views` are given.
        views: First and last view as fractions of the photo, or empty.
    """

    source: Source
    seconds: float
    move: Move
    views: tuple[tuple[float, ...], tuple[float, ...]] | tuple[()] = ()


@dataclass(frozen=True, slots=True)
class FetchedStills:
    """What a job's names led to.

    Attributes:
        stills: The slides in order, at least one.
        left_out: Why each photo that could not be used is not among them; one line each.
    """

    stills: tuple[Still, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """A film, decided.

    Attributes:
        name: What people call it; the output's name without its folder.
        timeline: What every frame shows.
        segments: How it is cut, in order.
        encoding: What is asked of the encoder.
        clock: The film's time base.
        photo_paths: Where each photo's bytes are, by digest.
        session_cap: Sessions at once that the job allows; 0 is as many as the machine can carry.
        strategy: How its segments are shared out among sessions.
        output: Absolute path of the film.
        left_out: Why each photo that was asked for and could not be used is not in it; one line each.
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

    @property
    def frame_count(self) -> int:
        """Frames of the film."""
        return self.timeline.frame_count

    @property
    def seconds(self) -> float:
        """Length, rounded to a float; for people."""
        return float(self.frame_count / self.encoding.frame_rate)


def plan_films(
    job: SlideshowJob, stills: Sequence[Still], *, output: str, left_out: Sequence[str] = ()
) -> tuple[FilmPlan, ...]:
    """Return the films that a job yields; a slideshow yields one.

    Args:
        job: The request.
        stills: Its slides in order, at least one.
        output: Absolute path of the film.
        left_out: Why photos that were asked for are not among the slides, one line each.
    """
    film_px = (job.width_px, job.height_px)
    encoding = plan_encoding(job.encoding, width_px=film_px[0], height_px=film_px[1], frame_rate=job.frame_rate)
    timeline = _plan_timeline(job, stills)
    return (
        FilmPlan(
            name=PurePath(output).name,
            timeline=timeline,
            segments=plan_segments(timeline, encoding),
            encoding=encoding,
            clock=time_base(job.frame_rate),
            photo_paths={still.source.photo.digest: still.source.path for still in stills},
            session_cap=job.sessions,
            strategy=job.strategy,
            output=output,
            left_out=tuple(left_out),
        ),
    )


def _plan_timeline(job: SlideshowJob, stills: Sequence[Still]) -> Timeline:
    clips: list[Clip] = []
    start = 0
    for still in stills:
        end = start + frame_count(still.seconds, job.frame_rate)
        content = StillContent(still.source.photo, _plan_path(job, still))
        clips.append(Clip(content, start_frame=start, end_frame=end))
        start = end
    return Timeline(tuple(clips))


def _plan_path(job: SlideshowJob, still: Still) -> CameraPath:
    photo = still.source.photo
    photo_px, film_px = (photo.width_px, photo.height_px), (job.width_px, job.height_px)
    if still.views:
        return plan_views(still.views[0], still.views[1], photo_px=photo_px, film_px=film_px)
    return plan_move(
        still.move,
        photo_px=photo_px,
        film_px=film_px,
        zoom=job.zoom,
        seconds=still.seconds,
        digest=photo.digest,
    )


_PLAN = TypeAdapter(FilmPlan)


def plan_to_json(plan: FilmPlan) -> bytes:
    """Return the plan as JSON; `plan_from_json` gives an equal one back."""
    return _PLAN.dump_json(plan)


def plan_from_json(text: bytes) -> FilmPlan:
    """Return the plan that `text` holds.

    Raises:
        ValueError: It is none.
    """
    return _PLAN.validate_json(text)


def plan_digest(plan: FilmPlan) -> str:
    """Return what identifies a plan, its paths and its output included: 64 hexadecimal digits."""
    return blake3(plan_to_json(plan)).hexdigest()
