"""What `python -m deployments.worker` makes of its options before Prefect's own command gets them."""

from __future__ import annotations

import pytest

from deployments.worker import _option, _take_idle_exit, count_children
from fanreel.dispatch.pools import DeviceKind
from fanreel.errors import RequestError
from fanreel.sessions.capacity import read_capacity


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--pool", "cpu"], "cpu"),
        (["-p", "cpu", "--name", "a"], "cpu"),
        (["--name", "a", "--pool=my pool"], "my pool"),
        (["--name", "--pool"], None),
        (["--pool"], None),
        ([], None),
        (["--pools", "cpu"], None),
    ],
    ids=str,
)
def test_an_option_is_found_as_prefect_reads_it(arguments: list[str], value: str | None) -> None:
    assert _option(arguments, "--pool", "-p") == value


@pytest.mark.parametrize(
    ("arguments", "rest", "seconds"),
    [
        (["--pool", "cpu"], ["--pool", "cpu"], 0.0),
        (["--pool", "cpu", "--idle-exit", "600"], ["--pool", "cpu"], 600.0),
        (["--idle-exit=5", "--pool", "cpu"], ["--pool", "cpu"], 5.0),
        (["--idle-exit", "1", "--limit", "2"], ["--limit", "2"], 1.0),
    ],
    ids=str,
)
def test_idle_exit_is_ours_and_the_rest_is_prefects(arguments: list[str], rest: list[str], seconds: float) -> None:
    assert _take_idle_exit(arguments) == (rest, seconds)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "ten", "", "1e3", "99999999"])
def test_what_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"--idle-exit: .* is not allowed; a number of seconds from 1"):
        _take_idle_exit([f"--idle-exit={text}"])


@pytest.mark.parametrize(("sessions", "children"), [(1, 2), (2, 3), (3, 4), (8, 10)])
def test_a_gpu_gets_a_few_more_shards_than_it_has_sessions(sessions: int, children: int) -> None:
    assert count_children(DeviceKind.GPU, gpu_sessions=sessions) == children


def test_a_cpu_gets_a_shard_for_each_core() -> None:
    assert 1 <= count_children(DeviceKind.CPU, gpu_sessions=0) <= read_capacity().cores
