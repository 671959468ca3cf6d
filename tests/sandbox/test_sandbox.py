"""Sandboxes, for real: what a call may do to its process, and that it does nothing to anybody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from support import sandboxed
from support.kills import is_running
from support.processes import descendants, wait_until

from fanreel.errors import SandboxDeathError, SandboxLostError, UnreadablePhotoError
from fanreel.sandbox.call import Bounds
from fanreel.sandbox.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
SECONDS = 60
ANY = TypeAdapter(Any)
BOUNDS = Bounds(cpu_seconds=60, wall_seconds=300, memory_bytes=256 << 20)


@pytest.fixture(autouse=True)
def _found_by_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(sandboxed.warm, bounds=BOUNDS) as made:
        yield made


def open_here() -> list[Path]:
    return sorted(Path("/proc/self/fd").iterdir())


def servers() -> list[int]:
    return [
        pid
        for pid, command in descendants(os.getpid()).items()
        if "sandbox_server" in command and "support.sandboxed" in command
    ]


def test_a_call_is_answered(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("of a file")
    with (tmp_path / "a").open("rb") as file:
        answer = sandbox.call(sandboxed.echo, {"é": [1, None]}, descriptors=[file.fileno()], returns=ANY)
    assert (answer.value, answer.words) == ([{"é": [1, None]}, ["of a file"]], ())


def test_each_call_has_a_process_of_its_own_below_one_server(sandbox: Sandbox) -> None:
    assert servers() == []
    found = [sandbox.call(sandboxed.whoami, returns=ANY).value for _ in range(3)]
    assert len({pid for pid, _ in found}) == 3
    assert {server for _, server in found} == {*servers()}
    assert not [pid for pid, _ in found if is_running(pid)]


def test_what_it_prints_is_told_with_its_answer(sandbox: Sandbox) -> None:
    answer = sandbox.call(sandboxed.say, "Corrupt JPEG data: 23 bytes\n\n  \x1b[2J\r\x00\xffend", returns=ANY)
    assert answer.words[0] == "Corrupt JPEG data: 23 bytes"
    assert all(line.isprintable() for line in answer.words)
    assert sandbox.call(sandboxed.say, "", returns=ANY).words == ()


def test_its_errors_are_ours(sandbox: Sandbox) -> None:
    with pytest.raises(UnreadablePhotoError, match=r"^a\.jpg: no \\x1b\[2Jpicture$"):
        sandbox.call(sandboxed.refuse, "a.jpg: no \x1b[2Jpicture", returns=ANY)


@pytest.mark.parametrize(
    ("function", "arguments", "reason"),
    [
        (sandboxed.crash, [signal.SIGSEGV], r"died of SIGSEGV \(double free\)"),
        (sandboxed.crash, [signal.SIGKILL], r"died of SIGKILL \(double free\)"),
        (sandboxed.read_address_0, [], "died of SIGSEGV"),
        (sandboxed.abort, [], "died of SIGABRT"),
        (sandboxed.take_memory, [], "needs over 268.435 MB of memory"),
        (sandboxed.take_memory_in_c, [], "died of SIGSEGV"),
        (sandboxed.fail, [], r"failed \(KeyError: 'no such field'\)"),
        (sandboxed.say_much, [20_000], r"failed \(Corrupt a block\)"),
        (sandboxed.return_much, [20 << 20], r"failed \(OSError: .*File too large\)"),
    ],
)
def test_a_call_that_dies_says_of_what_and_the_next_one_is_made(
    sandbox: Sandbox, function: Any, arguments: list[Any], reason: str
) -> None:
    with pytest.raises(SandboxDeathError, match=f"^{reason}$"):
        sandbox.call(function, *arguments, returns=ANY)
    assert sandbox.call(sandboxed.echo, 5, returns=ANY).value == [5, []]


def test_a_call_that_never_returns_is_ended() -> None:
    with Sandbox(sandboxed.warm, bounds=Bounds(cpu_seconds=1, wall_seconds=300, memory_bytes=1 << 28)) as busy:
        with pytest.raises(SandboxDeathError, match=r"^took over 1 s of a core$"):
            busy.call(sandboxed.spin, returns=ANY)
        assert busy.call(sandboxed.limits, returns=ANY).value == [0, 1]
    with Sandbox(sandboxed.warm, bounds=Bounds(cpu_seconds=60, wall_seconds=0.2, memory_bytes=1 << 28)) as idle:
        with pytest.raises(SandboxDeathError, match=r"^did not end within 0\.2 s$"):
            idle.call(sandboxed.sleep, returns=ANY)
        wait_until(lambda: not descendants(servers()[0]), seconds=SECONDS, what="the call is gone")


def test_it_fills_no_disk(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(SandboxDeathError, match="File too large"):
        sandbox.call(sandboxed.write_much, str(tmp_path / "a"), 20 << 20, returns=ANY)
    assert (tmp_path / "a").stat().st_size <= 16 << 20


def test_a_call_that_the_kernel_killed_is_made_once_more(sandbox: Sandbox, tmp_path: Path) -> None:
    assert sandbox.call(sandboxed.die_once, str(tmp_path / "died"), returns=ANY).value == "alive"


def test_an_answer_of_another_kind_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxDeathError, match=r"^gave an answer that is none$"):
        sandbox.call(sandboxed.whoami, returns=TypeAdapter(str))


def test_threads_call_side_by_side_and_one_s_death_is_its_own(sandbox: Sandbox) -> None:
    together = threading.Barrier(8)

    def call(number: int) -> object:
        together.wait()
        if number % 2:
            with pytest.raises(SandboxDeathError):
                sandbox.call(sandboxed.abort, returns=ANY)
            return None
        return sandbox.call(sandboxed.echo, number, returns=ANY).value

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(call, range(8)))
    assert found[::2] == [[number, []] for number in range(0, 8, 2)]
    assert len(servers()) == 1


def test_descriptors_are_closed_whatever_becomes_of_a_call(sandbox: Sandbox) -> None:
    there = sandbox.call(sandboxed.open_descriptors, returns=ANY).value
    before = open_here()
    for _ in range(5):
        for function in (sandboxed.abort, sandboxed.fail):
            with pytest.raises(SandboxDeathError):
                sandbox.call(function, returns=ANY)
    assert open_here() == before
    assert sandbox.call(sandboxed.open_descriptors, returns=ANY).value == there


def test_a_closed_sandbox_leaves_nothing_behind() -> None:
    before = open_here()
    with Sandbox(sandboxed.warm, bounds=BOUNDS) as sandbox:
        sandbox.call(sandboxed.echo, 1, returns=ANY)
        assert len(servers()) == 1
    assert servers() == []
    del sandbox
    assert open_here() == before


def test_what_the_server_made_ready_is_there(sandbox: Sandbox) -> None:
    assert sandbox.call(sandboxed.made_ready, returns=ANY).value == [True]
    assert sandboxed.made_ready() == []


def test_the_server_finds_this_package_from_any_folder(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sandbox.call(sandboxed.echo, 1, returns=ANY).value == [1, []]


def test_a_server_that_was_killed_is_replaced(sandbox: Sandbox) -> None:
    _, server = sandbox.call(sandboxed.whoami, returns=ANY).value
    os.kill(server, signal.SIGKILL)
    assert sandbox.call(sandboxed.whoami, returns=ANY).value[1] != server


def test_a_server_that_cannot_start_says_why() -> None:
    with (
        Sandbox(sandboxed.fail, bounds=BOUNDS) as sandbox,
        pytest.raises(SandboxLostError, match=r"server says: KeyError: 'no such field'$"),
    ):
        sandbox.call(sandboxed.whoami, returns=ANY)


OWNER = """
import os, sys
from pydantic import TypeAdapter
from support import sandboxed
from fanreel.sandbox.call import Bounds
from fanreel.sandbox.sandbox import Sandbox
with Sandbox(sandboxed.warm, bounds=Bounds(600, 6000, 1 << 28)) as sandbox:
    print(*sandbox.call(sandboxed.whoami, returns=TypeAdapter(list[int])).value, flush=True)
    if not os.fork():  # which has copies of what its parent has open
        sys.stdin.read()
        os._exit(0)
    sandbox.call(sandboxed.sleep, returns=TypeAdapter(None))
"""


def test_it_ends_with_its_owner_though_a_child_of_the_owner_lives_on() -> None:
    command, pipe = [sys.executable, "-c", OWNER], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as owner:
        server = int(owner.stdout.readline().split()[1])
        wait_until(lambda: descendants(server), seconds=SECONDS, what="it sleeps")
        (call,) = descendants(server)
        owner.kill()
        for pid in (server, call):
            wait_until(lambda pid=pid: not is_running(pid), seconds=SECONDS, what=f"process {pid} is gone")
