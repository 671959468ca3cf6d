"""The one place where Prefect is told what to keep and what to try again: the engine's own table of policies."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from fanreel.policy import JITTER, MOST_RETRIES, RETRY_DELAYS_SECONDS, is_worth_retrying

__all__ = ["ONCE", "RETRIED", "worth_retrying"]


def worth_retrying(task: Any, task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ANN401 -- Prefect's signature
    """Return whether a failed task run is tried again. A plain function: Prefect ignores other callables.

    The error is read from the state: `state.result()` is a coroutine, and no error, where an event loop runs.
    """
    error = state.data
    return isinstance(error, Exception) and is_worth_retrying(error, retries=max(0, task_run.run_count - 1))


ONCE: dict[str, Any] = {"persist_result": False, "cache_policy": NO_CACHE}
"""Arguments of `task` for work that is done once: Prefect keeps nothing and looks nothing up; the store does."""

RETRIED: dict[str, Any] = {
    **ONCE,
    "retries": MOST_RETRIES,
    "retry_delay_seconds": list(RETRY_DELAYS_SECONDS),
    "retry_jitter_factor": JITTER,
    "retry_condition_fn": worth_retrying,
}
"""Arguments of `task` for work that may be tried again."""
