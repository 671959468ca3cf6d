"""NVML, when it does not answer: it is asked once, and then no more."""

from __future__ import annotations

import threading

import pynvml
import pytest

from fanreel.sessions import gpus


class TestNvmlThatHangs:
    def test_it_is_asked_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked, go_on = [], threading.Event()

        def hang(uuid: str) -> None:
            asked.append(uuid)
            go_on.wait(60)

        monkeypatch.setattr(gpus, "_nvml", gpus._Nvml())
        monkeypatch.setattr(gpus, "NVML_SECONDS", 0.2)
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", hang)
        try:
            assert gpus.nvml_is_open()
            assert gpus.count_sessions("GPU-1") is None
            assert not gpus.nvml_is_open()
            assert gpus.count_sessions("GPU-1") is None
            assert asked == ["GPU-1"]
        finally:
            go_on.set()

    def test_its_start_is_bounded_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        go_on = threading.Event()
        monkeypatch.setattr(gpus, "_nvml", gpus._Nvml())
        monkeypatch.setattr(gpus, "NVML_SECONDS", 0.2)
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: go_on.wait(60))
        try:
            assert not gpus.nvml_is_open()
        finally:
            go_on.set()
