"""The task runner of flows that render."""

from __future__ import annotations

from typing import Any, cast

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from fanreel.host.host import current_host

__all__ = ["HOST_TASK_RUNNER"]


class _HostTaskRunner(ThreadPoolTaskRunner[Any]):
    """One thread for each core of the host, counted when a flow run starts, not when the flow is imported.

    So many shards can be in work at once; whether one has an encoder session is for the gate to say.
    """

    def duplicate(self) -> ThreadPoolTaskRunner[Any]:
        """Return the runner of one flow run."""
        return ThreadPoolTaskRunner(max_workers=current_host().capacity.cores)


# Prefect types a runner by its futures, and a flow by the most general of them.
HOST_TASK_RUNNER = cast("TaskRunner[PrefectFuture[Any]]", _HostTaskRunner())
