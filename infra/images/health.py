"""Exits with 0 if what runs in this container is well: `worker`, `server` or `services`.

A worker is well while it asks for runs, a server while its API answers, the services while their heartbeat is fresh.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.request

__all__ = ["HEARTBEAT_SECONDS", "is_served", "services_age_seconds"]

ANSWER_SECONDS = 5.0

SERVICES = "prefect"
"""What `prefect server services start` calls its work; the API servers do theirs under another name."""

HEARTBEAT_SECONDS = 30.0
"""The services say every 2 s that they live; a busy database may hold them up."""


def is_served(url: str) -> bool:
    """Return whether `url` answers with 200 in time."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 -- this container's own
            return answer.status == 200
    except OSError:
        return False


def services_age_seconds(url: str, *, docket: str = SERVICES) -> float:
    """Return how long ago this container's services last said that they live; infinity if they never did.

    Args:
        url: The Redis that Prefect's services share their work by.
        docket: The name of that work.
    """
    from redis import Redis

    with Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS) as client:
        said = client.zrange(f"{docket}:workers", 0, -1, withscores=True)
    own = f"{socket.gethostname()}#"
    return time.time() - max((at for name, at in said if name.decode().startswith(own)), default=-float("inf"))


def main(what: str) -> int:
    """Return 0 if `what` is well, else 1."""
    if what == "services":
        well = services_age_seconds(os.environ["PREFECT_SERVER_DOCKET_URL"]) < HEARTBEAT_SECONDS
    elif what == "server":
        well = is_served(f"http://127.0.0.1:{os.environ.get('PREFECT_SERVER_API_PORT', '4200')}/api/ready")
    else:
        well = is_served(f"http://127.0.0.1:{os.environ.get('PREFECT_WORKER_WEBSERVER_PORT', '8080')}/health")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
