"""Watching a flow run: how far its films are, for the log and the UI, and the word to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from fanreel.host.host import current_host
from fanreel.plan.segments import Segment
from fanreel.render.shard import ShardWatch
from fanreel.report.progress import Progress, Snapshot
from fanreel.segments.record import SegmentRecord
from tasks.artifacts import if_it_can_be_shown
from tasks.planned_film import PlannedFilm
from tasks.prefect_limit import HostLimit, limit_name

__all__ = ["FilmWatch", "FlowStoppingError", "watch_film", "watch_flow"]

REPORT_SECONDS = 5.0
STOP_POLL_SECONDS = 0.25


class FlowStoppingError(Exception):
    """The flow run is ending, so what is still being rendered is not wanted now."""


class FilmWatch:
    """What the shards of one film share, in any thread.

    Args:
        film: The film.
        stopping: Set when the flow run ends early.
    """

    def __init__(self, film: PlannedFilm, stopping: threading.Event) -> None:
        order = film.order
        self._progress = Progress(
            segment_count=order.reused + order.segment_count,
            reused=order.reused,
            frames_to_make=order.frame_count,
        )
        self._name = film.name
        self._stopping = stopping
        self._sessions = threading.BoundedSemaphore(order.sessions.sessions)
        self._limit = HostLimit(limit_name(), folder=current_host().settings.lock_folder, warn=_warn)
        self._lock = threading.Lock()
        self._reported_at = time.monotonic()
        self._artifact: UUID | None = None
        self._rendered: Snapshot | None = None
        self._made: set[str] = set()

    @contextmanager
    def session(self) -> Iterator[None]:
        """Hold one of the sessions that the film may have at once.

        Raises:
            FlowStoppingError: The flow run ended before one was free.
        """
        while not self._sessions.acquire(timeout=STOP_POLL_SECONDS):
            self.check()
        try:
            self.check()
            yield
        finally:
            self._sessions.release()

    def add_frames(self, count: int) -> None:
        """Note frames; every five seconds tell the log and the UI.

        Raises:
            FlowStoppingError: The flow run is ending; leaving the session ends its process.
        """
        self.check()
        self._progress.add_frames(count)
        self._report_if_due()

    def add_wait(self) -> None:
        """Note that a shard waits for a session; every five seconds tell the log and the UI.

        Raises:
            FlowStoppingError: The flow run is ending.
        """
        self.check()
        self._progress.add_wait()
        self._report_if_due()

    def add_segment(self, record: SegmentRecord) -> None:
        """Note that one more segment is in the store."""
        with self._lock:
            self._made.add(record.address)
        self._progress.add_segment()

    def add_present(self, segments: Sequence[Segment]) -> None:
        """Note segments that others have put into the store for this film."""
        for segment in segments:
            with self._lock:
                self._made.add(segment.address)
            self._progress.add_frames(segment.frame_count)
            self._progress.add_segment()

    def tick(self) -> None:
        """Every five seconds tell the log and the UI.

        Raises:
            FlowStoppingError: The flow run is ending.
        """
        self.check()
        self._report_if_due()

    def shards(self) -> ShardWatch:
        """Return what a task run tells of a shard, to this watch and to its own log."""
        return ShardWatch(
            on_frames=self.add_frames,
            on_segment=self.add_segment,
            on_wait=self.add_wait,
            on_line=get_run_logger().log,
            around_gpus=self._limit.around,
        )

    @property
    def made_count(self) -> int:
        """Segments made by this flow run."""
        return len(self._made)

    def begin(self) -> None:
        """Tell the UI that the film is planned."""
        self._show(self._progress.snapshot())

    def finish(self) -> Snapshot:
        """Tell that every shard is done; return how it went. Later calls return the same."""
        if self._rendered is None:
            self._rendered = self._progress.snapshot()
            self._report(self._rendered)
        return self._rendered

    def check(self) -> None:
        """Raise `FlowStoppingError` if the flow run is ending."""
        if self._stopping.is_set():
            raise FlowStoppingError(f"{self._name}: the flow run is ending; segments that are done are kept")

    def _report_if_due(self) -> None:
        with self._lock:
            due = time.monotonic() - self._reported_at >= REPORT_SECONDS
            if due:
                self._reported_at = time.monotonic()
        if due:
            self._report(self._progress.snapshot())

    def _report(self, snapshot: Snapshot) -> None:
        get_run_logger().info("%s: %s", self._name, snapshot)
        self._show(snapshot)

    def _show(self, snapshot: Snapshot) -> None:
        made, to_make = snapshot.frames_made, snapshot.frames_to_make
        percent = 100 * made / to_make if to_make else 100.0
        text = f"{self._name}: {snapshot}"
        with if_it_can_be_shown(f"the progress of {self._name}"):
            if self._artifact is None:
                created = create_progress_artifact(percent, key="film-progress", description=text)
                self._artifact = created if isinstance(created, UUID) else None
            else:
                update_progress_artifact(self._artifact, percent, description=text)


def _warn(line: str) -> None:
    get_run_logger().warning(line)


class _FlowWatch:
    """What belongs to one flow run in this process."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._films: dict[str, FilmWatch] = {}

    def film(self, film: PlannedFilm) -> FilmWatch:
        with self._lock:
            if film.plan not in self._films:
                self._films[film.plan] = FilmWatch(film, self.stopping)
            return self._films[film.plan]


# Task runs inherit the context of the flow run that submits them, so each flow run has its own and takes it along.
_current: ContextVar[_FlowWatch] = ContextVar("flow_watch")


@contextmanager
def watch_flow() -> Iterator[None]:
    """Watch the flow run that is the body of this context; when it ends early, its sessions end too."""
    watch = _FlowWatch()
    token = _current.set(watch)
    try:
        yield
    except BaseException:
        watch.stopping.set()
        raise
    finally:
        _current.reset(token)


def watch_film(film: PlannedFilm) -> FilmWatch:
    """Return the watch of a film, the same for all tasks of the flow run.

    Raises:
        LookupError: No `watch_flow` is open.
    """
    return _current.get().film(film)
