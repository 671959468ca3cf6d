"""Make a Prefect server what `prefect.yaml` and `deployments/pools.py` say: `python -m deployments.apply [--check]`.

Run it in the checkout. It applies work pools, their queues, priorities and limits, the deployments with their
schedules, and the automations for runs whose worker died. It changes what differs and says so line by line; a second
run changes nothing. With ``--check`` it changes nothing, and exits with 1 if something differs. It neither changes nor
mentions what is not in the files here.

What an operator has changed on the server stays. It is named, and is no drift:

- a paused pool, queue or deployment, a disabled automation;
- a limit that is *lower* than the one here, or that exists where the files have none. A limit that is higher, or
  missing, is drift, because a limit in the files protects something;
- a schedule that was turned on or off. A new schedule is on if its runs have every parameter that the flow needs. Later
  it is turned on when applying gives the deployment such a parameter, and off when applying takes one away.

`prefect deploy --all` would undo these changes (docs/decisions/0016).

The inbox of `render-inbox/nightly` comes from the server's variables `fanreel_inbox` and `fanreel_output`:

    prefect variable set fanreel_inbox s3://films/inbox && python -m deployments.apply      # runs every night from now
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from httpx import URL, HTTPError, HTTPStatusError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from deployments.deployment_drift import find_deployment
from deployments.deployment_file import Deployment, read_deployments
from deployments.drift import Findings
from deployments.pool_drift import find_pool
from deployments.pools import POOLS
from deployments.zombies import find_automation, wanted_automations
from fanreel.errors import FanreelError

__all__ = ["apply_all", "describe_failure", "find_all", "main"]

FAILED = 1

MOST_ROUNDS = 3
"""A new pool comes with a queue, which the next round sees; the last round has to find nothing."""

PREFECT_FILE = Path(__file__).parents[1] / "prefect.yaml"


def main(arguments: Sequence[str]) -> int:
    """Apply, or check, and return the exit code.

    Args:
        arguments: Of the command line, without the command.
    """
    parser = argparse.ArgumentParser(prog="python -m deployments.apply", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if anything differs")
    check = parser.parse_args(arguments).check
    if not PREFECT_API_URL.value():
        return _fail("PREFECT_API_URL is not set; name the server, for example http://127.0.0.1:4200/api")
    try:
        with get_client(sync_client=True) as client:
            client.request("GET", "/version")  # if this fails, the flows need not be loaded
            deployments = read_deployments(PREFECT_FILE)
            return check_all(client, deployments) if check else apply_all(client, deployments)
    except FanreelError as error:
        return _fail(str(error))
    except (HTTPError, PrefectException) as error:
        return _fail(describe_failure(error))


def find_all(client: SyncPrefectClient, deployments: Sequence[Deployment]) -> Findings:
    """Return all changes that the server needs, pools first."""
    findings = Findings()
    for pool in POOLS:
        findings.extend(find_pool(client, pool))
    for deployment in deployments:
        findings.extend(find_deployment(client, deployment))
    for automation in wanted_automations():
        findings.extend(find_automation(client, automation))
    return findings


def check_all(client: SyncPrefectClient, deployments: Sequence[Deployment]) -> int:
    """Print what differs, and return 1 if anything does."""
    findings = find_all(client, deployments)
    for difference in findings.differences:
        print(difference)
    _tell_kept(findings)
    if findings.changes:
        print(f"{len(findings.differences)} differences; python -m deployments.apply mends them.")
        return FAILED
    print(f"No drift: {_summary(deployments)} are as they are written here.")
    return 0


def apply_all(client: SyncPrefectClient, deployments: Sequence[Deployment]) -> int:
    """Change what differs until nothing does, and return the exit code."""
    change_count = 0
    for _ in range(MOST_ROUNDS):
        findings = find_all(client, deployments)
        if not findings.changes:
            break
        for change in findings.changes:
            change.make(client)
            change_count += len(change.differences)
            for difference in change.differences:
                print(difference.mended())
    else:
        findings = find_all(client, deployments)
    _tell_kept(findings)
    if findings.changes:
        return _fail("still otherwise after all changes:\n" + "\n".join(map(str, findings.differences)))
    print(
        f"{change_count} changes made: {_summary(deployments)} are as they are written here."
        if change_count
        else f"Nothing to change: {_summary(deployments)} are as they are written here."
    )
    return 0


def describe_failure(error: HTTPError | PrefectException) -> str:
    """Return in one line why the server cannot be used, without the credentials in its address."""
    address = URL(PREFECT_API_URL.value() or "").copy_with(username=None, password=None)
    cause = error if isinstance(error, HTTPError) else error.__cause__
    if isinstance(cause, HTTPStatusError):
        status = cause.response.status_code
        if status == HTTPStatus.UNAUTHORIZED:
            why = "it wants another auth string (401); set PREFECT_API_AUTH_STRING to the server's"
        else:
            why = f"it answered {status} to {cause.request.method} {cause.request.url.path}: {cause.response.text}"
    else:
        why = str(error) or type(error).__name__
    return f"the Prefect server at {address} cannot be used: {' '.join(why.split())}"


def _summary(deployments: Sequence[Deployment]) -> str:
    queue_count = sum(len(pool.queues) for pool in POOLS)
    counts = f"{len(POOLS)} pools, {queue_count} queues, {len(deployments)} deployments"
    return f"{counts} and {len(wanted_automations())} automations"


def _tell_kept(findings: Findings) -> None:
    for line in findings.kept:
        print(line)


def _fail(message: str) -> int:
    print(f"fanreel: {message}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
