"""The five steps in one process, without Prefect: fetch, plan, render, concat, upload."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from fanreel.errors import FanreelError
from fanreel.job import SlideshowJob
from fanreel.media.film import destination_of, join_film, publish_film, report_film
from fanreel.media.host import Host
from fanreel.media.render import RenderOrder, order_render, render_shard
from fanreel.media.sources import fetch_stills, output_path
from fanreel.plan.film import FilmPlan, plan_films
from fanreel.plan.shards import Shard
from fanreel.policy import is_worth_retrying, retry_delay_seconds
from fanreel.progress import Progress, Snapshot
from fanreel.report import FilmReport

__all__ = ["plan_job", "render_job"]

TICK_SECONDS = 0.25


def plan_job(job: SlideshowJob, *, host: Host) -> tuple[FilmPlan, ...]:
    """Return the films that a job yields. Reads its photos, writes nothing.

    Raises:
        RequestError: The job asks for what cannot be.
        MediaError: Photos cannot be read.
    """
    output = output_path(job)
    stills = fetch_stills(job, max_megapixels=host.settings.max_photo_megapixels)
    return plan_films(job, stills, output=str(output))


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
        host: Where.
        on_order: Told what of each film has to be rendered.
        on_progress: Told how far it is, four times a second.
        on_retry: Told which error is tried again and after how many seconds.

    Raises:
        FanreelError: A film cannot be made; what was rendered is kept for the next time.
    """
    host.launcher.warm()
    reports = []
    for plan in plan_job(job, host=host):
        started_at = time.monotonic()
        destination_of(plan).check()
        order = order_render(plan, host=host)
        on_order(order)
        fps = _render(plan, order, host, on_progress, on_retry)
        draft = join_film(plan, host=host)
        film = publish_film(plan, draft)
        reports.append(report_film(plan, order, draft, film=film, fps=fps, seconds=time.monotonic() - started_at))
    return reports


def _render(
    plan: FilmPlan,
    order: RenderOrder,
    host: Host,
    on_progress: Callable[[Snapshot], None],
    on_retry: Callable[[FanreelError, float], None],
) -> float:
    """Render the shards side by side; return the frames a second."""
    progress = Progress(
        segment_count=len(plan.segments),
        reused=order.reused,
        frames_to_make=sum(shard.frame_count for shard in order.shards),
    )
    with ThreadPoolExecutor(order.sessions.sessions, thread_name_prefix="shard") as pool:
        futures = [
            pool.submit(_render_with_retries, plan, shard, order, host, progress, on_retry) for shard in order.shards
        ]
        try:
            _watch(futures, progress, on_progress)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            # Whatever still encodes would be waited for; its sessions go with the launcher.
            host.launcher.close()
            raise
    return progress.snapshot().fps


def _watch(futures: list[Future[None]], progress: Progress, on_progress: Callable[[Snapshot], None]) -> None:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=TICK_SECONDS, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        on_progress(progress.snapshot())


def _render_with_retries(
    plan: FilmPlan,
    shard: Shard,
    order: RenderOrder,
    host: Host,
    progress: Progress,
    on_retry: Callable[[FanreelError, float], None],
) -> None:
    retries = 0
    while True:
        try:
            render_shard(
                plan,
                shard,
                threads=order.sessions.threads,
                host=host,
                retries=retries,
                on_frames=progress.add_frames,
                on_segment=lambda record: progress.add_segment(),
            )
        except FanreelError as error:
            if not is_worth_retrying(error, retries=retries):
                raise
            delay = retry_delay_seconds(retries)
            on_retry(error, delay)
            time.sleep(delay)
            retries += 1
        else:
            return
