"""Deployments and their schedules: differences between a server and `prefect.yaml`."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import ConcurrencyOptions, DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound

from deployments.deployment_file import Deployment
from deployments.drift import Difference, Findings, compare_limits, compare_values

__all__ = ["find_deployment", "look_at_deployment"]

_TITLES = {
    "work_pool_name": "work pool",
    "work_queue_name": "work queue",
    "job_variables": "job variables",
    "parameter_openapi_schema": "parameter schema",
    "enforce_parameter_schema": "enforced schema",
    "pull_steps": "pull steps",
    "concurrency_options": "concurrency options",
}


def find_deployment(client: SyncPrefectClient, deployment: Deployment) -> Findings:
    """Return what to change of a deployment and its schedules on the server."""
    try:
        found = client.read_deployment_by_name(deployment.full_name)
    except ObjectNotFound:
        findings = Findings()
        missing = Difference(f"deployment {deployment.full_name}")
        findings.add([missing], lambda client: _make_deployment(client, deployment))
        return findings
    return look_at_deployment(deployment, found)


def look_at_deployment(deployment: Deployment, found: DeploymentResponse) -> Findings:
    """Return what to change of a deployment that exists; schedules that are not ours are left alone."""
    where, findings = f"deployment {deployment.full_name}", Findings()
    there = _values(found)
    pairs = {name: (there[name], here) for name, here in deployment.values.items()}
    differing = [name for name, (old, new) in pairs.items() if _ordered(name, old) != _ordered(name, new)]
    differences = [part for name in differing for part in compare_values(where, _TITLES.get(name, name), *pairs[name])]
    limits = compare_limits(findings, where, there["limit"], deployment.limit)
    update = {name: deployment.values[name] for name in differing}
    if {"work_pool_name", "work_queue_name"} & set(update):  # the server finds a queue by both
        update |= {name: deployment.values[name] for name in ("work_pool_name", "work_queue_name")}
    if limits:
        update["concurrency_limit"] = deployment.limit
    # Schedules first: a difference of the parameters turns them on or off, and must still exist if we are interrupted.
    by_slug = {schedule.slug: schedule for schedule in found.schedules}
    for schedule in deployment.schedules:
        _look_at_schedule(findings, deployment, schedule, found, by_slug.get(schedule.slug))
    changed = DeploymentUpdate(**_typed(update))
    findings.add([*differences, *limits], lambda client: client.update_deployment(found.id, changed))
    if found.paused:
        findings.keep(where, "paused")
    return findings


def _look_at_schedule(
    findings: Findings,
    deployment: Deployment,
    schedule: DeploymentScheduleCreate,
    found: DeploymentResponse,
    there: DeploymentSchedule | None,
) -> None:
    where = f"schedule {schedule.slug} of {deployment.full_name}"
    can_run = deployment.can_run_by_itself(schedule, deployment.values["parameters"])
    if there is None:
        made = schedule.model_copy(update={"active": can_run})
        findings.add([Difference(where)], lambda client: client.create_deployment_schedules(found.id, [made]))
        return
    # The operator decides whether it is on, unless the parameters decide otherwise than before.
    flips = can_run != deployment.can_run_by_itself(schedule, found.parameters) and there.active != can_run
    old, new = there.schedule.model_dump(mode="json"), schedule.schedule.model_dump(mode="json")
    differences = [
        *([Difference(where, "active", there.active, can_run)] if flips else ()),
        *(
            compare_values(where, "timing", old, new)
            if set(old) == set(new)
            else [Difference(where, "timing", old, new)]
        ),
        *compare_values(where, "parameters", there.parameters, schedule.parameters),
    ]
    words = {"schedule": schedule.schedule, "parameters": schedule.parameters, "active": can_run if flips else None}
    findings.add(differences, lambda client: client.update_deployment_schedule(found.id, there.id, **words))
    if not flips and there.active != can_run:
        findings.keep(where, "turned on" if there.active else "turned off")


def _values(found: DeploymentResponse) -> dict[str, Any]:
    dumped = found.model_dump(mode="json", exclude={"concurrency_limit"})
    options = dumped["concurrency_options"]
    limit = found.global_concurrency_limit
    return dumped | {
        "concurrency_options": options and {"collision_strategy": options["collision_strategy"]},
        "limit": limit and limit.limit,
    }


def _ordered(name: str, value: Any) -> Any:  # noqa: ANN401 -- JSON
    return sorted(value) if name == "tags" else value


def _make_deployment(client: SyncPrefectClient, deployment: Deployment) -> None:
    flow_id = client.create_flow_from_name(deployment.flow_name)
    parameters = deployment.values["parameters"]
    client.create_deployment(
        flow_id,
        deployment.name,
        concurrency_limit=deployment.limit,
        schedules=[
            schedule.model_copy(update={"active": deployment.can_run_by_itself(schedule, parameters)})
            for schedule in deployment.schedules
        ],
        **_typed(deployment.values),
    )


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    options = values.get("concurrency_options")
    return values | ({"concurrency_options": ConcurrencyOptions(**options)} if options else {})
