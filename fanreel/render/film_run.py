"""The film run: one film from its plan to its published file, the same for every front.

A front drives it step by step: the plain command in one process, Prefect with a task a step, a serverless worker. It
never tries anything again by itself; its front does, by the table of `fanreel.policy`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fanreel.dispatch.pools import PoolChoice
from fanreel.errors import FanreelError, StorageAwayError, StorageError
from fanreel.host.host import Host
from fanreel.intake.photo_sharing import share_photos
from fanreel.plan.film import FilmPlan
from fanreel.plan.segments import Segment
from fanreel.plan.shards import Shard
from fanreel.publish.open import check_output, open_destination
from fanreel.render.draft import Draft, join_film, publish_film
from fanreel.render.film_state import begin_film, mark_published, mark_stopped
from fanreel.render.order import RenderOrder, order_in_pools, order_render
from fanreel.render.shard import ShardWatch, render_shard
from fanreel.report.film_report import FilmReport
from fanreel.report.progress import Progress, Snapshot
from fanreel.segments.record import SegmentRecord
from fanreel.sessions.devices import GateWrap

__all__ = ["FilmRun", "FilmStoppedError", "FilmWatcher"]

log = logging.getLogger(__name__)


class FilmStoppedError(Exception):
    """The film is no longer wanted now; what of it is in the store is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmWatcher:
    """Callbacks that hear of a film while it is made.

    Attributes:
        on_order: Told what has to be rendered: when the film begins, and when the store has lost some of it.
        on_progress: Told how far the film is; never twice at once, though from different threads.
        on_line: Told, with a level of `logging`, what happens to its shards and its join.
        around_gpus: Puts another gate around that of the GPUs: one that more than this host knows of.
        tell_seconds: How often `on_progress` is told while frames are made or a session is waited for.
    """

    on_order: Callable[[RenderOrder], None] = lambda order: None
    on_progress: Callable[[Snapshot], None] = lambda snapshot: None
    on_line: Callable[[int, str], None] = log.log
    around_gpus: GateWrap = lambda gate: gate
    tell_seconds: float = 0.25


class FilmRun:
    """One film while it is made. Its methods may be called from any thread.

    Args:
        plan: The film.
        order: What of it has to be rendered.
        host: Where.
        watcher: Hears how the film goes.
        begun_at: Unix time of the request.
        because: Why a part of the film was given to this host, where another one failed; empty if none did.
    """

    def __init__(
        self,
        plan: FilmPlan,
        order: RenderOrder,
        *,
        host: Host,
        watcher: FilmWatcher,
        begun_at: float,
        because: str = "",
    ) -> None:
        self.plan, self.host, self.begun_at = plan, host, begun_at
        self.order = order
        self._watcher, self._because = watcher, because
        self._label = order.label
        self._progress = Progress(segment_count=order.segment_count, frames_to_make=order.frame_count)
        self._rendered: Snapshot | None = None
        self._made: set[str] = set()
        self._sessions = threading.Condition()
        self._session_count = 0
        self._is_stopped = False
        self._telling = threading.Lock()
        self._told_at = time.monotonic()
        watcher.on_order(order)

    @classmethod
    def begin(cls, plan: FilmPlan, *, host: Host, watcher: FilmWatcher, pools: PoolChoice | None = None) -> FilmRun:
        """Begin a film: from now on the store keeps what it needs.

        Args:
            plan: The film.
            host: Where.
            watcher: Hears how the film goes.
            pools: The work pools that render it; this host if not given.

        Raises:
            RequestError: This host may not publish where the film goes, or a file lies there that fanreel did not make.
            EncoderError: The job insists on an encoder that this host does not have.
            StorageError: The store or the output cannot be used.
        """
        begun_at = time.time()
        check_output(plan.output, overwrite=plan.overwrite, settings=host.settings)
        begin_film(host.store, plan)
        if pools is not None and host.settings.remote_store:
            # Machines that mount the folder of a store mount the photos too.
            share_photos(plan, settings=host.settings, store=host.store)
        return cls(plan, _order(plan, pools, host), host=host, watcher=watcher, begun_at=begun_at)

    def stop(self) -> None:
        """Have every shard of the film end soon, by `FilmStoppedError`; their sessions end with them."""
        with self._sessions:
            self._is_stopped = True
            self._sessions.notify_all()

    def check(self) -> None:
        """Raise `FilmStoppedError` if the film was stopped."""
        if self._is_stopped:
            raise FilmStoppedError(f"{self.plan.name}: the run is ending; segments that are done are kept")

    def render(self, shard: Shard, *, retries: int = 0) -> tuple[str, ...]:
        """Make what the store lacks of a shard, once the film has a session to spare; return all its addresses.

        Args:
            shard: Which of the film's segments.
            retries: How often this shard has been tried before.

        Raises:
            FilmStoppedError: The film was stopped.
            FanreelError: As `render_shard` does.
        """
        watch = ShardWatch(
            on_frames=self._add_frames,
            on_segment=self._add_segment,
            on_wait=self._add_wait,
            on_line=self._watcher.on_line,
            around_gpus=self._watcher.around_gpus,
        )
        with self._session():
            return render_shard(
                self.plan,
                shard,
                threads=self.order.sessions.threads,
                host=self.host,
                encoders=self.order.encoders,
                retries=retries,
                fallback=self._because,
                watch=watch,
            )

    def add_stored(self, segments: Sequence[Segment]) -> None:
        """Note segments that others have put into the store for this film."""
        for segment in segments:
            self._made.add(segment.address)
            self._progress.add_frames(segment.frame_count)
            self._progress.add_segment()

    def tell(self) -> None:
        """Tell the watcher how far the film is, if it was not told for `tell_seconds`.

        Raises:
            FilmStoppedError: The film was stopped.
        """
        self.check()
        # If another thread is calling the watcher now, this one goes on: a watcher may be slow.
        if self._telling.acquire(blocking=False):
            try:
                if time.monotonic() - self._told_at >= self._watcher.tell_seconds:
                    self._told_at = time.monotonic()
                    self._watcher.on_progress(self.snapshot())
            finally:
                self._telling.release()

    def snapshot(self) -> Snapshot:
        """Return how far the film is."""
        return self._progress.snapshot()

    def finish_rendering(self) -> Snapshot:
        """Tell the watcher that every shard is done; return how it went. Later calls return the same."""
        if self._rendered is None:
            self._rendered = self.snapshot()
            with self._telling:
                self._watcher.on_progress(self._rendered)
        return self._rendered

    def repair(self, render: Callable[[RenderOrder], object]) -> None:
        """Have made again what the store has lost since the film was ordered.

        Args:
            render: Has the shards of an order made, as the front does it.

        Raises:
            FanreelError: As `begin` and `render` do.
        """
        begin_film(self.host.store, self.plan)
        pools = PoolChoice(self.order.pools, self.order.encoders, ()) if self.order.pools else None
        self.order = _order(self.plan, pools, self.host)
        self._label = self.order.label or self._label
        self._watcher.on_order(self.order)
        for shard in self.order.shards:
            line = f"{self.plan.name}: {shard.label} is no longer in the store and is made again"
            self._watcher.on_line(logging.WARNING, line)
        if self.order.shards:
            render(self.order)

    def join(self, *, folder: Path | None = None) -> Draft:
        """Return the film, joined and verified from disk; see `join_film`."""
        return join_film(self.plan, host=self.host, encoders=self.order.encoders, folder=folder)

    def publish(self, draft: Draft) -> FilmReport:
        """Move a draft to the film's output and return what is to be told of it. Done again, it changes nothing.

        Raises:
            OutputExistsError: A file that fanreel did not make lies there by now.
            StorageError: It cannot be published; what was there before still is.
        """
        plan, settings = self.plan, self.host.settings
        try:
            published = publish_film(plan, draft, settings=settings)
        except FanreelError as error:
            self.note_failure(error)
            if isinstance(error, StorageError):
                left = "only the publishing is left to do, the film's segments are kept"
                raise type(error)(f"{error}; {left}") from error
            raise
        mark_published(self.host.store, plan)
        return FilmReport(
            film=published.film,
            seconds=plan.seconds,
            photo_count=plan.photo_count,
            frame_count=plan.frame_count,
            size=f"{plan.encoding.width_px}x{plan.encoding.height_px}",
            size_bytes=draft.size_bytes,
            elapsed_seconds=time.time() - self.begun_at,
            fps=self.finish_rendering().fps,
            # As counted: another run may have made some of the order.
            segments_rendered=len(self._made),
            segments_reused=len(plan.segments) - len(self._made),
            sessions=self._label,
            verified=True,  # join_film raises an error otherwise
            encoders=draft.encoders,
            fallbacks=draft.fallbacks,
            left_out=plan.left_out,
            notes=plan.notes,
            replaced=published.replaced,
            link=open_destination(plan.output, settings=settings).link(),
        )

    def note_failure(self, error: FanreelError) -> None:
        """Note in the store that the film is not in work any more; a store that is away is not waited for again."""
        if not (isinstance(error, StorageAwayError) and self.host.settings.remote_store):
            mark_stopped(self.host.store, self.plan)

    @contextmanager
    def _session(self) -> Iterator[None]:
        """Hold one of the encoder sessions that the film may have at once."""
        with self._sessions:
            self._sessions.wait_for(lambda: self._is_stopped or self._session_count < self.order.sessions.sessions)
            self.check()
            self._session_count += 1
        try:
            yield
        finally:
            with self._sessions:
                self._session_count -= 1
                self._sessions.notify()

    def _add_frames(self, count: int) -> None:
        self._progress.add_frames(count)
        self.tell()

    def _add_wait(self) -> None:
        self._progress.add_wait()
        self.tell()

    def _add_segment(self, record: SegmentRecord) -> None:
        self._made.add(record.address)
        self._progress.add_segment()


def _order(plan: FilmPlan, pools: PoolChoice | None, host: Host) -> RenderOrder:
    return order_render(plan, host=host) if pools is None else order_in_pools(plan, pools, host=host)
