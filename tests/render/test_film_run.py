"""The film run: what every front relies on, whichever steps it drives it by."""

import threading
from pathlib import Path

import pytest
from support.jobs import make_job

from fanreel.host.host import Host
from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.plan.film import FilmPlan, plan_digest
from fanreel.plan.shards import Shard
from fanreel.publish.published import verify_film
from fanreel.render.film_run import FilmRun, FilmStoppedError, FilmWatcher
from fanreel.render.here import plan_job
from fanreel.render.order import RenderOrder
from fanreel.report.progress import Snapshot


@pytest.fixture
def plan(photos: Path, host: Host) -> FilmPlan:
    (planned,) = plan_job(make_job(photos.parent, seconds_per_slide=6, sessions=1), host=host)
    assert len(planned.segments) >= 3
    return planned


def render_all(run: FilmRun, order: RenderOrder) -> None:
    for shard in order.shards:
        run.render(shard)


def test_begun_rendered_joined_and_published_it_tells_its_watcher(plan: FilmPlan, host: Host):
    orders: list[RenderOrder] = []
    snapshots: list[Snapshot] = []
    watcher = FilmWatcher(on_order=orders.append, on_progress=snapshots.append, tell_seconds=0)
    run = FilmRun.begin(plan, host=host, watcher=watcher)
    manifest = host.store.get_manifest(plan_digest(plan))
    assert manifest is not None
    assert not manifest.published_at
    assert orders == [run.order]

    render_all(run, run.order)
    assert run.finish_rendering().frames_made == plan.frame_count
    report = run.publish(run.join())

    assert (report.film, report.segments_rendered, report.segments_reused) == (plan.output, len(plan.segments), 0)
    made = [snapshot.frames_made for snapshot in snapshots]
    assert made == sorted(made)
    assert made[-1] == plan.frame_count
    assert len(made) > 2
    manifest = host.store.get_manifest(plan_digest(plan))
    assert manifest is not None
    assert manifest.published_at
    verify_film(Path(report.film), full=True)


def test_a_repair_makes_what_the_store_has_lost_and_nothing_else(plan: FilmPlan, host: Host):
    orders: list[RenderOrder] = []
    lines: list[str] = []
    watcher = FilmWatcher(on_order=orders.append, on_line=lambda level, line: lines.append(line))
    run = FilmRun.begin(plan, host=host, watcher=watcher)
    render_all(run, run.order)
    lost = plan.segments[1]
    (path,) = (host.settings.store / "segments").rglob(f"{lost.address}.*.json")
    path.unlink()
    lines.clear()

    run.repair(lambda order: render_all(run, order))

    assert [segment for shard in orders[1].shards for segment in shard.segments] == [lost]
    assert lines[0] == f"film.mp4: segment {lost.index} is no longer in the store and is made again"
    report = run.publish(run.join())
    assert report.segments_rendered == len(plan.segments)
    assert len(read_certificate(certificate_path(Path(report.film))).segments) == len(plan.segments)


def test_a_repair_of_nothing_renders_nothing(plan: FilmPlan, host: Host):
    run = FilmRun.begin(plan, host=host, watcher=FilmWatcher())
    render_all(run, run.order)
    run.repair(lambda order: pytest.fail("nothing is missing"))
    assert run.publish(run.join()).sessions == run.order.sessions.label or run.order.shards == ()


def test_no_more_shards_are_rendered_at_once_than_the_film_may_have_sessions(plan: FilmPlan, host: Host):
    """Four shards in four threads; the job allows one session."""
    lines: list[str] = []
    watcher = FilmWatcher(on_line=lambda level, line: lines.append(line.split()[0]))
    run = FilmRun.begin(plan, host=host, watcher=watcher)
    assert run.order.sessions.sessions == 1
    shards = [Shard(index, (segment,)) for index, segment in enumerate(plan.segments)]
    threads = [threading.Thread(target=run.render, args=[shard]) for shard in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines == ["START", "DONE"] * len(shards)


def test_a_stopped_film_ends_the_shard_that_is_rendered_and_those_that_wait(plan: FilmPlan, host: Host):
    errors: list[BaseException] = []
    started, told = threading.Event(), threading.Event()

    def on_line(level: int, line: str) -> None:
        started.set()

    def on_progress(snapshot: Snapshot) -> None:
        told.wait(60)

    run = FilmRun.begin(plan, host=host, watcher=FilmWatcher(on_line=on_line, on_progress=on_progress, tell_seconds=0))

    def render(shard: Shard) -> None:
        try:
            run.render(shard)
        except FilmStoppedError as error:
            errors.append(error)

    shards = [Shard(index, (segment,)) for index, segment in enumerate(plan.segments)]
    threads = [threading.Thread(target=render, args=[shard]) for shard in shards]
    for thread in threads:
        thread.start()
    assert started.wait(60)
    run.stop()
    told.set()
    for thread in threads:
        thread.join()
    assert len(errors) == len(shards)
    assert host.gate.slots_in_use() == 0
    with pytest.raises(FilmStoppedError, match=r"film\.mp4"):
        run.tell()
