"""The emulated driver does to PyAV, ffmpeg and nvidia-ml-py what the real one is known to do."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from support.emulated_nvenc import DEVICE_NAME, EmulatedDriver, driver_or_skip

pytestmark = pytest.mark.soak  # `make test` has one film through the driver in test_nvenc.py

SIZE = (320, 240)

# Answers each line of JSON with one; its pictures are a slope that moves. Exceptions are told, not kept: they would
# keep the session open.
CLIENT = """
import sys, json
from fractions import Fraction
import av, av.logging, numpy as np
av.logging.set_level(av.logging.INFO)
av.logging.set_skip_repeated(False)  # or the second of two equal failures is captured without its reason
contexts, fed, packets = {}, {}, {}

def picture(index, width, height, pixels="nv12"):
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    planes = [across + 3 * index, down + index, across + down]
    frame = av.VideoFrame.from_ndarray(np.stack(planes, 2).astype(np.uint8), format="rgb24")
    frame = frame.reformat(format=pixels)
    frame.pts, frame.time_base = 10 * index + 7, Fraction(1, 300)
    return frame

def do(action, name="a", codec="h264_nvenc", pixels="nv12", size=(320, 240), pictures=1, keyframes=(), **options):
    if action == "open":
        context = av.CodecContext.create(codec, "w")
        context.width, context.height = size
        context.pix_fmt, context.time_base, context.framerate = pixels, Fraction(1, 300), Fraction(30)
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = 1, 1, 1, 1
        defaults = {"preset": "p1", "rc": "vbr", "cq": "20", "b": "0", "forced-idr": "1", "bf": "0"}
        context.options = defaults | {key.replace("_", "-"): value for key, value in options.items()}
        context.open()
        contexts[name], fed[name], packets[name] = context, 0, []
    elif action == "encode":
        context = contexts[name]
        for _ in range(pictures):
            frame = picture(fed[name], context.width, context.height, context.pix_fmt)
            if fed[name] in keyframes:
                frame.pict_type = av.video.frame.PictureType.I
            fed[name] += 1
            packets[name] += [told(packet) for packet in context.encode(frame)]
    elif action == "finish":
        packets[name] += [told(packet) for packet in contexts[name].encode(None)]
    elif action == "drop":
        del contexts[name]
    elif action == "decode":
        return decode(name)
    return {"packets": len(packets.get(name, []))}

def told(packet):
    return packet.pts, packet.dts, packet.is_keyframe, bytes(packet)

def decode(name):
    decoder = av.CodecContext.create("h264", "r")
    frames = []
    for pts, dts, _, data in packets[name]:
        packet = av.Packet(data)
        packet.pts, packet.dts = pts, dts
        frames += decoder.decode(packet)
    frames += decoder.decode(None)
    worst = 99.0
    for index, frame in enumerate(frames):
        source = picture(index, frame.width, frame.height).reformat(format="yuv420p").to_ndarray()
        error = source.astype(float) - frame.reformat(format="yuv420p").to_ndarray()
        worst = min(worst, 10 * np.log10(255**2 / max(1e-9, (error**2).mean())))
    first = frames[0]
    return {
        "pts": [frame.pts for frame in frames], "dts": [packet[1] for packet in packets[name]],
        "keyframes": [index for index, packet in enumerate(packets[name]) if packet[2]], "psnr": worst,
        "colour": [first.color_primaries, first.color_trc, first.colorspace, first.color_range],
        "start": packets[name][0][3][:64].hex(), "profile": decoder.profile,
    }

print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    with av.logging.Capture(True) as logs:
        try:
            answer = do(**json.loads(line))
        except Exception as error:
            answer = {"error": type(error).__name__, "errno": getattr(error, "errno", None), "text": str(error)}
            del error
    answer["log"] = "".join(log[2] for log in logs)
    print(json.dumps(answer), flush=True)
"""


class Client:
    """A process with PyAV and the driver, and any number of encoders by name."""

    def __init__(self, driver: EmulatedDriver, **environment: str) -> None:
        self.process = driver.start([sys.executable, "-c", CLIENT], **environment)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.lines, self.answers = self.process.stdin, self.process.stdout
        assert self.answer() == "ready"

    def tell(self, action: str, **what: Any) -> None:
        self.lines.write(json.dumps({"action": action, **what}) + "\n")
        self.lines.flush()

    def answer(self) -> Any:
        line = self.answers.readline()
        return json.loads(line) if line else {"error": "no answer", "log": "", "text": ""}

    def ask(self, action: str, **what: Any) -> dict[str, Any]:
        self.tell(action, **what)
        return self.answer()

    def do(self, action: str, **what: Any) -> dict[str, Any]:
        answer = self.ask(action, **what)
        assert "error" not in answer, answer
        return answer

    def end(self, number: int = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


Start = Callable[..., Client]


@pytest.fixture(scope="module", autouse=True)
def libraries() -> Path:
    return driver_or_skip()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start clients that end with the test, whatever they hang in."""
    clients: list[Client] = []

    def start_client(driver: EmulatedDriver, **environment: str) -> Client:
        clients.append(Client(driver, **environment))
        return clients[-1]

    yield start_client
    for client in clients:
        if client.process.poll() is None:
            client.process.kill()
        client.process.communicate()


def ask_nvml(driver: EmulatedDriver, code: str) -> Any:
    """Return what the last expression of `code` is in a process that has initialised pynvml as `n`."""
    script = f"import json, pynvml as n\nn.nvmlInit()\nh = n.nvmlDeviceGetHandleByIndex\nprint(json.dumps({code}))"
    found = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **driver.environment}, capture_output=True, text=True
    )
    return json.loads(found.stdout) if found.returncode == 0 else found.stderr.splitlines()[-1]


PICTURES = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=30:duration=2", "-pix_fmt", "yuv420p"]
NVENC = ["-c:v", "h264_nvenc", "-rc", "vbr", "-cq", "20", "-b:v", "0"]
NOWHERE = ["-f", "null", "-"]


def run_ffmpeg(driver: EmulatedDriver, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *arguments]
    environment = {**os.environ, **driver.environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def ignores(pid: int, number: int) -> bool:
    found = re.search(r"^SigIgn:\s+([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


def read_sequence(start: str) -> tuple[int, int, int]:
    """Return profile, id and POC type of the SPS that a High profile stream begins with. Source: H.264, 7.3.2.1.1."""
    data = bytes.fromhex(start)
    begin = next(at for at in range(len(data)) if data[at : at + 3] == b"\0\0\1" and data[at + 3] & 31 == 7) + 4
    bits = "".join(f"{byte:08b}" for byte in data[begin + 3 :])

    def number() -> int:
        nonlocal bits
        zeros = bits.index("1")
        value, bits = int(bits[zeros : 2 * zeros + 1], 2) - 1, bits[2 * zeros + 1 :]
        return value

    sequence = number()
    assert [number(), number(), number()] == [1, 0, 0], "4:2:0, 8 bits"
    assert bits[:2] == "00", "no transform bypass, no scaling matrix"
    bits = bits[2:]
    number()
    return data[begin], sequence, number()


@pytest.mark.parametrize("pixels", ["nv12", "yuv420p"])
def test_pictures_come_back_in_time_and_as_fed(tmp_path: Path, start: Start, pixels: str) -> None:
    driver = EmulatedDriver(tmp_path, microseconds_per_frame=500)
    client = start(driver)
    client.do("open", pixels=pixels, profile="high")
    assert client.do("encode")["packets"] == 0, "NVENC's clients see a delay"
    client.do("encode", pictures=39, keyframes=[13, 30])
    client.do("finish")
    film = client.do("decode")
    assert film["pts"] == film["dts"] == [10 * index + 7 for index in range(40)]
    assert film["keyframes"] == [0, 13, 30]
    assert film["psnr"] > 40
    assert film["colour"] == [1, 1, 1, 1]
    assert read_sequence(film["start"]) == (100, 0, 2), "unlike our x264's, whose SPS has id 1 and POC type 0"
    client.do("drop")
    assert (driver.pictures(), driver.opens(), driver.destroys(), driver.open_sessions()) == (40, 1, 1, 0)


def test_b_frames_come_unless_a_client_says_no(tmp_path: Path, start: Start) -> None:
    client = start(EmulatedDriver(tmp_path))
    client.do("open", preset="p4", bf="2")
    client.do("encode", pictures=30, keyframes=[16])
    client.do("finish")
    film = client.do("decode")
    assert film["pts"] == [10 * index + 7 for index in range(30)]
    assert film["dts"] == sorted(film["dts"])
    assert film["dts"][0] < film["pts"][0]
    assert film["psnr"] > 40
    assert len(film["keyframes"]) == 2


@pytest.mark.parametrize("options", [{"rc_lookahead": "6"}, {"delay": "0"}, {"rc": "constqp", "qp": "18"}])
def test_other_ways_to_ask(tmp_path: Path, start: Start, options: dict[str, str]) -> None:
    client = start(EmulatedDriver(tmp_path, delay_pictures=2))
    client.do("open", **options)
    client.do("encode", pictures=20)
    client.do("finish")
    film = client.do("decode")
    assert film["pts"] == [10 * index + 7 for index in range(20)]
    assert film["psnr"] > 38


SESSION = "OpenEncodeSessionEx failed: "
OLD_DRIVER = "Driver does not support the required nvenc API version. Required: 13.0 Found: 10.0"
SMALL = "InitializeEncoder failed: invalid param (8): Frame Dimension less than the minimum supported value."
OPEN_FAULTS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"gpus": 0}, {}, "UnknownError", "cuInit(0) failed -> CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected"),
    ({"no_encoder": 1}, {}, "ExternalError", SESSION + "unsupported device (2): (no details)"),
    ({"no_encoder": 1, "no_encoder_code": 1}, {}, "ExternalError", SESSION + "no encode device (1): (no details)"),
    ({"fail_open_every": 1}, {}, "ExternalError", SESSION + "out of memory (10): (no details)"),
    ({"fail_open_every": 1, "fail_open_code": 21}, {}, "ExternalError", SESSION + "incompatible client key (21): "),
    ({"lost": 1}, {}, "ExternalError", "failed -> CUDA_ERROR_DEVICE_UNAVAILABLE: "),
    ({"api_version": "10.0"}, {}, "NotImplementedError", OLD_DRIVER),
    ({}, {"size": (128, 40)}, "ArgumentError", SMALL),
    ({}, {"size": (5000, 400)}, "ExternalError", "Width 5000 exceeds 4096"),
    ({}, {"codec": "hevc_nvenc"}, "ExternalError", "Codec not supported"),
    ({}, {"pixels": "p010le"}, "ExternalError", "10 bit encode not supported"),
    ({}, {"gpu": "3"}, "ExternalError", "No capable devices found"),
    ({"max_b_frames": 0}, {"bf": "2"}, "ExternalError", "Max B-frames 2 exceed 0"),
]


def test_what_keeps_an_encoder_from_opening_is_told_as_the_real_driver_tells_it(tmp_path: Path, start: Start) -> None:
    # One process, which sees each change at its next call.
    driver = EmulatedDriver(tmp_path, gpus=0)
    client = start(driver)
    working = {"gpus": 1, "no_encoder": 0, "no_encoder_code": 2, "fail_open_every": 0, "fail_open_code": 10, "lost": 0}
    for settings, options, error, text in OPEN_FAULTS:
        driver.set(**working, api_version="13.1", max_b_frames=4)
        driver.set(**settings)
        answer = client.ask("open", **options)
        assert (answer["error"], text in answer["log"]) == (error, True), answer
        assert driver.open_sessions() == 0
    assert [driver.refusals(code) for code in (1, 2, 10, 21)] == [1, 1, 1, 1]


def test_a_misspelt_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sesion_limit"):
        EmulatedDriver(tmp_path, sesion_limit=1)


def test_a_machine_lacks_libraries(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path)
    for library in ("libcuda.so.1", "libnvidia-encode.so.1"):
        answer = start(driver.without(library)).ask("open")
        assert (answer["error"], f"Cannot load {library}" in answer["log"]) == ("PermissionError", True), answer
    assert "NVMLError_LibraryNotFound" in ask_nvml(driver.without("libnvidia-ml.so.1"), "1")
    start(driver.without("libnvidia-ml.so.1")).do("open")


def test_a_picture_fails_once_or_always(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path, fail_picture=5, fail_code=20)
    client = start(driver)
    client.do("open")
    answer = client.ask("encode", pictures=10)
    assert (answer["error"], "EncodePicture failed!: generic error (20)" in answer["log"]) == ("UnknownError", True)
    driver.set(fail_code=5)
    client.do("open")
    answer = client.ask("encode", pictures=10)
    assert (answer["error"], "EncodePicture failed!: device does not exist (5)" in answer["log"]) == ("OSError", True)
    driver.set(fail_picture_once=1)
    client.do("open", name="first")
    client.do("open", name="second")
    assert "error" in client.ask("encode", name="second", pictures=10)
    client.do("encode", name="first", pictures=10)
    driver.set(fail_picture_once=2)
    client.do("open", name="third")
    assert "error" in client.ask("encode", name="third", pictures=10)


def test_every_third_open_fails(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path, fail_open_every=3, fail_open_code=10)
    clients = [start(driver), start(driver)]
    failed = ["error" in clients[index % 2].ask("open", name=str(index)) for index in range(6)]
    assert failed == [False, False, True, False, False, True]
    assert driver.refusals(10) == 2


def test_sessions_are_counted_over_processes_and_freed_by_kill(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path, session_limit=3)
    one, other = start(driver), start(driver)
    one.do("open", name="a")
    one.do("open", name="b")
    other.do("open")
    assert "incompatible client key (21)" in other.ask("open", name="b")["log"]
    driver.set(limit_code=10)
    assert "out of memory (10)" in one.ask("open", name="c")["log"]
    assert sorted(driver.pids()) == sorted([one.process.pid] * 2 + [other.process.pid])
    assert (driver.refusals(21), driver.refusals(10), driver.most_sessions()) == (1, 1, 3)
    one.end(signal.SIGKILL)
    assert driver.pids() == [other.process.pid]
    other.do("open", name="b")
    other.do("drop", name="b")
    assert driver.open_sessions() == 1


def test_a_limit_holds_when_all_open_at_once(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path, session_limit=2)
    clients = [start(driver) for _ in range(4)]
    for client in clients:
        client.tell("open")
    assert sum("error" not in client.answer() for client in clients) == 2
    assert (driver.most_sessions(), driver.opens(), driver.refusals(21)) == (2, 2, 2)


def test_each_gpu_has_its_own_limit_and_the_system_one_too(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path, gpus=2, system_session_limit=3)
    driver.set_gpu(0, session_limit=1)
    client = start(driver)
    client.do("open", name="a", gpu="0")
    assert "error" in client.ask("open", name="b", gpu="0")
    client.do("open", name="b", gpu="1")
    # A client that names no GPU gets the first that takes it.
    client.do("open", name="c")
    assert (driver.open_sessions(0), driver.open_sessions(1)) == (1, 2)
    assert "error" in client.ask("open", name="d", gpu="1")
    assert (driver.most_sessions(0), driver.most_sessions(1), driver.most_sessions()) == (1, 2, 3)


@pytest.mark.parametrize("where", ["open", "encode"])
def test_a_hung_call_ends_by_sigkill_only(tmp_path: Path, start: Start, where: str) -> None:
    driver = EmulatedDriver(tmp_path, hang=where, hang_picture=4, hang_once=1)
    client, other = start(driver), start(driver)
    if where == "open":
        client.tell("open")
    else:
        client.do("open")
        client.do("encode", pictures=3)
        client.tell("encode", pictures=1)
    wait_until(lambda: ignores(client.process.pid, signal.SIGUSR2))  # the hanging call begins with that
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        client.process.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        client.process.wait(0.5)
    other.do("open")
    other.do("encode", pictures=8)
    assert client.end(signal.SIGKILL) == -signal.SIGKILL
    assert driver.pids() == [other.process.pid]


def test_a_gpu_is_lost_under_a_running_encoder(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path, gpus=2)
    client = start(driver)
    client.do("open", name="lost", gpu="0")
    client.do("open", name="kept", gpu="1")
    client.do("encode", name="lost", pictures=2)
    driver.set_gpu(0, lost=1)
    assert "EncodePicture failed!: device does not exist (5)" in client.ask("encode", name="lost")["log"]
    client.do("encode", name="kept", pictures=8)
    assert "CUDA_ERROR_DEVICE_UNAVAILABLE" in client.ask("open", name="again", gpu="0")["log"]
    client.do("open", name="again")
    assert driver.open_sessions(1) == 2
    assert "NVMLError_GpuIsLost" in ask_nvml(driver, "str(h(0))")
    assert ask_nvml(driver, "n.nvmlDeviceGetEncoderStats(h(1))")[0] == 2
    assert ask_nvml(driver, "n.nvmlDeviceGetCount()") == 2
    driver.set_gpu(0, lost=0)
    client.do("open", name="back", gpu="0")


def test_a_process_sees_the_gpus_it_is_shown(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path, gpus=3)
    shown = {
        driver.uuid(2): [2],
        driver.uuid(1)[:-1] + "1,0": [1, 0],
        "1": [1],
        "2,7,0": [2],
        driver.uuid(7): [],
        "": [],
    }
    for names, gpus in shown.items():
        client = start(driver, CUDA_VISIBLE_DEVICES=names)
        for index, gpu in enumerate(gpus):
            client.do("open", name=str(index), gpu=str(index))
            assert driver.open_sessions(gpu) == 1
        answer = client.ask("open", name="beyond", gpu=str(len(gpus)))
        assert ("No capable devices found" if gpus else "CUDA_ERROR_NO_DEVICE") in answer["log"]
        client.end()
    client = start(driver, CUDA_VISIBLE_DEVICES="1,0,1")
    assert "CUDA_ERROR_INVALID_DEVICE" in client.ask("open", gpu="0")["log"]


def test_nvml_tells_what_is(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path, gpus=2, microseconds_per_frame=10_000, driver_version="580.65.06")
    driver.set_gpu(1, no_encoder=1)
    client = start(driver)
    client.do("open", name="a")
    client.do("open", name="b", size=(640, 360))
    client.tell("encode", pictures=20_000)  # never done: it is looked at meanwhile
    wait_until(lambda: driver.pictures() > 60)
    told = ask_nvml(
        driver,
        """{"version": n.nvmlSystemGetDriverVersion(), "name": n.nvmlDeviceGetName(h(0)),
        "uuid": n.nvmlDeviceGetUUID(h(1)), "bus": n.nvmlDeviceGetPciInfo(h(1)).busId,
        "by_uuid": n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(h(1)))),
        "used": [n.nvmlDeviceGetMemoryInfo(h(i)).used >> 20 for i in (0, 1)],
        "again": [n.nvmlDeviceGetMemoryInfo(h(0), n.nvmlMemory_v2).used >> 20,
                  n.nvmlDeviceGetMemoryInfo(h(0), n.nvmlMemory_v2).reserved >> 20],
        "stats": n.nvmlDeviceGetEncoderStats(h(0)), "busy": n.nvmlDeviceGetEncoderUtilization(h(0)),
        "capacity": n.nvmlDeviceGetEncoderCapacity(h(0), n.NVML_ENCODER_QUERY_H264),
        "gpu": n.nvmlDeviceGetUtilizationRates(h(0)).gpu, "mig": n.nvmlDeviceGetMigMode(h(0)),
        "sessions": [[s.pid, s.codecType, s.hResolution, s.vResolution] for s in n.nvmlDeviceGetEncoderSessions(h(0))],
        }""",
    )
    assert (told["version"], told["name"], told["uuid"]) == ("580.65.06", DEVICE_NAME, driver.uuid(1))
    assert (told["bus"], told["by_uuid"], told["mig"], told["gpu"]) == ("00000000:02:00.0", 1, [0, 0], 0)
    assert (told["used"], told["again"]) == ([560, 300], [260, 300])
    assert told["stats"][0] == 2
    pid = client.process.pid
    assert told["sessions"] == [[pid, 0, 320, 240], [pid, 0, 640, 360]]
    assert 10 < told["busy"][0] <= 100
    assert (told["busy"][1], told["capacity"]) == (500_000, pytest.approx(100 - told["busy"][0], abs=25))
    # A GPU without an encoder looks idle, as an H200 does; another codec than H.264 is not there.
    without = (
        "[n.nvmlDeviceGet{0}Stats(h(1)), n.nvmlDeviceGet{0}Sessions(h(1)), n.nvmlDeviceGet{0}Utilization(h(1))[0]]"
    )
    assert ask_nvml(driver, without.format("Encoder")) == [[0, 0, 0], [], 0]
    for codec, error in ((2, "NotSupported"), (3, "InvalidArgument")):
        assert f"NVMLError_{error}" in ask_nvml(driver, f"n.nvmlDeviceGetEncoderCapacity(h(1), {codec})")
    driver.set(gpus=0)
    assert "NVMLError_DriverNotLoaded" in ask_nvml(driver, "1")


def test_a_gpu_in_mig_mode(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path, gpus=2)
    driver.set_gpu(1, mig=1, mig_instances=2)
    assert ask_nvml(driver, "n.nvmlDeviceGetMigMode(h(1))") == [1, 1]
    instance = "n.nvmlDeviceGetMigDeviceHandleByIndex(h(1), {})"
    assert ask_nvml(driver, f"n.nvmlDeviceGetUUID({instance.format(1)})") == driver.uuid(1, 1)
    assert driver.uuid(1, 1).startswith("MIG-")
    assert "NVMLError_NotFound" in ask_nvml(driver, f"str({instance.format(2)})")
    assert "NVMLError_NotSupported" in ask_nvml(driver, f"n.nvmlDeviceGetEncoderStats({instance.format(0)})")
    assert "NVMLError_NotSupported" in ask_nvml(driver, "n.nvmlDeviceGetEncoderSessions(h(1))")
    client = start(driver, CUDA_VISIBLE_DEVICES=driver.uuid(1, 1))
    client.do("open", gpu="0")
    assert driver.open_sessions(1) == 1
    # Where a process is shown everything, CUDA takes one instance and nothing else.
    client = start(driver)
    client.do("open", gpu="0")
    assert driver.open_sessions(1) == 2
    assert "No capable devices found" in client.ask("open", name="b", gpu="1")["log"]


def test_sessions_share_engines_as_on_hardware(tmp_path: Path, start: Start) -> None:
    driver = EmulatedDriver(tmp_path, gpus=2, engines=2, microseconds_per_frame=5_000)

    def encode(sessions: int) -> tuple[float, float]:
        clients = [start(driver) for _ in range(sessions)]
        for client in clients:
            client.do("open")
        before = driver.snapshot()
        with ThreadPoolExecutor(sessions) as pool:
            for done in [pool.submit(client.do, "encode", pictures=100) for client in clients]:
                done.result()
        for client in clients:
            client.do("finish")
        assert driver.busy_share(before, gpu=1) == 0
        after = driver.snapshot()
        for client in clients:
            client.end()
        return (after.at_ns - before.at_ns) / 1e9, driver.busy_share(before, after)

    # However slow this machine is, engines are no faster than they are, and account for each picture.
    two, busy = encode(2)
    assert two >= 0.5
    assert busy == pytest.approx(200 * 0.005 / (2 * two), rel=0.1)
    four, busy = encode(4)
    assert four >= 1
    assert busy == pytest.approx(400 * 0.005 / (2 * four), rel=0.1)
    done = driver.snapshot()
    assert (sum(done.pictures[0]), sum(done.busy_ns[0]), driver.pictures()) == (600, 600 * 5_000_000, 600)
    assert min(done.pictures[0][:2]) > 200, "the engine that is free first takes the next picture"


def test_ffmpeg_makes_a_film(tmp_path: Path) -> None:
    driver = EmulatedDriver(tmp_path / "driver", gpus=2)
    film = str(tmp_path / "film.mp4")
    forced = ["-forced-idr", "1", "-force_key_frames", "0.5,1.5", "-g", "600"]
    ran = run_ffmpeg(driver, *PICTURES, *NVENC, "-gpu", "1", "-bf", "0", *forced, film)
    assert ran.returncode == 0, ran.stderr
    assert (driver.pictures(0), driver.pictures(1), driver.destroys(1)) == (0, 60, 1)
    compared = run_ffmpeg(driver, "-i", film, *PICTURES[:4], "-lavfi", "[1]format=yuv420p[s];[0][s]psnr", *NOWHERE)
    assert float(compared.stderr.partition("average:")[2].split()[0]) > 38
    listed = run_ffmpeg(driver, "-skip_frame", "nokey", "-i", film, "-vf", "showinfo", *NOWHERE).stderr.splitlines()
    times = [line.partition("pts_time:")[2].split()[0] for line in listed if "pts_time:" in line]
    assert [float(moment) for moment in times] == [0, 0.5, 1.5]


def test_ffmpeg_tells_the_same_faults(tmp_path: Path) -> None:
    driver = EmulatedDriver(tmp_path, fail_open_every=1, fail_open_code=21)
    film = str(tmp_path / "film.mp4")
    ran = run_ffmpeg(driver, *PICTURES, *NVENC, film)
    assert (ran.returncode, "OpenEncodeSessionEx failed: incompatible client key (21)" in ran.stderr) == (187, True)
    driver.set(fail_open_every=0, fail_picture=10)
    ran = run_ffmpeg(driver, *PICTURES, *NVENC, film)
    assert ran.returncode != 0
    assert "EncodePicture failed!: generic error (20)" in ran.stderr
    driver.set(fail_picture=0, api_version="13.0")
    ran = run_ffmpeg(driver, *PICTURES, *NVENC, film)
    assert "Required: 13.1 Found: 13.0" in ran.stderr
    assert "Cannot load libcuda.so.1" in run_ffmpeg(driver.without("libcuda.so.1"), *PICTURES, *NVENC, film).stderr


def test_pyav_holds_a_session_until_its_last_packet_is_gone(tmp_path: Path) -> None:
    driver = EmulatedDriver(tmp_path)
    script = """
import sys, av
container = av.open(sys.argv[1], "w")
stream = container.add_stream("h264_nvenc", rate=30, options={"preset": "p1"})
stream.width, stream.height, stream.pix_fmt = 320, 240, "nv12"
for packet in stream.encode(av.VideoFrame(320, 240, "nv12")): container.mux(packet)
for packet in stream.encode(None): container.mux(packet)
container.close()
del container, stream
print("closed", flush=True)
input()
if sys.argv[2] == "drop": del packet
print("done", flush=True)
input()
"""
    for how, held in (("drop", 0), ("keep", 1)):
        process = driver.start([sys.executable, "-c", script, tmp_path / "film.mp4", how])
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "closed\n"
            assert driver.open_sessions() == 1
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            assert driver.open_sessions() == held
    assert (driver.open_sessions(), driver.destroys()) == (0, 2), "a process that ends as it should closes its sessions"
