"""The options of `python -m deployments.worker`, and how many shards a worker takes without them."""

from __future__ import annotations

import pytest

from deployments.worker import count_children, run_worker
from fanreel.dispatch.pools import DeviceKind
from fanreel.sessions.capacity import read_capacity


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "ten", "", "1e3", "99999999"])
def test_what_is_no_number_of_seconds_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_worker(["--pool", "cpu", f"--idle-exit={text}"])
    assert f"--idle-exit: {text!r} is not allowed; a whole number from 1" in capsys.readouterr().err


@pytest.mark.parametrize(("sessions", "children"), [(1, 2), (2, 3), (3, 4), (8, 10)])
def test_a_gpu_gets_a_few_more_shards_than_it_has_sessions(sessions: int, children: int) -> None:
    assert count_children(DeviceKind.GPU, gpu_sessions=sessions) == children


def test_a_cpu_gets_a_shard_for_each_core() -> None:
    assert 1 <= count_children(DeviceKind.CPU, gpu_sessions=0) <= read_capacity().cores
