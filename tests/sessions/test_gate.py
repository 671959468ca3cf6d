"""Who holds an encoder session: one contract for every gate, and what the kernel's locks add to it."""

import contextlib
import fcntl
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import gate_contract
from support.gate_contract import PATIENCE_SECONDS, Asked, GateMaker, is_free, most_at_once, wait_for_slot
from support.processes import in_fork

from fanreel.errors import SessionBusyError, StorageError
from fanreel.sessions.gate import KernelLockGate

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


COMPETITOR = """
import os, random, sys, time
from pathlib import Path
from fanreel.sessions.gate import KernelLockGate
folder, log, seed, rounds, weights = sys.argv[1:]
dice = random.Random(int(seed))
gate = KernelLockGate("cpu", capacity=3, folder=Path(folder))
log = os.open(log, os.O_WRONLY | os.O_APPEND)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(rounds)):
    weight = dice.choice([int(weight) for weight in weights])
    with gate.hold(weight=weight, timeout_seconds=60):
        start = time.monotonic()
        time.sleep(dice.uniform(0, 0.02))
        os.write(log, f"{seed} {weight} {start!r} {time.monotonic()!r}\\n".encode())
"""

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from fanreel.sessions.gate import KernelLockGate
def say() -> None:
    print("waits", flush=True)
with KernelLockGate("cpu", capacity=1, folder=Path(sys.argv[1])).hold(timeout_seconds=60, on_wait=say) as slot:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(["/bin/sleep", "60"], pass_fds=slot.filenos(), **quiet) if sys.argv[2:] else None
    print(child.pid if child else "held", flush=True)
    time.sleep(60)
"""


def kernel_lock_gates(folder: Path) -> GateMaker:
    return lambda capacity: KernelLockGate("cpu", capacity=capacity, folder=folder / "locks")


# Every implementation of SessionGate passes the contract. Another one is added here; one that needs a server brings a
# `make_gate` of its own (tests/edge/test_prefect_limit.py).
GATES = {"kernel locks": kernel_lock_gates}


@pytest.fixture(params=GATES.values(), ids=GATES.keys())
def make_gate(request: pytest.FixtureRequest, tmp_path: Path) -> GateMaker:
    return request.param(tmp_path)


class TestContract(gate_contract.TestContract):
    """The contract of every gate."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "locks"


def start_python(script: str, *arguments: object, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(command, text=True, env={**os.environ, "PYTHONPATH": str(root)}, **options)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other users reach; pytest's own temporary folders are closed to them."""
    above = Path(tempfile.mkdtemp(prefix="fanreel-gate-"))
    above.chmod(0o755)
    yield above / "locks"
    shutil.rmtree(above)


class TestProcesses:
    @pytest.mark.parametrize("weights", ["1", "1123"])
    def test_never_more_than_the_capacity_and_all_finish(self, folder: Path, tmp_path: Path, weights: str):
        log = tmp_path / "spans"
        log.touch()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        competitors = [start_python(COMPETITOR, folder, log, seed, 12, weights, **pipes) for seed in range(8)]
        assert [competitor.stdout.readline() for competitor in competitors] == ["ready\n"] * 8
        for competitor in competitors:
            competitor.stdin.write("go\n")
            competitor.stdin.flush()
        assert [competitor.wait(timeout=120) for competitor in competitors] == [0] * 8
        for competitor in competitors:
            competitor.communicate()
        lines = [line.split() for line in log.read_text().splitlines()]
        assert len(lines) == 8 * 12
        spans = [(float(start), float(end)) for _, weight, start, end in lines for _ in range(int(weight))]
        assert 2 <= most_at_once(spans) <= 3
        assert KernelLockGate("cpu", capacity=3, folder=folder).slots_in_use() == 0

    def test_a_waiter_gets_the_slot_of_a_killed_process(self, folder: Path):
        holder = start_python(HOLDER, folder, stdout=subprocess.PIPE)
        assert holder.stdout.readline() == "held\n"
        gate = KernelLockGate("cpu", capacity=1, folder=folder)
        assert gate.slots_in_use() == 1
        with ThreadPoolExecutor(1) as pool:
            asked = Asked()
            waiting = pool.submit(wait_for_slot, gate, on_wait=asked)
            asked.wait_for()
            killed = time.monotonic()
            holder.kill()
            assert killed <= waiting.result(timeout=PATIENCE_SECONDS)
        holder.communicate()

    def test_kill_9_frees_the_slot_at_once(self, folder: Path):
        holder = start_python(HOLDER, folder, stdout=subprocess.PIPE)
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.communicate()
        assert is_free(KernelLockGate("cpu", capacity=1, folder=folder))

    def test_a_session_outlives_its_parent_and_keeps_the_slot(self, folder: Path):
        parent = start_python(HOLDER, folder, "with a child", stdout=subprocess.PIPE)
        child_pid = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.communicate()
            gate = KernelLockGate("cpu", capacity=1, folder=folder)
            assert gate.slots_in_use() == 1
            with pytest.raises(SessionBusyError), gate.hold(timeout_seconds=0.3):
                pass
        finally:
            os.kill(child_pid, signal.SIGKILL)
        wait_for_slot(gate)
        assert gate.slots_in_use() == 0

    def test_a_killed_waiter_leaves_nothing_locked(self, folder: Path):
        gate = KernelLockGate("cpu", capacity=1, folder=folder)
        with gate.hold(timeout_seconds=1):
            waiter = start_python(HOLDER, folder, stdout=subprocess.PIPE)
            assert waiter.stdout.readline() == "waits\n"
            waiter.kill()
            waiter.communicate()
        assert is_free(gate)

    def test_many_make_the_folder_at_once(self, tmp_path: Path):
        for number in range(20):
            gate = KernelLockGate("cpu", capacity=4, folder=tmp_path / "deep" / str(number))
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _, gate=gate: wait_for_slot(gate), range(8)))
            assert sorted(file.suffix for file in gate.folder.iterdir()) == [".lock"] * len(list(gate.folder.iterdir()))
        assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == sorted(map(str, range(20)))


class TestSlotsInUse:
    def test_counts_weights(self, folder: Path):
        gate = KernelLockGate("cpu", capacity=5, folder=folder)
        assert gate.slots_in_use() == 0
        with gate.hold(weight=2, timeout_seconds=1), gate.hold(timeout_seconds=1):
            assert gate.slots_in_use() == 3
        assert gate.slots_in_use() == 0

    def test_does_not_count_the_waiting(self, folder: Path):
        gate = KernelLockGate("cpu", capacity=2, folder=folder)
        with ThreadPoolExecutor(1) as pool, gate.hold(timeout_seconds=1):
            asked = Asked()
            waiting = pool.submit(wait_for_slot, gate, weight=2, on_wait=asked)
            asked.wait_for()
            assert gate.slots_in_use() == 1
            assert not waiting.done()
        waiting.result()

    def test_two_who_look_do_not_count_each_other(self, folder: Path):
        gate = KernelLockGate("cpu", capacity=4, folder=folder)
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: gate.slots_in_use(), range(400))) == {0}


class TestDevices:
    def test_devices_do_not_share_slots(self, folder: Path):
        names = ["cpu", "GPU-0a1b", "GPU/0a1b", "GPU_0a1b", "cpu.0", "cpu.turn", "..", "", "ä", "a\0b", "\ud800"]
        with contextlib.ExitStack() as held:
            for name in names:
                held.enter_context(KernelLockGate(name, capacity=1, folder=folder).hold(timeout_seconds=0))
        assert len(list(folder.glob("*.0.lock"))) == len(names)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
    @given(device=st.text(max_size=20))
    def test_any_name_stays_in_the_folder(self, tmp_path: Path, device: str):
        assert is_free(KernelLockGate(device, capacity=1, folder=tmp_path / "locks"))
        assert [path.name for path in tmp_path.iterdir()] == ["locks"]

    def test_a_name_too_long_for_a_file(self, folder: Path):
        with pytest.raises(StorageError, match="File name too long"):
            is_free(KernelLockGate("x" * 300, capacity=1, folder=folder))

    @pytest.mark.parametrize("capacity", [0, -3])
    def test_a_device_without_slots_is_refused(self, folder: Path, capacity: int):
        with pytest.raises(ValueError, match=f"capacity of 'cpu' is {capacity}"):
            KernelLockGate("cpu", capacity=capacity, folder=folder)

    def test_a_gate_can_be_sent_to_another_process(self, folder: Path):
        gate = KernelLockGate("cpu", capacity=2, folder=folder)
        assert pickle.loads(pickle.dumps(gate)) == gate


class TestFolder:
    @pytest.fixture(autouse=True)
    def _tight_umask(self) -> Iterator[None]:
        before = os.umask(0o077)
        yield
        os.umask(before)

    def test_modes_do_not_depend_on_the_umask(self, folder: Path):
        assert is_free(KernelLockGate("cpu", capacity=2, folder=folder))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
        files = sorted(folder.iterdir())
        assert [file.name for file in files] == ["cpu.0.lock", "cpu.turn.lock"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o666}

    def test_a_folder_that_is_there_keeps_its_mode(self, folder: Path):
        folder.mkdir(mode=0o700)
        assert is_free(KernelLockGate("cpu", capacity=1, folder=folder))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    @pytest.mark.parametrize("weight", [1, 2])
    def test_a_symlink_planted_as_a_lock_is_refused(self, folder: Path, tmp_path: Path, weight: int):
        gate = KernelLockGate("cpu", capacity=2, folder=folder)
        victim = tmp_path / "victim"
        victim.write_text("precious")
        folder.mkdir()
        planted = folder / f"cpu.{weight - 1}.lock"
        planted.symlink_to(victim)
        with pytest.raises(StorageError, match=str(planted)), gate.hold(weight=weight, timeout_seconds=1):
            pass
        with pytest.raises(StorageError, match=str(planted)):
            gate.slots_in_use()
        assert victim.read_text() == "precious"
        planted.unlink()
        assert is_free(gate, weight=2)

    def test_a_dangling_symlink_makes_no_file(self, folder: Path, tmp_path: Path):
        folder.mkdir()
        (folder / "cpu.0.lock").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StorageError, match=r"cpu\.0\.lock"):
            is_free(KernelLockGate("cpu", capacity=1, folder=folder))
        assert not (tmp_path / "elsewhere").exists()

    @pytest.mark.parametrize("plant", [os.mkfifo, os.mkdir])
    def test_what_is_no_file_is_refused_without_waiting(self, folder: Path, plant: Callable[[Path], None]):
        folder.mkdir()
        plant(folder / "cpu.0.lock")
        with pytest.raises(StorageError, match=r"could not use .*cpu\.0\.lock"):
            is_free(KernelLockGate("cpu", capacity=1, folder=folder))

    def test_a_file_in_place_of_the_folder(self, folder: Path):
        folder.touch()
        with pytest.raises(StorageError, match=f"could not use {folder}.*Not a directory"):
            KernelLockGate("cpu", capacity=1, folder=folder).slots_in_use()

    def test_a_dangling_symlink_in_place_of_the_folder(self, folder: Path, tmp_path: Path):
        folder.symlink_to(tmp_path / "nowhere")
        with pytest.raises(StorageError, match=f"could not use {folder}"):
            is_free(KernelLockGate("cpu", capacity=1, folder=folder))
        assert [path.name for path in tmp_path.iterdir()] == ["locks"]

    def test_a_deleted_lock_file_is_made_anew(self, folder: Path):
        gate = KernelLockGate("cpu", capacity=1, folder=folder)
        assert is_free(gate)
        shutil.rmtree(folder)
        assert is_free(gate)

    def test_a_lock_on_a_deleted_file_is_not_taken(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        gate = KernelLockGate("cpu", capacity=1, folder=folder)
        real_flock = fcntl.flock

        def delete_then_lock(descriptor: int, kind: int) -> None:
            (folder / "cpu.0.lock").unlink(missing_ok=True)
            real_flock(descriptor, kind)

        monkeypatch.setattr(fcntl, "flock", delete_then_lock)
        assert not is_free(gate)
        monkeypatch.undo()
        assert is_free(gate)


@as_root
class TestUsers:
    """Each body runs in a fork that has become another user, as root may write anywhere."""

    @staticmethod
    def as_nobody(body: Callable[[], object]) -> None:
        def privately() -> None:
            os.umask(0o077)
            body()

        in_fork(privately, uid=NOBODY)

    def test_roots_folder_serves_everyone(self, shared_folder: Path):
        gate = KernelLockGate("cpu", capacity=2, folder=shared_folder)
        assert is_free(gate)

        def use() -> None:
            assert (shared_folder / "cpu.0.lock").stat().st_uid == 0
            with gate.hold(weight=2, timeout_seconds=1):
                assert gate.slots_in_use() == 2

        self.as_nobody(use)
        assert (shared_folder / "cpu.1.lock").stat().st_uid == NOBODY
        assert is_free(gate, weight=2)

    def test_users_compete_for_the_same_slots(self, shared_folder: Path):
        gate = KernelLockGate("cpu", capacity=2, folder=shared_folder)

        def find_it_taken() -> None:
            assert gate.slots_in_use() == 2
            assert not is_free(gate)

        with gate.hold(weight=2, timeout_seconds=1):
            self.as_nobody(find_it_taken)

    def test_another_users_files_cannot_be_deleted(self, shared_folder: Path):
        assert is_free(KernelLockGate("cpu", capacity=1, folder=shared_folder))

        def delete() -> None:
            with pytest.raises(PermissionError):
                (shared_folder / "cpu.0.lock").unlink()

        self.as_nobody(delete)

    @pytest.mark.parametrize("mode", [0o700, 0o755])
    def test_a_folder_closed_to_this_user(self, shared_folder: Path, mode: int):
        shared_folder.mkdir()
        shared_folder.chmod(mode)
        gate = KernelLockGate("cpu", capacity=1, folder=shared_folder)

        def fail() -> None:
            with pytest.raises(StorageError, match=f"could not use {shared_folder}/.*: Permission denied"):
                is_free(gate)
            with pytest.raises(StorageError, match="Permission denied"):
                gate.slots_in_use()

        self.as_nobody(fail)

    def test_a_parent_closed_to_this_user(self, shared_folder: Path):
        gate = KernelLockGate("cpu", capacity=1, folder=shared_folder)

        def fail() -> None:
            with pytest.raises(StorageError, match="Permission denied"):
                is_free(gate)

        self.as_nobody(fail)
        assert not shared_folder.exists()
