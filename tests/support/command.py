"""The command `fanreel` as a person starts it, and what came of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from fanreel.join.certificate import certificate_path, read_certificate
from fanreel.join.verify import find_damage

ROOT = Path(__file__).parents[2]


COMMAND = str(Path(sys.executable).with_name("fanreel"))


JOB = {
    "size": "320x180",
    "fps": 8,
    "photos": ["photos"],
    "encoding": {"preset": "draft", "quality": 30},
    "output": "out/film.mp4",
}


def write_job(folder: Path, **words: object) -> Path:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(JOB | words, allow_unicode=True), encoding="utf-8")
    return path


def ask(
    command: list[str],
    environment: Mapping[str, str],
    *,
    first: Callable[[], object] | None = None,
    seconds: float = 200,
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
        preexec_fn=first,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return done


def errors_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the errors that ended the command, those that were tried again apart."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("fanreel: ")]
    return [line for line in lines if "; trying again in " not in line]


def assert_sound(film: Path) -> None:
    assert find_damage(film, read_certificate(certificate_path(film)), full=True) == ()


def kept_in(store: Path) -> set[str]:
    """Return what lies in a store's folder. Whoever plans leaves in it what was found of photos: `examined`."""
    return {path.name for path in store.iterdir()} if store.exists() else set()
