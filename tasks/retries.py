"""What Prefect keeps and what it tries again: the engine's table of policies (`fanreel.policy`), in Prefect's terms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import task_run as present_run
from prefect.states import AwaitingRetry, Failed

from fanreel.errors import FanreelError
from fanreel.policy import JITTER, MOST_RETRIES, RETRY_DELAYS_SECONDS, is_worth_retrying, retry_delay_seconds

__all__ = ["ONCE", "RETRIED", "failed", "flow_failed", "past_retries", "state_after", "worth_retrying"]


def worth_retrying(task: Any, task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ANN401 -- Prefect's signature
    """Return whether a failed task run is tried again. It is a plain function, for Prefect ignores other callables.

    The error is read from the state's data: where an event loop runs, `state.result()` is a coroutine.
    """
    error = state.data
    return isinstance(error, Exception) and is_worth_retrying(error, retries=max(0, task_run.run_count - 1))


def past_retries() -> int:
    """Return how often the present task run has been tried again already."""
    return max(0, (present_run.run_count or 1) - 1)


def failed(error: FanreelError) -> State[Any]:
    """Return the state of a task run that failed with an error of ours, without the stack that Prefect would log."""
    return Failed(data=error, message=f"{type(error).__name__}: {error}")


def flow_failed(error: FanreelError) -> State[Any]:
    """Return the state of a flow run that failed with an error of ours: people read its message, which says it all."""
    return Failed(data=error, message=str(error))


def state_after(error: FanreelError) -> State[Any]:
    """Return the state of a task run whose body met `error`: `AwaitingRetry` or `Failed`, with the error's message.

    Prefect's own retries leave the message of `AwaitingRetry` empty: the error, with the driver's number, would stand
    in the log only. A body that returned one such state has to return all later ones too: the first one would hide an
    error that the body raised afterwards.
    """
    retries = past_retries()
    if not is_worth_retrying(error, retries=retries):
        return failed(error)
    delay_seconds = retry_delay_seconds(retries)
    get_run_logger().warning("%s; trying again in %.0f s", error, delay_seconds)
    return AwaitingRetry(
        scheduled_time=datetime.now(UTC) + timedelta(seconds=delay_seconds),
        message=f"{type(error).__name__}: {error}",
    )


ONCE: dict[str, Any] = {"persist_result": False, "cache_policy": NO_CACHE}
"""Arguments of `task` for work that is not tried again. Prefect keeps no result of it: the store does."""

RETRIED: dict[str, Any] = {
    **ONCE,
    "retries": MOST_RETRIES,
    "retry_delay_seconds": list(RETRY_DELAYS_SECONDS),
    "retry_jitter_factor": JITTER,
    "retry_condition_fn": worth_retrying,
}
"""Arguments of `task` for work that may be tried again."""
