"""Automations for runs whose end nobody reports, because their worker died too.

A worker notices within seconds that the process of a run has ended. If the worker is gone too, only the server can.

- A *zombie* died together with its worker or its host. A film that waits for such a shard would wait for ever. Runs of
  our deployments send a heartbeat, an event of Prefect's own, every 30 s (`prefect.yaml`). After four missing ones the
  run is ended as Crashed.
- An *orphan* was taken by a worker that died before it started the run, so it never had a process or a heartbeat. It is
  put back into its queue, and another worker takes it. If its worker was only slow, the run happens twice. That costs a
  look at the store: two parents of a film share its children, and two children share its segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture, ResourceSpecification
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.schemas.automations import Automation

from deployments.drift import Difference, Findings, compare_values

__all__ = [
    "BEAT_SECONDS",
    "ORPHANED_SECONDS",
    "SILENT_SECONDS",
    "find_automation",
    "look_at_automation",
    "orphan_automation",
    "wanted_automations",
    "zombie_automation",
]

TAG = "fanreel"
"""The tag of every deployment of ours. Runs without it are left alone."""

BEAT_SECONDS = 30
"""The shortest interval that Prefect allows; `prefect.yaml` sets it."""

SILENT_SECONDS = 4 * BEAT_SECONDS
"""A window of fewer than three heartbeats ends healthy runs, whose heartbeats wait while a server restarts."""

ORPHANED_SECONDS = 300
"""A run starts seconds after its worker took it, a minute after it on a very busy machine."""

_BEAT = "prefect.flow-run.heartbeat"

_NO_BEAT_IS_DUE = (
    *("Completed", "Failed", "Crashed", "Cancelled", "TimedOut", "Cached"),
    *("Scheduled", "AwaitingRetry", "AwaitingConcurrencySlot", "Late", "Paused", "Suspended"),
)
"""Names of states in which no heartbeat is due. Running, Pending and Cancelling are not among them: a run that dies in
one of these stays in it."""


def zombie_automation(*, silent_seconds: float = SILENT_SECONDS) -> AutomationCore:
    """Return the automation for zombies.

    Args:
        silent_seconds: A run whose heartbeats stop for so long is dead; at least 10.
    """
    return _automation(
        "fanreel: end runs that died unseen",
        f"A run tagged {TAG} that stops beating for {silent_seconds:g} s is marked Crashed.",
        after={_BEAT},
        expect={_BEAT, *_events(_NO_BEAT_IS_DUE)},
        within_seconds=silent_seconds,
        state=StateType.CRASHED,
        message=f"It did not beat for {silent_seconds:g} s: its process is gone.",
    )


def orphan_automation(*, pending_seconds: float = ORPHANED_SECONDS) -> AutomationCore:
    """Return the automation for orphans.

    Args:
        pending_seconds: A run that does not start for so long after it was taken has no worker; at least 10.
    """
    return _automation(
        "fanreel: put back runs that were never started",
        f"A run tagged {TAG} that stays Pending for {pending_seconds:g} s is put back into its queue.",
        after=set(_events(("Pending", "Submitting", "InfrastructurePending"))),
        expect={_BEAT, *_events(("Running", "Cancelling", *_NO_BEAT_IS_DUE))},
        within_seconds=pending_seconds,
        state=StateType.SCHEDULED,
        message=f"Put back: the worker that took it did not start it within {pending_seconds:g} s.",
    )


def wanted_automations() -> tuple[AutomationCore, ...]:
    """Return all automations of ours."""
    return zombie_automation(), orphan_automation()


def _automation(
    name: str,
    description: str,
    *,
    after: set[str],
    expect: set[str],
    within_seconds: float,
    state: StateType,
    message: str,
) -> AutomationCore:
    """Return an automation that sets the state of a run of ours if none of the expected events follows in time."""
    trigger = EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=ResourceSpecification(
            {"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"}
        ),
        for_each={"prefect.resource.id"},
        after=after,
        expect=expect,
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=within_seconds),
    )
    action = ChangeFlowRunState(name=None, state=state, message=message, force=False)
    return AutomationCore(name=name, description=description, trigger=trigger, actions=[action])


def _events(states: Iterable[str]) -> Iterator[str]:
    return (f"prefect.flow-run.{state}" for state in states)


def find_automation(client: SyncPrefectClient, automation: AutomationCore) -> Findings:
    """Return what to change so that the server has the automation once; it is known by its name."""
    return look_at_automation(automation, client.read_automations_by_name(automation.name))


def look_at_automation(automation: AutomationCore, found: list[Automation]) -> Findings:
    """Return what to change of those with its name: the first is mended, the others are deleted."""
    where, findings = f"automation {automation.name!r}", Findings()
    if not found:
        findings.add([Difference(where)], lambda client: client.create_automation(automation))
        return findings
    first, *others = found
    differences = compare_values(where, "automation", _values(first), _values(automation))
    changed = automation.model_copy(update={"enabled": first.enabled})
    findings.add(differences, lambda client: client.update_automation(first.id, changed))
    if others:
        twice = Difference(where, "times it is there", 1 + len(others), 1)
        findings.add([twice], lambda client: [client.delete_automation(other.id) for other in others])
    if not first.enabled:
        findings.keep(where, "disabled")
    return findings


def _values(automation: AutomationCore) -> dict[str, Any]:
    values = automation.model_dump(mode="json", exclude={"id", "enabled", "owner_resource", "tags"})
    trigger = values["trigger"]
    for name in ("after", "expect", "for_each"):
        trigger[name] = sorted(trigger[name])
    return values
