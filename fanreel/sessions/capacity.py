"""What this process may really use of its host, and how many encoder sessions fit into that."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from fanreel.printable import counted

__all__ = ["HostCapacity", "SessionPlan", "choose_sessions", "count_memory_kills", "read_capacity"]

# Measured: peaks of proportional set size over whole runs, 640x360 to 3840x2160.
BASE_SESSION_BYTES = 130 << 20  # interpreter, libraries and a photo's pixels in one session's process
BYTES_PER_PIXEL = 90  # per output pixel: lookahead and reference frames; see encoder_bytes_per_pixel
USUAL_PHOTO_PX = 12_000_000  # the photos of those runs; their memory is in the base
BYTES_PER_PHOTO_PIXEL = 12  # 3 decoded and 3 turned upright; beside them what decoders of 16 bits or alpha hold
PARENT_BYTES = 160 << 20  # the process that plans, supervises, joins and verifies (60 MB), and the launcher

_UNIFIED = ""  # the name of the v2 hierarchy in /proc/self/cgroup
_UNLIMITED = 1 << 62  # v1 writes LONG_MAX rounded down to a page where there is no limit


@dataclass(frozen=True, slots=True)
class HostCapacity:
    """What this process may use, and which limits say so."""

    cores: int  # whole, at least 1: the smaller of the affinity and the cgroup quota rounded down
    memory_bytes: int  # the smallest of physical memory and every visible cgroup limit
    reason: str  # one phrase; of two limits the one that decided comes first


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """How many encoder sessions run side by side, and with how many threads each."""

    sessions: int  # at least 1
    threads: int  # of one session, at least 1; times `sessions` at most the cores
    reason: str  # one line for the user: how the number was chosen

    @property
    def label(self) -> str:
        """The numbers alone, for people."""
        return f"{counted(self.sessions, 'session')} x {counted(self.threads, 'thread')}"


def choose_sessions(
    capacity: HostCapacity,
    *,
    width_px: int,
    height_px: int,
    segment_count: int,
    cap: int = 0,
    cap_name: str = "the job's sessions",
    bytes_per_pixel: int = BYTES_PER_PIXEL,
    largest_photo_px: int = 0,
    gpu_sessions: int = 0,
) -> SessionPlan:
    """Return as many sessions as cores, segments, memory and `cap` allow; spare cores become threads.

    Sessions on GPUs are bounded by the GPUs' number, not by the cores, and have one thread each, which draws. There is
    at least one session of one thread, even where memory does not allow it; the reason then says so.

    Args:
        capacity: What the host gives.
        width_px: Width of the film.
        height_px: Height of the film.
        segment_count: Segments still to be encoded; 0 counts as 1.
        cap: The most sessions that are allowed; 0 for no cap.
        cap_name: What sets the cap.
        bytes_per_pixel: Memory that the encoder's frames take, per pixel of the film.
        largest_photo_px: Pixels of the largest photo, which a session decodes whole.
        gpu_sessions: Sessions that the GPUs can have; 0 if the CPU encodes.
    """
    session_bytes = BASE_SESSION_BYTES + bytes_per_pixel * width_px * height_px
    session_bytes += BYTES_PER_PHOTO_PIXEL * max(0, largest_photo_px - USUAL_PHOTO_PX)
    fitting = (capacity.memory_bytes - PARENT_BYTES) // session_bytes
    slots = (gpu_sessions, "the GPUs' sessions") if gpu_sessions else (capacity.cores, "cores")
    bounds = [slots, (segment_count, "segments"), (fitting, "memory")]
    if cap > 0:
        bounds.append((cap, cap_name))
    bound, name = min(bounds, key=lambda pair: pair[0])
    sessions = max(1, bound)
    threads = 1 if gpu_sessions else max(1, capacity.cores // sessions)
    needed = f"{_gib(session_bytes)} a session and {_gib(PARENT_BYTES)} beside"
    decided = f"limited by {name}" if fitting >= 1 else "memory is short even for one"
    plan = SessionPlan(sessions, threads, reason="")
    return replace(plan, reason=f"{plan.label}, {decided}: {capacity.reason}; {needed}")


def read_capacity(*, root: Path = Path("/"), affinity_count: int | None = None) -> HostCapacity:
    """Return what this process may use; a limit that cannot be read or makes no sense is no limit.

    Args:
        root: Where ``proc`` and ``sys`` are found.
        affinity_count: Cores this process may be scheduled on; None asks the kernel.
    """
    if affinity_count is None:
        # macOS has no affinity: every core counts there.
        affinity_count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores, cores_reason = _read_cores(root, affinity_count)
    memory_bytes, memory_reason = _read_memory(root)
    reason = f"{counted(cores, 'core')} ({cores_reason}), {_gib(memory_bytes)} ({memory_reason})"
    return HostCapacity(cores, memory_bytes, reason)


def count_memory_kills(*, root: Path = Path("/")) -> int | None:
    """Return how many processes the kernel has killed for lack of memory around this one; None if it cannot say.

    That is in this process's control group, or on the whole host where there is no such group. The kernel counts
    before it kills: a process that sees the death finds it counted.

    Args:
        root: Where ``proc`` and ``sys`` are found.
    """
    groups = [(_UNIFIED, "memory.events"), ("memory", "memory.oom_control")]
    texts = [_read(folder / name) for controller, name in groups for folder in _list_groups(root, controller)[:1]]
    for text in [*texts, _read(root / "proc/vmstat")]:
        if found := re.search(r"^oom_kill ([0-9]{1,18})$", text, re.MULTILINE):
            return int(found[1])
    return None


def _read_cores(root: Path, affinity: int) -> tuple[int, str]:
    quotas = list(_cpu_quotas(root))
    if not quotas:
        return affinity, f"affinity {affinity}, no cgroup quota"
    quota, folder = min(quotas)
    found = f"cgroup quota {float(quota):g} of /{folder.relative_to(root)}"
    if quota < affinity:
        return max(1, int(quota)), f"{found}, affinity {affinity}"
    return affinity, f"affinity {affinity}, {found}"


def _read_memory(root: Path) -> tuple[int, str]:
    physical = _read_physical_bytes(root)
    limit, folder = min(_memory_limits(root), default=(physical, root))
    if limit >= physical:
        return physical, "physical"
    return limit, f"cgroup limit of /{folder.relative_to(root)}, physical {_gib(physical)}"


def _read_physical_bytes(root: Path) -> int:
    found = re.search(r"^MemTotal:\s+([0-9]{1,18}) kB$", _read(root / "proc/meminfo"), re.MULTILINE)
    if found and int(found[1]):
        return int(found[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cpu_quotas(root: Path) -> Iterator[tuple[Fraction, Path]]:
    """Yield every quota, in cores, and the group it stands in."""
    quotas = [(_read(folder / "cpu.max"), folder) for folder in _list_groups(root, _UNIFIED)]
    for folder in _list_groups(root, "cpu"):
        quotas.append((f"{_read(folder / 'cpu.cfs_quota_us')} {_read(folder / 'cpu.cfs_period_us')}", folder))
    for text, folder in quotas:
        match [_parse_limit(field) for field in text.split()]:
            case [int(quota_us), int(period_us)]:
                yield Fraction(quota_us, period_us), folder


def _memory_limits(root: Path) -> Iterator[tuple[int, Path]]:
    """Yield every limit, in bytes, and the group it stands in."""
    texts = [(_read(folder / "memory.max"), folder) for folder in _list_groups(root, _UNIFIED)]
    for folder in _list_groups(root, "memory"):
        texts.append((_read(folder / "memory.limit_in_bytes"), folder))
        # Counts the groups above a container's mount too, which no path leads to.
        inherited = re.search(r"^hierarchical_memory_limit (\S+)$", _read(folder / "memory.stat"), re.MULTILINE)
        texts.append((inherited[1] if inherited else "", folder))
    for text, folder in texts:
        limit = _parse_limit(text.strip())
        if limit is not None:
            yield limit, folder


def _parse_limit(text: str) -> int | None:
    """Return a number that is a limit, or None for "max", -1, the v1 maximum and anything else."""
    if not re.fullmatch(r"[0-9]{1,19}", text):
        return None
    return int(text) if 0 < int(text) < _UNLIMITED else None


def _list_groups(root: Path, controller: str) -> list[Path]:
    """Return the folders of this process's group and its visible parents, the deepest first."""
    own = _read_memberships(root).get(controller, "/")
    mounts = _list_mounts(root, controller)
    chains = [chain for mount_root, point in mounts if (chain := _chain(mount_root, point, own))]
    # Inside a container the path may be the host's; the mount then shows the container's group as its root.
    return [folder for chain in chains for folder in chain] or [point for _, point in mounts[:1]]


def _chain(mount_root: str, point: Path, own: str) -> list[Path]:
    """Return the folders from the group `own` up to the mount point; none where the mount does not show it."""
    prefix = mount_root.rstrip("/")
    parts = [part for part in own.removeprefix(prefix).split("/") if part]
    # ".." stands for a group outside this process's cgroup namespace.
    if ".." in parts or not f"{own}/".startswith(f"{prefix}/"):
        return []
    chain = [point.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return chain if os.path.isdir(chain[0]) else []  # noqa: PTH112 - Path.is_dir raises where it may not look


def _read_memberships(root: Path) -> dict[str, str]:
    """Return the path of this process's group by controller; the v2 hierarchy is named ""."""
    fields = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines()]
    return {name: path for _, names, path in (f for f in fields if len(f) == 3) for name in names.split(",")}


def _list_mounts(root: Path, controller: str) -> list[tuple[str, Path]]:
    """Return what part of a hierarchy is mounted, and where below `root`.

    Source: proc_pid_mountinfo(5): id, parent, device, root, mount point, options, optional fields, "-", type,
    source, super options; the last mount on a point hides those before it.
    """
    mounts: dict[Path, str] = {}
    for line in _read(root / "proc/self/mountinfo").splitlines():
        fields, kinds = (part.split(" ") for part in (line.partition(" - ")[::2]))
        fields = [re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field) for field in fields]
        if len(fields) < 6 or len(kinds) < 3 or kinds[0] != ("cgroup" if controller else "cgroup2"):
            continue
        if not controller or controller in kinds[2].split(","):
            mounts[root / fields[4].lstrip("/")] = fields[3]
    return [(mount_root, point) for point, mount_root in mounts.items()]


def _read(path: Path) -> str:
    """Return a file's text, or "" where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # ValueError: a NUL in a path that came from a damaged mountinfo
        return ""


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.1f} GiB"
