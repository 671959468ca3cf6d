"""Work pools and their queues: what of a server's differs from the table in `deployments.pools`."""

from __future__ import annotations

from functools import partial
from uuid import UUID

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
    """Return what of a pool and its queues is to be changed on the server.

    The queues of a pool that is missing are found once it is there: it comes with one.

    Raises:
        RequestError: The server has a pool of that name and another type, which cannot be changed.
    """
    try:
        found = client.read_work_pool(pool.name)
    except ObjectNotFound:
        findings = Findings()
        findings.add([Difference(f"work pool {pool.name}")], partial(_make_pool, pool=pool))
        return findings
    findings = look_at_pool(pool, found)
    findings.extend(look_at_queues(pool, client.read_work_queues(work_pool_name=pool.name)))
    return findings


def look_at_pool(pool: Pool, found: WorkPool) -> Findings:
    """Return what of the pool itself is to be changed.

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
    findings.add([*differences, *limits], partial(_change_pool, name=pool.name, update=update))
    if found.is_paused:
        findings.keep(where, "paused")
    return findings


def look_at_queues(pool: Pool, found: list[WorkQueue]) -> Findings:
    """Return what of the pool's queues is to be changed; other queues are nobody's business here."""
    findings, there = Findings(), {queue.name: queue for queue in found}
    for queue in pool.queues:
        where = f"work queue {pool.name}/{queue.name}"
        if queue.name not in there:
            findings.add([Difference(where)], partial(_make_queue, pool_name=pool.name, queue=queue))
            continue
        old, update = there[queue.name], {}
        differences = compare_values(where, "priority", old.priority, queue.priority)
        if differences:
            update["priority"] = queue.priority
        if limits := compare_limits(findings, where, old.concurrency_limit, queue.limit):
            update["concurrency_limit"] = queue.limit
        findings.add([*differences, *limits], partial(_change_queue, queue_id=old.id, update=update))
        if old.is_paused:
            findings.keep(where, "paused")
    return findings


def _make_pool(client: SyncPrefectClient, *, pool: Pool) -> None:
    client.create_work_pool(
        WorkPoolCreate(
            name=pool.name,
            type=POOL_TYPE,
            description=pool.description,
            concurrency_limit=pool.limit,
            base_job_template=ProcessWorker.get_default_base_job_template(),
        )
    )


def _change_pool(client: SyncPrefectClient, *, name: str, update: WorkPoolUpdate) -> None:
    client.update_work_pool(name, update)


def _make_queue(client: SyncPrefectClient, *, pool_name: str, queue: Queue) -> None:
    # With a priority, the server would move the queues of others that have it.
    made = client.create_work_queue(queue.name, concurrency_limit=queue.limit, work_pool_name=pool_name)
    client.update_work_queue(made.id, priority=queue.priority)


def _change_queue(client: SyncPrefectClient, *, queue_id: UUID, update: dict[str, int | None]) -> None:
    client.update_work_queue(queue_id, **update)
