"""The flow `calibrate-host`: how many encoder sessions at once are best on this machine.

`python -m flows.calibrate_host [--ceiling]` runs it here; `prefect.yaml` deploys it.
"""

from __future__ import annotations

import sys

from prefect import flow

from fanreel.host.calibration import Calibration
from flows.command import run_calibration
from tasks.calibrate import calibrate, name_calibration, show_calibration

__all__ = ["calibrate_host"]


@flow(name="calibrate-host", flow_run_name=name_calibration, persist_result=False)
def calibrate_host(ceiling: bool = False) -> Calibration:
    """Measure this machine's encoders, with no film beside, and keep what was found for its films.

    Args:
        ceiling: Also open up to 16 sessions at once, to find how many the driver allows; only where no other program
            has one.
    """
    calibration = calibrate(ceiling=ceiling)
    show_calibration(calibration)
    return calibration


if __name__ == "__main__":
    sys.exit(run_calibration(calibrate_host, sys.argv[1:]))
