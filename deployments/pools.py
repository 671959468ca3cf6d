"""The work pools and their queues that `deployments.apply` makes on a server. The deployments are in `prefect.yaml`.

Films' parents have a pool of their own: a parent that held a slot which its own shards need would wait for ever.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

__all__ = ["POOLS", "POOL_TYPE", "Pool", "Queue"]

POOL_TYPE = "process"
"""Runs are processes of their worker, in the checkout on its host."""


@dataclass(frozen=True, slots=True)
class Queue:
    """A work queue of a pool; workers take runs from the queue with the lowest priority number first.

    Attributes:
        name: Prefect makes `default` itself, for runs that name no queue.
        priority: 1 is taken first.
        limit: How many runs at once; None is the pool's limit.
    """

    name: str
    _: KW_ONLY
    priority: int
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """A work pool of processes.

    Attributes:
        name: What workers, deployments and a job's `render_on` call it.
        description: One line, for the UI.
        limit: How many runs at once on all its workers; None leaves it to each worker's ``--limit``.
        bulk_limit: How many of those may come from the queue `bulk`. A priority decides who is next, but stops no run,
            so without this limit a thousand films in bulk would leave no slot for an urgent one.
    """

    name: str
    _: KW_ONLY
    description: str
    limit: int | None = None
    bulk_limit: int | None = None

    @property
    def queues(self) -> tuple[Queue, ...]:
        """Its queues in order of priority, with free numbers between them."""
        return (
            Queue("urgent", priority=1),
            Queue("default", priority=5),
            Queue("bulk", priority=9, limit=self.bulk_limit),
        )


# A parent is a process of some 200 MB that waits for its shards, then joins them: a small machine holds 20.
POOLS = (
    Pool("control", description="Films' parents: they plan, wait for shards, join.", limit=20, bulk_limit=12),
    Pool(
        "nvenc",
        description="Shards on hosts whose GPU encodes. Not ready without one: films need none.",
    ),
    Pool("cpu", description="Shards on any host."),
    Pool("local", description="Whole films, on the machine of the worker: start here."),
)
