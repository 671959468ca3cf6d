"""The flow `calibrate-host` on a real server: what it keeps, and what a person sees of it in a real browser."""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.browser import find_chromium, open_page
from support.emulated_nvenc import DEVICE_NAME, EmulatedDriver
from support.prefect_server import Served, serve

from fanreel.host.calibration import calibration_from_json
from tasks.calibrate import variable_name

pytestmark = [pytest.mark.soak, pytest.mark.alone]

NAME = "calibrate-host/calibrate-host"


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> EmulatedDriver:
    folder = tmp_path_factory.mktemp("hardware")
    # So slow that two cores draw and encode 1080p for four of them, even where other programs run beside.
    return EmulatedDriver(folder, engines=2, keep_engine=1, microseconds_per_frame=60_000, session_limit=5)


@pytest.fixture(scope="module")
def served(gpus: EmulatedDriver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in gpus.environment.items():
            patch.setenv(name, value)
        with serve(tmp_path_factory.mktemp("served")) as server, server.worker():
            yield server


@pytest.fixture(scope="module")
def run(served: Served) -> dict[str, Any]:
    """A flow run that looked for everything."""
    done = served.run("deployment", "run", NAME, "--params", '{"ceiling": true}', "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = served.ask("flow_runs/filter", {})
    return found


def test_the_form_has_one_box_with_its_words(served: Served) -> None:
    schema = served.ask(f"deployments/name/{NAME}")["parameter_openapi_schema"]
    assert list(schema["properties"]) == ["ceiling"]
    assert schema["properties"]["ceiling"]["type"] == "boolean"
    assert "16 sessions" in schema["properties"]["ceiling"]["description"]


def test_it_is_kept_on_the_host_and_as_a_variable(served: Served, gpus: EmulatedDriver, run: dict[str, Any]) -> None:
    kept = calibration_from_json((served.folder / "calibration.json").read_bytes())
    assert run["name"] == f"calibrate {kept.host}"
    variable = served.ask(f"variables/name/{variable_name(kept.host)}")["value"]
    assert variable["host"] == kept.host
    assert [device["device"] for device in variable["devices"]] == [gpus.uuid(0), "cpu"]
    gpu = kept.devices[0]
    assert (gpu.name, gpu.limit, gpu.engines, gpu.knee) == (DEVICE_NAME, 5, 2, 2)
    assert gpus.open_sessions() == 0


def test_its_table_and_picture_are_artifacts(served: Served, run: dict[str, Any]) -> None:
    artifacts = {each["key"]: each for each in served.ask("artifacts/filter", {}) if each["flow_run_id"] == run["id"]}
    assert {"calibration", "calibration-report", "calibration-picture"} <= artifacts.keys()
    assert DEVICE_NAME in artifacts["calibration"]["data"]
    data = artifacts["calibration-picture"]["data"].removeprefix("data:image/png;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (960, 540)


def test_the_picture_shows_in_a_browser(served: Served, run: dict[str, Any], tmp_path: Path) -> None:
    chromium = find_chromium()
    (artifact,) = [each for each in served.ask("artifacts/filter", {}) if each["key"] == "calibration-picture"]
    look = (
        "Math.max(0, ...[...document.images].filter(i => i.src.startsWith('data:image/png')).map(i => i.naturalWidth))"
    )
    with open_page(chromium, tmp_path) as page:
        page.open(f"{served.url}/artifacts/artifact/{artifact['id']}")
        deadline = time.monotonic() + 60
        while not (width := page.evaluate(look)) and time.monotonic() < deadline:
            time.sleep(0.5)
    assert width == 960, f"no such picture on the page; {os.fspath(tmp_path)}"
