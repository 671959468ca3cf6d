"""From shards to a film: what is rendered, what is reused, what happens when something goes wrong."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.jobs import draw_photo, make_job

from fanreel.codecs import EncoderChoice
from fanreel.errors import (
    EncoderUnavailableError,
    FanreelError,
    PhotoChangedError,
    SegmentDamagedError,
    SessionLostError,
)
from fanreel.host.host import Host, open_host
from fanreel.job.machines import Strategy
from fanreel.job.slideshow import SlideshowJob
from fanreel.plan.film import FilmPlan
from fanreel.plan.shards import Shard
from fanreel.policy import RETRY_DELAYS_SECONDS
from fanreel.publish.published import verify_film
from fanreel.render.draft import join_film
from fanreel.render.here import plan_job, render_job
from fanreel.render.order import order_render
from fanreel.render.shard import ShardWatch, render_shard
from fanreel.report.progress import Snapshot
from fanreel.segments.record import SegmentRecord
from fanreel.sessions.launcher import Launcher


@pytest.fixture
def host(host: Host, launcher: Launcher) -> Host:
    """A host of the test's own, whose launcher is warm already."""
    return open_host(host.settings, launcher=launcher)


@pytest.fixture
def job(photos: Path) -> SlideshowJob:
    """Six photos, at least three segments."""
    for seed in (4, 5):
        draw_photo(photos / f"photo-{seed}.jpg", seed=seed)
    return make_job(photos.parent, seconds_per_slide=6)


@pytest.fixture
def plan(job: SlideshowJob, host: Host) -> FilmPlan:
    planned = plan_job(job, host=host)[0]
    assert len(planned.segments) >= 3
    return planned


@pytest.fixture
def slow_job(photos: Path) -> SlideshowJob:
    """A film that takes seconds."""
    return make_job(photos.parent, size="1280x720", fps="50", seconds_per_slide=4, encoding={"preset": "fast"})


@pytest.fixture
def long_job(photos: Path) -> SlideshowJob:
    """A film that takes minutes, in many segments of less than a second; no test waits for its end.

    Two sessions, and of their six shards each shows a photo of its own.
    """
    for seed in (4, 5):
        draw_photo(photos / f"photo-{seed}.jpg", seed=seed)
    return make_job(photos.parent, size="640x360", fps="50", seconds_per_slide=80, sessions=2)


@pytest.fixture
def told_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is told at once, or a fast machine would be done by then."""
    monkeypatch.setattr("fanreel.render.here.TELL_SECONDS", 0.01)


def whole(plan: FilmPlan) -> Shard:
    return Shard(0, plan.segments)


def render_all(plan: FilmPlan, host: Host) -> list[SegmentRecord]:
    made: list[SegmentRecord] = []
    render_shard(plan, whole(plan), threads=1, host=host, watch=ShardWatch(on_segment=made.append))
    return made


def film_path(host: Host, record: SegmentRecord) -> Path:
    return host.store.local_copy(record)


def sessions_running(launcher: Launcher) -> list[int]:
    """The processes that the launcher has forked and that run."""
    server = launcher._server
    if server is None:
        return []
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    try:
        pids = [int(pid) for pid in children.read_text().split()]
    except FileNotFoundError:
        return []
    return [pid for pid in pids if _state(pid) not in "ZX"]


def has_begun(host: Host) -> bool:
    """Whether a session is making a segment."""
    with contextlib.suppress(FileNotFoundError):  # a scratch folder that goes while we look
        return any((host.settings.store / "scratch").glob("*/*.packets"))
    return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def wait_until(condition: Callable[[], object], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(holds)


class TestOrder:
    def test_nothing_is_stored(self, plan: FilmPlan, host: Host):
        order = order_render(plan, host=host)
        assert [segment for shard in order.shards for segment in shard.segments] == list(plan.segments)
        assert order.reused == 0
        assert order.sessions.sessions * order.sessions.threads <= host.capacity.cores

    def test_some_are_stored(self, plan: FilmPlan, host: Host):
        render_shard(plan, Shard(0, plan.segments[1:2]), threads=1, host=host)
        order = order_render(plan, host=host)
        ordered = [segment for shard in order.shards for segment in shard.segments]
        assert ordered == [plan.segments[0], *plan.segments[2:]]
        assert order.reused == 1

    def test_all_are_stored(self, plan: FilmPlan, host: Host):
        render_all(plan, host)
        order = order_render(plan, host=host)
        assert order.shards == ()
        assert order.reused == len(plan.segments)

    def test_a_film_asked_for_whole_is_one_shard_in_one_session_of_one_thread(self, plan: FilmPlan, host: Host):
        whole = replace(plan, strategy=Strategy.FILM)
        order = order_render(whole, host=host)
        assert [shard.segments for shard in order.shards] == [plan.segments]
        assert (order.sessions.sessions, order.sessions.threads) == (1, 1)
        render_shard(whole, order.shards[0], threads=1, host=host)
        assert order_render(whole, host=host).shards == ()
        assert order_render(plan, host=host).shards == ()

    def test_the_same_content_twice_is_one_segment(self, photos: Path, host: Host):
        names = [f"photos/photo-{n}.jpg" for n in (0, 1, 0, 1, 0)]
        job = make_job(photos.parent, photos=names, seconds_per_slide=9)
        plan = plan_job(job, host=host)[0]
        distinct = {segment.address for segment in plan.segments}
        assert len(distinct) < len(plan.segments)
        ordered = [segment for shard in order_render(plan, host=host).shards for segment in shard.segments]
        assert [segment.index for segment in ordered] == sorted(segment.index for segment in ordered)
        assert {segment.address for segment in ordered} == distinct
        (report,) = render_job(job, host=host)
        assert report.segments_rendered == len(distinct)
        assert report.segments_rendered + report.segments_reused == len(plan.segments)
        verify_film(Path(report.film), full=True)

    def test_an_explicit_encoder_refuses_what_another_one_made(self, plan: FilmPlan, host: Host):
        (record, *_) = render_all(plan, host)
        film_path(host, record).unlink()
        for segment in plan.segments[1:]:
            other = host.store.read_record(segment.address)
            path = film_path(host, other).with_suffix(".copy")
            path.write_bytes(film_path(host, other).read_bytes())
            host.store.put(replace(other, encoder="nvenc"), path)
            film_path(host, other).unlink()
        asked = replace(plan, encoding=replace(plan.encoding, encoder=EncoderChoice.X264))
        assert order_render(plan, host=host).reused == len(plan.segments) - 1
        assert order_render(asked, host=host).reused == 0

    def test_an_encoder_that_is_not_there_is_said(self, plan: FilmPlan, host: Host):
        asked = replace(plan, encoding=replace(plan.encoding, encoder=EncoderChoice.NVENC))
        with pytest.raises(EncoderUnavailableError, match="nvenc"):
            render_all(asked, host)


class TestShard:
    def test_makes_all_and_returns_their_addresses_in_order(self, plan: FilmPlan, host: Host):
        made: list[SegmentRecord] = []
        frames: list[int] = []
        addresses = render_shard(
            plan,
            whole(plan),
            threads=1,
            host=host,
            retries=2,
            watch=ShardWatch(on_frames=frames.append, on_segment=made.append),
        )
        assert addresses == tuple(segment.address for segment in plan.segments)
        assert sum(frames) == plan.frame_count
        assert [host.store.find_verified(address) for address in addresses] == made
        assert {(record.event.retries, record.encoder) for record in made} == {(2, "x264")}
        assert len({record.event.session for record in made}) == 1

    def test_leaves_no_scratch_and_no_slot(self, plan: FilmPlan, host: Host):
        render_all(plan, host)
        assert not list((host.settings.store / "scratch").glob("[!.]*"))
        assert host.gate.slots_in_use() == 0  # type: ignore[attr-defined]

    def test_skips_what_is_stored(self, plan: FilmPlan, host: Host):
        render_shard(plan, Shard(0, plan.segments[:1]), threads=1, host=host)
        assert [record.address for record in render_all(plan, host)] == [s.address for s in plan.segments[1:]]
        assert render_all(plan, host) == []

    def test_needs_no_session_if_all_is_stored(self, plan: FilmPlan, host: Host):
        render_all(plan, host)
        with host.gate.hold(weight=host.capacity.cores, timeout_seconds=5):
            assert render_all(plan, host) == []

    def test_skips_what_another_run_made_while_it_waited_for_a_session(self, plan: FilmPlan, host: Host):
        mine: list[SegmentRecord] = []
        waits = threading.Event()
        watch = ShardWatch(on_segment=mine.append, on_wait=waits.set)
        waiting = threading.Thread(
            target=lambda: render_shard(plan, whole(plan), threads=host.capacity.cores, host=host, watch=watch)
        )
        # The other run: it has a slot of a gate of its own, as it would have had one here before.
        other = replace(host, gate=replace(host.gate, device="other"))  # type: ignore[type-var]
        with host.gate.hold(timeout_seconds=5):
            waiting.start()
            assert waits.wait(60)
            made = render_all(plan, other)
        waiting.join()
        assert len(made) == len(plan.segments)
        assert mine == []

    def test_keeps_finished_segments_when_its_session_dies(self, long_job: SlideshowJob, host: Host):
        plan = plan_job(long_job, host=host)[0]
        made: list[SegmentRecord] = []

        def kill_after_the_first(record: SegmentRecord) -> None:
            made.append(record)
            os.kill(record.event.session, signal.SIGKILL)

        with pytest.raises(SessionLostError, match="SIGKILL"):
            render_shard(plan, whole(plan), threads=1, host=host, watch=ShardWatch(on_segment=kill_after_the_first))
        assert order_render(plan, host=host).reused == len(made)
        assert 1 <= len(made) < len(plan.segments)
        assert not list((host.settings.store / "scratch").glob("[!.]*"))
        assert host.gate.slots_in_use() == 0  # type: ignore[attr-defined]

    def test_a_photo_that_changed_after_planning_is_an_error(self, plan: FilmPlan, host: Host, photos: Path):
        draw_photo(photos / "photo-0.jpg", seed=77)
        with pytest.raises(PhotoChangedError, match="run the same command again"):
            render_all(plan, host)


class TestFilm:
    def test_is_rendered_joined_proven_published_and_reported(self, job: SlideshowJob, plan: FilmPlan, host: Host):
        orders, snapshots = [], []
        (report,) = render_job(job, host=host, on_order=orders.append, on_progress=snapshots.append)
        assert report.film == plan.output
        assert (report.frame_count, report.seconds) == (plan.frame_count, plan.seconds)
        assert (report.segments_rendered, report.segments_reused) == (len(plan.segments), 0)
        assert report.encoders == {"x264": len(plan.segments)}
        assert report.verified
        assert report.fps > 0
        assert report.size_bytes == Path(report.film).stat().st_size
        assert len(orders) == 1
        assert (snapshots[-1].segments_done, snapshots[-1].frames_made) == (len(plan.segments), plan.frame_count)
        verify_film(Path(report.film), full=True)

    def test_the_second_run_renders_nothing_and_yields_the_same_film(self, job: SlideshowJob, host: Host):
        (first,) = render_job(job, host=host)
        content = Path(first.film).read_bytes()
        with host.gate.hold(weight=host.capacity.cores, timeout_seconds=5):  # there is no session to be had
            (second,) = render_job(job, host=host)
        assert (second.segments_rendered, second.segments_reused) == (0, first.segments_rendered)
        assert Path(second.film).read_bytes() == content

    @pytest.mark.parametrize("damage", ["film deleted", "record deleted", "film cut", "film flipped", "record flipped"])
    def test_only_a_damaged_segment_is_rendered_again(self, job: SlideshowJob, plan: FilmPlan, host: Host, damage: str):
        render_job(job, host=host)
        film = film_path(host, host.store.read_record(plan.segments[1].address))
        path = film if damage.startswith("film") else film.with_suffix(".json")
        if damage.endswith("deleted"):
            path.unlink()
        elif damage.endswith("cut"):
            os.truncate(path, path.stat().st_size // 2)
        else:
            content = bytearray(path.read_bytes())
            content[len(content) * 2 // 3] ^= 1
            path.write_bytes(content)
        (report,) = render_job(job, host=host)
        assert (report.segments_rendered, report.segments_reused) == (1, len(plan.segments) - 1)
        verify_film(Path(report.film), full=True)

    def test_what_is_damaged_while_the_film_is_made_is_rendered_again(
        self, job: SlideshowJob, plan: FilmPlan, host: Host
    ):
        render_job(job, host=host)
        record = film_path(host, host.store.read_record(plan.segments[0].address)).with_suffix(".json")
        told: list[FanreelError] = []
        seen: list[int] = []

        def clear_the_store_once(order: object) -> None:
            seen.append(1)
            if len(seen) == 1:
                record.unlink()

        (report,) = render_job(
            job, host=host, on_order=clear_the_store_once, on_retry=lambda error, delay: told.append(error)
        )
        assert [type(error).__name__ for error in told] == ["SegmentMissingError"]
        assert report.segments_rendered == 1
        verify_film(Path(report.film))

    @pytest.mark.parametrize("cut_bytes", [0, 1000])
    def test_a_film_that_cannot_be_joined_blames_the_segment_that_changed(
        self, plan: FilmPlan, host: Host, cut_bytes: int
    ):
        path = film_path(host, render_all(plan, host)[1])
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data[: len(data) - cut_bytes])
        with pytest.raises(SegmentDamagedError, match=plan.segments[1].address[:12]):
            join_film(plan, host=host)

    def test_a_cap_of_one_session_is_never_two(self, slow_job: SlideshowJob, host: Host):
        job = slow_job.with_machines(sessions=1)
        most = self._most_sessions(job, host)
        assert most == 1

    def test_sessions_are_never_more_than_the_cores(self, slow_job: SlideshowJob, host: Host):
        assert 1 <= self._most_sessions(slow_job, host) <= host.capacity.cores

    def _most_sessions(self, job: SlideshowJob, host: Host) -> int:
        counts = [0]
        over = threading.Event()

        def count() -> None:
            while not over.wait(0.005):
                counts.append(len(sessions_running(host.launcher)))

        counting = threading.Thread(target=count)
        counting.start()
        try:
            render_job(job, host=host)
        finally:
            over.set()
            counting.join()
        return max(counts)


class TestTrouble:
    @pytest.mark.usefixtures("told_often")
    def test_a_session_killed_in_mid_film_is_tried_again_and_the_events_say_so(
        self, slow_job: SlideshowJob, host: Host
    ):
        told: list[tuple[FanreelError, float]] = []
        killed: list[int] = []

        def kill_one(snapshot: Snapshot) -> None:
            if not killed and has_begun(host) and (running := sessions_running(host.launcher)):
                killed.append(running[0])
                os.kill(running[0], signal.SIGKILL)

        (report,) = render_job(
            slow_job, host=host, on_progress=kill_one, on_retry=lambda error, delay: told.append((error, delay))
        )
        assert killed
        ((error, delay),) = told
        assert isinstance(error, SessionLostError)
        assert str(killed[0]) in str(error)
        assert RETRY_DELAYS_SECONDS[0] <= delay <= 1.5 * RETRY_DELAYS_SECONDS[0]
        certificate = verify_film(Path(report.film), full=True)
        retries = {record.event.session: record.event.retries for record in certificate.segments}
        assert set(retries.values()) <= {0, 1}
        assert 1 in retries.values()
        assert report.segments_rendered == len(certificate.segments)

    def test_an_error_that_is_not_worth_it_ends_the_film_and_its_sessions_only(
        self, long_job: SlideshowJob, host: Host, photos: Path
    ):
        """Another film on the same host goes on: its session is not touched."""
        told: list[FanreelError] = []
        broken = photos / "photo-1.jpg"
        plan = plan_job(long_job, host=host)[0]
        order = order_render(plan, host=host)
        clip = plan.timeline.clips[0]
        beside = [segment for segment in plan.segments if segment.end_frame <= clip.end_frame]

        def change_a_photo(order: object) -> None:
            draw_photo(broken, seed=78)

        with host.launcher.start(locks=[]) as of_another_film:
            started_at = time.monotonic()
            with pytest.raises(PhotoChangedError, match=r"photo-1\.jpg"):
                render_job(
                    long_job,
                    host=host,
                    on_order=change_a_photo,
                    on_retry=lambda error, delay: told.append(error),
                )
            assert time.monotonic() - started_at < 60
            assert wait_until(lambda: sessions_running(host.launcher) == [of_another_film.pid])
        assert told == []
        if order.sessions.sessions == 2:
            assert [list(shard.segments) for shard in order.shards[:1]] == [beside]
            assert order_render(plan, host=host).reused < len(beside), "the session beside it was ended"
        assert host.gate.slots_in_use() == 0  # type: ignore[attr-defined]

    @pytest.mark.usefixtures("told_often")
    def test_an_interrupt_ends_the_film_soon_and_keeps_what_was_made(self, photos: Path, host: Host):
        job = make_job(photos.parent, size="640x360", fps="50", seconds_per_slide=12, sessions=2)

        def interrupt(snapshot: Snapshot) -> None:
            if snapshot.segments_done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            render_job(job, host=host, on_progress=interrupt)
        assert wait_until(lambda: not sessions_running(host.launcher))
        (report,) = render_job(job, host=host)
        assert report.segments_reused >= 1
        assert report.segments_rendered >= 1

    def test_an_interrupt_does_not_wait_for_a_session_that_is_not_free(self, slow_job: SlideshowJob, host: Host):
        def interrupt(snapshot: Snapshot) -> None:
            raise KeyboardInterrupt

        with host.gate.hold(weight=host.capacity.cores, timeout_seconds=5):
            started_at = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                render_job(slow_job, host=host, on_progress=interrupt)
            assert time.monotonic() - started_at < 30
        # The threads that waited get a session now, find their film over, and let it go.
        assert wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("shard-")], seconds=30)
        assert host.gate.slots_in_use() == 0  # type: ignore[attr-defined]

    def test_nothing_is_published_when_rendering_fails(self, job: SlideshowJob, host: Host, photos: Path):
        (first,) = render_job(job, host=host)
        content = Path(first.film).read_bytes()
        changed = job.model_copy(update={"seconds_per_slide": 5})
        with pytest.raises(PhotoChangedError):
            render_job(changed, host=host, on_order=lambda order: draw_photo(photos / "photo-1.jpg", seed=79))
        assert Path(first.film).read_bytes() == content
        verify_film(Path(first.film))
