"""The report of a film that is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fanreel.printable import counted, printable

__all__ = ["FilmReport"]

MOST_LINES_SHOWN = 20
"""Most lines of a kind in the text; programs read the complete list in the report or in the plan."""


@dataclass(frozen=True, slots=True)
class FilmReport:
    """The outcome of one film.

    Attributes:
        film: Where it was published.
        seconds: Its length.
        frame_count: Number of its frames.
        photo_count: Number of photos that it shows; one that comes twice counts twice.
        size: Width x height in pixels, such as ``1920x1080``.
        size_bytes: Size of the file.
        elapsed_seconds: From the request to the published film.
        fps: Frames rendered per second while rendering; 0 if all segments were reused.
        segments_rendered: Number of segments rendered for it.
        segments_reused: Number of segments found in the store.
        encoders: Number of segments made by each encoder.
        fallbacks: Number of segments that another encoder made than the best one the job allows, for each reason.
        left_out: Why photos that the job names are not in the film, one line a photo.
        notes: What people should know of the film beside its numbers, as its plan says it; one line each.
        sessions: The encoder sessions and their threads, as text; empty if nothing was rendered.
        verified: The film was proven against its certificate before it was published.
        link: A URL of the film, or an empty string. It may be signed, so only report and log show it.
        replaced: The file that had its name before, as text; empty if none had, or the same film.
    """

    film: str
    seconds: float
    frame_count: int
    size: str
    size_bytes: int
    elapsed_seconds: float
    fps: float
    segments_rendered: int
    segments_reused: int
    sessions: str
    verified: bool
    encoders: Mapping[str, int] = field(default_factory=dict)
    fallbacks: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    photo_count: int = 0
    link: str = ""
    replaced: str = ""

    def __str__(self) -> str:
        """Return the report as lines of text."""
        encoders = ", ".join(f"{name} ({counted(count, 'segment')})" for name, count in self.encoders.items())
        frames = counted(self.frame_count, "frame")
        left_out = f", {len(self.left_out)} left out" if self.left_out else ""
        speed = f"{self.fps:.0f} fps while rendering, " if self.segments_rendered else ""
        rows = {
            "film": printable(self.film),
            "photos": f"{self.photo_count}{left_out}",
            "length": f"{self.seconds:.2f} s, {frames}, {self.size}, {self.size_bytes / 1e6:.1f} MB",
            "speed": f"{speed}{self.elapsed_seconds:.1f} s in all",
            "encoder": encoders + (f", {self.sessions}" if self.sessions else ""),
            "segments": f"{self.segments_rendered} rendered, {self.segments_reused} reused",
            "verified": "yes: every packet, every time stamp, sampled frames" if self.verified else "NO",
        }
        lines = [f"{name:<9} {value}" for name, value in rows.items()]
        lines[1:1] = [f"link      {self.link}"] if self.link else []
        lines += [f"replaced  {self.replaced}"] if self.replaced else []
        lines += [f"fallback  {counted(count, 'segment')}; {reason}" for reason, count in self.fallbacks.items()]
        lines += [f"note      {note}" for note in self.notes[:MOST_LINES_SHOWN]]
        if len(self.notes) > MOST_LINES_SHOWN:
            lines.append(f"note      {len(self.notes) - MOST_LINES_SHOWN} more")
        lines += [f"left out  {reason}" for reason in self.left_out[:MOST_LINES_SHOWN]]
        if len(self.left_out) > MOST_LINES_SHOWN:
            lines.append(f"left out  {len(self.left_out) - MOST_LINES_SHOWN} more")
        return "\n".join(lines)
