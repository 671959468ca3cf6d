"""A load: a number of encoder sessions on one device at once, and how fast they are together."""

from __future__ import annotations

import bisect
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fanreel.errors import EncodeFaultError, SessionLimitError
from fanreel.host.host import Host
from fanreel.plan.film import FilmPlan
from fanreel.sessions.devices import Device
from fanreel.sessions.gate import SessionSlot
from fanreel.sessions.gpu_status import read_gpu_bytes
from fanreel.sessions.messages import FramesMade, ShardRequest

__all__ = ["Load", "LoadOrder", "run_load"]

WARM_FRAMES = 48
"""Frames that a session makes before it is measured: more than any encoder buffers, because buffering costs no time."""

REPORT_MARGIN_SECONDS = 0.3
"""How much longer than measured a load runs: sessions report every 0.25 s, so each reports once more by then."""


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """The load to run.

    Attributes:
        device: On which device.
        plan: The film that each session makes, from its start.
        sessions: How many at once.
        threads: Threads of each encoder.
        seconds: How long it is measured.
    """

    device: Device
    plan: FilmPlan
    sessions: int
    threads: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """The result of a load.

    Attributes:
        fps: Frames a second of all sessions together, while all of them ran.
        gpu_bytes: By how much more GPU memory was in use; None if the driver does not say.
        session_bytes: Memory of one session's process, the mean; None if the kernel does not say.
    """

    fps: float
    gpu_bytes: int | None
    session_bytes: int | None


def run_load(order: LoadOrder, *, host: Host, slot: SessionSlot) -> Load:
    """Run the sessions, measure them, end them; none is left.

    Args:
        order: What.
        host: Where.
        slot: All slots of the device: each session keeps its locks.

    Raises:
        SessionLimitError: The driver refused one of them.
        EncoderError: One failed.
    """
    before = read_gpu_bytes(order.device.gpu)
    running = _Running(order, host, slot)
    with host.store.scratch() as folder, ThreadPoolExecutor(order.sessions) as pool:
        try:
            for index in range(order.sessions):
                pool.submit(running.run, index, folder / str(index))
            running.wait_until_warm()
            running.wait_seconds(order.seconds + REPORT_MARGIN_SECONDS)
            memory = running.session_bytes()
            after = read_gpu_bytes(order.device.gpu)
        finally:
            running.stop()
    running.check()
    taken = None if before is None or after is None else max(0, after - before)
    return Load(round(_throughput(running.samples), 1), taken, memory)


class _Running:
    """Sessions that run, each read by a thread of its own."""

    def __init__(self, order: LoadOrder, host: Host, slot: SessionSlot) -> None:
        self._order, self._host, self._slot = order, host, slot
        self._changed = threading.Condition()
        self._ending = False
        self._errors: list[BaseException] = []
        self._pids: list[int] = []
        self.samples: list[list[tuple[float, int]]] = [[] for _ in range(order.sessions)]

    def run(self, index: int, folder: Path) -> None:
        """Run one session until it ends, or all of them are to end."""
        try:
            folder.mkdir()
            self._run(index, folder)
        except BaseException as error:  # noqa: BLE001 -- raised by `check`, in the thread that waits
            self._errors.append(error)
        finally:
            self.stop()

    def stop(self) -> None:
        """Have every session end: each notices with its next report, a quarter of a second later at most."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def check(self) -> None:
        """Raise the error of a session that failed; a refusal first, for it makes others fail too."""
        for error in sorted(self._errors, key=lambda error: not isinstance(error, SessionLimitError)):
            raise error

    def wait_until_warm(self) -> None:
        """Return when each session has made some frames, or one has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending or all(self.samples))

    def wait_seconds(self, seconds: float) -> None:
        """Return after so long, or when a session has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._ending, timeout=seconds)

    def session_bytes(self) -> int | None:
        """Return the mean memory of the sessions' processes."""
        found = [size for pid in self._pids if (size := _read_pss(pid))]
        return sum(found) // len(found) if found else None

    def _run(self, index: int, folder: Path) -> None:
        order, frames = self._order, 0
        request = ShardRequest(
            order.plan, order.plan.segments, order.threads, str(folder), order.device.encoder, order.device.gpu
        )
        with self._host.launcher.start(locks=self._slot.filenos()) as session:
            self._pids.append(session.pid)
            for message in session.render(request, hang_seconds=self._host.settings.hang_seconds):
                frames += message.count if isinstance(message, FramesMade) else 0
                if self._ending:
                    return
                if isinstance(message, FramesMade) and frames >= WARM_FRAMES:
                    with self._changed:
                        self.samples[index].append((time.monotonic(), frames))
                        self._changed.notify_all()


def _throughput(samples: Sequence[Sequence[tuple[float, int]]]) -> float:
    """Return the frames a second of all sessions in the time that is between the reports of each."""
    begin = max((each[0][0] for each in samples if each), default=0.0)
    end = min((each[-1][0] for each in samples if each), default=0.0)
    if not all(samples) or end <= begin:
        raise EncodeFaultError("the sessions did not run long enough side by side to be measured; measure for longer")
    return sum(_frames_at(end, each) - _frames_at(begin, each) for each in samples) / (end - begin)


def _frames_at(moment: float, samples: Sequence[tuple[float, int]]) -> float:
    """Return the frames made until a moment between two reports."""
    after = bisect.bisect_left(samples, moment, key=lambda sample: sample[0])
    if after == 0:
        return samples[0][1]
    (t0, f0), (t1, f1) = samples[after - 1], samples[min(after, len(samples) - 1)]
    return f0 + (f1 - f0) * (moment - t0) / (t1 - t0) if t1 > t0 else f1


def _read_pss(pid: int) -> int | None:
    """Return a process's share of the memory it uses, in bytes. Source: proc_pid_smaps(5)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) << 10 if found else None
