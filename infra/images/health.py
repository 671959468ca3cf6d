"""Exits with 0 if this container's `worker`, `server` or `services` are healthy.

A worker is healthy while it asks for runs, a server while its API answers, the services while their heartbeat is fresh.
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
"""The name that `prefect server services start` gives its docket; the API servers use another one."""

HEARTBEAT_SECONDS = 30.0
"""The services send a heartbeat every 2 s; a busy database may delay it."""


def is_served(url: str) -> bool:
    """Return whether `url` answers with 200 in time."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 -- this container's own
            return answer.status == 200
    except OSError:
        return False


def services_age_seconds(url: str, *, docket: str = SERVICES) -> float:
    """Return how old the last heartbeat of this container's services is; infinity if there was none.

    Args:
        url: The Redis through which Prefect's services share their work.
        docket: The name of their docket.
    """
    from redis import Redis

    with Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS) as client:
        said = client.zrange(f"{docket}:workers", 0, -1, withscores=True)
    own = f"{socket.gethostname()}#"
    return time.time() - max((at for name, at in said if name.decode().startswith(own)), default=-float("inf"))


def main(what: str) -> int:
    """Return 0 if `what` is healthy, else 1."""
    if what == "services":
        well = services_age_seconds(os.environ["PREFECT_SERVER_DOCKET_URL"]) < HEARTBEAT_SECONDS
    elif what == "server":
        well = is_served(f"http://127.0.0.1:{os.environ.get('PREFECT_SERVER_API_PORT', '4200')}/api/ready")
    else:
        well = is_served(f"http://127.0.0.1:{os.environ.get('PREFECT_WORKER_WEBSERVER_PORT', '8080')}/health")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
