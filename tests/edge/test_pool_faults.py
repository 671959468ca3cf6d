"""Films on many machines, of which any may die at any moment: each film is made, certified, and no frame of it differs.

One farm (pool_farm.py) serves all tests of this module; test_pools.py has one more, for the faults of `make soak`.
A fault comes at the first sign of what it is to meet, never after a fixed time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.farm_films import ENDS, Film, check_film, check_nothing_is_left, count_work, fingerprints
from support.farm_machine import Machine, do_all, thaw
from support.farm_server import AUTH_MARK, PATIENCE_SECONDS
from support.pool_farm import PREFIX, Farm
from support.pool_secrets import QUERY_MARK, found_in, serve_photos, start_films, written_in_database, written_in_files
from support.processes import wait_until

from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.publish.published import verify_film

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(2400)]

DATABASE_AWAY_SECONDS, STORE_AWAY_SECONDS = 10.0, 20.0
"""How long these faults last."""

MOST_SHARD_FRAMES = 8 * 96 * 2
"""In flight with one child, at most."""

PARENT_TASKS, CHILD_TASKS = 5, 2
MOST_ROWS_A_RUN = 500
"""Most are of events, which the server keeps for a week."""


IMPATIENT = {"FANREEL_LATE_SECONDS": "30", "FANREEL_STALL_SECONDS": "30"}


def test_undisturbed_both_pools_make_it_and_nothing_twice(farm: Farm, truth: list[bytes]) -> None:
    before = farm.database.count_rows()
    film = farm.start(farm.job("undisturbed", quality=20))
    seconds = film.wait()
    work = check_film(farm, film, truth)
    assert set(work.encoders) == {"nvenc", "x264"}
    assert (work.frames_twice, work.frames_lost) == (0, 0)
    assert set(work.children) == {"COMPLETED"}

    tasks = farm.server.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [film.id]}}})
    children = sum(work.children.values())
    assert len(tasks) == PARENT_TASKS + children, [
        task["name"] for task in tasks
    ]  # the server keeps one for each child
    rows = {name: count - before.get(name, 0) for name, count in farm.database.count_rows().items()}
    rows = {name: count for name, count in rows.items() if count}
    print(f"{seconds:.0f} s, {sum(rows.values())} rows: {rows}")
    assert rows["flow_run"] == 1 + children
    assert rows["task_run"] == len(tasks) + CHILD_TASKS * children
    assert sum(rows.values()) < MOST_ROWS_A_RUN * rows["flow_run"]


def test_a_worker_that_is_told_to_end_hands_back_what_it_holds(farm: Farm, truth: list[bytes]) -> None:
    film = farm.start(farm.job("handed-back", quality=22))
    leaving = farm.machines["cpu-1"]
    wait_until(leaving.flow_processes, seconds=PATIENCE_SECONDS, what="the worker holds a child run")
    assert leaving.process is not None
    leaving.process.terminate()
    assert leaving.process.wait(PATIENCE_SECONDS) == 0, leaving.said()
    film.wait()
    leaving.start()
    work = check_film(farm, film, truth)
    handed_back = [
        child
        for child in film.children()
        for state in farm.server.ask(f"flow_run_states/?flow_run_id={child['id']}")
        if "handed back: its worker cpu-1" in (state["message"] or "")
    ]
    assert len(handed_back) == 1
    assert handed_back[0]["state_type"] == "COMPLETED"
    assert work.frames_twice == 0
    leaving.await_start()


def test_a_parent_that_died_finds_its_children_again_and_shares_them_with_another(
    farm: Farm, truth: list[bytes], slow_gpus: None
) -> None:
    film = farm.start(farm.job("adopted", quality=23))
    wait_until(farm.machines["nvenc-1"].sessions_at_work, seconds=PATIENCE_SECONDS, what="a session is at work")
    (parent,) = farm.machines["control"].flow_processes()
    os.kill(parent, signal.SIGKILL)
    film.wait("CRASHED")
    alive = [child for child in film.children() if not is_final(child)]
    assert alive
    again, beside = farm.start(film.job), farm.start(film.job)
    again.wait()
    beside.wait()
    check_film(farm, film, truth)

    children = {child["id"]: child for child in film.children()}
    adopted = [children[child["id"]] for child in alive]
    assert {child["state_type"] for child in adopted} <= {"COMPLETED"}
    for child in adopted:
        assert [other["name"] for other in children.values() if ran_at_once(child, other)] == []


def is_final(run: dict[str, Any]) -> bool:
    return run["state_type"] in ENDS


def ran_at_once(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two child runs had a segment in common, and the one was begun when the other had not ended."""
    first, second = (
        range(run["parameters"]["start_segment"], run["parameters"]["end_segment"]) for run in (one, other)
    )
    is_shared = bool(set(first) & set(second))
    return (
        one["id"] != other["id"]
        and is_shared
        and one["created"] < other["end_time"]
        and other["created"] < one["end_time"]
    )


def test_a_worker_dies_with_its_host_and_another_is_frozen(farm: Farm, truth: list[bytes], slow_gpus: None) -> None:
    dead, frozen = farm.machines["cpu-1"], farm.machines["cpu-2"]
    film = farm.start(farm.job("hosts", quality=25), env=IMPATIENT)
    stopped: list[int] = []

    def freeze_one() -> bool:
        stopped.extend(frozen.freeze() if frozen.flow_processes() else [])
        return bool(stopped)

    def kill_the_other() -> bool:
        if not dead.flow_processes():
            return False
        dead.kill_tree()
        return True

    do_all(freeze_one, kill_the_other)
    dead.start()  # the spare
    try:
        film.wait()
    finally:
        thaw(stopped)
    dead.await_start()
    assert frozen.process is not None
    assert frozen.process.poll() is None
    work = check_film(farm, film, truth)
    # A shard of each host, and no more, was for nothing.
    assert work.frames_twice <= 2 * MOST_SHARD_FRAMES
    assert work.children["COMPLETED"] < work.children.total()


def test_the_server_goes_and_a_segment_is_spoilt(farm: Farm, truth: list[bytes], slow_gpus: None) -> None:
    film = farm.start(farm.job("server", quality=26))
    old = set(farm.objects("segments/"))
    wait_until(farm.machines["nvenc-1"].sessions_at_work, seconds=PATIENCE_SECONDS, what="a session is at work")
    farm.server.kill()
    spoilt = wait_until(lambda: spoil_one(farm, old), seconds=PATIENCE_SECONDS, what="a segment to spoil")
    farm.server.start()
    film.wait()
    work = check_film(farm, film, truth)
    assert work.frames_twice == spoilt_frames(film, spoilt)


def spoil_one(farm: Farm, old: Collection[str]) -> str:
    """Change a byte in the middle of a segment's film that is not in `old`; return its address, or nothing."""
    for name in set(farm.objects("segments/")) - set(old):
        address = Path(name).name.partition(".")[0]
        if name.endswith(".json"):
            (film,) = [found for found in farm.objects(f"segments/{address[:2]}/{address}") if found.endswith(".mp4")]
            path = farm.s3.bucket / PREFIX / film
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)
            return address
    return ""


def spoilt_frames(film: Film, address: str) -> int:
    """Return the frames of the segment that had to be made twice."""
    segments = read_certificate(certificate_path(film.path)).segments
    return sum(record.frame_count for record in segments if record.address == address)


def test_a_pool_has_no_worker_and_the_store_goes_and_then_the_database(
    farm: Farm, truth: list[bytes], slow_gpus: None
) -> None:
    with without_cpu_workers(farm):
        film = farm.start(farm.job("store", quality=27), env=IMPATIENT)
        gpu = farm.machines["nvenc-1"]
        wait_until(gpu.sessions_at_work, seconds=PATIENCE_SECONDS, what="a session is at work")
        farm.s3.kill()
        time.sleep(STORE_AWAY_SECONDS)
        farm.s3.start()
        wait_until(gpu.sessions_at_work, seconds=PATIENCE_SECONDS, what="a session is at work again")
        farm.database.go_away()
        time.sleep(DATABASE_AWAY_SECONDS)
        farm.database.come_back()
        film.wait()
        work = check_film(farm, film, truth)
    assert work.encoders.keys() == {"nvenc"}
    assert work.children["CANCELLED"]  # those that waited for the other pool in vain


def test_a_disk_is_full_and_a_clock_is_wrong(
    farm: Farm, truth: list[bytes], mount: Callable[[str], Path], slow_gpus: None
) -> None:
    clock = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    hour_ahead = {"LD_PRELOAD": str(clock), "FAKETIME": "+3600s"} if clock else {}
    with without_cpu_workers(farm):
        full = farm.add("cpu-full", "cpu", limit=1, workspace=mount("size=64k"))
        early = farm.add("cpu-early", "cpu", limit=1, extra=hour_ahead)
        try:
            full.await_start()
            early.await_start()
            film = farm.start(farm.job("odd", quality=28))
            film.wait()
        finally:
            farm.remove(full)
            farm.remove(early)
        work = check_film(farm, film, truth)
    assert "No space left" in full.said()
    assert work.children["FAILED"]
    if clock is None:
        pytest.skip("without faketime no clock was wrong: apt-get install faketime")
    assert "clock and this machine's differ" in early.said()
    assert work.encoders.keys() == {"nvenc"}


@contextlib.contextmanager
def without_cpu_workers(farm: Farm) -> Iterator[None]:
    """End the workers of the pool `cpu`; start them again afterwards."""
    machines = [farm.machines[name] for name in ("cpu-1", "cpu-2")]
    for machine in machines:
        machine.tell_to_end()
    for machine in machines:
        machine.await_end()
    try:
        yield
    finally:
        for machine in machines:
            machine.start()
        for machine in machines:
            machine.await_start()


PENDING_SECONDS = 60.0
FILMS_AT_ONCE = 2
KILL_SEED = 20261127
VICTIMS = {"session": 30, "launcher": 13, "child": 20, "parent": 6, "worker": 10, "store": 18, "server": 3}
"""How many of each kind are killed."""

MOST_PAUSE_SECONDS = 1.0

PIDS: dict[str, Callable[[Machine], Collection[int]]] = {
    "session": Machine.sessions_at_work,
    "launcher": Machine.launchers,
    "child": lambda machine: machine.flow_processes() if machine.pool != "control" else (),
    "parent": lambda machine: machine.flow_processes() if machine.pool == "control" else (),
    "worker": lambda machine: (machine.pid,) if machine.is_running() else (),
}
"""The processes of each kind that there are on a machine at this moment, those of the servers apart."""


class Killer:
    """Kills parts of a farm at random."""

    def __init__(self, farm: Farm, choose: random.Random) -> None:
        self._farm, self._choose = farm, choose
        self._next_at = 0.0
        self.killed = Counter[str]()

    @property
    def is_done(self) -> bool:
        """Whether all have been killed."""
        return self.killed.total() >= sum(VICTIMS.values())

    def kill_one(self) -> None:
        """Kill one of those that are there at this moment, if the last was killed some time ago.

        Which kind, goes by how many of each are still to be killed.
        """
        if time.monotonic() < self._next_at:
            return
        left = {kind: count - self.killed[kind] for kind, count in VICTIMS.items() if count > self.killed[kind]}
        while left:
            (kind,) = self._choose.choices(list(left), list(left.values()))
            del left[kind]
            if self._kill_a(kind):
                self.killed[kind] += 1
                self._next_at = time.monotonic() + self._choose.uniform(0, MOST_PAUSE_SECONDS)
                return

    def _kill_a(self, kind: str) -> bool:
        """Kill one of a kind, a server with a start after it; return whether there was one."""
        if kind == "store":
            self._farm.s3.kill()
            self._farm.s3.start()
            return True
        if kind == "server":
            self._farm.server.kill()
            self._farm.server.start()
            return True
        machines = sorted(self._farm.machines.values(), key=lambda one: one.name)
        victims = [pid for machine in machines for pid in sorted(PIDS[kind](machine))]
        if not victims:
            return False
        try:
            os.kill(self._choose.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


@dataclass
class Wanted:
    """A film that somebody wants, and asks for again when it does not come."""

    film: Film
    asked_at: float

    def is_made(self, farm: Farm) -> bool:
        """Whether it is made; asks again where its run ended without it, or died before it began."""
        state = self.film.read()["state_type"]
        waited_seconds = time.monotonic() - self.asked_at
        if state == "COMPLETED":
            return True
        # A worker that is killed between taking a run and starting it leaves it pending for ever.
        if state in ENDS or (state == "PENDING" and waited_seconds > PENDING_SECONDS):
            self.film, self.asked_at = farm.start(self.film.job, env=self.film.env), time.monotonic()
        return False


def test_100_kills_at_random(farm: Farm, truth: list[bytes], slow_gpus: None) -> None:
    choose = random.Random(KILL_SEED)
    killer = Killer(farm, choose)
    qualities = itertools.count(29)
    wanted: list[Wanted] = []
    made: list[Film] = []
    started_at = time.monotonic()
    while not killer.is_done or wanted:
        while len(wanted) < FILMS_AT_ONCE and not killer.is_done:
            quality = next(qualities)
            film = farm.start(farm.job(f"kills-{quality}", quality=quality), env=IMPATIENT)
            wanted.append(Wanted(film, time.monotonic()))
        for _ in range(20):
            if not killer.is_done:
                killer.kill_one()
            time.sleep(0.05)
        for machine in farm.machines.values():
            if not machine.is_running():  # killed, or there was no server when it started: its supervisor's matter
                machine.start()
        for one in list(wanted):
            if one.is_made(farm):
                made.append(one.film)
                wanted.remove(one)
    assert killer.killed == Counter(VICTIMS)
    print(f"\n{len(made)} films in {time.monotonic() - started_at:.0f} s, killed: {dict(killer.killed)}")
    again_frames = 0
    for film in made:
        certificate = verify_film(film.path, full=True)
        assert fingerprints(certificate) == truth
        work = count_work(film, certificate)
        again_frames += work.frames_twice + work.frames_lost
    print(f"at most {again_frames} frames were made again")
    assert again_frames <= killer.killed.total() * MOST_SHARD_FRAMES
    check_nothing_is_left(farm)


def test_no_credential_is_written_anywhere(farm: Farm, tmp_path: Path) -> None:
    """Neither by films with marked credentials nor by whatever went wrong in the farm before."""
    with serve_photos(farm, tmp_path) as (web, trusted):
        hosts = f"127.0.0.1:{web.port},127.0.0.1:9"
        for film, state in start_films(farm, web, env={"FANREEL_PRIVATE_HOSTS": hosts, "SSL_CERT_FILE": str(trusted)}):
            film.wait(state)
            if state == "FAILED":
                message = film.read()["state"]["message"]
                assert not found_in(message), message
        assert any(QUERY_MARK in path for path in web.paths)
    certified = tmp_path / "secret.mp4"
    for name in ("secret.mp4", "secret.mp4.certificate.json"):
        (tmp_path / name).write_bytes((farm.s3.bucket / "out" / name).read_bytes())
    assert verify_film(certified, full=True).frame_count > 0

    refused = farm.prefect("--check", module="deployments.apply", env={"PREFECT_API_AUTH_STRING": f"no:{AUTH_MARK}"})
    assert refused.returncode == 1
    assert "401" in refused.stderr
    assert not found_in(refused.stdout + refused.stderr)

    assert written_in_files(farm) == {}
    assert written_in_database(farm) == {}

    # The search itself: the one place that is allowed to have the query has it, and a file with a mark is seen.
    runs = [json.loads(row) for row in farm.database.dump()["flow_run"]]
    assert any(QUERY_MARK in json.dumps(run["parameters"]) for run in runs)
    planted = farm.folder / "planted.txt"
    planted.write_text(f"secret: {AUTH_MARK}")
    assert written_in_files(farm) == {"planted.txt": [AUTH_MARK]}
    planted.unlink()
