"""What the tests of a farm share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.pool_farm import Farm


@pytest.fixture(scope="module")
def truth(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The fingerprint of every frame of the farm's films, as fed to the encoder of an undisturbed run in this process.

    All films are made of the same photos at different qualities: they share all frames and no segment.
    """
    from support.farm_films import render_here  # which is of no use to the others

    return render_here(farm, tmp_path_factory.mktemp("truth"))


@pytest.fixture
def slow_gpus(farm: Farm) -> Iterator[None]:
    """Sessions on the emulated GPU last for seconds."""
    farm.gpus.set(microseconds_per_frame=15_000)
    yield
    farm.gpus.set(microseconds_per_frame=2000)
