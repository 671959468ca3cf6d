"""What every test shares: a host of its own, small photos, small jobs."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from fanreel.host.host import Host, open_host
from fanreel.photos.examination import open_sandbox
from fanreel.sandbox.sandbox import Sandbox
from fanreel.sessions.launcher import Launcher
from fanreel.settings import Settings

pytest.register_assert_rewrite("support")

# How long an example takes, and how long it takes to find one, depends on the machine.
settings.register_profile("fanreel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fanreel")

if TYPE_CHECKING:
    from support.pool_farm import Farm
    from support.prefect_server import Served


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take the longest: whichever ends last would else have a core idle beside it."""
    used = defaultdict[Path, set[str]](set)
    for item in items:
        used[item.path].update(getattr(item, "fixturenames", ()))
    items.sort(key=lambda item: ("farm" not in used[item.path], "served" not in used[item.path]))


LOG_LINES = 60
"""Of each log of a server or a worker, shown with a test that failed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a test that failed how the logs of the servers and workers that it used end."""
    report = yield
    if report.failed:
        used = getattr(item, "funcargs", {})
        folders = [used[name].folder for name in ("served", "farm") if name in used]
        for log in [log for folder in folders for log in (*folder.glob("*.log"), *folder.glob("*/worker.log"))]:
            lines = log.read_text(errors="replace").splitlines()
            report.sections.append((f"{log.parent.name}/{log.name}", "\n".join(lines[-LOG_LINES:])))
    return report


@pytest.fixture(scope="session", autouse=True)
def shared_sandbox() -> Iterator[None]:
    """Photos are examined in one sandbox, which starts in half a second of a core, and not in one a fetch."""
    opened: dict[tuple[float, float], Sandbox] = {}
    with contextlib.ExitStack() as closing, pytest.MonkeyPatch.context() as patched:

        def open_shared(*, max_megapixels: float, photo_seconds: float) -> contextlib.nullcontext[Sandbox]:
            bounds = (max_megapixels, photo_seconds)
            if bounds not in opened:
                sandbox = open_sandbox(max_megapixels=max_megapixels, photo_seconds=photo_seconds)
                opened[bounds] = closing.enter_context(sandbox)
            return contextlib.nullcontext(opened[bounds])

        patched.setattr("fanreel.intake.examinations.open_sandbox", open_shared)
        yield


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """A host whose store and locks are this test's own."""
    opened = open_host(
        Settings(store=tmp_path / "store", lock_folder=tmp_path / "locks", hang_seconds=60, wait_seconds=120)
    )
    yield opened
    opened.launcher.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of four small photos."""
    from support.jobs import draw_photo  # after its assertions are rewritten

    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(4):
        draw_photo(folder / f"photo-{seed}.jpg", seed=seed)
    return folder


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    """A launcher that a module's tests share, so that its imports are paid for once."""
    opened = Launcher()
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server for flows that run in this process; all modules share it, for it takes long to start."""
    from support.prefect_server import harness  # which imports Prefect

    with harness(tmp_path_factory.mktemp("prefect")):
        yield


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with the project's deployments, for what runs in other processes; modules share it, as the one above.

    On PostgreSQL, as docs/operations.md asks of whoever has more than a run at a time.
    """
    from support.postgresql import made_database
    from support.prefect_server import serve

    with (
        made_database() as database,
        serve(tmp_path_factory.mktemp("served"), database=database.url) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Servers and workers of all pools for a module's tests; left to idle, they would slow down what comes after."""
    from support.pool_farm import run_farm  # what it takes is of no use to the others

    with run_farm(tmp_path_factory.mktemp("farm")) as running:
        yield running


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach; pytest's own are root's."""
    folder = Path(tempfile.mkdtemp(prefix="fanreel-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts small file systems with options of tmpfs, such as `size=64k`."""
    mounted: list[Path] = []

    def mount_one(options: str) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
            pytest.skip("needs the right to mount a small file system")
        mounted.append(folder)
        return folder

    yield mount_one
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
