"""The PostgreSQL that comes along: who gets in, and what is left when it is killed."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
from support.prefect_server import ROOT
from support.processes import running, wait_until

from deployments.postgresql import Cluster
from fanreel.errors import RequestError


@contextmanager
def kept(cluster: Cluster) -> Iterator[int]:
    """Keep the cluster's server, and return its keeper's process id."""
    cluster.folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "deployments.postgresql", str(cluster.folder)]
    log = cluster.folder / "log"
    with running(command, log=log, env=dict(os.environ), cwd=ROOT) as keeper:

        def is_ready() -> bool:
            assert keeper.poll() is None, log.read_text()
            return cluster.is_ready()

        wait_until(is_ready, seconds=120, what=f"PostgreSQL is up: {log}")
        yield keeper.pid


def ask(cluster: Cluster, statement: str, *, password: str | None = None) -> object:
    """Return the first value that a statement has; None if it has none."""

    async def connected() -> object:
        words = {} if password is None else {"password": password}
        connection = await asyncpg.connect(cluster.address.replace("+asyncpg", ""), **words, timeout=30)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(connected())


def server_pid(cluster: Cluster) -> int:
    return int((cluster.data / "postmaster.pid").read_text().split()[0])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster below a folder that is closed to everybody else, as /root is."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    found = Cluster(closed / "postgresql")
    yield found
    found.end_orphan()


def test_what_it_holds_survives_every_end_of_it_and_only_its_owner_gets_in(cluster: Cluster) -> None:
    with kept(cluster) as keeper:
        ask(cluster, "CREATE TABLE kept (number int)")
        ask(cluster, "INSERT INTO kept VALUES (7)")
        assert ask(cluster, "SHOW listen_addresses") == "127.0.0.1"
        assert ask(cluster, "SHOW unix_socket_directories") == ""
        for wrong in ("", "fanreel"):
            with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)):
                ask(cluster, "SELECT 1", password=wrong)
        assert (cluster.folder / "password").stat().st_mode & 0o077 == 0
        assert cluster.data.stat().st_mode & 0o077 == 0
        if os.geteuid() == 0:
            assert Path(f"/proc/{server_pid(cluster)}").stat().st_uid != 0
        with pytest.raises(RequestError, match="a PostgreSQL runs there already"):
            cluster.keep()
        port = ask(cluster, "SHOW port")
        os.kill(keeper, signal.SIGKILL)
        assert ask(cluster, "SELECT number FROM kept") == 7  # its keeper alone is dead

    cluster.end_orphan()
    assert not cluster.is_ready()
    with kept(cluster):
        assert ask(cluster, "SELECT number FROM kept") == 7
        assert ask(cluster, "SHOW port") == port
        os.kill(server_pid(cluster), signal.SIGKILL)
    cluster.end_orphan()
    with kept(cluster):
        assert ask(cluster, "SELECT number FROM kept") == 7
    assert not (cluster.data / "postmaster.pid").exists()  # it ended in good order


def test_a_database_that_was_not_finished_is_made_anew(cluster: Cluster) -> None:
    (cluster.folder / "new/data/base").mkdir(parents=True)
    with kept(cluster):
        assert ask(cluster, "SELECT 1") == 1
