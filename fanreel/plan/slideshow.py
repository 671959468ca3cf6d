"""The plan of a slideshow: its photos, one after the other, each under its move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from fanreel.job.slideshow import Move, SlideshowJob
from fanreel.plan.camera import CameraPath, plan_move, plan_views
from fanreel.plan.content import Photo, StillContent
from fanreel.plan.film import FilmPlan, plan_film
from fanreel.plan.timebase import frame_count
from fanreel.plan.timeline import Clip, Timeline

__all__ = ["FetchedStills", "Source", "Still", "plan_slideshow"]


@dataclass(frozen=True, slots=True)
class Source:
    """A photo and where its bytes were found; the place decides nothing about the film.

    Attributes:
        photo: The photo.
        path: An absolute path or a URI.
        notes: What people should know of it, with its name; one line each.
    """

    photo: Photo
    path: str
    notes: tuple[str, ...] = ()


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
        notes: What people should know of how they were chosen; one line each.
    """

    stills: tuple[Still, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return how much it is, for people."""
        return f"{len(self.stills)} slides of {len({still.source.photo.digest for still in self.stills})} photos"


def plan_slideshow(job: SlideshowJob, fetched: FetchedStills, *, output: str) -> tuple[FilmPlan, ...]:
    """Return the one film that a slideshow's job yields.

    Args:
        job: The request.
        fetched: Its slides.
        output: Absolute path of the film.
    """
    paths = {still.source.photo.digest: still.source.path for still in fetched.stills}
    timeline = _plan_timeline(job, fetched.stills)
    notes = (*fetched.notes, *_length_notes(job, fetched.stills, timeline))
    plan = plan_film(job, timeline, photo_paths=paths, output=output, left_out=fetched.left_out, notes=notes)
    return (plan,)


def _length_notes(job: SlideshowJob, stills: Sequence[Still], timeline: Timeline) -> list[str]:
    """Return the line that says by how much the film is longer or shorter than its slides, if that is over a frame."""
    asked = sum(Fraction(str(still.seconds)) for still in stills)
    lasts = timeline.frame_count / job.frame_rate
    if abs(lasts - asked) * job.frame_rate <= 1:
        return []
    return [f"lasts {float(lasts):.2f} s where {float(asked):g} s were asked: every slide is whole frames"]


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
