"""One table: which errors are worth another try, how often, after how long, and what then.

The engine never tries again by itself. Prefect does, and so does the plain command; both ask here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from fanreel.errors import (
    DriverError,
    EncodeFaultError,
    EncoderBusyError,
    EncoderSettingsError,
    EncoderUnavailableError,
    GpuLostError,
    NoEncodeDeviceError,
    SandboxLostError,
    SegmentDamagedError,
    SegmentMissingError,
    SessionBusyError,
    SessionHungError,
    SessionLimitError,
    SessionLostError,
    SessionMemoryError,
    StorageAwayError,
)

__all__ = [
    "JITTER",
    "MOST_RETRIES",
    "POLICIES",
    "RETRY_DELAYS_SECONDS",
    "Otherwise",
    "RetryPolicy",
    "is_worth_another_device",
    "is_worth_retrying",
    "retry_delay_seconds",
]

RETRY_DELAYS_SECONDS = (1.0, 4.0, 16.0)
"""Waits before the first, second and third retry."""

JITTER = 0.5
"""Each wait is lengthened by up to this share of itself, so that sessions refused together do not return together."""


class Otherwise(Enum):
    """What is done with an error that is not tried again, or no longer."""

    FAIL = "fail"
    """The film fails with it."""
    ELSEWHERE = "elsewhere"
    """Another GPU makes the shard; where there is none, the CPU, if the job allows it."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """What is done about an error of one class.

    Attributes:
        retries: How often it is tried again, after a wait: the same segments in a new session.
        why: The reason for this number.
        otherwise: What is done then.
    """

    retries: int
    why: str
    otherwise: Otherwise = Otherwise.FAIL


_ELSEWHERE = Otherwise.ELSEWHERE

POLICIES: Mapping[type[Exception], RetryPolicy] = {
    SessionBusyError: RetryPolicy(3, "other films hold the sessions; theirs end"),
    SessionLimitError: RetryPolicy(3, "other programs' sessions end; ours wait for each other at the gate", _ELSEWHERE),
    EncoderBusyError: RetryPolicy(3, "it passes", _ELSEWHERE),
    SessionLostError: RetryPolicy(3, "a process was killed; its finished segments are kept", _ELSEWHERE),
    SessionMemoryError: RetryPolicy(1, "another film may have taken it; the same session alone fails the same way"),
    SessionHungError: RetryPolicy(2, "a new session is a new start; a device that hangs again is broken", _ELSEWHERE),
    EncodeFaultError: RetryPolicy(2, "an encoder may fail once", _ELSEWHERE),
    GpuLostError: RetryPolicy(0, "a GPU that fell off the bus does not come back by itself", _ELSEWHERE),
    NoEncodeDeviceError: RetryPolicy(0, "a GPU grows no encoder", _ELSEWHERE),
    DriverError: RetryPolicy(0, "a driver does not update itself", _ELSEWHERE),
    EncoderUnavailableError: RetryPolicy(0, "an encoder does not install itself", _ELSEWHERE),
    EncoderSettingsError: RetryPolicy(
        0, "the same settings are refused again; another encoder may take them", _ELSEWHERE
    ),
    SegmentDamagedError: RetryPolicy(2, "a damaged segment counts as missing and is made again"),
    SegmentMissingError: RetryPolicy(1, "someone cleared the store while it was read"),
    SandboxLostError: RetryPolicy(3, "a machine short of memory or processes may have some again"),
    StorageAwayError: RetryPolicy(5, "networks and services come back: a minute in all, beside the client's own tries"),
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


def is_worth_another_device(error: BaseException, *, retries: int) -> bool:
    """Return whether a shard whose session failed is to be made by another GPU, or by the CPU, now.

    Args:
        error: What happened.
        retries: How often the shard has been tried again already.
    """
    policy = POLICIES.get(type(error)) if isinstance(error, Exception) else None
    return policy is not None and retries >= policy.retries and policy.otherwise is Otherwise.ELSEWHERE


def retry_delay_seconds(retries: int) -> float:
    """Return how long to wait before the next try, jittered.

    Args:
        retries: How often it has been tried again already.
    """
    return RETRY_DELAYS_SECONDS[min(retries, len(RETRY_DELAYS_SECONDS) - 1)] * (1 + random.random() * JITTER)
