"""A film of more than one kind of content goes the whole way, and only plan/ and draw/ know the kinds."""

import re
from pathlib import Path

import numpy as np
from support.film_damage import decoded
from support.jobs import make_job

import fanreel
from fanreel.draw.frames import FrameSource
from fanreel.host.host import Host
from fanreel.plan.content import ColourContent
from fanreel.plan.film import FilmPlan, plan_film
from fanreel.plan.timeline import Clip, Timeline
from fanreel.publish.published import verify_film
from fanreel.render.film_run import FilmRun, FilmWatcher
from fanreel.render.here import plan_job

ENGINE = Path(fanreel.__file__).parent
ORANGE, ORANGE_LUMA = ColourContent((255, 128, 0)), 141
"""Source: ITU-R BT.709-6: 16 + 219 * (0.2126 + 0.7152 * 128 / 255)."""

LARGEST_CODING_ERROR = 2.0
"""Of the mean luma of a frame at quality 12."""


def plan_mixed_film(base: Path, host: Host) -> FilmPlan:
    """Four stills of 2 s; orange for 3 s; a still of 2 s, and above it the same orange at a quarter of its opacity."""
    job = make_job(base, seconds_per_slide=2, encoding={"preset": "draft", "quality": 12})
    (stills,) = plan_job(job, host=host)
    start, second = stills.frame_count, 8
    orange = Clip(ORANGE, start, start + 3 * second)
    span = orange.end_frame, orange.end_frame + 2 * second
    still = Clip(stills.timeline.clips[0].content, *span)
    timeline = Timeline((*stills.timeline.clips, orange, still, Clip(ORANGE, *span, opacity=64)))
    return plan_film(job, timeline, photo_paths=stills.photo_paths, output=stills.output)


def make(film: FilmPlan, host: Host) -> Path:
    """Render, join and publish a film, and verify what was published."""
    run = FilmRun.begin(film, host=host, watcher=FilmWatcher())
    for shard in run.order.shards:
        run.render(shard)
    made = Path(run.publish(run.join()).film)
    verify_film(made, full=True)
    return made


def mean_lumas(film: FilmPlan) -> list[float]:
    """Return the mean luma of every frame as it is drawn."""
    size = {"width_px": film.encoding.width_px, "height_px": film.encoding.height_px}
    means = []
    with FrameSource(film.timeline, photo_paths=film.photo_paths, **size) as source:
        planes = [np.empty(shape, np.uint8) for shape in ((180, 320), (90, 160), (90, 160))]
        for frame in range(film.frame_count):
            source.draw(frame, planes)
            means.append(float(planes[0].mean()))
    return means


def test_a_film_of_stills_and_a_colour_is_planned_rendered_joined_and_verified(host: Host, photos: Path):
    film = host.store.get_plan(host.store.put_plan(plan_mixed_film(photos.parent, host)))
    assert len(film.segments) > 1
    made = make(film, host)
    drawn, shown = mean_lumas(film), [planes[:180].mean() for _, planes in decoded(made)]
    assert np.abs(np.subtract(drawn, shown)).max() < LARGEST_CODING_ERROR
    orange = film.timeline.clips[4]
    assert set(drawn[orange.start_frame : orange.end_frame]) == {ORANGE_LUMA}
    # The mean of a mixture is that of the means, to half a step of rounding.
    below, above = drawn[0], drawn[orange.end_frame]
    assert abs(above - (0.75 * below + 0.25 * ORANGE_LUMA)) < 0.5
    assert FilmRun.begin(film, host=host, watcher=FilmWatcher()).order.reused == len(film.segments)


def test_a_film_of_colours_alone_needs_no_photo(host: Host, tmp_path: Path):
    timeline = Timeline((Clip(ORANGE, 0, 8), Clip(ColourContent((0, 0, 0)), 8, 24)))
    make(plan_film(make_job(tmp_path), timeline, photo_paths={}, output=str(tmp_path / "film.mp4")), host)


def test_no_other_room_names_a_kind_of_content():
    naming = {
        path.relative_to(ENGINE).parts[0]
        for path in ENGINE.rglob("*.py")
        if re.search(r"StillContent|ColourContent", path.read_text(encoding="utf-8"))
    }
    assert naming == {"plan", "draw"}
