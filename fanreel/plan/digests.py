"""Digests of plans: canonical JSON, hashed.

A digest decides what is reused, so it holds all that decides the result and nothing else: no path, no
place in the film, no neighbour.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from blake3 import blake3

from fanreel.plan.encoding import ENCODING_REVISION, EncodingPlan
from fanreel.plan.timeline import FULL_OPACITY, Clip

__all__ = ["RENDER_REVISION", "clip_digest", "frames_digest", "segment_address"]

RENDER_REVISION = 4
"""Raised only when the planes of some frame change (the golden frames in the tests)."""


def clip_digest(clip: Clip) -> str:
    """Return what identifies a clip wherever it stands: 64 hexadecimal digits."""
    return _digest(_clip_parts(clip))


def frames_digest(clips: Iterable[Clip], *, start_frame: int, end_frame: int, width_px: int, height_px: int) -> str:
    """Return what identifies the planes of the frames `[start_frame, end_frame)`.

    The frame rate is not in it: a clip's frames depend on their number, not on how fast they are shown.

    Args:
        clips: The clips that these frames show, the lower ones first.
        start_frame: First frame, in the film.
        end_frame: One past the last frame.
        width_px: Width of the planes.
        height_px: Height of the planes.
    """
    # Where each clip begins is counted from the segment's start: clips may overlap.
    parts = [[_clip_parts(clip), clip.start_frame - start_frame] for clip in clips]
    return _digest([RENDER_REVISION, width_px, height_px, end_frame - start_frame, parts])


def segment_address(frames: str, encoding: EncodingPlan, *, keyframes: Sequence[int]) -> str:
    """Return where a segment is kept: its frames and the encoding asked for, whichever encoder makes it.

    Args:
        frames: Digest of its frames.
        encoding: What is asked of the encoder.
        keyframes: Frames that are to be IDRs, from the segment's start on.
    """
    asked = [encoding.preset, encoding.quality, str(encoding.frame_rate), encoding.reorder_frames, list(keyframes)]
    return _digest([frames, encoding.codec, ENCODING_REVISION, asked])


def _clip_parts(clip: Clip) -> list[Any]:
    parts = [*clip.content.digest_parts(), clip.frame_count]
    return parts if clip.opacity == FULL_OPACITY else [*parts, clip.opacity]


def _digest(content: Any) -> str:  # noqa: ANN401 -- any JSON value
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return blake3(text.encode()).hexdigest()
