"""`python -m deployments.apply`: what it finds, mends, leaves alone; the rules alone, then a real server."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    VariableCreate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import DeploymentSchedule, WorkPool, WorkQueue
from prefect.client.schemas.responses import DeploymentResponse, GlobalConcurrencyLimitResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.events.schemas.automations import Automation
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)
from prefect.states import Pending, Running
from support.prefect_server import Served
from support.processes import wait_until

from deployments import apply, zombies
from deployments.deployment_drift import look_at_deployment
from deployments.deployment_file import Deployment, read_deployments
from deployments.drift import MISSING, Difference, Findings, compare_limits, compare_values
from deployments.pool_drift import look_at_pool, look_at_queues
from deployments.pools import POOLS, Pool
from fanreel.errors import RequestError

ROOT = Path(__file__).parents[2]
FILE = yaml.safe_load((ROOT / "prefect.yaml").read_text())

# The rules, without a server.


def test_a_difference_says_what_is_there_and_what_is_here() -> None:
    assert str(Difference("work pool cpu")) == "work pool cpu: missing there"
    changed = Difference("work pool cpu", "concurrency limit", None, 20)
    assert str(changed) == "work pool cpu: concurrency limit is none there, 20 here"
    assert changed.mended() == "work pool cpu: concurrency limit was none, is 20"
    assert len(str(Difference("a", "b", "x" * 1000, "y" * 1000))) < 300


def test_values_are_compared_down_to_the_key_that_differs() -> None:
    there = {"a": {"b": 1, "c": [1, 2]}, "old": 0}
    here = {"a": {"b": 2, "c": [1, 2]}, "new": {"d": 1}}
    assert compare_values("it", "v", there, here) == [
        Difference("it", "v.a.b", 1, 2),
        Difference("it", "v.new", MISSING, {"d": 1}),
        Difference("it", "v.old", 0, MISSING),
    ]
    assert compare_values("it", "v", here, json.loads(json.dumps(here))) == []


@pytest.mark.parametrize(
    ("there", "here", "is_drift", "is_kept"),
    [
        (20, 20, False, False),
        (None, None, False, False),
        (3, 20, False, True),  # turned down
        (0, 20, False, True),  # shut
        (3, None, False, True),  # an operator's alone
        (30, 20, True, False),
        (None, 20, True, False),
    ],
)
def test_a_limit_may_be_turned_down_and_no_more(
    there: int | None, here: int | None, is_drift: bool, is_kept: bool
) -> None:
    findings = Findings()
    assert bool(compare_limits(findings, "work pool cpu", there, here)) == is_drift
    assert bool(findings.kept) == is_kept


POOL = Pool("control", description="Parents.", limit=20, bulk_limit=12)


def _pool(**words: Any) -> WorkPool:
    values = {"name": "control", "type": "process", "description": "Parents.", "concurrency_limit": 20}
    return WorkPool(**values | {"id": uuid4(), "default_queue_id": uuid4()} | words)


def _queues(**words: dict[str, Any]) -> list[WorkQueue]:
    values: dict[str, dict[str, Any]] = {"urgent": {"priority": 1}, "default": {"priority": 5}}
    values |= {"bulk": {"priority": 9, "concurrency_limit": 12}}
    return [
        WorkQueue(id=uuid4(), work_pool_id=uuid4(), name=name, **old | words.get(name, {}))
        for name, old in values.items()
    ]


def _texts(findings: Findings) -> list[str]:
    return [str(difference) for difference in findings.differences]


def test_a_pool_and_queues_as_they_should_be_need_nothing() -> None:
    other = WorkQueue(id=uuid4(), work_pool_id=uuid4(), name="of another team", priority=2, concurrency_limit=1)
    for findings in (look_at_pool(POOL, _pool()), look_at_queues(POOL, [*_queues(), other])):
        assert (findings.changes, findings.kept) == ([], [])


def test_what_differs_of_a_pool_is_named() -> None:
    findings = look_at_pool(POOL, _pool(concurrency_limit=None, description="Mine", is_paused=True))
    assert _texts(findings) == [
        'work pool control: description is "Mine" there, "Parents." here',
        "work pool control: concurrency limit is none there, 20 here",
    ]
    assert findings.kept == ["work pool control: paused there, and left so"]
    assert len(findings.changes) == 1


def test_a_pool_of_another_type_is_refused_with_what_to_do() -> None:
    with pytest.raises(RequestError, match=r"of type 'docker' there, 'process' here.*work-pool delete control"):
        look_at_pool(POOL, _pool(type="docker"))


def test_what_differs_of_queues_is_named() -> None:
    found = _queues(default={"priority": 1}, bulk={"concurrency_limit": 5, "is_paused": True})[1:]
    findings = look_at_queues(POOL, found)
    assert _texts(findings) == [
        "work queue control/urgent: missing there",
        "work queue control/default: priority is 1 there, 5 here",
    ]
    assert findings.kept == [
        "work queue control/bulk: limit turned down from 12 to 5 there, and left so",
        "work queue control/bulk: paused there, and left so",
    ]


NIGHT = DeploymentScheduleCreate(slug="nightly", schedule=CronSchedule(cron="0 2 * * *", timezone="UTC"))
VALUES: dict[str, Any] = {
    "entrypoint": "flows/f.py:f",
    "description": "It does.",
    "tags": ["fanreel", "inbox"],
    "version": "1",
    "work_pool_name": "control",
    "work_queue_name": "default",
    "job_variables": {"env": {"A": "1"}},
    "parameters": {"inbox": "s3://a/b"},
    "parameter_openapi_schema": {"type": "object", "properties": {"inbox": {"type": "string"}}, "required": ["inbox"]},
    "enforce_parameter_schema": True,
    "pull_steps": [{"step": {"directory": "/srv"}}],
    "concurrency_options": {"collision_strategy": "CANCEL_NEW"},
}
NIGHTLY = Deployment("f", "nightly", VALUES, 2, (NIGHT,))


def _found(*, limit: int | None = 2, schedules: list[DeploymentSchedule] | None = None, **words: Any) -> Any:
    found = None
    if limit is not None:
        found = GlobalConcurrencyLimitResponse(
            id=uuid4(), active=True, name="deployment:1", limit=limit, active_slots=0, slot_decay_per_second=0
        )
    return DeploymentResponse(
        **VALUES | words,
        id=uuid4(),
        name="nightly",
        flow_id=uuid4(),
        labels={},
        global_concurrency_limit=found,
        schedules=[_scheduled()] if schedules is None else schedules,
    )


def _scheduled(**words: Any) -> DeploymentSchedule:
    values = {"id": uuid4(), "schedule": NIGHT.schedule, "active": True, "slug": "nightly", "parameters": {}}
    return DeploymentSchedule(**values | words)


def test_a_deployment_as_it_should_be_needs_nothing() -> None:
    mine = _scheduled(slug=None, schedule=IntervalSchedule(interval=3600), active=False)
    for found in (_found(), _found(tags=["inbox", "fanreel"]), _found(schedules=[mine, _scheduled()])):
        findings = look_at_deployment(NIGHTLY, found)
        assert (_texts(findings), findings.kept) == ([], [])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"entrypoint": "flows/g.py:g"}, 'entrypoint is "flows/g.py:g" there, "flows/f.py:f" here'),
        ({"description": None}, 'description is none there, "It does." here'),
        ({"tags": ["fanreel"]}, 'tags is ["fanreel"] there, ["fanreel", "inbox"] here'),
        ({"version": "0"}, 'version is "0" there, "1" here'),
        ({"work_pool_name": "cpu"}, 'work pool is "cpu" there, "control" here'),
        ({"work_queue_name": "bulk"}, 'work queue is "bulk" there, "default" here'),
        ({"job_variables": {}}, 'job variables.env is missing there, {"A": "1"} here'),
        ({"parameters": {"inbox": "x"}}, 'parameters.inbox is "x" there, "s3://a/b" here'),
        ({"parameter_openapi_schema": {}}, 'parameter schema.type is missing there, "object" here'),
        ({"pull_steps": None}, 'pull steps is none there, [{"step": {"directory": "/srv"}}] here'),
        ({"concurrency_options": None}, 'concurrency options is none there, {"collision_strategy": "CANCEL_NEW"} here'),
        ({"limit": None}, "concurrency limit is none there, 2 here"),
        ({"limit": 9}, "concurrency limit is 9 there, 2 here"),
    ],
)
def test_what_differs_of_a_deployment_is_named(words: dict[str, Any], text: str) -> None:
    findings = look_at_deployment(NIGHTLY, _found(**words))
    assert f"deployment f/nightly: {text}" in _texts(findings)
    assert len(findings.changes) == 1


def test_what_an_operator_did_to_a_deployment_is_kept() -> None:
    findings = look_at_deployment(NIGHTLY, _found(paused=True, limit=1, schedules=[_scheduled(active=False)]))
    assert findings.changes == []
    assert findings.kept == [
        "deployment f/nightly: limit turned down from 2 to 1 there, and left so",
        "schedule nightly of f/nightly: turned off there, and left so",
        "deployment f/nightly: paused there, and left so",
    ]


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize(("inbox_there", "inbox_here"), [("", "s3://a/b"), ("s3://a/b", ""), ("", ""), ("a", "b")])
def test_a_schedule_goes_on_and_off_with_what_its_runs_need(is_on: bool, inbox_there: str, inbox_here: str) -> None:
    wanted = Deployment("f", "nightly", VALUES | {"parameters": {"inbox": inbox_here}}, 2, (NIGHT,))
    found = _found(parameters={"inbox": inbox_there}, schedules=[_scheduled(active=is_on)])
    findings = look_at_deployment(wanted, found)
    turned = [difference.here for difference in findings.differences if difference.what == "active"]
    if bool(inbox_there) == bool(inbox_here):
        assert turned == []
        assert bool(findings.kept) == (is_on != bool(inbox_here))
    else:
        assert turned == ([] if is_on == bool(inbox_here) else [bool(inbox_here)])
        # If it is cut off between the two, the next one still sees why.
        assert findings.differences[-1].what == "parameters.inbox"


def test_a_schedule_that_is_gone_or_moved_is_named() -> None:
    assert _texts(look_at_deployment(NIGHTLY, _found(schedules=[]))) == ["schedule nightly of f/nightly: missing there"]
    moved = _scheduled(schedule=CronSchedule(cron="0 5 * * *", timezone="UTC"))
    (text,) = _texts(look_at_deployment(NIGHTLY, _found(schedules=[moved])))
    assert text == 'schedule nightly of f/nightly: timing.cron is "0 5 * * *" there, "0 2 * * *" here'
    other = _scheduled(schedule=IntervalSchedule(interval=3600, timezone="UTC"))
    (text,) = _texts(look_at_deployment(NIGHTLY, _found(schedules=[other])))
    assert text.startswith('schedule nightly of f/nightly: timing is {"interval": 3600.0')


def _automation(**words: Any) -> Automation:
    return Automation(**zombies.zombie_automation().model_dump() | {"id": uuid4()} | words)


def test_the_automation_is_wanted_once_as_it_is_here() -> None:
    wanted = zombies.zombie_automation()
    assert _texts(zombies.look_at_automation(wanted, [])) == [f"automation {wanted.name!r}: missing there"]
    assert zombies.look_at_automation(wanted, [_automation()]).changes == []
    (twice,) = _texts(zombies.look_at_automation(wanted, [_automation(), _automation()]))
    assert "times it is there is 2 there, 1 here" in twice
    off = zombies.look_at_automation(wanted, [_automation(enabled=False)])
    assert (off.changes, len(off.kept)) == ([], 1)
    short = zombies.zombie_automation(silent_seconds=60).trigger
    (window, *_) = _texts(zombies.look_at_automation(wanted, [_automation(trigger=short)]))
    assert "trigger.within is 60.0 there, 120.0 here" in window


def test_every_deployment_is_tagged_beats_and_runs_in_a_pool_of_the_table() -> None:
    assert zombies.SILENT_SECONDS >= 3 * zombies.BEAT_SECONDS
    for deployment in FILE["deployments"]:
        assert zombies.TAG in deployment["tags"]
        assert deployment["work_pool"]["name"] in {pool.name for pool in POOLS}
        beats = deployment["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
        assert float(beats) == zombies.BEAT_SECONDS


def test_a_pool_s_queues_have_priorities_of_their_own() -> None:
    for pool in POOLS:
        priorities = [queue.priority for queue in pool.queues]
        assert priorities == sorted(set(priorities))
        assert pool.limit is None or pool.bulk_limit is None or pool.bulk_limit < pool.limit


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"trigers": []}, "deployments.0.trigers: Extra inputs are not permitted"),
        (
            {"work_pool": {"name": "local", "queue": "bulk"}},
            "0.work_pool.queue: Extra inputs are not permitted",
        ),
        (
            {"concurrency_limit": {"limit": 1, "strategy": "ENQUEUE"}},
            "concurrency_limit.strategy: Extra inputs",
        ),
        ({"schedules": [{"slug": "x", "cron": "0 2 * * *"}]}, "schedules.0.active: Field required"),
        ({"schedules": [{"cron": "0 2 * * *", "active": False}]}, "schedules.0.slug: Field required"),
        (
            {"schedules": [{"slug": "x", "cron": "0 2 * * *", "active": True}]},
            "0.active: Input should be False",
        ),
        ({"tags": None}, ""),
        ({"entrypoint": "flows/gone.py:gone", "build": []}, "flows/gone.py:gone cannot be loaded"),
        ({"build": [{"prefect.deployments.steps.run_shell_script": {"script": "false"}}]}, "a build step failed"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, words: dict[str, Any], text: str) -> None:
    entry = FILE["deployments"][0] | words
    if words == {"tags": None}:
        del entry["tags"]
        text = "deployments.0.tags: Field required"
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump({"name": "x", "deployments": [entry]}))
    with _talking_to("http://127.0.0.1:9/api"), pytest.raises(RequestError, match=re.escape(text)):
        read_deployments(tmp_path / "prefect.yaml")


# A server that cannot be used.


@contextlib.contextmanager
def _talking_to(url: str | None, auth: str | None = None) -> Iterator[None]:
    """Have Prefect's client use another server, and ask it once."""
    words = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: auth, PREFECT_CLIENT_MAX_RETRIES: 0}
    with temporary_settings(words):
        yield


class _Refusing(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _refusing() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("how", ["away", "refusing", "unset"])
def test_a_server_that_cannot_be_used_is_told_of_in_one_line(capsys: pytest.CaptureFixture[str], how: str) -> None:
    with contextlib.ExitStack() as stack:
        if how == "refusing":
            url = f"http://127.0.0.1:{stack.enter_context(_refusing())}/api"
            stack.enter_context(_talking_to(url, auth="me:MARKED"))
            text = f"{url} cannot be used: it wants another auth string (401); set PREFECT_API_AUTH_STRING"
        else:
            stack.enter_context(_talking_to("http://me:MARKED@127.0.0.1:9/api" if how == "away" else None))
            text = "http://127.0.0.1:9/api cannot be used" if how == "away" else "PREFECT_API_URL is not set"
        assert apply.main(["--check"]) == 1
    told = capsys.readouterr()
    assert text in told.err
    assert told.err.startswith("fanreel: ")
    assert len(told.err.splitlines()) == 1, told.err
    assert "MARKED" not in told.err + told.out


# A real server.


@pytest.fixture
def client(served: Served) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: f"{served.url}/api"}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def wanted(served: Served, client: SyncPrefectClient) -> Iterator[tuple[Deployment, ...]]:
    """The deployments of the checkout, applied; what a test changes is mended after it."""
    deployments = read_deployments(served.checkout / "prefect.yaml")
    assert apply.apply_all(client, deployments) == 0
    yield deployments
    assert apply.apply_all(client, deployments) == 0


@pytest.mark.soak
def test_it_makes_all_once_and_nothing_twice(served: Served) -> None:
    assert [line for line in served.first_apply if line.startswith("work pool")] == [
        f"work pool {pool.name}: made" for pool in POOLS
    ]
    assert "deployment render-shard/nvenc: made" in served.first_apply
    again = served.apply()
    assert (again.returncode, again.stdout.count("\n")) == (0, 1), again.stdout + again.stderr
    assert again.stdout.startswith("Nothing to change: 4 pools, 12 queues, 6 deployments and 2 automations")

    names = {deployment["name"]: deployment for deployment in served.ask("deployments/filter", {})}
    assert names["nvenc"]["parameters"] == {"device": "gpu"}
    assert names["nightly"]["schedules"][0]["active"] is False
    assert (names["pools"]["version"], names["pools"]["path"]) == ("0.1.0", None)  # a checkout without a commit


def _deployment_id(client: SyncPrefectClient, name: str) -> Any:
    return client.read_deployment_by_name(name).id


def _queue_id(client: SyncPrefectClient, pool: str, name: str) -> Any:
    return client.read_work_queue_by_name(name, work_pool_name=pool).id


def _break_schedule(client: SyncPrefectClient) -> None:
    found = client.read_deployment_by_name("render-inbox/nightly")
    client.update_deployment_schedule(found.id, found.schedules[0].id, schedule=CronSchedule(cron="0 9 * * *"))


def _delete_schedule(client: SyncPrefectClient) -> None:
    found = client.read_deployment_by_name("render-inbox/nightly")
    client.delete_deployment_schedule(found.id, found.schedules[0].id)


def _delete_automation(client: SyncPrefectClient) -> None:
    (found,) = client.read_automations_by_name(zombies.zombie_automation().name)
    client.delete_automation(found.id)


def _break_automation(client: SyncPrefectClient) -> None:
    (found,) = client.read_automations_by_name(zombies.zombie_automation().name)
    client.update_automation(found.id, zombies.zombie_automation(silent_seconds=60))


def _break_parameters(client: SyncPrefectClient) -> None:
    update = DeploymentUpdate(parameters={"device": "gpu"})
    client.update_deployment(_deployment_id(client, "render-shard/cpu"), update)


def _break_pool_of_deployment(client: SyncPrefectClient) -> None:
    update = DeploymentUpdate(work_pool_name="cpu", work_queue_name="bulk")
    client.update_deployment(_deployment_id(client, "render-shard/nvenc"), update)


def _break_limit_of_deployment(client: SyncPrefectClient) -> None:
    update = DeploymentUpdate(concurrency_limit=99)
    client.update_deployment(_deployment_id(client, "render-slideshow/pools"), update)


BREAKS: dict[str, tuple[Callable[[SyncPrefectClient], object], str]] = {
    "pool limit": (
        lambda client: client.update_work_pool("control", WorkPoolUpdate(concurrency_limit=99)),
        "work pool control: concurrency limit is 99 there, 20 here",
    ),
    "queue priority": (
        lambda client: client.update_work_queue(_queue_id(client, "cpu", "urgent"), priority=40),
        "work queue cpu/urgent: priority is 40 there, 1 here",
    ),
    "queue gone": (
        lambda client: client.delete_work_queue_by_id(_queue_id(client, "nvenc", "bulk")),
        "work queue nvenc/bulk: missing there",
    ),
    "parameters": (_break_parameters, 'deployment render-shard/cpu: parameters.device is "gpu" there, "cpu" here'),
    "pool": (_break_pool_of_deployment, 'deployment render-shard/nvenc: work pool is "cpu" there, "nvenc" here'),
    "limit": (_break_limit_of_deployment, "deployment render-slideshow/pools: concurrency limit is 99 there, 16 here"),
    "deployment gone": (
        lambda client: client.delete_deployment(_deployment_id(client, "calibrate-host/calibrate-host")),
        "deployment calibrate-host/calibrate-host: missing there",
    ),
    "schedule": (
        _break_schedule,
        'schedule nightly of render-inbox/nightly: timing.cron is "0 9 * * *" there, "0 2 * * *" here',
    ),
    "schedule gone": (_delete_schedule, "schedule nightly of render-inbox/nightly: missing there"),
    "automation": (
        _break_automation,
        "automation 'fanreel: end runs that died unseen': automation.trigger.within is 60.0 there, 120.0 here",
    ),
    "automation gone": (_delete_automation, "automation 'fanreel: end runs that died unseen': missing there"),
}


GONE = {what for what in BREAKS if what.endswith("gone")}


@pytest.mark.soak
@pytest.mark.parametrize("what", [set(BREAKS) - GONE, GONE], ids=["changed", "gone"])
def test_what_is_broken_is_named_and_mended(
    client: SyncPrefectClient, wanted: tuple[Deployment, ...], capsys: pytest.CaptureFixture[str], what: set[str]
) -> None:
    for name in what:
        BREAKS[name][0](client)
    for _ in range(2):  # checking changes nothing
        capsys.readouterr()
        assert apply.check_all(client, wanted) == 1
        *told, last = capsys.readouterr().out.splitlines()
        assert {BREAKS[name][1] for name in what} <= set(told)
        assert last.startswith(f"{len(told)} differences")
    assert apply.apply_all(client, wanted) == 0
    capsys.readouterr()
    assert apply.check_all(client, wanted) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("No drift")


@pytest.mark.soak
def test_what_is_an_operator_s_or_another_team_s_is_left_alone(
    client: SyncPrefectClient, wanted: tuple[Deployment, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    client.update_work_pool("control", WorkPoolUpdate(concurrency_limit=2, is_paused=True))
    client.update_work_queue(_queue_id(client, "cpu", "bulk"), is_paused=True, concurrency_limit=1)
    nightly = client.read_deployment_by_name("render-inbox/nightly")
    client.pause_deployment(nightly.id)
    own = IntervalSchedule(interval=3600)  # pyright: ignore[reportArgumentType]
    client.create_deployment_schedules(nightly.id, [DeploymentScheduleCreate(schedule=own, slug="mine", active=False)])
    client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=True)
    (automation,) = client.read_automations_by_name(zombies.zombie_automation().name)
    client.pause_automation(automation.id)
    client.create_work_pool(WorkPoolCreate(name="theirs", type="process", concurrency_limit=1))
    client.create_work_queue("theirs", work_pool_name="cpu", priority=5)
    _break_parameters(client)  # something to do beside
    client.update_deployment(nightly.id, DeploymentUpdate(version="old", description="Mine"))
    before = _state(client)

    capsys.readouterr()
    assert apply.apply_all(client, wanted) == 0
    told = capsys.readouterr().out
    for line in (
        "work pool control: limit turned down from 20 to 2 there, and left so",
        "work pool control: paused there, and left so",
        "work queue cpu/bulk: limited to 1 there, and left so",
        "deployment render-inbox/nightly: paused there, and left so",
        "schedule nightly of render-inbox/nightly: turned on there, and left so",
        "automation 'fanreel: end runs that died unseen': disabled there, and left so",
        'deployment render-inbox/nightly: version was "old", is "0.1.0"',
    ):
        assert line in told.splitlines()
    assert "theirs" not in told
    assert _state(client) == before
    assert apply.check_all(client, wanted) == 0
    _undo(client, nightly.id, automation.id)


def _state(client: SyncPrefectClient) -> list[object]:
    """Return what is an operator's or another team's."""
    nightly = client.read_deployment_by_name("render-inbox/nightly")
    (automation,) = client.read_automations_by_name(zombies.zombie_automation().name)
    control, theirs = client.read_work_pool("control"), client.read_work_pool("theirs")
    queues = client.read_work_queues("cpu")
    return [
        (control.concurrency_limit, control.is_paused, theirs.concurrency_limit),
        sorted((queue.name, queue.concurrency_limit, queue.is_paused) for queue in queues if queue.name == "bulk"),
        [queue.priority for queue in queues if queue.name == "theirs"],
        nightly.paused,
        sorted((schedule.slug or "", schedule.active) for schedule in nightly.schedules),
        automation.enabled,
    ]


def _undo(client: SyncPrefectClient, nightly: Any, automation: Any) -> None:
    client.update_work_pool("control", WorkPoolUpdate(concurrency_limit=20, is_paused=False))
    client.delete_work_pool("theirs")
    client.delete_work_queue_by_id(_queue_id(client, "cpu", "bulk"))
    client.delete_work_queue_by_id(_queue_id(client, "cpu", "theirs"))
    client.delete_deployment(nightly)
    client.delete_automation(automation)


@pytest.mark.soak
def test_an_inbox_turns_the_nights_on(
    served: Served, client: SyncPrefectClient, wanted: tuple[Deployment, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    file = served.checkout / "prefect.yaml"
    client.create_variable(VariableCreate(name="fanreel_inbox", value="s3://films/inbox"))
    assert apply.apply_all(client, read_deployments(file)) == 0
    found = client.read_deployment_by_name("render-inbox/nightly")
    assert (found.parameters["inbox"], found.schedules[0].active) == ("s3://films/inbox", True)
    # Without anyone noticing, sqlalchemy 2.1 keeps the scheduler from making a single run.
    wait_until(
        lambda: [
            run
            for run in served.ask("flow_runs/filter", {"flow_runs": {"deployment_id": {"any_": [str(found.id)]}}})
            if run["auto_scheduled"] and run["state_type"] == "SCHEDULED"
        ],
        seconds=200,
        what="a night is due",
    )
    assert apply.check_all(client, read_deployments(file)) == 0

    client.delete_variable_by_name("fanreel_inbox")
    capsys.readouterr()
    assert apply.apply_all(client, read_deployments(file)) == 0
    assert "schedule nightly of render-inbox/nightly: active was true, is false" in capsys.readouterr().out
    assert client.read_deployment_by_name("render-inbox/nightly").schedules[0].active is False


@pytest.mark.soak
def test_prefect_deploy_gives_the_same_deployments(
    served: Served, client: SyncPrefectClient, wanted: tuple[Deployment, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for deployment in wanted:
        client.delete_deployment(_deployment_id(client, deployment.full_name))
    done = served.run("deploy", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    capsys.readouterr()
    assert apply.check_all(client, wanted) == 0, capsys.readouterr().out


BEATING = """
import sys, time
from prefect import flow, tags
@flow(name="sleeper", log_prints=False)
def sleeper(seconds: float):
    print("started", flush=True)
    time.sleep(seconds)
with tags(*sys.argv[2:]):
    sleeper(float(sys.argv[1]))
"""


@pytest.mark.soak
def test_a_run_that_dies_unseen_is_ended_and_no_other(served: Served, client: SyncPrefectClient) -> None:
    short = zombies.zombie_automation(silent_seconds=10).model_copy(update={"name": "short"})
    automation = client.create_automation(short)
    runs = {"dead": ("600", "fanreel"), "done": ("0", "fanreel"), "other": ("600", "elsewhere")}
    with contextlib.ExitStack() as stack:
        for name, words in runs.items():
            command = [sys.executable, "-c", BEATING, words[0], words[1], name]
            process = subprocess.Popen(command, cwd=served.folder, env=served.env, stdout=subprocess.PIPE, text=True)
            stack.callback(process.wait, 60)
            stack.callback(process.kill)
        found = {name: wait_until(lambda name=name: _run_id(served, name), seconds=120, what=name) for name in runs}
        wait_until(lambda: _has_beaten(served, found), seconds=120, what="all have beaten")
    wait_until(lambda: _state_of(served, found["dead"]) == "CRASHED", seconds=120, what="the dead one is ended")
    assert "did not beat for 10 s" in served.ask(f"flow_runs/{found['dead']}")["state"]["message"]
    assert _state_of(served, found["done"]) == "COMPLETED"
    assert _state_of(served, found["other"]) == "RUNNING"
    client.delete_automation(automation)


@pytest.mark.soak
def test_a_run_that_its_worker_took_and_never_started_is_put_back(
    served: Served, client: SyncPrefectClient, wanted: tuple[Deployment, ...]
) -> None:
    short = zombies.orphan_automation(pending_seconds=10).model_copy(update={"name": "short"})
    automation = client.create_automation(short)
    job = {"photos": ["/films/photos"], "output": "/films/film.mp4"}
    deployment_id = _deployment_id(client, "render-slideshow/local")
    orphan, started = (
        client.create_flow_run_from_deployment(deployment_id, parameters={"job": job}, tags=["fanreel"])
        for _ in range(2)
    )
    for run in (orphan, started):  # as a worker does before it starts a process
        client.set_flow_run_state(run.id, Pending())
    client.set_flow_run_state(started.id, Running())
    wait_until(lambda: _state_of(served, str(orphan.id)) == "SCHEDULED", seconds=120, what="the orphan is put back")
    assert "did not start it within 10 s" in served.ask(f"flow_runs/{orphan.id}")["state"]["message"]
    assert _state_of(served, str(started.id)) == "RUNNING"
    offered = client.get_scheduled_flow_runs_for_work_pool("local", scheduled_before=datetime.now(UTC))
    assert [found.flow_run.id for found in offered] == [orphan.id]
    client.delete_automation(automation)
    for run in (orphan, started):
        client.delete_flow_run(run.id)


def _run_id(served: Served, tag: str) -> str:
    runs = served.ask("flow_runs/filter", {"flow_runs": {"tags": {"all_": [tag]}}})
    return next((run["id"] for run in runs if run["state_type"] in ("RUNNING", "COMPLETED")), "")


def _state_of(served: Served, run_id: str) -> str:
    return served.ask(f"flow_runs/{run_id}")["state_type"]


def _has_beaten(served: Served, runs: dict[str, str]) -> bool:
    beats = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}
    seen = {event["resource"]["prefect.resource.id"] for event in served.ask("events/filter", beats)["events"]}
    return {f"prefect.flow-run.{run}" for run in runs.values()} <= seen
