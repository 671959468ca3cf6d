"""The films of a farm: their runs, the proof of what was made, and what it cost."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.farm_machine import SessionLog
from support.farm_server import PATIENCE_SECONDS
from support.jobs import make_job
from support.processes import wait_until

from fanreel.host.host import open_host
from fanreel.join.certificate import Certificate
from fanreel.publish.published import verify_film
from fanreel.render.here import render_job
from fanreel.settings import Settings
from tasks.limit_slots import LEASE_SECONDS

if TYPE_CHECKING:
    from support.pool_farm import Farm

__all__ = [
    "ENDS",
    "SIZE",
    "Film",
    "Work",
    "check_film",
    "check_nothing_is_left",
    "count_work",
    "fingerprints",
    "render_here",
]

SIZE = {"size": "320x180", "fps": "16", "seconds_per_slide": 6}
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class Film:
    """A film's flow run."""

    def __init__(self, farm: Farm, job: dict[str, Any], run_id: str, env: Mapping[str, str]) -> None:
        self.farm, self.job, self.id, self.env = farm, job, run_id, env
        self.name = Path(job["output"]).name
        self.started_at = time.monotonic()

    @property
    def path(self) -> Path:
        """Where the film is, the server's own file if it is in S3."""
        output: str = self.job["output"]
        in_bucket = output.removeprefix("s3://films/")
        return self.farm.s3.bucket / in_bucket if in_bucket != output else Path(self.job["base"]) / output

    def read(self) -> dict[str, Any]:
        """Return its run as the server has it."""
        return self.farm.server.ask(f"flow_runs/{self.id}")

    def is_over(self) -> bool:
        """Whether it has ended, however; not as far as a server tells that is away."""
        with contextlib.suppress(OSError):
            return self.read()["state_type"] in ENDS
        return False

    def wait(self, state: str = "COMPLETED") -> float:
        """Return how many seconds it took to come to an end, which has to be of this type."""
        wait_until(self.is_over, seconds=PATIENCE_SECONDS, what=f"{self.name} is over", pause_seconds=0.5)
        run = self.read()
        assert run["state_type"] == state, f"{run['state_type']}: {run['state']['message']}"
        return time.monotonic() - self.started_at

    def children(self) -> list[dict[str, Any]]:
        """Return the child runs of this film, whichever parent started them."""
        asked = {"flow_runs": {"name": {"like_": f"{self.name} "}}, "sort": "START_TIME_ASC"}
        return self.farm.server.ask("flow_runs/filter", asked)

    def sessions(self) -> list[SessionLog]:
        """Return every encoder session that worked for this film."""
        return [session for session in self.farm.sessions() if session.film == self.name]


def render_here(farm: Farm, folder: Path) -> list[bytes]:
    """Render the film without pools; return the fingerprints of its frames."""
    host = open_host(Settings(store=folder / "store", lock_folder=folder / "locks"))
    try:
        render_job(make_job(folder, photos=[str(farm.folder / "photos")], **SIZE), host=host)
    finally:
        host.launcher.close()
    return fingerprints(verify_film(folder / "out/film.mp4", full=True))


def fingerprints(certificate: Certificate) -> list[bytes]:
    return [fingerprint for record in certificate.segments for fingerprint in record.fingerprint_list]


@dataclass(frozen=True)
class Work:
    """What a film cost.

    Attributes:
        encoders: Segments by encoder.
        frames_twice: Frames of segments that were made whole by more than one session.
        frames_lost: Frames that sessions which did not end by themselves may have made in vain: at most this many.
        children: Its child runs, by the type of the state that they ended in.
    """

    encoders: Counter[str]
    frames_twice: int
    frames_lost: int
    children: Counter[str]


def check_film(farm: Farm, film: Film, truth: Sequence[bytes]) -> Work:
    """Prove the film, and that nothing is left of its making; return what it cost."""
    certificate = verify_film(film.path, full=True)
    assert len(certificate.segments) >= 20
    assert fingerprints(certificate) == truth
    check_nothing_is_left(farm)
    work = count_work(film, certificate)
    print(f"\n{film.name}: {work}")
    return work


def check_nothing_is_left(farm: Farm) -> None:
    wait_until(lambda: not farm.left_over(), seconds=120, what=f"nothing is left to run: {farm.left_over()}")
    wait_until(lambda: not farm.held_slots(), seconds=LEASE_SECONDS + 120, what=f"no slot is held: {farm.held_slots()}")
    assert farm.open_uploads() == []
    assert farm.half_files() == []


def count_work(film: Film, certificate: Certificate) -> Work:
    sessions = film.sessions()
    kept = Counter(record.event.session for record in certificate.segments)
    frames = [record.frame_count for record in certificate.segments]
    stored = Counter[int]()
    for record in certificate.segments:
        stored[record.event.session] += record.frame_count
    done = sum(session.frames for session in sessions if session.frames >= 0)
    cut_off = [session for session in sessions if session.frames < 0]
    kept_of_those = sum(stored[session.pid] for session in cut_off)
    asked_of_those = sum(frames[index] for session in cut_off for index in session.segments)
    assert set(kept) <= {session.pid for session in sessions}
    return Work(
        encoders=Counter(record.encoder for record in certificate.segments),
        frames_twice=done + kept_of_those - certificate.frame_count,
        frames_lost=asked_of_those - kept_of_those,
        children=Counter(child["state_type"] for child in film.children()),
    )
