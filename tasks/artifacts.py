"""Artifacts: shown where a server can be reached, and never the reason why a film fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from httpx import HTTPError
from prefect import get_run_logger
from prefect.exceptions import PrefectException

__all__ = ["if_it_can_be_shown"]


@contextmanager
def if_it_can_be_shown(what: str) -> Iterator[None]:
    """Log a warning instead of failing if the server does not take an artifact."""
    try:
        yield
    except (HTTPError, PrefectException) as error:
        get_run_logger().warning("%s could not be shown: %s", what, error)
