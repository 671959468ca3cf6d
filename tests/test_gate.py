"""Who holds an encoder session: one contract for every gate, and what the kernel's locks add to it."""

import array
import contextlib
import fcntl
import os
import pickle
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import in_fork

from fanreel.errors import EncoderError, SessionBusyError, StorageError
from fanreel.media.gate import KernelLockGate, SessionGate

NOBODY = 65534
PATIENCE_SECONDS = 60.0  # for what certainly comes
SLOWED_DOWN = 9  # questions after which the polling is as slow as it gets
GateMaker = Callable[[int], SessionGate]  # capacity -> a new gate on one and the same device
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def kernel_lock_gates(folder: Path) -> GateMaker:
    return lambda capacity: KernelLockGate("cpu", capacity=capacity, folder=folder / "locks")


# Every implementation of SessionGate passes the contract below. Another one is added here; those that need a server
# import the contract and bring a `make_gate` of their own (tests/test_prefect_limit.py).
GATES = {"kernel locks": kernel_lock_gates}


@pytest.fixture(params=GATES.values(), ids=GATES.keys())
def make_gate(request: pytest.FixtureRequest, tmp_path: Path) -> GateMaker:
    return request.param(tmp_path)


def is_free(gate: SessionGate, weight: int = 1) -> bool:
    try:
        with gate.hold(weight=weight, timeout_seconds=0):
            return True
    except SessionBusyError:
        return False


def open_files() -> list[str]:
    """Return the paths of the files that this process has open; sockets have none."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.append(os.readlink(descriptor))  # noqa: PTH115 - sockets are no paths
    return sorted(name for name in found if name.startswith("/") and not name.startswith("/proc"))


class Asked:
    """Notes when a wait has asked; give it as `on_wait`."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._count = threading.Semaphore(0)

    def __call__(self) -> None:
        self.times.append(time.monotonic())
        self._count.release()

    def wait_for(self, count: int = 1) -> None:
        """Return when it has asked so many times more."""
        assert all(self._count.acquire(timeout=PATIENCE_SECONDS) for _ in range(count))


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """Return the most spans open at one time; at equal times the one that ends goes first."""
    changes = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    return max(accumulate(change for _, change in changes))


class TestContract:
    def test_a_slot_is_held_inside_and_free_after(self, make_gate: GateMaker):
        gate = make_gate(1)
        with gate.hold(timeout_seconds=1):
            assert not is_free(make_gate(1))
        assert is_free(make_gate(1))

    def test_as_many_as_the_capacity(self, make_gate: GateMaker):
        with make_gate(2).hold(timeout_seconds=1), make_gate(2).hold(timeout_seconds=1):
            assert not is_free(make_gate(2))

    def test_one_gate_can_be_held_more_than_once(self, make_gate: GateMaker):
        gate = make_gate(2)
        with gate.hold(timeout_seconds=1):
            with gate.hold(timeout_seconds=1):
                assert not is_free(gate)
            assert is_free(gate)

    def test_free_after_the_body_raised(self, make_gate: GateMaker):
        with pytest.raises(KeyboardInterrupt), make_gate(1).hold(timeout_seconds=1):
            raise KeyboardInterrupt
        assert is_free(make_gate(1))

    def test_weight_takes_that_many(self, make_gate: GateMaker):
        with make_gate(5).hold(weight=3, timeout_seconds=1):
            assert is_free(make_gate(5), weight=2)
            assert not is_free(make_gate(5), weight=3)

    def test_weight_is_all_or_nothing(self, make_gate: GateMaker):
        with make_gate(3).hold(weight=2, timeout_seconds=1):
            with pytest.raises(SessionBusyError), make_gate(3).hold(weight=2, timeout_seconds=0.1):
                pass
            assert is_free(make_gate(3), weight=1)

    def test_weight_above_the_capacity_takes_all(self, make_gate: GateMaker):
        with make_gate(3).hold(weight=64, timeout_seconds=1):
            assert not is_free(make_gate(3))

    @pytest.mark.parametrize("weight", [0, -1])
    def test_weight_below_one_is_refused(self, make_gate: GateMaker, weight: int):
        with (
            pytest.raises(ValueError, match=f"weight is {weight}"),
            make_gate(3).hold(weight=weight, timeout_seconds=1),
        ):
            pass

    def test_a_wait_can_be_given_up(self, make_gate: GateMaker):
        asked: list[float] = []

        def give_up() -> None:
            asked.append(time.monotonic())
            if len(asked) == 3:
                raise InterruptedError

        with make_gate(1).hold(timeout_seconds=1):
            start = time.monotonic()
            with pytest.raises(InterruptedError), make_gate(1).hold(timeout_seconds=60, on_wait=give_up):
                pass
        assert time.monotonic() - start < 30
        assert is_free(make_gate(1)), "whoever gave up holds nothing"

    @pytest.mark.parametrize("timeout_seconds", [0, 0.1, 0.9])
    def test_timeout(self, make_gate: GateMaker, timeout_seconds: float):
        with make_gate(2).hold(weight=2, timeout_seconds=1):
            start = time.monotonic()
            with pytest.raises(SessionBusyError) as raised, make_gate(2).hold(timeout_seconds=timeout_seconds):
                pass
            waited_seconds = time.monotonic() - start
        assert timeout_seconds <= waited_seconds < timeout_seconds + 5
        assert isinstance(raised.value, EncoderError)
        assert raised.value.transient
        said = re.search(r"'[a-z0-9:.-]+': 1 of its 2 slots .* in ([0-9.]+) s; try again", str(raised.value))
        assert timeout_seconds <= float(said[1]) <= waited_seconds + 0.05

    def test_a_waiter_gets_the_slot_when_it_is_free(self, make_gate: GateMaker):
        with contextlib.ExitStack() as held, ThreadPoolExecutor(1) as pool:
            held.enter_context(make_gate(1).hold(timeout_seconds=1))
            asked = Asked()
            waiting = pool.submit(wait_for_slot, make_gate(1), on_wait=asked)
            asked.wait_for(SLOWED_DOWN + 5)
            freed = time.monotonic()
            held.close()
            assert freed <= waiting.result(timeout=PATIENCE_SECONDS)
        # It was seen free within one such pause; the median is the gate's own, whatever else the machine does.
        assert median(after - before for before, after in pairwise(asked.times[SLOWED_DOWN:])) < 0.5

    def test_a_waiter_for_all_slots_gets_them(self, make_gate: GateMaker):
        with contextlib.ExitStack() as held, ThreadPoolExecutor(1) as pool:
            for _ in range(3):
                held.enter_context(make_gate(3).hold(timeout_seconds=1))
            asked = Asked()
            waiting = pool.submit(wait_for_slot, make_gate(3), weight=3, on_wait=asked)
            asked.wait_for()
            held.close()
            waiting.result(timeout=PATIENCE_SECONDS)

    def test_threads_never_exceed_the_capacity(self, make_gate: GateMaker):
        def rounds(seed: int) -> list[tuple[float, float]]:
            dice, spans = random.Random(seed), []
            for _ in range(5):
                weight = dice.choice([1, 1, 2, 3])
                with make_gate(3).hold(weight=weight, timeout_seconds=60):
                    start = time.monotonic()
                    time.sleep(dice.uniform(0, 0.01))
                    spans += [(start, time.monotonic())] * weight
            return spans

        with ThreadPoolExecutor(6) as pool:
            spans = [span for found in pool.map(rounds, range(6)) for span in found]
        assert most_at_once(spans) <= 3

    def test_one_that_takes_again_and_again_does_not_shut_others_out(self, make_gate: GateMaker):
        done, taken = threading.Event(), threading.Event()

        def take_again_and_again() -> None:
            while not done.is_set():
                with make_gate(1).hold(timeout_seconds=60):
                    taken.set()
                    time.sleep(0.3)

        with ThreadPoolExecutor(1) as pool:
            greedy = pool.submit(take_again_and_again)
            try:
                for _ in range(3):
                    taken.clear()
                    assert taken.wait(PATIENCE_SECONDS)
                    wait_for_slot(make_gate(1), timeout_seconds=6)
            finally:
                done.set()
            greedy.result(timeout=PATIENCE_SECONDS)

    def test_a_waiter_for_many_does_not_keep_one_slot_idle(self, make_gate: GateMaker):
        with contextlib.ExitStack() as held, ThreadPoolExecutor(1) as pool:
            held.enter_context(make_gate(2).hold(timeout_seconds=1))
            asked = Asked()
            waiting = pool.submit(wait_for_slot, make_gate(2), weight=2, on_wait=asked)
            asked.wait_for()
            wait_for_slot(make_gate(2), timeout_seconds=6)
            assert not waiting.done()
            held.close()
            waiting.result(timeout=PATIENCE_SECONDS)

    def test_descriptors_are_given_to_no_child_by_accident(self, make_gate: GateMaker):
        with make_gate(4).hold(weight=2, timeout_seconds=1) as slot:
            assert len(slot.filenos()) >= 1
            assert not any(os.get_inheritable(descriptor) for descriptor in slot.filenos())
            child = subprocess.Popen(["/bin/sleep", "60"], close_fds=False)
        try:
            # Not at once: the kernel lets the parent of a spawn go on just before it closes the child's copies.
            wait_for_slot(make_gate(4), weight=4, timeout_seconds=30)
        finally:
            child.kill()
            child.wait()

    def test_descriptors_are_closed_and_forgotten_after(self, make_gate: GateMaker):
        with make_gate(3).hold(weight=3, timeout_seconds=1) as slot:
            files = {descriptor: os.fstat(descriptor) for descriptor in slot.filenos()}
        assert files
        assert slot.filenos() == ()
        for descriptor, file in files.items():
            with contextlib.suppress(OSError):  # or by now another thread has something else under this number
                assert not os.path.samestat(os.fstat(descriptor), file)

    def test_nothing_stays_open(self, make_gate: GateMaker):
        is_free(make_gate(3))
        before = open_files()
        with make_gate(3).hold(weight=2, timeout_seconds=1):
            assert not is_free(make_gate(3), weight=3)
            assert is_free(make_gate(3))
        assert open_files() == before

    def test_a_child_that_inherited_the_slot_keeps_it(self, make_gate: GateMaker):
        with make_gate(2).hold(weight=2, timeout_seconds=1) as slot:
            child = subprocess.Popen(["/bin/sleep", "60"], pass_fds=slot.filenos())
        try:
            assert not is_free(make_gate(2))
        finally:
            child.kill()
            child.wait()
        assert is_free(make_gate(2), weight=2)

    def test_a_slot_sent_over_a_socket_is_kept(self, make_gate: GateMaker):
        near, far = socket.socketpair()
        with near, far:
            with make_gate(1).hold(timeout_seconds=1) as slot:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", slot.filenos()))
                near.sendmsg([b"slot"], [rights])
            assert not is_free(make_gate(1))
            _, received, _, _ = socket.recv_fds(far, 4, 8)
            assert not is_free(make_gate(1))
            for descriptor in received:
                os.close(descriptor)
        assert is_free(make_gate(1))


def wait_for_slot(
    gate: SessionGate,
    *,
    weight: int = 1,
    timeout_seconds: float = PATIENCE_SECONDS,
    on_wait: Callable[[], None] = lambda: None,
) -> float:
    """Return when the slot was taken."""
    with gate.hold(weight=weight, timeout_seconds=timeout_seconds, on_wait=on_wait):
        return time.monotonic()


COMPETITOR = """
import os, random, sys, time
from pathlib import Path
from fanreel.media.gate import KernelLockGate
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
from fanreel.media.gate import KernelLockGate
def say() -> None:
    print("waits", flush=True)
with KernelLockGate("cpu", capacity=1, folder=Path(sys.argv[1])).hold(timeout_seconds=60, on_wait=say) as slot:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(["/bin/sleep", "60"], pass_fds=slot.filenos(), **quiet) if sys.argv[2:] else None
    print(child.pid if child else "held", flush=True)
    time.sleep(60)
"""


def start_python(script: str, *arguments: object, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    root = Path(__file__).resolve().parent.parent
    return subprocess.Popen(command, text=True, env={**os.environ, "PYTHONPATH": str(root)}, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "locks"


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
