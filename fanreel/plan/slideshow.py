"""The plan of a slideshow: its photos, one after the other, each under its move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fanreel.job.slideshow import Fit, Move, SlideshowJob
from fanreel.plan.camera import CameraPath, is_inside, plan_views, seen_share
from fanreel.plan.content import BlurredCopy, ColourContent, Photo, StillContent
from fanreel.plan.film import FilmPlan, Slide, plan_film
from fanreel.plan.fit import (
    PAN_VIEWS_PER_SECOND,
    Look,
    Shot,
    choose_looks,
    fit_of_views,
    plan_look,
    possible_looks,
)
from fanreel.plan.timebase import frame_count
from fanreel.plan.timeline import Clip, Timeline

__all__ = ["FetchedStills", "Source", "Still", "plan_slideshow"]

LEAST_SEEN_SHARE = 0.5
"""A person is warned of a photo of which less is ever seen."""

MOST_ENLARGED = 2.0
"""A person is warned of a photo that is enlarged more than so many times in its widest view."""


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
        fit: How it is fitted into the film.
    """

    source: Source
    seconds: float
    move: Move
    views: tuple[tuple[float, ...], tuple[float, ...]] | tuple[()] = ()
    fit: Fit = Fit.AUTO


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
    shots = [_shot(job, still) for still in fetched.stills]
    possible = [_possible_looks(*pair) for pair in zip(fetched.stills, shots, strict=True)]
    looks = choose_looks(possible, digests=[shot.digest for shot in shots])
    planned = list(zip(fetched.stills, shots, looks, strict=True))
    contents = [_plan_still(job, *words) for words in planned]
    timeline = _plan_timeline(job, fetched.stills, contents)
    plan = plan_film(
        job,
        timeline,
        photo_paths=paths,
        output=output,
        left_out=fetched.left_out,
        notes=(*fetched.notes, *_length_notes(job, fetched.stills, timeline)),
        slides=[_describe(*words, content.path) for words, content in zip(planned, contents, strict=True)],
    )
    return (plan,)


def _length_notes(job: SlideshowJob, stills: Sequence[Still], timeline: Timeline) -> list[str]:
    """Return the line that says by how much the film is longer or shorter than its slides, if that is over a frame."""
    asked = sum(Fraction(str(still.seconds)) for still in stills)
    lasts = timeline.frame_count / job.frame_rate
    if abs(lasts - asked) * job.frame_rate <= 1:
        return []
    return [f"lasts {float(lasts):.2f} s where {float(asked):g} s were asked: every slide is whole frames"]


def _plan_timeline(job: SlideshowJob, stills: Sequence[Still], contents: Sequence[StillContent]) -> Timeline:
    clips: list[Clip] = []
    start = 0
    for still, content in zip(stills, contents, strict=True):
        end = start + frame_count(still.seconds, job.frame_rate)
        clips.append(Clip(content, start_frame=start, end_frame=end))
        start = end
    return Timeline(tuple(clips))


def _shot(job: SlideshowJob, still: Still) -> Shot:
    photo = still.source.photo
    return Shot(
        photo_px=photo.size_px,
        film_px=(job.width_px, job.height_px),
        zoom=job.zoom,
        seconds=still.seconds,
        digest=photo.digest,
    )


def _possible_looks(still: Still, shot: Shot) -> tuple[Look, ...]:
    if still.views:
        fit = fit_of_views(still.fit, still.views, photo_px=shot.photo_px, film_px=shot.film_px)
        return (Look(fit, None),)
    return possible_looks(shot, fit=still.fit, move=still.move)


def _plan_still(job: SlideshowJob, still: Still, shot: Shot, look: Look) -> StillContent:
    if still.views:
        is_whole = look.fit is not Fit.COVER
        path = plan_views(*still.views, photo_px=shot.photo_px, film_px=shot.film_px, is_whole=is_whole)
    else:
        path = plan_look(look, shot)
    if is_inside(path, photo_px=shot.photo_px):
        return StillContent(still.source.photo, path)
    backdrop = BlurredCopy() if look.fit is Fit.BLUR else ColourContent(job.background_rgb)
    return StillContent(still.source.photo, path, backdrop)


def _describe(still: Still, shot: Shot, look: Look, path: CameraPath) -> Slide:
    seen = seen_share(path, photo_px=shot.photo_px)
    return Slide(
        digest=shot.digest,
        seconds=still.seconds,
        fit=look.fit,
        move=look.move,
        seen_share=round(seen, 4),
        warnings=tuple(_warnings(shot, look, path, seen)),
    )


def _warnings(shot: Shot, look: Look, path: CameraPath, seen: float) -> Iterator[str]:
    enlarged = shot.film_px[0] / max(path.start.width, path.end.width)
    if enlarged > MOST_ENLARGED:
        yield f"too small: its {'x'.join(map(str, shot.photo_px))} px are enlarged {enlarged:.1f} times"
    if seen < LEAST_SEEN_SHARE:
        yield f"only {seen:.0%} of it is ever seen; `fit: blur` or `contain` shows it whole"
    views = shot.way_views / shot.seconds
    if look.fit is Fit.PAN and views > PAN_VIEWS_PER_SECOND:
        calm = shot.way_views / PAN_VIEWS_PER_SECOND
        yield f"pans {views:.2g} views a second, which is hard to follow; {calm:.0f} seconds would be calm"
