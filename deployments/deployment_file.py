"""`prefect.yaml` as data: the deployments as they are to be on a server, built and filled in by Prefect's own means.

What this reads is what `prefect deploy` reads, steps and templates included, and a test holds both to one result.
A key that this does not know is refused: Prefect would ignore it, or this would.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.steps.core import StepExecutionError, run_steps
from prefect.exceptions import PrefectException
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.templating import apply_values, resolve_variables

from fanreel.errors import RequestError

__all__ = ["Deployment", "Schedule", "read_deployments"]

_TOP_KEYS = {"name", "definitions", "deployments"}
_REQUIRED_KEYS = {"name", "entrypoint", "description", "tags", "version", "work_pool", "build", "pull"}
_KEYS = _REQUIRED_KEYS | {"parameters", "schedules", "concurrency_limit"}
_POOL_KEYS = {"name", "work_queue_name", "job_variables"}
_LIMIT_KEYS = {"limit", "collision_strategy"}
_SCHEDULE_KEYS = {"slug", "cron", "timezone", "active", "parameters"}


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a deployment runs by itself.

    Attributes:
        slug: What it is known by; a schedule of an operator has another, or none.
        schedule: When.
        parameters: Beside those of the deployment.
    """

    slug: str
    schedule: CronSchedule
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment, as it is to be.

    Attributes:
        flow_name: Of the flow that it runs.
        name: Of the deployment, among those of the flow.
        values: By the names of `DeploymentCreate` and `DeploymentUpdate` of Prefect's client, all but schedules and
            the limit; as JSON has them.
        limit: Runs at once; None leaves it to the operator.
        schedules: All that are ours.
    """

    flow_name: str
    name: str
    values: dict[str, Any]
    limit: int | None
    schedules: tuple[Schedule, ...]

    @property
    def full_name(self) -> str:
        """The name that `prefect deployment run` takes."""
        return f"{self.flow_name}/{self.name}"

    def can_run_by_itself(self, schedule: Schedule, parameters: Mapping[str, Any]) -> bool:
        """Return whether every parameter that the flow needs has a value, where the deployment has `parameters`."""
        given = {**parameters, **schedule.parameters}
        return all(given.get(name, "") != "" for name in self.values["parameter_openapi_schema"].get("required", ()))


def read_deployments(file: Path) -> tuple[Deployment, ...]:
    """Return the deployments of a `prefect.yaml`; its steps are run, its flows loaded, variables asked for.

    Args:
        file: In the checkout, whose folder becomes the working directory meanwhile.

    Raises:
        RequestError: The file, a step or a flow of it cannot be used.
        httpx.HTTPError: The server, which has the variables, does not answer.
    """
    with contextlib.chdir(file.parent):
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise RequestError(f"{file}: {error}") from None
        _refuse_others(f"{file.name}", content, _TOP_KEYS)
        return asyncio.run(_fill_in(file.name, content["deployments"]))


async def _fill_in(file_name: str, entries: list[dict[str, Any]]) -> tuple[Deployment, ...]:
    outputs: dict[str, dict[str, Any]] = {}
    flows: dict[str, tuple[str, dict[str, Any]]] = {}
    deployments: list[Deployment] = []
    for entry in entries:
        where = f"{file_name}: deployment {entry.get('name')!r}"
        _check_keys(where, entry)
        build, entrypoint = json.dumps(entry["build"]), entry["entrypoint"]
        if build not in outputs:
            outputs[build] = await _run_build(where, entry["build"])
        if entrypoint not in flows:
            flows[entrypoint] = _load_flow(where, entrypoint)
        filled = apply_values(await resolve_variables(entry), outputs[build])
        filled["pull"] = apply_values(entry["pull"], outputs[build], remove_notset=False)
        deployments.append(_deployment(*flows[entrypoint], filled))
    return tuple(deployments)


def _check_keys(where: str, entry: dict[str, Any]) -> None:
    _refuse_others(where, entry, _KEYS)
    if missing := _REQUIRED_KEYS - set(entry):
        raise RequestError(f"{where} has no {', '.join(sorted(missing))}")
    _refuse_others(where, entry["work_pool"], _POOL_KEYS)
    _refuse_others(where, entry.get("concurrency_limit", {}), _LIMIT_KEYS)
    for schedule in entry.get("schedules", ()):
        _refuse_others(where, schedule, _SCHEDULE_KEYS)
        # It is turned on once a run of it can work; whoever deploys without us must not have it on before.
        if schedule.get("active") is not False or not schedule.get("slug"):
            raise RequestError(f"{where}: a schedule needs a slug, and active: false")


def _refuse_others(where: str, mapping: Mapping[str, Any], known: set[str]) -> None:
    if others := set(mapping) - known:
        raise RequestError(f"{where}: {', '.join(sorted(others))} is not known here; {', '.join(sorted(known))} are")


async def _run_build(where: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await run_steps(steps, {}, print_function=lambda *_, **__: None)
    except StepExecutionError as error:
        raise RequestError(f"{where}: a build step failed: {error.__cause__ or error}") from error


def _load_flow(where: str, entrypoint: str) -> tuple[str, dict[str, Any]]:
    """Return a flow's name, and the schema of its parameters."""
    try:
        flow = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
    except (PrefectException, OSError) as error:
        raise RequestError(f"{where}: {entrypoint} cannot be loaded: {error.__cause__ or error}") from error
    return flow.name, parameter_schema(flow).model_dump(mode="json", exclude_unset=True)


def _deployment(flow_name: str, schema: dict[str, Any], entry: dict[str, Any]) -> Deployment:
    pool, limit = entry["work_pool"], entry.get("concurrency_limit", {})
    strategy = limit.get("collision_strategy")
    return Deployment(
        flow_name=flow_name,
        name=entry["name"],
        values={
            "entrypoint": entry["entrypoint"],
            "description": entry["description"],
            "tags": entry["tags"],
            "version": str(entry["version"]),
            "work_pool_name": pool["name"],
            "work_queue_name": pool.get("work_queue_name", "default"),
            "job_variables": pool.get("job_variables", {}),
            "parameters": entry.get("parameters", {}),
            "parameter_openapi_schema": schema,
            "enforce_parameter_schema": True,
            "pull_steps": entry["pull"],
            "concurrency_options": {"collision_strategy": strategy} if strategy else None,
        },
        limit=limit.get("limit"),
        schedules=tuple(_schedule(schedule) for schedule in entry.get("schedules", ())),
    )


def _schedule(entry: dict[str, Any]) -> Schedule:
    when = CronSchedule(cron=entry["cron"], timezone=entry.get("timezone", "UTC"))
    return Schedule(entry["slug"], when, entry.get("parameters", {}))
