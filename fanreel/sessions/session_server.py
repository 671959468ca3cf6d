"""The fork server of sessions: it imports everything that a session needs, and compiles the resampler.

A session is a fork of it, starts in milliseconds, and shares its memory. (A spare process kept ready would cost 1.2 s
of imports a session instead of a film.) The server opens no encoder and touches no GPU, so that it can be forked.
"""

from __future__ import annotations

import contextlib
import importlib
import stat
import tempfile
from collections.abc import Iterator
from multiprocessing.connection import Connection
from os import geteuid, nice
from pathlib import Path

from fanreel.forks.server import ForkServer, end_quickly, offer_to_the_memory_killer
from fanreel.settings import read_settings

__all__ = ["main"]

SERVER_OFFER, SESSION_OFFER = 200, 400
"""By how many thousandths of the memory there is a process looks larger to the kernel than it is.

Enough that an owner of 150 MB outlives the others within 512 MB; a process that really fills a host still goes first.
"""


def main() -> None:
    """Be the server; in a fork, be a session, whose connection is the first descriptor and whose locks are the rest."""
    with end_quickly():
        offer_to_the_memory_killer(SERVER_OFFER)
        server = ForkServer.from_arguments()
        with server.end_with_owner():
            importlib.import_module("fanreel.sessions.session_process")
            importlib.import_module("cv2").setNumThreads(1)
            _compile()
        niceness = read_settings().session_niceness
        _give_way_as_a_group(niceness)
        request = server.serve()
        if request is not None:
            from fanreel.sessions.session_process import run_session

            offer_to_the_memory_killer(SESSION_OFFER)
            nice(niceness)
            # Open until the process ends: its owner takes this end for the process's, and kills what still runs then.
            connection = Connection(request.descriptors[0])
            run_session(connection)


def _give_way_as_a_group(niceness: int) -> None:
    """Have sessions give way to the processes of other terminals, daemons and workers too.

    Where the kernel groups processes by session, as on desktops, a process's own niceness counts within its group only.
    This process and its forks are a group. Source: sched(7), "The autogroup feature".
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(niceness))


def _compile() -> None:
    """Compile the kernels, once for all sessions, or load what an earlier run compiled.

    numba refuses to compile where it may keep nothing: neither beside the program nor in the user's cache.
    The store is then another place.
    """
    try:
        importlib.import_module("fanreel.draw.planes").warm()
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        with _private_folder(read_settings().store / "compiled") as folder:
            importlib.import_module("numba").config.CACHE_DIR = str(folder)
            importlib.import_module("fanreel.draw.planes").warm()


@contextlib.contextmanager
def _private_folder(folder: Path) -> Iterator[Path]:
    """Return `folder` if nobody else can write it, because what lies in it is run; otherwise one for this context."""
    if _is_private(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fanreel-") as temporary:
        yield Path(temporary)


def _is_private(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == geteuid() and not found.st_mode & 0o022
    return False


if __name__ == "__main__":
    main()
