"""Calibrate: measure the host, keep what was found, show it."""

from __future__ import annotations

import base64
import json
import platform
import re
from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact
from prefect.variables import Variable

from fanreel.errors import EncoderError
from fanreel.host import calibrate as engine
from fanreel.host.calibration import Calibration, calibration_to_json
from fanreel.host.calibration_picture import draw_calibration
from fanreel.host.calibration_report import calibration_rows, calibration_table, keep_calibration
from fanreel.host.host import current_host
from tasks.artifacts import if_it_can_be_shown
from tasks.retries import ONCE

__all__ = ["calibrate", "name_calibration", "show_calibration", "variable_name"]

LARGEST_VARIABLE = 5000
"""Characters of JSON that Prefect takes as a variable's value."""


def name_calibration() -> str:
    """Return the name of the present flow run: the host's."""
    return f"calibrate {platform.node()}"


def variable_name(host: str) -> str:
    """Return the name of the Prefect Variable that holds a host's calibration: small letters, digits, underscores."""
    return f"calibration_{re.sub(r'[^a-z0-9]+', '_', host.lower()).strip('_')}"[:255]


@task(name="calibrate", **ONCE)
def calibrate(*, ceiling: bool) -> Calibration:
    """Return what was measured of this host; it is kept in its file."""
    host, log = current_host(), get_run_logger()
    calibration = engine.calibrate(host, ceiling=ceiling, on_line=log.info)
    for path in keep_calibration(calibration, host.settings.calibration):
        log.info("kept in %s", path)
    if host.settings.gpu_sessions is not None:
        log.warning("FANREEL_GPU_SESSIONS is set, so films get %d sessions a GPU", host.settings.gpu_sessions)
    return calibration


@task(name="show calibration", **ONCE)
def show_calibration(calibration: Calibration) -> None:
    """Show a calibration as a table and a picture, and keep it as a Prefect Variable.

    Raises:
        EncoderError: Something that was asked for could not be measured.
    """
    host = calibration.host
    get_run_logger().info("%s:\n%s", host, calibration_table(calibration))
    with if_it_can_be_shown(f"the calibration of {host}"):
        create_table_artifact(calibration_rows(calibration), key="calibration", description=host)
        create_markdown_artifact(f"```\n{calibration_table(calibration)}\n```", "calibration-report", description=host)
        picture = base64.b64encode(draw_calibration(calibration)).decode()
        create_image_artifact(f"data:image/png;base64,{picture}", key="calibration-picture", description=host)
    with if_it_can_be_shown(f"the variable {variable_name(host)}"):
        Variable.set(variable_name(host), _variable_value(calibration), overwrite=True)
    if calibration.left_out:
        raise EncoderError("; ".join(calibration.left_out))


def _variable_value(calibration: Calibration) -> Any:  # noqa: ANN401 -- what JSON has
    whole = json.loads(calibration_to_json(calibration))
    if len(json.dumps(whole)) <= LARGEST_VARIABLE:
        return whole
    return json.loads(calibration_to_json(calibration.without_curves()))
