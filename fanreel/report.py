"""What a person is told when a film is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FilmReport"]


@dataclass(frozen=True, slots=True)
class FilmReport:
    """The outcome of one film.

    Attributes:
        film: Where it was published.
        seconds: Its length.
        frame_count: Its frames.
        size: Width x height.
        size_bytes: Size of the file.
        elapsed_seconds: From the request to the published film.
        fps: Frames rendered a second while rendering; 0 if all were reused.
        segments_rendered: Segments made now.
        segments_reused: Segments found in the store.
        encoders: Segments in the film by the encoder that made them.
        sessions: How many sessions worked, with how many threads; empty if none did.
        verified: The film was proven against its certificate before it was published.
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

    def __str__(self) -> str:
        """Return the block that people see."""
        encoders = ", ".join(f"{name} ({count} segments)" for name, count in self.encoders.items())
        speed = f"{self.fps:.0f} fps while rendering, " if self.segments_rendered else ""
        rows = {
            "film": self.film,
            "length": f"{self.seconds:.2f} s, {self.frame_count} frames, {self.size}, {self.size_bytes / 1e6:.1f} MB",
            "speed": f"{speed}{self.elapsed_seconds:.1f} s in all",
            "encoder": encoders + (f", {self.sessions}" if self.sessions else ""),
            "segments": f"{self.segments_rendered} rendered, {self.segments_reused} reused",
            "verified": "yes: every packet, every time stamp, sampled frames" if self.verified else "NO",
        }
        return "\n".join(f"{name:<9} {value}" for name, value in rows.items())
