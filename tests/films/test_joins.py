"""The picture's quality around every join: decoded frames against those drawn, and against their neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from support.example_photos import MOUNTAIN, example_bgr
from support.jobs import make_job
from support.reference import psnr_db

from fanreel.draw.frames import FrameSource
from fanreel.encode.libav import plane_views
from fanreel.host.host import Host
from fanreel.plan.film import FilmPlan
from fanreel.plan.shards import Shard
from fanreel.render.draft import join_film
from fanreel.render.here import plan_job
from fanreel.render.shard import render_shard

pytestmark = pytest.mark.soak

SIZE = (640, 360)
RATE = 24
NEAR_FRAMES, FAR_FRAMES = 12, 36
"""A join's own frames on each side, and where its neighbours end."""

LARGEST_PULSE_DB = 0.5


def write_photos(folder: Path, *, count: int) -> None:
    """Write photos that are alike in all that makes frames hard to encode."""
    folder.mkdir()
    for seed in range(count):
        rng = np.random.default_rng(seed)
        picture = np.zeros((2 * SIZE[1], 2 * SIZE[0], 3))
        for cells in (8, 16, 32, 64, 128, 256, 512):
            layer = rng.random((cells * 9 // 16, cells, 3)) - 0.5
            picture += cv2.resize(layer, (2 * SIZE[0], 2 * SIZE[1]), interpolation=cv2.INTER_CUBIC) / cells**0.6
        picture = cv2.normalize(picture, None, 25, 230, cv2.NORM_MINMAX)
        picture = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{seed}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])


def make_film(folder: Path, host: Host, *, sessions: str, preset: str, **words: object) -> FilmPlan:
    """Render and join a film at the default quality.

    Args:
        folder: Holds the photos.
        host: Where.
        sessions: `one` session for all segments, or one for `each`.
        preset: Of the encoding.
        words: Of the job.
    """
    values: dict[str, object] = {"size": f"{SIZE[0]}x{SIZE[1]}", "fps": str(RATE), "encoding": {"preset": preset}}
    (plan,) = plan_job(make_job(folder, **(values | words)), host=host)
    shards = [Shard(0, plan.segments)]
    if sessions == "each":
        shards = [Shard(index, (segment,)) for index, segment in enumerate(plan.segments)]
    for shard in shards:
        render_shard(plan, shard, threads=1, host=host)
    return plan


def psnr_of_frames(plan: FilmPlan, host: Host) -> np.ndarray:
    """Return the PSNR of the luma of every decoded frame against the frame drawn, dB."""
    width, height = SIZE
    planes = [np.empty(shape, np.uint8) for shape in ((height, width), *[(height // 2, width // 2)] * 2)]
    found = []
    with (
        host.store.scratch() as folder,
        FrameSource(plan.timeline, photo_paths=plan.photo_paths, width_px=width, height_px=height) as source,
        av.open(str(join_film(plan, host=host, folder=folder).path)) as container,
    ):
        for number, frame in enumerate(container.decode(video=0)):
            source.draw(number, planes)
            found.append(psnr_db(plane_views(frame)[0].astype(np.float32) - planes[0]))
    assert len(found) == plan.frame_count
    return np.array(found)


def joins_of(plan: FilmPlan) -> list[int]:
    return [segment.start_frame for segment in plan.segments[1:]]


def pulses_db(psnr: np.ndarray, joins: Iterable[int]) -> list[tuple[float, float]]:
    """Return how much better than their neighbours the frames before, and those after, each join are."""
    return [
        (
            float(psnr[join - NEAR_FRAMES : join].mean() - psnr[join - FAR_FRAMES : join - NEAR_FRAMES].mean()),
            float(psnr[join : join + NEAR_FRAMES].mean() - psnr[join + NEAR_FRAMES : join + FAR_FRAMES].mean()),
        )
        for join in joins
    ]


def assert_no_pulse_inside_a_clip(folder: Path, host: Host, sessions: str, preset: str) -> None:
    (folder / "photos").mkdir()
    # Its sky and slopes are what a look-ahead saves bits on, and so where its end is seen.
    cv2.imwrite(str(folder / "photos" / "mountain.png"), example_bgr(MOUNTAIN, scale=0.32))
    plan = make_film(folder, host, sessions=sessions, preset=preset, seconds_per_slide=24, move="zoom-in")
    assert len(plan.segments) >= 3
    found = pulses_db(psnr_of_frames(plan, host), joins_of(plan))
    assert np.abs(found).max() <= LARGEST_PULSE_DB, np.round(found, 2).tolist()


@pytest.mark.parametrize("sessions", ["one", "each"])
def test_quality_does_not_pulse_at_joins_inside_a_clip(tmp_path: Path, host: Host, sessions: str):
    # Where the camera moves on and nothing else changes, a pulse of quality would be seen.
    assert_no_pulse_inside_a_clip(tmp_path, host, sessions, "fast")


@pytest.mark.parametrize("preset", ["draft", "balanced", "best"])
@pytest.mark.parametrize("sessions", ["one", "each"])
def test_no_preset_pulses(tmp_path: Path, host: Host, sessions: str, preset: str):
    assert_no_pulse_inside_a_clip(tmp_path, host, sessions, preset)


@pytest.mark.parametrize("preset", ["draft", "fast", "balanced"])
@pytest.mark.parametrize("sessions", ["one", "each"])
def test_a_join_between_clips_is_like_any_other_change_of_clips(tmp_path: Path, host: Host, sessions: str, preset: str):
    # At a change of clips the camera rests and a keyframe comes, joined or not: such changes are the neighbours.
    write_photos(tmp_path / "photos", count=12)
    plan = make_film(tmp_path, host, sessions=sessions, preset=preset, seconds_per_slide=3, move="zoom-in")
    joins = joins_of(plan)
    others = [clip.start_frame for clip in plan.timeline.clips[1:] if clip.start_frame not in joins]
    assert len(joins) >= 3
    assert len(others) >= 3
    psnr = psnr_of_frames(plan, host)
    at_joins, elsewhere = (
        np.mean([(psnr[at - NEAR_FRAMES : at].mean(), psnr[at : at + NEAR_FRAMES].mean()) for at in places], axis=0)
        for places in (joins, others)
    )
    assert np.abs(at_joins - elsewhere).max() <= LARGEST_PULSE_DB, (at_joins, elsewhere)
