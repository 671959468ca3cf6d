"""The only module that reads the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from fanreel.errors import RequestError

__all__ = ["Settings", "child_environment", "is_completing", "read_settings", "see_gpu"]

LARGEST_COUNT = 1024

LONGEST_LINK_SECONDS = 7 * 86_400
"""Source: Amazon S3, X-Amz-Expires."""

DEFAULT_LOCK_FOLDER = Path("/tmp/fanreel-sessions")  # noqa: S108 -- one folder a host, shared by all its users


@dataclass(frozen=True, slots=True)
class Settings:
    """What a host's operator decides, as opposed to what a job asks for.

    Attributes:
        store: Folder of the segment store (`FANREEL_STORE`; default: `fanreel` in the user's cache folder); the
            workspace on this machine where the store is remote (`FANREEL_WORKSPACE`, with the same default).
        remote_store: ``s3://bucket/prefix`` if `FANREEL_STORE` names such a place; empty if the store is a folder.
        tenant: Whose films this process makes: a part of the names of all that is kept in the store, and what
            ``{tenant}`` stands for in `roots` (`FANREEL_TENANT`).
        roots: The only places, folders and ``s3://`` prefixes, that a job may read from and publish to; empty: any
            (`FANREEL_ROOTS`, separated by commas).
        private_hosts: Hosts, as ``name`` or ``name:port``, that sources may be fetched from although their addresses
            are private; ``*`` for all (`FANREEL_PRIVATE_HOSTS`, separated by commas).
        max_download_bytes: Larger sources are refused (`FANREEL_MAX_DOWNLOAD_MEGABYTES`).
        download_seconds: How long one download may take (`FANREEL_DOWNLOAD_SECONDS`).
        link_seconds: How long the link in a report fetches a film from S3; 0 puts no such link into reports
            (`FANREEL_LINK_SECONDS`).
        public_url: Address where the films' bucket is public, with ``{bucket}`` for its name; links then start with it
            and are not signed (`FANREEL_PUBLIC_URL`).
        lock_folder: Folder of the session locks, the same for every user of a host (`FANREEL_LOCK_FOLDER`).
        hang_seconds: A session that reports nothing for this long is killed (`FANREEL_HANG_SECONDS`).
        wait_seconds: How long a shard waits for a free session (`FANREEL_WAIT_SECONDS`).
        max_photo_megapixels: Larger photos are refused (`FANREEL_MAX_PHOTO_MEGAPIXELS`).
        photo_seconds: The time on a core that reading one photo may take (`FANREEL_PHOTO_SECONDS`).
        slow_join_mb_per_second: A join slower than this is warned of (`FANREEL_SLOW_JOIN_MB_PER_SECOND`; the default
            is below an old disk's speed).
        gpu_sessions: NVENC sessions at once on one GPU, of all films of the host; the same for all its processes
            (`FANREEL_GPU_SESSIONS`; left out, what its calibration says).
        session_niceness: How much lower than its owner's the priority of a session is, from 0 to 19, so that servers,
            workers and UIs beside it answer (`FANREEL_SESSION_NICENESS`).
        session_cap: Encoder sessions at once of one film, whatever its job allows; 0 is no cap
            (`NUM_NVENC_STREAMS`).
        late_seconds: A shard that no worker of a pool takes for this long goes to another one (`FANREEL_LATE_SECONDS`).
        stall_seconds: A shard on a pool that makes no segment for this long is given up (`FANREEL_STALL_SECONDS`).
        shard_seconds: The most work that a shard for a pool may be (`FANREEL_SHARD_SECONDS`).
        calibration: File that keeps what was measured of this host's encoders (`FANREEL_CALIBRATION`; default: in
            the user's state folder); None keeps nothing.
    """

    store: Path
    remote_store: str = ""
    tenant: str = ""
    roots: tuple[str, ...] = ()
    private_hosts: tuple[str, ...] = ()
    max_download_bytes: int = 2_000_000_000
    download_seconds: float = 600.0
    link_seconds: int = 0
    public_url: str = ""
    lock_folder: Path = DEFAULT_LOCK_FOLDER
    hang_seconds: float = 60.0
    wait_seconds: float = 3600.0
    max_photo_megapixels: float = 400.0
    photo_seconds: float = 120.0
    slow_join_mb_per_second: float = 50.0
    gpu_sessions: int | None = None
    session_niceness: int = 10
    session_cap: int = 0
    late_seconds: float = 60.0
    stall_seconds: float = 300.0
    shard_seconds: float = 180.0
    calibration: Path | None = None


def read_settings() -> Settings:
    """Return the settings that the environment gives.

    Raises:
        RequestError: A value is not allowed; the message names the variable.
    """
    remote_store, tenant = _remote_store(), _tenant()
    folder = _folder("FANREEL_WORKSPACE") if remote_store else _folder("FANREEL_STORE")
    usual = Settings(store=folder or _cache_folder() / "fanreel")
    return Settings(
        store=usual.store,
        remote_store=remote_store,
        tenant=tenant,
        roots=tuple(_root(root, tenant) for root in _list("FANREEL_ROOTS")),
        private_hosts=tuple(host.lower() for host in _list("FANREEL_PRIVATE_HOSTS")),
        max_download_bytes=round(_positive("FANREEL_MAX_DOWNLOAD_MEGABYTES", usual.max_download_bytes / 1e6) * 1e6),
        download_seconds=_positive("FANREEL_DOWNLOAD_SECONDS", usual.download_seconds),
        link_seconds=_count("FANREEL_LINK_SECONDS", usual.link_seconds, largest=LONGEST_LINK_SECONDS),
        public_url=_public_url(),
        lock_folder=_folder("FANREEL_LOCK_FOLDER") or usual.lock_folder,
        hang_seconds=_positive("FANREEL_HANG_SECONDS", usual.hang_seconds),
        wait_seconds=_positive("FANREEL_WAIT_SECONDS", usual.wait_seconds),
        max_photo_megapixels=_positive("FANREEL_MAX_PHOTO_MEGAPIXELS", usual.max_photo_megapixels),
        photo_seconds=_positive("FANREEL_PHOTO_SECONDS", usual.photo_seconds),
        slow_join_mb_per_second=_positive("FANREEL_SLOW_JOIN_MB_PER_SECOND", usual.slow_join_mb_per_second),
        gpu_sessions=_count("FANREEL_GPU_SESSIONS", 0) or None,
        session_niceness=_count("FANREEL_SESSION_NICENESS", usual.session_niceness, smallest=0, largest=19),
        session_cap=_count("NUM_NVENC_STREAMS", usual.session_cap),
        late_seconds=_positive("FANREEL_LATE_SECONDS", usual.late_seconds),
        stall_seconds=_positive("FANREEL_STALL_SECONDS", usual.stall_seconds),
        shard_seconds=_positive("FANREEL_SHARD_SECONDS", usual.shard_seconds),
        calibration=_folder("FANREEL_CALIBRATION") or _state_folder() / "fanreel" / "calibration.json",
    )


def _folder(name: str) -> Path | None:
    text = os.environ.get(name)
    try:
        # Absolute, so that it stays one folder for a process that runs somewhere else.
        return Path(text).expanduser().absolute() if text else None
    except RuntimeError:
        raise RequestError(f"{name}: {text!r} is not allowed; there is no such user's folder") from None


def _list(name: str) -> list[str]:
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def _remote_store() -> str:
    text = os.environ.get("FANREEL_STORE", "")
    if "://" not in text:
        return ""
    if not re.fullmatch(r"s3://[A-Za-z0-9._-]+(/[^/?#]+)*/?", text):
        raise RequestError(f"FANREEL_STORE: {text!r} is not allowed; a folder, or s3://bucket/prefix")
    return text.rstrip("/")


def _tenant() -> str:
    text = os.environ.get("FANREEL_TENANT", "")
    if text and not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", text):
        raise RequestError(f"FANREEL_TENANT: {text!r} is not allowed; up to 63 small letters, digits, - and _")
    return text


def _root(text: str, tenant: str) -> str:
    if "{tenant}" in text and not tenant:
        raise RequestError(f"FANREEL_ROOTS: {text!r} needs FANREEL_TENANT")
    root = text.replace("{tenant}", tenant)
    return root.rstrip("/") if "://" in root else str(Path(root).expanduser().absolute())


def _public_url() -> str:
    text = os.environ.get("FANREEL_PUBLIC_URL", "")
    if text and not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", text):
        raise RequestError(f"FANREEL_PUBLIC_URL: {text!r} is not allowed; https://host/path, without a query")
    return text.rstrip("/")


def _cache_folder() -> Path:
    return _folder("XDG_CACHE_HOME") or Path.home() / ".cache"


def _state_folder() -> Path:
    return _folder("XDG_STATE_HOME") or Path.home() / ".local" / "state"


def _positive(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text or default)
    except ValueError:
        raise RequestError(f"{name}: {text!r} is not a number") from None
    if not 0 < value < 1e9:
        raise RequestError(f"{name}: {text!r} is not allowed; a number above 0 and below 1,000,000,000")
    return value


def _count(name: str, default: int, *, smallest: int = 1, largest: int = LARGEST_COUNT) -> int:
    text = os.environ.get(name, "")
    if text and not (text.isascii() and text.isdecimal() and smallest <= int(text) <= largest):
        raise RequestError(f"{name}: {text!r} is not allowed; a whole number from {smallest} to {largest}")
    return int(text) if text else default


def see_gpu(uuid: str) -> None:
    """Let this process see one GPU only. Call it before the process loads the NVIDIA driver."""
    os.environ["CUDA_VISIBLE_DEVICES"] = uuid


def child_environment() -> dict[str, str]:
    """Return the environment of session processes: their libraries start no threads of their own and print nothing."""
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    return {"SVT_LOG": "0", **os.environ, **one}


def is_completing() -> bool:
    """Return whether a shell runs the command only to ask how its arguments may go on."""
    return "_ARGCOMPLETE" in os.environ
