"""One table: which errors are worth another try, how often, and after how long.

The engine never tries again by itself. Prefect does, and so does the plain command; both ask here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from fanreel.errors import (
    EncodeFaultError,
    SegmentDamagedError,
    SegmentMissingError,
    SessionBusyError,
    SessionHungError,
    SessionLostError,
    SessionMemoryError,
)

__all__ = [
    "JITTER",
    "MOST_RETRIES",
    "POLICIES",
    "RETRY_DELAYS_SECONDS",
    "RetryPolicy",
    "is_worth_retrying",
    "retry_delay_seconds",
]

RETRY_DELAYS_SECONDS = (1.0, 4.0, 16.0)
"""Waits before the first, second and third retry."""

JITTER = 0.5
"""Each wait is lengthened by up to this share of itself, so that sessions refused together do not return together."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often an error of one class is tried again, with what consequence."""

    retries: int
    why: str


POLICIES: Mapping[type[Exception], RetryPolicy] = {
    SessionBusyError: RetryPolicy(3, "other films hold the sessions; theirs end"),
    SessionLostError: RetryPolicy(3, "a process was killed; its finished segments are kept"),
    SessionMemoryError: RetryPolicy(1, "another film may have taken it; the same session alone fails the same way"),
    SessionHungError: RetryPolicy(2, "a new session is a new start; a device that hangs again is broken"),
    EncodeFaultError: RetryPolicy(2, "an encoder may fail once"),
    SegmentDamagedError: RetryPolicy(2, "a damaged segment counts as missing and is made again"),
    SegmentMissingError: RetryPolicy(1, "someone cleared the store while it was read"),
}

MOST_RETRIES = max(policy.retries for policy in POLICIES.values())


def is_worth_retrying(error: BaseException, *, retries: int) -> bool:
    """Return whether to try once more.

    Args:
        error: What happened.
        retries: How often it has been tried again already.
    """
    policy = POLICIES.get(type(error)) if isinstance(error, Exception) else None
    return policy is not None and retries < policy.retries


def retry_delay_seconds(retries: int) -> float:
    """Return how long to wait before the next try, jittered.

    Args:
        retries: How often it has been tried again already.
    """
    return RETRY_DELAYS_SECONDS[min(retries, len(RETRY_DELAYS_SECONDS) - 1)] * (1 + random.random() * JITTER)
