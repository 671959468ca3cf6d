"""Logs without stacks, where an error says by itself what to do."""

from __future__ import annotations

import logging

from fanreel.errors import FanreelError

__all__ = ["spare_stacks"]


def spare_stacks() -> None:
    """Leave the stack out of Prefect's log where an error is our own: its message says what to do."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(_drop_stack)


def _drop_stack(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], FanreelError):
        record.exc_info = None
    return True
