"""Slots that the server counts and nobody holds: when they are lost for certain, and how many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.lost_slots import LostSlots, holders_gate

PATIENCE = 100.0


@pytest.mark.parametrize(
    ("looks", "given_back"),
    [
        ([(0, 1, 1), (200, 2, 2)], [0, 0]),  # all that is counted is held
        ([(0, 2, 1), (99, 2, 1), (100, 2, 1)], [0, 0, 1]),
        ([(0, 1, 0), (60, 1, 1), (120, 1, 0), (180, 1, 0)], [0, 0, 0, 0]),  # another one each time
        ([(0, 3, 0), (50, 2, 1), (100, 3, 0)], [0, 0, 1]),  # so many at least, all the time
        ([(0, 1, 2), (200, 0, 1)], [0, 0]),  # held before it is counted, and after
        ([(0, 1, 0), (100, 1, 0), (150, 1, 0), (250, 1, 0)], [0, 1, 0, 1]),  # they would not come back
    ],
)
def test_what_is_counted_and_not_held_for_long_enough_is_lost(
    looks: list[tuple[float, int, int]], given_back: list[int]
) -> None:
    lost = LostSlots(PATIENCE)
    assert [lost.note(now, counted=counted, held=held) for now, counted, held in looks] == given_back


def test_holders_are_seen_whichever_server_they_have_the_slots_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holders_gate("nvenc:host", folder=tmp_path).hold(weight=2, timeout_seconds=0):
        monkeypatch.setenv("PREFECT_API_URL", "http://localhost:4200/api")
        assert holders_gate("nvenc:host", folder=tmp_path).slots_in_use() == 2
        assert holders_gate("nvenc:other", folder=tmp_path).slots_in_use() == 0
    assert holders_gate("nvenc:host", folder=tmp_path).slots_in_use() == 0
