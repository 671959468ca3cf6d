"""Work pools and their queues: differences between a server and the table in `deployments.pools`."""

from __future__ import annotations

from functools import partial

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool, WorkQueue
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from deployments.drift import Difference, Findings, compare_limits, compare_values
from deployments.pools import POOL_TYPE, Pool, Queue
from fanreel.errors import RequestError

__all__ = ["find_pool", "look_at_pool", "look_at_queues"]


def find_pool(client: SyncPrefectClient, pool: Pool) -> Findings:
    """Return what to change of a pool and its queues on the server.

    The queues of a missing pool are looked at in the next round, because a new pool comes with one.

    Raises:
        RequestError: The server has a pool of that name and another type, which cannot be changed.
    """
    try:
        found = client.read_work_pool(pool.name)
    except ObjectNotFound:
        findings = Findings()
        made = WorkPoolCreate(
            name=pool.name,
            type=POOL_TYPE,
            description=pool.description,
            concurrency_limit=pool.limit,
            base_job_template=ProcessWorker.get_default_base_job_template(),
        )
        findings.add([Difference(f"work pool {pool.name}")], lambda client: client.create_work_pool(made))
        return findings
    findings = look_at_pool(pool, found)
    findings.extend(look_at_queues(pool, client.read_work_queues(work_pool_name=pool.name)))
    return findings


def look_at_pool(pool: Pool, found: WorkPool) -> Findings:
    """Return what to change of the pool itself.

    Raises:
        RequestError: It has another type.
    """
    where, findings = f"work pool {pool.name}", Findings()
    if found.type != POOL_TYPE:
        raise RequestError(
            f"{where} is of type {found.type!r} there, {POOL_TYPE!r} here, which cannot be changed: "
            f"delete it (prefect work-pool delete {pool.name}), with its queues, and apply again"
        )
    differences = compare_values(where, "description", found.description, pool.description)
    update = WorkPoolUpdate(description=pool.description) if differences else WorkPoolUpdate()
    if limits := compare_limits(findings, where, found.concurrency_limit, pool.limit):
        update.concurrency_limit = pool.limit
    findings.add([*differences, *limits], lambda client: client.update_work_pool(pool.name, update))
    if found.is_paused:
        findings.keep(where, "paused")
    return findings


def look_at_queues(pool: Pool, found: list[WorkQueue]) -> Findings:
    """Return what to change of the pool's queues; queues that `pool` does not name are left alone."""
    findings, there = Findings(), {queue.name: queue for queue in found}
    for queue in pool.queues:
        where = f"work queue {pool.name}/{queue.name}"
        if queue.name in there:
            _look_at_queue(findings, where, queue, there[queue.name])
        else:
            findings.add([Difference(where)], partial(_make_queue, pool_name=pool.name, queue=queue))
    return findings


def _look_at_queue(findings: Findings, where: str, queue: Queue, found: WorkQueue) -> None:
    differences = compare_values(where, "priority", found.priority, queue.priority)
    limits = compare_limits(findings, where, found.concurrency_limit, queue.limit)
    update = {"priority": queue.priority} if differences else {}
    update |= {"concurrency_limit": queue.limit} if limits else {}
    findings.add([*differences, *limits], lambda client: client.update_work_queue(found.id, **update))
    if found.is_paused:
        findings.keep(where, "paused")


def _make_queue(client: SyncPrefectClient, *, pool_name: str, queue: Queue) -> None:
    # With a priority, the server would move the queues of others that have it.
    made = client.create_work_queue(queue.name, concurrency_limit=queue.limit, work_pool_name=pool_name)
    client.update_work_queue(made.id, priority=queue.priority)
