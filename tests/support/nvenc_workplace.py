"""A folder with a job, and the command `fanreel` over the emulated NVENC driver."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import yaml
from support.emulated_nvenc import EmulatedDriver
from support.processes import environment_in, wait_until

from fanreel.join.certificate import Certificate
from fanreel.publish.published import verify_film
from fanreel.sessions.gate import KernelLockGate

FRAMES_A_SLIDE = 60


SLIDES = 16
"""Each of 6 s, so that each is a segment, and there are more of them than sessions."""


ENGINES = 2


@dataclass
class Workplace:
    """A host with emulated GPUs, photos and a store of its own."""

    folder: Path
    gpus: EmulatedDriver
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def film(self) -> Path:
        return self.folder / "out/film.mp4"

    def command(self, *, encoding: dict[str, Any] | None = None, name: str = "film", **words: object) -> list[str]:
        job = {
            "size": "320x180",
            "fps": "10",
            "photos": [str(self.folder.parent / "photos")],
            "seconds_per_slide": FRAMES_A_SLIDE // 10,
            "encoding": {"preset": "draft", "quality": 30} | (encoding or {}),
            "output": f"out/{name}.mp4",
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(job | words))
        return [sys.executable, "-m", "fanreel", "--verbose", "render", str(path)]

    def env(self, **environment: object) -> dict[str, str]:
        asked = {name: str(value) for name, value in (self.environment | environment).items()}
        return environment_in(self.folder) | self.gpus.environment | asked

    def render(self, *, sessions: int = 2, encoding: dict[str, Any] | None = None, **words: Any) -> Rendered:
        """Run the command to its end."""
        environment = words.pop("environment", {})
        done = subprocess.run(
            self.command(encoding=encoding, **words),
            env=self.env(FANREEL_GPU_SESSIONS=sessions, **environment),
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
        )
        return Rendered(done.returncode, done.stdout, done.stderr)

    def start(self, *, sessions: int = 2, **words: Any) -> subprocess.Popen[str]:
        command = self.command(**words)
        env = self.env(FANREEL_GPU_SESSIONS=sessions)
        log = (self.folder / f"{words.get('name', 'film')}.log").open("w")
        with log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=log, text=True, start_new_session=True)

    def sound_film(self, name: str = "film") -> Certificate:
        """The film's certificate, after the film was proven against it with every frame decoded."""
        return verify_film(self.film.with_name(f"{name}.mp4"), full=True)

    def _processes(self) -> list[int]:
        """Those that were started with this place's driver, and run."""
        mark = str(self.gpus.settings_file).encode()
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                found += [int(environment.parent.name)] if mark in environment.read_bytes() else []
        return found

    def check_nothing_is_left(self) -> None:
        """No session is open, no slot is held, no process lives, no half file lies about."""
        wait_until(lambda: self.gpus.open_sessions() == 0, seconds=60, what="every session is closed")
        wait_until(lambda: not self._processes(), seconds=60, what="every process has ended")
        for gpu in range(2):
            gate = KernelLockGate(self.gpus.uuid(gpu), capacity=16, folder=self.folder / "locks")
            assert gate.slots_in_use() == 0
        assert not list((self.folder / "store/scratch").glob("[!.]*"))
        if (self.folder / "out").is_dir():
            left = [path.name for path in (self.folder / "out").iterdir()]
            assert all(name.endswith((".mp4", ".mp4.certificate.json")) for name in left), left


@dataclass(frozen=True)
class Rendered:
    """How a command ended."""

    code: int
    out: str
    err: str

    def check(self) -> Rendered:
        assert self.code == 0, self.err
        return self

    def spans(self, encoder: str = "nvenc") -> list[tuple[str, int]]:
        """START and DONE lines in order: the kind and the session."""
        found = re.findall(rf"^(START|DONE) .*: session (\d+), {encoder} on ", self.err, re.MULTILINE)
        return [(kind, int(session)) for kind, session in found]

    def most_at_once(self) -> int:
        return max(itertools.accumulate(1 if kind == "START" else -1 for kind, _ in self.spans()))


def encoders(certificate: Certificate) -> dict[str, int]:
    made_by = [record.encoder for record in certificate.segments]
    return {encoder: made_by.count(encoder) for encoder in sorted(set(made_by))}


def errors(done: Rendered) -> list[str]:
    return [line for line in done.err.splitlines() if line.startswith("fanreel: ") and "trying again" not in line]


class other_program:  # noqa: N801 -- reads as what it is
    """Another program's encoder sessions: ffmpeg, as slow as a camera, for as long as the context lasts."""

    def __init__(self, place: Workplace, *, sessions: int) -> None:
        ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180"]
        encode = ["-pix_fmt", "yuv420p", "-c:v", "h264_nvenc", "-f", "null", "-"]
        before = place.gpus.open_sessions()
        self._processes = [place.gpus.start([*ffmpeg, *encode]) for _ in range(sessions)]
        wait_until(lambda: place.gpus.open_sessions() == before + sessions, seconds=60, what="the others' sessions")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
