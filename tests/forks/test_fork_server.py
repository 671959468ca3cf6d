"""Fork servers, for real: what a fork gets, how its end is told, and who goes with whom."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.kills import is_running
from support.processes import in_fork, wait_until

from fanreel.forks.forked_process import NUMBER, REFUSED, ForkedProcess, ForkRefusedError
from fanreel.forks.server_process import ServerProcess

ROOT = Path(__file__).parents[2]
SECONDS = 60

PROGRAM = """
import os, resource, sys, time
from fanreel.forks.server import ForkServer, end_quickly
with end_quickly():
    server = ForkServer.from_arguments()
    with server.end_with_owner():
        {imports}
    request = server.serve(outlive_owner={outlive_owner})
    if request is not None:
        exec(request.data)
"""
SLEEP = b"time.sleep(999)"

Start = Callable[..., ServerProcess]
Fork = Callable[..., ForkedProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers whose forks run the Python that they are sent."""
    started: list[ServerProcess] = []

    def start_one(imports: str = "pass", *, outlive_owner: bool = False, **options: object) -> ServerProcess:
        program = PROGRAM.format(imports=imports, outlive_owner=outlive_owner)
        started.append(ServerProcess([sys.executable, "-c", program], cwd=ROOT, **options))
        return started[-1]

    yield start_one
    for server in started:
        server.kill()


@pytest.fixture
def fork() -> Iterator[Fork]:
    with contextlib.ExitStack() as forked:

        def fork_one(server: ServerProcess, code: bytes, *descriptors: int) -> ForkedProcess:
            asked = ForkedProcess(server.address, code, descriptors=descriptors, answer_seconds=SECONDS)
            forked.callback(asked.close)
            return asked

        yield fork_one


def is_gone(pid: int) -> None:
    wait_until(lambda: not is_running(pid), seconds=SECONDS, what=f"process {pid} is gone")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (b"", 0),
        (b"sys.exit(7)", 7),
        (b"1 / 0", 1),
        (b"os.kill(os.getpid(), 11)", -signal.SIGSEGV),
        (b"os.kill(os.getpid(), 9)", -signal.SIGKILL),
    ],
)
def test_a_fork_s_end_is_told_without_being_asked_for(start: Start, fork: Fork, code: bytes, status: int) -> None:
    assert fork(start(), code).wait() == status


def test_a_fork_has_its_data_and_copies_of_its_descriptors(start: Start, fork: Fork) -> None:
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(tempfile.TemporaryFile()) for _ in range(600)]
        code = b"[os.write(descriptor, b'%d' % k) for k, descriptor in enumerate(request.descriptors)]"
        assert fork(start(), code + b" " * (1 << 20), *[file.fileno() for file in files]).wait() == 0
        assert [os.pread(file.fileno(), 9, 0) for file in files] == [b"%d" % k for k in range(600)]


def test_a_fork_has_no_socket_of_its_server(start: Start, fork: Fork) -> None:
    server = start()
    others = [fork(server, SLEEP) for _ in range(3)]
    code = b"""
from pathlib import Path
names = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.exists()]
assert not [name for name in names if name.startswith(("socket:", "anon_inode:"))], names
"""
    assert fork(server, code).wait() == 0
    assert [each.end() for each in others] == [-signal.SIGKILL] * 3


def test_a_fork_handles_signals_as_python_does(start: Start, fork: Fork) -> None:
    code = b"import signal; assert (signal.getsignal(signal.SIGCHLD), signal.set_wakeup_fd(-1)) == (signal.SIG_DFL, -1)"
    assert fork(start(), code).wait() == 0


def test_a_fork_that_is_ended_is_killed_and_its_status_told(start: Start, fork: Fork) -> None:
    server = start()
    asked = fork(server, SLEEP)
    assert asked.end() == -signal.SIGKILL
    assert not Path(f"/proc/{asked.pid}").exists()
    done = fork(server, b"sys.exit(3)")
    is_gone(done.pid)
    assert done.end() == 3, "it had ended by itself"


def test_a_fork_whose_client_hangs_up_is_killed(start: Start, fork: Fork) -> None:
    server = start()
    asked, other = fork(server, SLEEP), fork(server, SLEEP)
    asked.close()
    is_gone(asked.pid)
    assert is_running(other.pid)


@pytest.mark.parametrize("outlive_owner", [False, True])
def test_forks_go_with_a_server_that_is_killed(start: Start, fork: Fork, outlive_owner: bool) -> None:
    server = start(outlive_owner=outlive_owner)
    asked = fork(server, SLEEP)
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(ConnectionResetError):
        asked.wait()
    is_gone(asked.pid)
    with pytest.raises(ConnectionRefusedError):
        fork(server, SLEEP)


def test_disowned_it_ends_with_its_forks(start: Start, fork: Fork) -> None:
    server = start()
    asked = fork(server, SLEEP)
    server.disown()
    assert server.wait(SECONDS) == 0
    is_gone(asked.pid)


def test_disowned_it_may_stay_until_its_forks_have_ended(start: Start, fork: Fork) -> None:
    server = start(outlive_owner=True)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        asked = fork(server, b"sys.exit(os.read(request.descriptors[0], 1)[0])", theirs.fileno())
        server.disown()
        wait_until(lambda: not answers(server), seconds=SECONDS, what="nobody is answered any more")
        assert server.wait() is None
        ours.send(b"\x05")
        assert asked.wait() == 5
    assert server.wait(SECONDS) == 0


def answers(server: ServerProcess) -> bool:
    try:
        ForkedProcess(server.address, descriptors=()).close()
    except OSError:
        return False
    return True


def test_it_goes_with_its_owner_while_it_imports(start: Start) -> None:
    with tempfile.NamedTemporaryFile() as file:
        server = start(f"open({file.name!r}, 'w').write('busy'); time.sleep(999)")
        wait_until(lambda: Path(file.name).read_text(), seconds=SECONDS, what="it imports")
        server.disown()
        assert server.wait(SECONDS) == 0


def test_a_fork_that_cannot_be_is_refused_and_the_others_go_on(start: Start, fork: Fork) -> None:
    with tempfile.TemporaryFile() as words:
        server = start(stderr=words)
        asked = fork(server, SLEEP)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (12, 12))
        with pytest.raises(ForkRefusedError):
            fork(server, SLEEP, *[words.fileno()] * 20)
        assert b"raise the limit of open files" in os.pread(words.fileno(), 999, 0)
        assert fork(server, b"sys.exit(2)", words.fileno()).wait() == 2
        assert asked.end() == -signal.SIGKILL


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_is_refused(start: Start) -> None:
    server = start()

    def ask() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(server.address.partition(":")[0])
            assert NUMBER.unpack(client.recv(NUMBER.size)) == (REFUSED,)

    in_fork(ask, uid=65534)
    assert answers(server)


def test_a_request_without_the_key_is_refused(start: Start) -> None:
    with tempfile.TemporaryFile() as words:
        server = start(stderr=words)
        with pytest.raises(ForkRefusedError):
            ForkedProcess(server.address[:-1] + "?", descriptors=(), answer_seconds=SECONDS)
        assert b"without the key" in os.pread(words.fileno(), 999, 0)
        assert answers(server)


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(start: Start) -> None:
    server = start()
    os.kill(server.pid, signal.SIGSTOP)
    with pytest.raises(BlockingIOError):
        ForkedProcess(server.address, descriptors=(), answer_seconds=0.1)


ENDING = """
import atexit, sys
from fanreel.forks.server import end_quickly
class Kept:
    def __del__(self):
        print("taken apart")
with end_quickly():
    kept = Kept()
    atexit.register(print, "hook")
    {body}
"""


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("pass", 0, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(4)", 4, ""),
        ("sys.exit('why')", 1, "why"),
        ("raise ValueError('why')", 1, "ValueError: why"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
    ],
)
def test_it_ends_as_python_does_but_takes_nothing_apart(body: str, status: int, error: str) -> None:
    command = [sys.executable, "-c", ENDING.format(body=body)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (status, "hook\n")
    assert done.stderr.strip().endswith(error)
    assert bool(done.stderr) == bool(error)
