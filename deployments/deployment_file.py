"""`prefect.yaml` as data: the deployments that a server should have, read by Prefect's own steps and templates.

It reads what `prefect deploy` reads, steps and templates included; a test holds both to one result. A key that it does
not know is an error, for Prefect would ignore it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.steps.core import StepExecutionError, run_steps
from prefect.exceptions import PrefectException
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from prefect.utilities.templating import apply_values, resolve_variables
from pydantic import BaseModel, Field, ValidationError

from fanreel.errors import RequestError

__all__ = ["Deployment", "read_deployments"]


class _Strict(BaseModel, extra="forbid"):
    """A mapping of the file, which may have no other keys."""


class _WorkPool(_Strict):
    name: str
    work_queue_name: str = "default"
    job_variables: dict[str, Any] = {}


class _Limit(_Strict):
    limit: int | None = None
    collision_strategy: str | None = None


class _Schedule(_Strict):
    slug: str = Field(min_length=1)
    cron: str
    timezone: str = "UTC"
    # It is turned on once its runs have their parameters; `prefect deploy` must not turn it on before.
    active: Literal[False]
    parameters: dict[str, Any] = {}


class _Entry(_Strict):
    name: str
    entrypoint: str
    description: str
    tags: list[str]
    version: str
    work_pool: _WorkPool
    build: list[dict[str, Any]]
    pull: list[dict[str, Any]]
    parameters: dict[str, Any] = {}
    schedules: list[_Schedule] = []
    concurrency_limit: _Limit = _Limit()


class _File(_Strict):
    name: str
    definitions: Any = None
    deployments: list[_Entry]


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment, as the server should have it.

    Attributes:
        flow_name: The flow that it runs.
        name: Its own name, among the deployments of the flow.
        values: Its fields but for schedules and the limit, by the names of Prefect's `DeploymentCreate` and
            `DeploymentUpdate`, as JSON.
        limit: How many runs at once; None leaves it to the operator.
        schedules: All that are ours, each known by its slug; an operator's has another one, or none.
    """

    flow_name: str
    name: str
    values: dict[str, Any]
    limit: int | None
    schedules: tuple[DeploymentScheduleCreate, ...]

    @property
    def full_name(self) -> str:
        """The name that `prefect deployment run` takes."""
        return f"{self.flow_name}/{self.name}"

    def can_run_by_itself(self, schedule: DeploymentScheduleCreate, parameters: Mapping[str, Any]) -> bool:
        """Return whether `parameters` and the schedule's own have a value for everything that the flow requires."""
        given = {**parameters, **schedule.parameters}
        return all(given.get(name, "") != "" for name in self.values["parameter_openapi_schema"].get("required", ()))


def read_deployments(file: Path) -> tuple[Deployment, ...]:
    """Return the deployments of a `prefect.yaml`: run its steps, load its flows, read its variables from the server.

    Args:
        file: In the checkout; its folder becomes the working directory meanwhile.

    Raises:
        RequestError: The file, a step or a flow of it cannot be used.
        httpx.HTTPError: The server does not answer.
    """
    with contextlib.chdir(file.parent):
        try:
            content = _File.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        except yaml.YAMLError as error:
            raise RequestError(f"{file}: {error}") from None
        except ValidationError as error:
            mistakes = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
            raise RequestError(f"{file}: {'; '.join(mistakes)}") from None
        return asyncio.run(_fill_in(file.name, content.deployments))


async def _fill_in(file_name: str, entries: list[_Entry]) -> tuple[Deployment, ...]:
    outputs: dict[str, dict[str, Any]] = {}
    flows: dict[str, tuple[str, dict[str, Any]]] = {}
    deployments: list[Deployment] = []
    for entry in entries:
        where = f"{file_name}: deployment {entry.name!r}"
        build = json.dumps(entry.build)
        if build not in outputs:
            outputs[build] = await _run_build(where, entry.build)
        if entry.entrypoint not in flows:
            flows[entry.entrypoint] = _load_flow(where, entry.entrypoint)
        filled = apply_values(await resolve_variables(entry.model_dump()), outputs[build])
        filled["pull"] = apply_values(entry.pull, outputs[build], remove_notset=False)
        deployments.append(_deployment(*flows[entry.entrypoint], filled))
    return tuple(deployments)


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
    pool, limit = entry["work_pool"], entry["concurrency_limit"]
    strategy = limit["collision_strategy"]
    return Deployment(
        flow_name=flow_name,
        name=entry["name"],
        values={
            **{name: entry[name] for name in ("entrypoint", "description", "tags", "version", "parameters")},
            "work_pool_name": pool["name"],
            "work_queue_name": pool["work_queue_name"],
            "job_variables": pool["job_variables"],
            "parameter_openapi_schema": schema,
            "enforce_parameter_schema": True,
            "pull_steps": entry["pull"],
            "concurrency_options": {"collision_strategy": strategy} if strategy else None,
        },
        limit=limit["limit"],
        schedules=tuple(
            DeploymentScheduleCreate(
                slug=one["slug"],
                schedule=CronSchedule(cron=one["cron"], timezone=one["timezone"]),
                parameters=one["parameters"],
            )
            for one in entry["schedules"]
        ),
    )
