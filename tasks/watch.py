"""Watching a flow run: the film runs that its tasks share, and what the log and the UI are told of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from fanreel.dispatch.pools import PoolChoice
from fanreel.host.host import current_host
from fanreel.plan.film import FilmPlan, plan_digest
from fanreel.render.film_run import FilmRun, FilmWatcher
from fanreel.render.order import RenderOrder
from fanreel.report.progress import Snapshot
from tasks.artifacts import if_it_can_be_shown
from tasks.planned_film import PlannedFilm
from tasks.prefect_limit import HostLimit, limit_name
from tasks.stacks import spare_stacks

__all__ = ["begin_run", "film_run", "host_watcher", "watch_flow"]

TELL_SECONDS = 5.0


class _FilmRuns:
    """The film runs of one flow run in this process, by the address of the film's plan."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, FilmRun] = {}
        self._is_over = False

    def add(self, address: str, run: FilmRun) -> FilmRun:
        """Keep a run, and stop it if the flow run is over."""
        with self._lock:
            self._runs[address] = run
            if self._is_over:
                run.stop()
        return run

    def find(self, film: PlannedFilm) -> FilmRun:
        """Return the run of a film; a new one where this process has not begun it."""
        with self._lock:
            found = self._runs.get(film.plan)
        if found is not None:
            return found
        host = current_host()
        run = FilmRun(
            host.store.get_plan(film.plan),
            film.order,
            host=host,
            watcher=host_watcher(film.name),
            begun_at=film.planned_at,
            because=film.because,
        )
        return self.add(film.plan, run)

    def stop(self) -> None:
        """Stop all runs, and those that are still to come."""
        with self._lock:
            self._is_over = True
            for run in self._runs.values():
                run.stop()


# Task runs inherit the context of the flow run that submits them, so each flow run has its own and takes it along.
_current: ContextVar[_FilmRuns] = ContextVar("film_runs")


@contextmanager
def watch_flow() -> Iterator[None]:
    """Keep the film runs of the flow run that is the body of this context; when it ends early, they are stopped."""
    spare_stacks()
    runs = _FilmRuns()
    token = _current.set(runs)
    try:
        yield
    except BaseException:
        runs.stop()
        raise
    finally:
        _current.reset(token)


def begin_run(plan: FilmPlan, *, pools: PoolChoice | None) -> FilmRun:
    """Begin a film on this host; see `FilmRun.begin`.

    Raises:
        LookupError: No `watch_flow` is open.
    """
    run = FilmRun.begin(plan, host=current_host(), watcher=host_watcher(plan.name), pools=pools)
    return _current.get().add(plan_digest(plan), run)


def film_run(film: PlannedFilm) -> FilmRun:
    """Return the run of a film, the same for all tasks of the flow run.

    Raises:
        LookupError: No `watch_flow` is open.
    """
    return _current.get().find(film)


def host_watcher(film: str) -> FilmWatcher:
    """Return who tells the log and the UI of a film, and puts the server's limit around this host's GPUs.

    Args:
        film: Its name.
    """
    shown = _ProgressArtifact(film)
    limit = HostLimit(limit_name(), folder=current_host().settings.lock_folder, warn=_warn)
    return FilmWatcher(
        on_order=shown.begin,
        on_progress=shown.tell,
        on_line=lambda level, line: get_run_logger().log(level, "%s", line),
        around_gpus=limit.around,
        tell_seconds=TELL_SECONDS,
    )


class _ProgressArtifact:
    """A film's progress in the UI, and as lines of the log."""

    def __init__(self, film: str) -> None:
        self._film = film
        self._artifact: UUID | None = None

    def begin(self, order: RenderOrder) -> None:
        if self._artifact is None:
            self._show(0.0 if order.shards else 100.0, f"{order.segment_count} segments to render")

    def tell(self, snapshot: Snapshot) -> None:
        get_run_logger().info("%s: %s", self._film, snapshot)
        made, to_make = snapshot.frames_made, snapshot.frames_to_make
        self._show(100 * made / to_make if to_make else 100.0, str(snapshot))

    def _show(self, percent: float, text: str) -> None:
        with if_it_can_be_shown(f"the progress of {self._film}"):
            if self._artifact is None:
                created = create_progress_artifact(percent, key="film-progress", description=f"{self._film}: {text}")
                self._artifact = created if isinstance(created, UUID) else None
            else:
                update_progress_artifact(self._artifact, percent, description=f"{self._film}: {text}")


def _warn(line: str) -> None:
    get_run_logger().warning(line)
