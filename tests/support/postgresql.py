"""A PostgreSQL database for a Prefect server: on 127.0.0.1:5432 if one lets us in, else of a server that we start."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import asyncpg
import prefect
import pytest
from support.prefect_server import free_port, made_once, upgrade_database
from support.processes import running, wait_until

__all__ = ["Database", "database_address", "database_or_skip"]

T = TypeVar("T")

HOST = "127.0.0.1"
OWNER = "fanreel"
TEMPLATE = "prefect"
MISSING = "no PostgreSQL on 127.0.0.1:5432 lets us in, and none can be started: apt-get install postgresql"
REFUSALS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Database:
    """A database that can go away.

    Args:
        port: Of its server.
        user: Who uses it, and may make databases.
        password: If the server wants one.
    """

    def __init__(self, *, port: int, user: str, password: str = "") -> None:
        self.name, self.port = f"fanreel_test_{uuid.uuid4().hex[:8]}", port
        self._user, self._password = user, password

    @property
    def url(self) -> str:
        """What Prefect calls it."""
        secret = f":{self._password}" if self._password else ""
        return f"postgresql+asyncpg://{self._user}{secret}@{HOST}:{self.port}/{self.name}"

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

    def lets_us_in(self) -> bool:
        """Whether its server does, and we may make databases."""
        with contextlib.suppress(*REFUSALS):
            return self._ask("postgres", _may_make_databases)
        return False

    def _run(self, statement: str) -> None:
        async def run(connection: asyncpg.Connection) -> None:
            await connection.execute(statement)

        self._ask("postgres", run)

    def _ask(self, name: str, use: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        async def connected() -> T:
            connection = await asyncpg.connect(
                host=HOST, port=self.port, user=self._user, password=self._password or None, database=name, timeout=30
            )
            try:
                return await use(connection)
            finally:
                await connection.close()

        return asyncio.run(connected())


@contextlib.contextmanager
def database_or_skip() -> Iterator[Database]:
    """Make a database without a flow; skip the test, or fail it if FANREEL_REQUIRE_POSTGRESQL=1, where none can be had.

    On a server of our own, it has Prefect's tables already: to make them takes 14 s of a core.
    """
    with _database_if_any() as database:
        if database is None:
            pytest.skip(MISSING)
        yield database


@contextlib.contextmanager
def database_address() -> Iterator[str]:
    """Make a database and return its address, as Prefect calls it; an empty one, for SQLite, where none can be had."""
    with _database_if_any() as database:
        yield "" if database is None else database.url


@contextlib.contextmanager
def _database_if_any() -> Iterator[Database | None]:
    usual = Database(port=5432, user=os.environ.get("PGUSER", "postgres"), password=os.environ.get("PGPASSWORD", ""))
    if usual.lets_us_in():
        with usual.made():
            yield usual
        return
    programs = _programs()
    if programs is None:
        if os.environ.get("FANREEL_REQUIRE_POSTGRESQL") == "1":
            pytest.fail(MISSING)
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="fanreel-postgresql-", ignore_cleanup_errors=True) as folder:
        shutil.copytree(_cluster(programs), Path(folder, "data"))
        with _running(programs, Path(folder)) as own, own.made(template=TEMPLATE):
            yield own


def _cluster(programs: Path) -> Path:
    """Return the files of a server that has TEMPLATE, made once for all processes and runs of this checkout."""
    return made_once(
        f"postgresql-{programs.parent.name}-prefect-{prefect.__version__}", lambda folder: _make(programs, folder)
    )


def _make(programs: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fanreel-postgresql-", ignore_cleanup_errors=True) as made:
        _give(Path(made))
        make = [*_as_user(), str(programs / "initdb"), "-D", f"{made}/data", "-U", OWNER, "-A", "trust", "-E", "UTF8"]
        done = subprocess.run([*make, "--no-sync", "--locale=C"], cwd=made, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        with _running(programs, Path(made)) as database:
            database.name = TEMPLATE
            database._run(f'CREATE DATABASE "{TEMPLATE}"')
            upgrade_database(PREFECT_HOME=f"{made}/home", PREFECT_SERVER_DATABASE_CONNECTION_URL=database.url)
        shutil.copytree(Path(made, "data"), folder)


@contextlib.contextmanager
def _running(programs: Path, folder: Path) -> Iterator[Database]:
    """Run a server whose files are in `folder / "data"`, as a user who is not root: it refuses to be."""
    _give(folder)
    database = Database(port=free_port(), user=OWNER)
    # Nothing of it has to outlive this machine's power.
    options = {"port": str(database.port), "listen_addresses": HOST}
    options |= {"unix_socket_directories": str(folder), "fsync": "off", "full_page_writes": "off"}
    command = [*_as_user(), str(programs / "postgres"), "-D", str(folder / "data")]
    command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
    with running(command, log=folder / "log", env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, cwd=folder):
        wait_until(database.lets_us_in, seconds=60, what=f"PostgreSQL is up: {folder / 'log'}")
        yield database


def _give(folder: Path) -> None:
    """Give a folder to whom the server runs as."""
    user = _user()
    if user is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)
        folder.chmod(0o711)


def _as_user() -> list[str]:
    """Return what a command begins with that is to run as whom the server runs as."""
    user = _user()
    if user is None:
        return []
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


async def _tables(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return [row["tablename"] for row in rows]


async def _may_make_databases(connection: asyncpg.Connection) -> bool:
    return bool(await connection.fetchval("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"))


def _programs() -> Path | None:
    """Return the folder of the newest PostgreSQL of Debian's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return None
    return found[-1].parent if found else None


def _user() -> pwd.struct_passwd | None:
    """Return who the server runs as; None: as we do."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")
