"""Pools: which may render a film, with which encoders, and how fast their children are thought to be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanreel.codecs import CODEC_ENCODERS, ENCODER_NAMES, Codec, EncoderChoice
from fanreel.dispatch.pools import (
    UNMEASURED_PX_PER_SECOND,
    DeviceKind,
    MeasuredSpeed,
    choose_pools,
    encoders_on,
    expect_fps,
)
from fanreel.errors import InvalidJobError
from fanreel.host.calibration import Calibration, CurvePoint, DeviceCalibration, calibration_speeds
from fanreel.job.encoding import Encoding, Fallback
from fanreel.plan.encoding import EncodingPlan, allowed_encoders, plan_encoding

GPU, CPU = DeviceKind.GPU, DeviceKind.CPU
BOTH = {"nvenc": GPU, "cpu": CPU}


def encoding(*, width_px: int = 1920, height_px: int = 1080, **words: object) -> EncodingPlan:
    asked = Encoding.model_validate(words)
    return plan_encoding(asked, width_px=width_px, height_px=height_px, frame_rate=Fraction(30))


class TestEncoders:
    def test_nvenc_runs_on_gpus_and_all_others_on_cpus(self) -> None:
        assert encoders_on(GPU, ENCODER_NAMES) == ("nvenc",)
        assert encoders_on(CPU, ENCODER_NAMES) == tuple(name for name in ENCODER_NAMES if name != "nvenc")

    def test_they_keep_their_order(self) -> None:
        assert encoders_on(CPU, ["x265", "nvenc", "x264"]) == ("x265", "x264")
        assert encoders_on(CPU, []) == ()

    @given(st.lists(st.sampled_from(ENCODER_NAMES)))
    def test_each_runs_on_one_kind(self, names: list[str]) -> None:
        assert sorted(encoders_on(GPU, names) + encoders_on(CPU, names)) == sorted(names)


class TestChoice:
    def test_h264_is_made_by_all_of_them(self) -> None:
        choice = choose_pools(encoding(), BOTH)
        assert dict(choice.devices) == BOTH
        assert choice.encoders == ("nvenc", "x264")
        assert choice.left_out == ()

    def test_pools_keep_the_job_s_order_and_encoders_theirs(self) -> None:
        choice = choose_pools(encoding(), {"cpu": CPU, "nvenc": GPU, "more": CPU})
        assert list(choice.devices) == ["cpu", "nvenc", "more"]
        assert choice.encoders == ("nvenc", "x264")

    def test_without_fallback_only_the_best_encoder_s_pools_remain(self) -> None:
        choice = choose_pools(encoding(fallback=Fallback.NEVER), {"cpu": CPU, "a": GPU, "b": GPU})
        assert dict(choice.devices) == {"a": GPU, "b": GPU}
        assert choice.encoders == ("nvenc",)
        assert choice.left_out == ("cpu",)

    def test_without_fallback_and_without_gpus_the_best_one_is_the_cpu_s(self) -> None:
        choice = choose_pools(encoding(fallback=Fallback.NEVER), {"cpu": CPU})
        assert (dict(choice.devices), choice.encoders, choice.left_out) == ({"cpu": CPU}, ("x264",), ())

    @pytest.mark.parametrize("codec", [Codec.HEVC, Codec.AV1])
    def test_other_codecs_are_of_one_encoder(self, codec: Codec) -> None:
        # Two encoders' parameter sets share no track in them.
        choice = choose_pools(encoding(codec=codec), BOTH)
        assert choice.encoders == ("nvenc",)
        assert list(choice.devices) == ["nvenc"]
        assert choice.left_out == ("cpu",)
        alone = choose_pools(encoding(codec=codec), {"cpu": CPU})
        assert alone.encoders == encoders_on(CPU, [encoder.value for encoder in CODEC_ENCODERS[codec]])[:1]

    @pytest.mark.parametrize(("encoder", "pool"), [("nvenc", "nvenc"), ("x264", "cpu")])
    def test_an_encoder_that_is_asked_for_is_the_only_one(self, encoder: str, pool: str) -> None:
        choice = choose_pools(encoding(encoder=encoder), BOTH)
        assert choice.encoders == (encoder,)
        assert list(choice.devices) == [pool]

    def test_pools_that_cannot_make_it_are_refused_by_name(self) -> None:
        with pytest.raises(InvalidJobError, match=r"none of cpu, slow makes h264 with nvenc; .*encoder: auto"):
            choose_pools(encoding(encoder="nvenc"), {"cpu": CPU, "slow": CPU})
        with pytest.raises(InvalidJobError, match=r"none of nvenc makes av1 with svt-av1"):
            choose_pools(encoding(codec="av1", encoder="svt-av1"), {"nvenc": GPU})

    @given(
        st.sampled_from(list(Codec)),
        st.sampled_from(list(Fallback)),
        st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(list(DeviceKind)), min_size=1),
    )
    def test_every_pool_has_an_encoder_of_the_film_or_is_left_out(
        self, codec: Codec, fallback: Fallback, devices: dict[str, DeviceKind]
    ) -> None:
        asked = encoding(codec=codec, fallback=fallback)
        choice = choose_pools(asked, devices)
        assert choice.devices
        assert [*choice.devices, *choice.left_out] == sorted(devices, key=lambda pool: pool in choice.left_out)
        assert all(encoders_on(device, choice.encoders) for device in choice.devices.values())
        assert not any(encoders_on(devices[pool], choice.encoders) for pool in choice.left_out)
        assert set(choice.encoders) <= set(allowed_encoders(asked))
        assert len(choice.encoders) == 1 or codec is Codec.H264


def device(kind: str, fps: float, sessions: int = 1, film: str = "1920x1080 at 30 fps, h264 fast") -> DeviceCalibration:
    return DeviceCalibration(
        device=kind,
        name="",
        encoder="x264" if kind == "cpu" else "nvenc",
        driver="",
        pyav="18.1.0",
        measured_at=datetime(2026, 1, 2, tzinfo=UTC),
        film=film,
        curve=(CurvePoint(sessions, fps),),
        knee=sessions,
    )


class TestSpeed:
    def test_unmeasured_pools_have_the_speeds_that_are_written_down(self) -> None:
        for kind in DeviceKind:
            assert expect_fps(encoding(), kind, []) == UNMEASURED_PX_PER_SECOND[kind] / (1920 * 1080)

    def test_it_is_the_median_of_the_hosts_of_that_kind(self) -> None:
        speeds = [MeasuredSpeed(CPU, px * 1e6) for px in (10, 40, 1000)] + [MeasuredSpeed(GPU, 1e9)]
        assert expect_fps(encoding(), CPU, speeds) == pytest.approx(40e6 / (1920 * 1080))
        assert expect_fps(encoding(), GPU, speeds) == pytest.approx(1e9 / (1920 * 1080))

    def test_larger_frames_take_longer(self) -> None:
        small = expect_fps(encoding(width_px=960, height_px=540), CPU, [])
        assert small == pytest.approx(4 * expect_fps(encoding(), CPU, []))

    def test_what_makes_no_sense_does_not_count(self) -> None:
        speeds = [MeasuredSpeed(CPU, 0.0), MeasuredSpeed(CPU, -1.0)]
        assert expect_fps(encoding(), CPU, speeds) == expect_fps(encoding(), CPU, [])

    def test_a_calibration_tells_of_one_session_at_the_knee(self) -> None:
        found = calibration_speeds(Calibration("host", (device("GPU-1", 600.0, 3), device("cpu", 60.0, 2))))
        assert found == [MeasuredSpeed(GPU, 200.0 * 1920 * 1080), MeasuredSpeed(CPU, 30.0 * 1920 * 1080)]
        assert expect_fps(encoding(), GPU, found) == pytest.approx(200.0)
        assert expect_fps(encoding(), CPU, found) == pytest.approx(30.0)

    def test_the_knee_counts_not_the_best_point(self) -> None:
        curve = (CurvePoint(1, 100.0), CurvePoint(2, 190.0), CurvePoint(4, 200.0))
        measured = replace(device("GPU-1", 1.0), curve=curve, knee=2)
        assert calibration_speeds(Calibration("host", (measured,))) == [MeasuredSpeed(GPU, 95.0 * 1920 * 1080)]

    @pytest.mark.parametrize("film", ["", "a film", "0x0 at 30 fps", "1920x", "x1080 at 30 fps", "1920x1080"])
    def test_a_film_whose_size_is_not_said_is_left_out(self, film: str) -> None:
        assert calibration_speeds(Calibration("host", (device("cpu", 60.0, film=film),))) == []

    def test_a_host_without_devices_says_nothing(self) -> None:
        assert calibration_speeds(Calibration("host", ())) == []

    @given(st.lists(st.floats(1e-3, 1e12)), st.sampled_from(list(DeviceKind)))
    def test_it_is_above_0_whatever_was_measured(self, speeds: list[float], kind: DeviceKind) -> None:
        assert expect_fps(encoding(), kind, [MeasuredSpeed(kind, speed) for speed in speeds]) > 0


def test_the_encoder_of_gpus_is_called_nvenc() -> None:
    assert EncoderChoice.NVENC == "nvenc"
