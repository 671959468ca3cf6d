"""Films on many machines: children and encoders die, the store fails now and then, a film is cancelled, in one farm.

Every other fault of the farm, and a hundred kills, are in test_pool_faults.py (`make chaos`). A fault comes at the
first sign of what it is to meet, never after a fixed time.
"""

from __future__ import annotations

import pytest
from support.farm_films import ENDS, check_film, check_nothing_is_left, fingerprints
from support.farm_machine import do_all
from support.farm_server import PATIENCE_SECONDS
from support.kills import is_running, kill_at_work, stop_at_work
from support.pool_farm import PREFIX, Farm
from support.processes import wait_until
from support.s3_server import Fault

from fanreel.publish.published import verify_film

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]


def test_encoders_and_children_die_and_the_store_fails_now_and_then(
    farm: Farm, truth: list[bytes], slow_gpus: None
) -> None:
    faults = [
        Fault(cut=True, method="PUT", part="/segments/", every=3),
        Fault(status=503, times=-1, every=11, part=PREFIX),
        Fault(status=500, times=-1, every=17, part=PREFIX),
    ]
    film = farm.start(farm.job("killed", quality=24, output="s3://films/out/killed.mp4"))
    gpu, cpu = farm.machines["nvenc-1"], farm.machines["cpu-1"]
    wait_until(cpu.flow_processes, seconds=PATIENCE_SECONDS, what="the film is dispatched")
    farm.s3.fail(*faults)
    try:
        do_all(lambda: any(map(kill_at_work, gpu.sessions_at_work())), cpu.kill_child_at_work)
        film.wait()
    finally:
        farm.s3.heal()
    assert all(fault.met for fault in faults), faults
    work = check_film(farm, film, truth)
    assert work.children["CRASHED"] == 1
    assert work.frames_twice == 0


def test_cancelled_its_children_and_encoders_end(farm: Farm, truth: list[bytes]) -> None:
    gpu, cpus = farm.machines["nvenc-1"], [farm.machines["cpu-1"], farm.machines["cpu-2"]]

    def both_pools_are_at_work() -> bool:
        # A stopped session stays in the middle of its segment until the GPU's sessions have begun, and is killed there.
        stopped = [pid for cpu in cpus for pid in cpu.sessions_at_work() if stop_at_work(pid)]
        return bool(stopped and gpu.sessions_at_work())

    farm.gpus.set(microseconds_per_frame=100_000)
    try:
        film = farm.start(farm.job("cancelled", quality=21, preset="best"))
        wait_until(both_pools_are_at_work, seconds=PATIENCE_SECONDS, what="both pools make segments")
        gpu_sessions = set(gpu.sessions_at_work())
        at_work = [pid for machine in (gpu, *cpus) for pid in machine.below()]
        farm.cancel(film)
        wait_until(
            lambda: not any(map(is_running, at_work)), seconds=PATIENCE_SECONDS, what="children and encoders end"
        )
        film.wait("CANCELLED")
    finally:
        farm.gpus.set(microseconds_per_frame=2000)
    check_nothing_is_left(farm)
    # A shard takes such a GPU a minute: had its session not been ended, it would have made all of it.
    assert gpu_sessions <= {session.pid for session in film.sessions() if session.frames < 0}
    assert not film.path.exists()
    wait_until(lambda: farm.gpus.open_sessions() == 0, seconds=30, what="no session is open")
    wait_until(
        lambda: all(child["state_type"] in ENDS for child in film.children()),
        seconds=PATIENCE_SECONDS,
        what="every child run has ended",
    )
    ended = {child["state_type"] for child in film.children()}
    assert "CANCELLED" in ended
    assert ended <= {"CANCELLED", "COMPLETED"}
    # What was made is kept, and the same job goes on from there.
    again = farm.start(film.job)
    again.wait()
    check_nothing_is_left(farm)
    assert fingerprints(verify_film(again.path, full=True)) == truth


def test_a_worker_of_the_gpu_pool_that_cannot_encode_says_why(farm: Farm) -> None:
    machine = farm.add("nvenc-none", "nvenc", extra=farm.gpus.without("libnvidia-encode.so.1").environment)
    assert machine.process is not None
    assert machine.process.wait(PATIENCE_SECONDS) == 4
    farm.remove(machine)
    assert "this host does not encode for a pool of GPUs: " in machine.said()


def test_the_api_wants_its_auth_string(farm: Farm) -> None:
    for wrong in ("", "fanreel:another"):
        assert farm.server.status_of("flow_runs/count", auth=wrong) == 401
    assert farm.server.status_of("flow_runs/count") == 200
