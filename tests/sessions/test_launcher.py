"""Session processes, for real: they render, die, hang and go with their owner."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from support.jobs import draw_photo, make_job

from fanreel.errors import EncoderError, PhotoChangedError, SessionHungError, SessionLostError, StorageError
from fanreel.host.host import Host, open_host
from fanreel.plan.film import FilmPlan, plan_to_json
from fanreel.render.here import plan_job
from fanreel.sessions.launcher import Launcher
from fanreel.sessions.messages import FramesMade, SegmentMade, ShardRequest
from fanreel.sessions.session import Session

GONE_SECONDS = 10.0

OWNER = """
import os, sys, threading, time
from dataclasses import replace
from pathlib import Path
from fanreel.host.host import current_host
from fanreel.sessions.messages import ShardRequest
from fanreel.plan.film import plan_from_json

host = current_host()
plan = plan_from_json(Path(sys.argv[1]).read_bytes())

def render(session):
    for message in session.render(ShardRequest(plan, plan.segments, 1, sys.argv[2], "x264"), hang_seconds=60):
        os.write(1, b"0\\n")
"""


@pytest.fixture
def host(host: Host, launcher: Launcher) -> Host:
    """A host of the test's own, whose launcher is warm already."""
    return open_host(host.settings, launcher=launcher)


@pytest.fixture
def plan(host: Host, photos: Path) -> FilmPlan:
    """A film of two segments, made in a moment."""
    return plan_job(make_job(photos.parent, sessions=1), host=host)[0]


@pytest.fixture
def slow_plan(host: Host, photos: Path) -> FilmPlan:
    """A film that takes a session minutes; no test waits for its end."""
    job = make_job(photos.parent, size="1280x720", fps="60", seconds_per_slide=120, encoding={"preset": "balanced"})
    return plan_job(job, host=host)[0]


@pytest.fixture
def owner(slow_plan: FilmPlan, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts programs that own sessions; `plan`, `host` and `render(session)` are there for them.

    While a session renders, its owner writes a line with 0 a few times a second.
    """
    started: list[subprocess.Popen[str]] = []

    def start(program: str) -> subprocess.Popen[str]:
        path = tmp_path / "plan.json"
        path.write_bytes(plan_to_json(slow_plan))
        environment = os.environ | {
            "FANREEL_STORE": str(tmp_path / "store"),
            "FANREEL_LOCK_FOLDER": str(tmp_path / "locks"),
        }
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", OWNER + program, str(path), str(tmp_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdin
        assert process.stdout
        process.stdin.close()
        process.stdout.close()


def read_numbers(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout
    return [int(word) for word in process.stdout.readline().split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def open_files(pid: int) -> dict[int, str]:
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed while we look
            found[int(link.name)] = str(link.readlink())
    return found


def thread_count(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except FileNotFoundError:
        return 0


def wait_until(condition: Callable[[], bool], seconds: float = GONE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(holds)


def shard(plan: FilmPlan, folder: Path) -> ShardRequest:
    return ShardRequest(plan, plan.segments, 1, str(folder), "x264")


def render_until(session: Session, request: ShardRequest, *, hang_seconds: float = 60) -> Iterator[None]:
    """Start the rendering, wait for its first frames, and go on when asked for more."""
    messages = session.render(request, hang_seconds=hang_seconds)
    assert isinstance(next(messages), FramesMade)
    yield
    for _ in messages:
        pass


class TestRendering:
    def test_makes_every_segment_in_order_and_tells_of_every_frame(self, host: Host, plan: FilmPlan, tmp_path: Path):
        with host.launcher.start(locks=[]) as session:
            messages = list(session.render(shard(plan, tmp_path), hang_seconds=60))
        made = [message for message in messages if isinstance(message, SegmentMade)]
        assert [message.record.address for message in made] == [segment.address for segment in plan.segments]
        assert all(Path(message.path).is_file() for message in made)
        assert sum(message.count for message in messages if isinstance(message, FramesMade)) == plan.frame_count
        assert {message.record.event.session for message in made} == {session.pid}

    def test_is_gone_when_its_context_is_left(self, host: Host, slow_plan: FilmPlan, tmp_path: Path):
        with host.launcher.start(locks=[]) as session:
            next(render_until(session, shard(slow_plan, tmp_path)))
            assert is_running(session.pid)
        assert not Path(f"/proc/{session.pid}").exists()

    def test_a_session_that_was_never_used_is_gone_too(self, host: Host):
        with host.launcher.start(locks=[]) as session:
            pass
        assert not Path(f"/proc/{session.pid}").exists()

    def test_is_a_fork_that_imports_nothing(self, host: Host):
        with host.launcher.start(locks=[]) as session:
            assert command_line(session.pid) == command_line(parent_of(session.pid))

    @pytest.mark.parametrize(("asked", "lower"), [("", 10), ("0", 0), ("3", 3)])
    def test_it_gives_way_to_its_owner(self, asked: str, lower: int, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("FANREEL_SESSION_NICENESS", asked)
        launcher = Launcher()
        try:
            with launcher.start(locks=[]) as session:
                wanted = min(19, os.getpriority(os.PRIO_PROCESS, 0) + lower)
                assert wait_until(lambda: os.getpriority(os.PRIO_PROCESS, session.pid) == wanted, seconds=60)
                group = Path(f"/proc/{session.pid}/autogroup")
                assert not group.exists() or group.read_text().endswith(f" nice {lower}\n")
        finally:
            launcher.close()

    def test_its_standard_streams_do_not_lead_to_its_owner(self, host: Host):
        with host.launcher.start(locks=[]) as session:
            for pid in (session.pid, parent_of(session.pid)):
                files = open_files(pid)
                assert (files[0], files[1]) == ("/dev/null", "/dev/null")
                assert not files[2].startswith(("pipe:", "socket:", "/dev/pts"))

    def test_has_no_descriptor_of_another_session_or_of_the_launcher(self, host: Host):
        def sockets(session: Session) -> set[str]:
            return {target for target in open_files(session.pid).values() if target.startswith("socket:")}

        with host.launcher.start(locks=[]) as first, host.launcher.start(locks=[]) as second:
            assert wait_until(lambda: len(sockets(first)) == len(sockets(second)) == 1, seconds=60)
            assert sockets(first) != sockets(second)

    def test_the_launcher_forks_from_one_thread(self, host: Host):
        with host.launcher.start(locks=[]) as session:
            assert len(list(Path(f"/proc/{parent_of(session.pid)}/task").iterdir())) == 1

    def test_many_threads_start_sessions_at_once(self, host: Host):
        def start_and_end(_: int) -> int:
            with host.launcher.start(locks=[]) as session:
                assert is_running(session.pid)
            return session.pid

        with ThreadPoolExecutor(16) as pool:
            pids = list(pool.map(start_and_end, range(48)))
        assert len(set(pids)) == 48
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    def test_outlives_the_thread_that_started_it(self, host: Host, plan: FilmPlan, tmp_path: Path):
        started: list[Session] = []
        thread = threading.Thread(target=lambda: started.append(host.launcher.start(locks=[])))
        thread.start()
        thread.join()
        assert wait_until(lambda: not Path(f"/proc/self/task/{thread.native_id}").exists())
        with started[0] as session:
            assert is_running(session.pid)
            assert any(isinstance(m, SegmentMade) for m in session.render(shard(plan, tmp_path), hang_seconds=60))


class TestErrors:
    def test_a_photo_that_changed_arrives_as_that_error(self, host: Host, plan: FilmPlan, tmp_path: Path):
        changed = draw_photo(Path(plan.photo_paths[plan.timeline.clips[0].content.source_digests[0]]), seed=99)
        with host.launcher.start(locks=[]) as session, pytest.raises(PhotoChangedError, match=str(changed)):
            list(session.render(shard(plan, tmp_path), hang_seconds=60))

    def test_a_folder_that_is_gone_arrives_as_a_storage_error(self, host: Host, plan: FilmPlan, tmp_path: Path):
        with host.launcher.start(locks=[]) as session, pytest.raises(StorageError, match="nowhere"):
            list(session.render(shard(plan, tmp_path / "nowhere"), hang_seconds=60))

    def test_a_crash_arrives_with_its_last_words_in_one_line(self, host: Host, plan: FilmPlan, tmp_path: Path):
        broken = replace(plan, photo_paths={})
        with host.launcher.start(locks=[]) as session, pytest.raises(EncoderError) as caught:
            list(session.render(shard(broken, tmp_path), hang_seconds=60))
        assert not caught.value.transient, "the same request would fail again"
        assert "exit status 1; KeyError" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_the_words_of_an_earlier_crash_are_not_quoted_again(self, host: Host, plan: FilmPlan, tmp_path: Path):
        with host.launcher.start(locks=[]) as session, pytest.raises(EncoderError, match="KeyError"):
            list(session.render(shard(replace(plan, photo_paths={}), tmp_path), hang_seconds=60))
        with host.launcher.start(locks=[]) as session:
            os.kill(session.pid, signal.SIGSEGV)
            with pytest.raises(SessionLostError, match=r"SIGSEGV$"):
                list(session.render(shard(plan, tmp_path), hang_seconds=60))


class TestDeath:
    def test_killed_it_is_lost_by_name_of_the_signal_and_its_slot_is_free_at_once(
        self, host: Host, slow_plan: FilmPlan, tmp_path: Path
    ):
        cores = host.capacity.cores
        with host.gate.hold(weight=cores, timeout_seconds=5) as slot:
            with host.launcher.start(locks=slot.filenos()) as session:
                rendering = render_until(session, shard(slow_plan, tmp_path))
                next(rendering)
                os.kill(session.pid, signal.SIGKILL)
                with pytest.raises(SessionLostError, match="SIGKILL"):
                    next(rendering)
            assert not Path(f"/proc/{session.pid}").exists()
        with host.gate.hold(weight=cores, timeout_seconds=0):
            pass

    def test_stopped_it_is_hung_within_the_bound_and_gone(self, host: Host, slow_plan: FilmPlan, tmp_path: Path):
        with host.launcher.start(locks=[]) as session:
            rendering = render_until(session, shard(slow_plan, tmp_path), hang_seconds=2)
            next(rendering)
            os.kill(session.pid, signal.SIGSTOP)
            stopped_at = time.monotonic()
            with pytest.raises(SessionHungError, match="2 s"):
                next(rendering)
            assert time.monotonic() - stopped_at > 1.5
        assert not Path(f"/proc/{session.pid}").exists()

    def test_stopped_before_a_long_request_it_is_hung_all_the_same(self, host: Host, plan: FilmPlan, tmp_path: Path):
        long = replace(plan, photo_paths=plan.photo_paths | {f"{n:064d}": "x" * 100 for n in range(10_000)})
        with host.launcher.start(locks=[]) as session:
            os.kill(session.pid, signal.SIGSTOP)
            with pytest.raises(SessionHungError):
                list(session.render(shard(long, tmp_path), hang_seconds=0.5))
        assert not Path(f"/proc/{session.pid}").exists()

    def test_its_locks_are_held_until_it_is_dead(self, host: Host):
        cores = host.capacity.cores
        with host.gate.hold(weight=cores, timeout_seconds=5) as slot:
            session = host.launcher.start(locks=slot.filenos())
        assert host.gate.slots_in_use() == cores  # type: ignore[attr-defined]
        with session:
            os.kill(session.pid, signal.SIGSTOP)
        assert host.gate.slots_in_use() == 0  # type: ignore[attr-defined]

    def test_takes_more_locks_than_one_message_holds(self, host: Host, tmp_path: Path):
        with contextlib.ExitStack() as opened:
            files = [opened.enter_context((tmp_path / f"lock-{n}").open("w")) for n in range(600)]
            with host.launcher.start(locks=[file.fileno() for file in files]) as session:
                assert {file.name for file in files} <= set(open_files(session.pid).values())


class TestLauncher:
    def test_killed_it_takes_its_sessions_along_and_the_next_start_has_a_new_one(
        self, host: Host, slow_plan: FilmPlan, plan: FilmPlan, tmp_path: Path
    ):
        with host.launcher.start(locks=[]) as first, host.launcher.start(locks=[]) as second:
            launcher = parent_of(first.pid)
            renderings = [render_until(session, shard(slow_plan, tmp_path)) for session in (first, second)]
            for rendering in renderings:
                next(rendering)
            os.kill(launcher, signal.SIGKILL)
            for rendering in renderings:
                with pytest.raises(SessionLostError, match="launcher died"):
                    next(rendering)
        # Their files are closed, and so their slots free; the last steps of an exit come after that.
        assert wait_until(lambda: not is_running(first.pid) and not is_running(second.pid))
        with host.launcher.start(locks=[]) as session:
            assert parent_of(session.pid) != launcher
            assert any(isinstance(m, SegmentMade) for m in session.render(shard(plan, tmp_path), hang_seconds=60))

    def test_killed_while_idle_it_is_replaced_without_a_word(self, host: Host):
        with host.launcher.start(locks=[]) as session:
            launcher = parent_of(session.pid)
        os.kill(launcher, signal.SIGKILL)
        assert wait_until(lambda: not is_running(launcher))
        with host.launcher.start(locks=[]) as session:
            assert parent_of(session.pid) != launcher

    def test_a_session_of_the_old_launcher_does_no_harm_to_those_of_the_new_one(self, host: Host):
        with host.launcher.start(locks=[]) as old:
            launcher = parent_of(old.pid)
            os.kill(launcher, signal.SIGKILL)
            assert wait_until(lambda: not is_running(launcher))
            new = host.launcher.start(locks=[])
        with new:
            assert is_running(new.pid)
            assert wait_until(lambda: not is_running(old.pid))

    def test_stopped_it_does_not_keep_a_start_waiting_for_ever(self, host: Host, monkeypatch: pytest.MonkeyPatch):
        launcher = Launcher()
        with launcher.start(locks=[]) as session:
            pid = parent_of(session.pid)
        monkeypatch.setattr("fanreel.sessions.launcher.ANSWER_SECONDS", 0.5)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(SessionLostError, match=r"did not answer for 0\.5 s"):
            launcher.start(locks=[])
        assert not is_running(pid)
        launcher.close()

    def test_closing_does_not_wait_for_its_imports(self):
        launcher = Launcher()
        failed: list[Exception] = []

        def start() -> None:
            try:
                launcher.start(locks=[])
            except SessionLostError as error:
                failed.append(error)

        thread = threading.Thread(target=start)
        thread.start()
        assert wait_until(lambda: launcher._server is not None, seconds=60)
        assert launcher._server is not None
        # Stopped within milliseconds of its start it is sure to be at its imports, and never gets through them.
        os.kill(launcher._server.process.pid, signal.SIGSTOP)
        assert thread.is_alive()
        launcher.close()
        thread.join(60)
        assert not thread.is_alive(), "it would wait for its answer for 120 s"
        assert len(failed) == 1

    def test_closed_while_a_session_renders_it_ends_that_and_starts_nothing(
        self, host: Host, slow_plan: FilmPlan, tmp_path: Path
    ):
        with host.launcher.start(locks=[]) as session:
            rendering = render_until(session, shard(slow_plan, tmp_path))
            next(rendering)
            before = children_of(os.getpid())
            host.launcher.close()
            with pytest.raises(SessionLostError):
                next(rendering)
        assert wait_until(lambda: not is_running(session.pid))
        assert children_of(os.getpid()) < before

    def test_closing_twice_or_unused_is_nothing(self):
        launcher = Launcher()
        launcher.close()
        launcher.warm()
        launcher.close()
        launcher.close()


def children_of(pid: int) -> set[int]:
    found = set()
    for other in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]:
        with contextlib.suppress(OSError):
            if parent_of(other) == pid and is_running(other):
                found.add(other)
    return found


class TestOwner:
    def test_killed_its_launcher_and_sessions_go(self, owner: Callable[[str], subprocess.Popen[str]]):
        process = owner("""
session = host.launcher.start(locks=[])
print(os.getppid(), session.pid, flush=True)
render(session)
""")
        _, session = read_numbers(process)
        launcher = parent_of(session)
        assert parent_of(launcher) == process.pid
        assert read_numbers(process) == [0], "it renders"
        assert is_running(session)
        process.kill()
        assert wait_until(lambda: not is_running(session) and not is_running(launcher))

    def test_killed_while_the_launcher_imports_nothing_is_left(self, owner: Callable[[str], subprocess.Popen[str]]):
        process = owner("""
host.launcher.warm()
print(0, flush=True)
time.sleep(60)
""")
        read_numbers(process)
        (launcher,) = children_of(process.pid)
        # It has a second thread, which looks for its owner, for as long as it imports and compiles.
        assert wait_until(lambda: thread_count(launcher) >= 2, seconds=60)
        os.kill(launcher, signal.SIGSTOP)
        assert thread_count(launcher) >= 2
        process.kill()
        process.wait()
        os.kill(launcher, signal.SIGCONT)
        assert wait_until(lambda: not is_running(launcher))

    def test_its_forked_children_do_not_keep_sessions_alive(self, owner: Callable[[str], subprocess.Popen[str]]):
        process = owner("""
session = host.launcher.start(locks=[])
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(session.pid, child, flush=True)
render(session)
""")
        session, child = read_numbers(process)
        try:
            launcher = parent_of(session)
            process.kill()
            assert wait_until(lambda: not is_running(session) and not is_running(launcher))
        finally:
            os.kill(child, signal.SIGKILL)

    def test_a_forked_child_has_sessions_of_its_own(self, owner: Callable[[str], subprocess.Popen[str]]):
        process = owner("""
first = host.launcher.start(locks=[])
child = os.fork()
if child == 0:
    with host.launcher.start(locks=[]) as second:
        print(first.pid, second.pid, flush=True)
        sys.stdin.readline()
    os._exit(0)
os.waitpid(child, 0)
with first:
    print(os.path.exists(f"/proc/{first.pid}") + 0, flush=True)
""")
        first, second = read_numbers(process)
        assert parent_of(first) != parent_of(second)
        assert process.stdin
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert read_numbers(process) == [1]
        assert process.wait(60) == 0
        assert wait_until(lambda: not is_running(second))

    def test_an_interrupt_from_the_terminal_does_not_reach_sessions(
        self, owner: Callable[[str], subprocess.Popen[str]]
    ):
        process = owner("""
import signal
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"1\\n"))
session = host.launcher.start(locks=[])
print(session.pid, flush=True)
render(session)
""")
        (session,) = read_numbers(process)
        launcher = parent_of(session)
        assert read_numbers(process) == [0], "it renders"
        os.killpg(process.pid, signal.SIGINT)
        while (said := read_numbers(process)) != [1]:
            assert said == [0]
        # It goes on: of what is said next at most one was on its way already.
        assert [read_numbers(process) for _ in range(3)] == [[0]] * 3
        assert is_running(session)
        assert is_running(launcher)
