"""The five steps in one process, without Prefect: fetch, plan, render, concat, upload."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from fanreel.errors import FanreelError, SegmentDamagedError, SegmentMissingError, StorageAwayError
from fanreel.host.host import Host
from fanreel.intake.sources import fetch_stills, output_place
from fanreel.job.slideshow import SlideshowJob
from fanreel.plan.film import FilmPlan, plan_films
from fanreel.plan.shards import Shard
from fanreel.policy import is_worth_retrying, retry_delay_seconds
from fanreel.render.film import destination_of, join_film, publish_film, report_film
from fanreel.render.film_state import begin_film, mark_published
from fanreel.render.order import RenderOrder, order_render
from fanreel.render.shard import ShardWatch, render_shard
from fanreel.report.film_report import FilmReport
from fanreel.report.progress import Progress, Snapshot
from fanreel.segments.record import SegmentRecord

__all__ = ["plan_job", "render_job"]

TICK_SECONDS = 0.25

LEAVE_SECONDS = 2.0
"""How long a film that failed waits for its other sessions to end; one that hangs ends by its own bound."""


class _FilmOverError(Exception):
    """Raised inside a shard whose film has failed or was interrupted."""


@dataclass(frozen=True, slots=True, eq=False)
class _Watch:
    """Who looks on while a film is made, and whether it is still wanted."""

    on_order: Callable[[RenderOrder], None]
    on_progress: Callable[[Snapshot], None]
    on_retry: Callable[[FanreelError, float], None]
    over: threading.Event = field(default_factory=threading.Event)
    made: set[str] = field(default_factory=set)

    def pause(self, error: FanreelError, retries: int) -> None:
        """Wait before the next try, or raise `error` if there is none."""
        if self.over.is_set() or not is_worth_retrying(error, retries=retries):
            raise error
        delay = retry_delay_seconds(retries)
        self.on_retry(error, delay)
        if self.over.wait(delay):
            raise _FilmOverError


def plan_job(job: SlideshowJob, *, host: Host) -> tuple[FilmPlan, ...]:
    """Return the films that a job yields. Reads its photos, writes nothing.

    Raises:
        RequestError: The job asks for what cannot be.
        MediaError: Photos cannot be read.
    """
    output = output_place(job, settings=host.settings)
    fetched = fetch_stills(job, settings=host.settings)
    return plan_films(job, fetched.stills, output=output, left_out=fetched.left_out)


def render_job(
    job: SlideshowJob,
    *,
    host: Host,
    on_order: Callable[[RenderOrder], None] = lambda order: None,
    on_progress: Callable[[Snapshot], None] = lambda snapshot: None,
    on_retry: Callable[[FanreelError, float], None] = lambda error, delay: None,
) -> list[FilmReport]:
    """Make the films of a job and publish them.

    Args:
        job: The request.
        host: Where. Its launcher is left running, for the next job.
        on_order: Told what of each film has to be rendered.
        on_progress: Told how far it is, four times a second.
        on_retry: Told which error is tried again and after how many seconds.

    Raises:
        FanreelError: A film cannot be made; what was rendered is kept for the next time.
    """
    host.launcher.warm()
    watch = _Watch(on_order, on_progress, on_retry)
    return [_make_film(plan, host, watch) for plan in plan_job(job, host=host)]


def _make_film(plan: FilmPlan, host: Host, watch: _Watch) -> FilmReport:
    """Render, join and publish; what is gone from the store before it is joined is rendered again."""
    started_at = time.monotonic()
    destination_of(plan, settings=host.settings).check()
    watch.made.clear()
    retries = 0
    while True:
        begin_film(host.store, plan)
        order = order_render(plan, host=host)
        watch.on_order(order)
        fps = _Rendering(plan, order, host, watch).run()
        try:
            # The draft never leaves the scratch folder but for its final name: a killed run leaves none.
            with host.store.scratch() as folder:
                draft = join_film(plan, host=host, encoders=order.encoders, folder=folder)
                film = publish_film(plan, draft, settings=host.settings)
        except (SegmentMissingError, SegmentDamagedError, StorageAwayError) as error:
            watch.pause(error, retries)
            retries += 1
            continue
        mark_published(host.store, plan)
        seconds = time.monotonic() - started_at
        count = len(watch.made)
        return report_film(
            plan, order, draft, film=film, fps=fps, seconds=seconds, rendered=count, settings=host.settings
        )


class _Rendering:
    """The rendering of one film: what its shards, side by side, have in common."""

    def __init__(self, plan: FilmPlan, order: RenderOrder, host: Host, watch: _Watch) -> None:
        self._plan, self._order, self._host, self._watch = plan, order, host, watch
        self._progress = Progress(
            segment_count=len(plan.segments),
            reused=order.reused,
            frames_to_make=order.frame_count,
        )

    def run(self) -> float:
        """Render all shards; return the frames a second."""
        over = self._watch.over
        futures, threads = _share_out(
            self._order.shards, self._render, thread_count=self._order.sessions.sessions, over=over
        )
        try:
            self._follow(futures)
        except BaseException:
            over.set()
            # Only this film's sessions end, each when it next reports; the host's other films go on.
            deadline = time.monotonic() + LEAVE_SECONDS
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
            raise
        return self._progress.snapshot().fps

    def _follow(self, futures: list[Future[None]]) -> None:
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=TICK_SECONDS, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            self._watch.on_progress(self._progress.snapshot())

    def _render(self, shard: Shard) -> None:
        for retries in itertools.count():
            try:
                render_shard(
                    self._plan,
                    shard,
                    threads=self._order.sessions.threads,
                    host=self._host,
                    encoders=self._order.encoders,
                    retries=retries,
                    watch=ShardWatch(on_frames=self._add_frames, on_segment=self._add_segment, on_wait=self._add_wait),
                )
            except FanreelError as error:
                self._watch.pause(error, retries)
            else:
                return

    def _add_frames(self, count: int) -> None:
        self._progress.add_frames(count)
        self._check()

    def _add_wait(self) -> None:
        self._progress.add_wait()
        self._check()

    def _check(self) -> None:
        if self._watch.over.is_set():
            raise _FilmOverError

    def _add_segment(self, record: SegmentRecord) -> None:
        self._watch.made.add(record.address)
        self._progress.add_segment()


def _share_out(
    shards: Iterable[Shard], work: Callable[[Shard], None], *, thread_count: int, over: threading.Event
) -> tuple[list[Future[None]], list[threading.Thread]]:
    """Have `thread_count` threads do `work` on the shards in order.

    They are daemons, unlike those of an executor: one that waits an hour for a session must not keep an
    interrupted program from ending.
    """
    waiting: SimpleQueue[tuple[Future[None], Shard]] = SimpleQueue()
    futures: list[Future[None]] = []
    for shard in shards:
        futures.append(Future())
        waiting.put((futures[-1], shard))

    def take_turns() -> None:
        while not over.is_set():
            try:
                future, shard = waiting.get_nowait()
            except Empty:
                return
            try:
                work(shard)
            except BaseException as error:  # noqa: BLE001 -- raised again by whoever waits for the future
                future.set_exception(error)
            else:
                future.set_result(None)

    threads = [threading.Thread(target=take_turns, name=f"shard-{n}", daemon=True) for n in range(thread_count)]
    for thread in threads:
        thread.start()
    return futures, threads
