"""The one place where Prefect is told what to try again: the engine's own table of policies."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State, TaskRun

from fanreel.policy import JITTER, MOST_RETRIES, RETRY_DELAYS_SECONDS, is_worth_retrying

__all__ = ["RETRIES", "worth_retrying"]


def worth_retrying(task: Any, task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ANN401 -- Prefect's signature
    """Return whether a failed task run is tried again. A plain function: Prefect ignores other callables."""
    try:
        state.result()
    except Exception as error:  # noqa: BLE001 -- the retry rule judges every error
        return is_worth_retrying(error, retries=max(0, task_run.run_count - 1))
    return False


RETRIES: dict[str, Any] = {
    "retries": MOST_RETRIES,
    "retry_delay_seconds": list(RETRY_DELAYS_SECONDS),
    "retry_jitter_factor": JITTER,
    "retry_condition_fn": worth_retrying,
}
"""Arguments of `task` for work that may be tried again."""
