"""The five steps in one process, without Prefect: fetch, plan, render, concat, upload."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TypeVar

from fanreel.errors import FanreelError, InvalidJobError
from fanreel.host.host import Host
from fanreel.intake.sources import fetch_sources, output_location
from fanreel.job.film import FilmJob
from fanreel.plan.film import FilmPlan
from fanreel.plan.kinds import plan_films
from fanreel.plan.shards import Shard
from fanreel.policy import is_worth_retrying, retry_delay_seconds
from fanreel.publish.open import check_output
from fanreel.remote.locations import scheme_of
from fanreel.render.film_run import FilmRun, FilmStoppedError, FilmWatcher
from fanreel.render.order import RenderOrder, order_render
from fanreel.report.film_report import FilmReport
from fanreel.report.progress import Snapshot

__all__ = ["plan_job", "render_job", "render_segments"]

Result = TypeVar("Result")

TELL_SECONDS = 0.25
"""How often it is told how far a film is."""

LEAVE_SECONDS = 2.0
"""How long a film that failed waits for its other sessions to end; one that hangs ends by its own bound."""


def plan_job(job: FilmJob, *, host: Host) -> tuple[FilmPlan, ...]:
    """Return the films that a job yields. Reads its photos, and keeps nothing but what it found of them.

    Raises:
        RequestError: The job asks for what cannot be.
        MediaError: Photos cannot be read.
    """
    output = output_location(job, settings=host.settings)
    return plan_films(job, fetch_sources(job, settings=host.settings), output=output)


def render_job(
    job: FilmJob,
    *,
    host: Host,
    on_film: Callable[[FilmPlan, RenderOrder], None] = lambda plan, order: None,
    on_order: Callable[[RenderOrder], None] = lambda order: None,
    on_progress: Callable[[Snapshot], None] = lambda snapshot: None,
    on_retry: Callable[[FanreelError, float], None] = lambda error, delay: None,
) -> list[FilmReport]:
    """Make the films of a job and publish them.

    Args:
        job: The request.
        host: Where. Its launcher is left running, for the next job.
        on_film: Told of each film before it is made, and what of it has to be rendered.
        on_order: Told what has to be rendered, also when the store has lost some of it.
        on_progress: Told how far it is, four times a second, from any thread. What it raises ends the film.
        on_retry: Told which error is tried again and after how many seconds.

    Raises:
        FanreelError: A film cannot be made; what was rendered is kept for the next time.
    """
    output = output_location(job, settings=host.settings)
    if not scheme_of(output):  # seen at once, where photos take a while; S3 is asked once, when the film begins
        check_output(output, overwrite=job.overwrite, settings=host.settings)
    host.launcher.warm()
    watcher = FilmWatcher(on_order=on_order, on_progress=on_progress, tell_seconds=TELL_SECONDS)
    return [_make_film(plan, host, watcher, on_retry, on_film) for plan in plan_job(job, host=host)]


def render_segments(
    plan: FilmPlan, start: int, end: int, *, host: Host, on_progress: Callable[[Snapshot], None]
) -> tuple[str, ...]:
    """Make the segments `[start, end)` of a film that the store lacks, and return the addresses of all of them.

    Raises:
        InvalidJobError: The film has no such segments.
        FanreelError: One cannot be made; the others are kept.
    """
    segments = plan.segments[start:end]
    if not 0 <= start < end <= len(plan.segments):
        raise InvalidJobError(f"segments [{start}, {end}) are not allowed; the plan has [0, {len(plan.segments)})")
    host.launcher.warm()
    order = order_render(plan, host=host, segments=segments)
    run = FilmRun(plan, order, host=host, watcher=FilmWatcher(on_progress=on_progress), begun_at=time.time())
    _Attempts(run).render_all(order)
    run.finish_rendering()
    return tuple(segment.address for segment in segments)


def _make_film(
    plan: FilmPlan,
    host: Host,
    watcher: FilmWatcher,
    on_retry: Callable[[FanreelError, float], None],
    on_film: Callable[[FilmPlan, RenderOrder], None],
) -> FilmReport:
    run = FilmRun.begin(plan, host=host, watcher=watcher)
    on_film(plan, run.order)
    attempts = _Attempts(run, on_retry)
    try:
        attempts.render_all(run.order)
        run.finish_rendering()
        return attempts.make(lambda retries: _finish(run), mend=lambda: run.repair(attempts.render_all))
    except FanreelError as error:
        run.note_failure(error)
        raise


def _finish(run: FilmRun) -> FilmReport:
    # The draft never leaves the scratch folder but for its final name: a killed run leaves none.
    with run.host.store.scratch() as folder:
        return run.publish(run.join(folder=folder))


@dataclass(frozen=True, slots=True)
class _Attempts:
    """What drives a film run where Prefect does not: threads for its shards, and tries by the table of policies."""

    run: FilmRun
    on_retry: Callable[[FanreelError, float], None] = lambda error, delay: None
    over: threading.Event = field(default_factory=threading.Event)

    def make(self, work: Callable[[int], Result], *, mend: Callable[[], None] = lambda: None) -> Result:
        """Return what `work` returns, tried again as often as its errors are worth it.

        Args:
            work: Is given how often it was tried before.
            mend: Done before each further try.
        """
        for retries in itertools.count():
            try:
                return work(retries)
            except FanreelError as error:
                if self.over.is_set() or not is_worth_retrying(error, retries=retries):
                    raise
                delay_seconds = retry_delay_seconds(retries)
                self.on_retry(error, delay_seconds)
            if self.over.wait(delay_seconds):
                raise FilmStoppedError
            mend()
        raise AssertionError

    def render_all(self, order: RenderOrder) -> None:
        """Render the shards of an order, as many at once as it has sessions; the first one that fails ends the others.

        A shard that waits for its next try keeps its thread, so that no other shard runs into the same fault meanwhile.
        """
        waiting: SimpleQueue[tuple[Shard, Future[None]]] = SimpleQueue()
        futures = [Future[None]() for _ in order.shards]
        for pair in zip(order.shards, futures, strict=True):
            waiting.put(pair)
        # Daemons, unlike the threads of an executor: one that waits an hour for a session must not keep an
        # interrupted program from ending.
        threads = [
            threading.Thread(target=self._take_turns, args=[waiting], name=f"shard-{index}", daemon=True)
            for index in range(min(order.sessions.sessions, len(order.shards)))
        ]
        try:
            for thread in threads:
                thread.start()
            _raise_first(futures)
        except BaseException:
            self._leave(threads)
            raise

    def _take_turns(self, waiting: SimpleQueue[tuple[Shard, Future[None]]]) -> None:
        with contextlib.suppress(Empty):
            while not self.over.is_set():
                self._render(*waiting.get_nowait())

    def _render(self, shard: Shard, future: Future[None]) -> None:
        try:
            self.make(lambda retries: self.run.render(shard, retries=retries))
        except BaseException as error:  # noqa: BLE001 -- raised again by `render_all`, which waits for the future
            future.set_exception(error)
        else:
            future.set_result(None)

    def _leave(self, threads: Iterable[threading.Thread]) -> None:
        """End this film's sessions, each when it next reports; the host's other films go on."""
        self.over.set()
        self.run.stop()
        deadline = time.monotonic() + LEAVE_SECONDS
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))


def _raise_first(futures: Iterable[Future[None]]) -> None:
    """Return when all futures are done, or raise the error of the first one that fails."""
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()
