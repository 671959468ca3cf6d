"""What a process may use, read from fake /proc and /sys trees laid out as real hosts lay them out."""

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanreel.sessions.capacity import (
    BASE_SESSION_BYTES,
    BYTES_PER_PIXEL,
    PARENT_BYTES,
    HostCapacity,
    choose_sessions,
    read_capacity,
)

GIB = 1 << 30
V1_NO_MEMORY_LIMIT = 9223372036854771712


class Host:
    """A root folder with the parts of /proc and /sys that decide a capacity."""

    def __init__(self, root: Path):
        self.root = root
        self.mount_lines: list[str] = ["22 27 0:21 / /proc rw,relatime - proc proc rw"]
        self.write("proc/meminfo", f"MemTotal:       {16 * GIB >> 10} kB\nMemFree:         1024 kB\n")

    def write(self, path: str, text: object) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def mount(self, point: str, *, kind: str = "cgroup2", options: str = "rw", mount_root: str = "/") -> None:
        self.mount_lines.append(f"31 23 0:28 {mount_root} {point} rw,nosuid shared:9 - {kind} cgroup {options}")
        (self.root / point.lstrip("/").replace("\\040", " ")).mkdir(parents=True, exist_ok=True)
        self.write("proc/self/mountinfo", "\n".join(self.mount_lines))

    def belong(self, *lines: str) -> None:
        self.write("proc/self/cgroup", "\n".join(lines))

    def read(self, affinity: int = 8) -> HostCapacity:
        return read_capacity(root=self.root, affinity_count=affinity)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class TestNoLimits:
    def test_affinity_and_physical_memory_count(self, host: Host):
        assert host.read(2) == HostCapacity(2, 16 * GIB, "2 cores (affinity 2, no cgroup quota), 16.0 GiB (physical)")

    def test_one_core_is_singular(self, host: Host):
        assert host.read(1).reason.startswith("1 core (")

    def test_affinity_is_asked_for_when_not_given(self, host: Host):
        assert read_capacity(root=host.root).cores == len(os.sched_getaffinity(0))

    def test_this_machine(self):
        capacity = read_capacity()
        assert 1 <= capacity.cores <= len(os.sched_getaffinity(0))
        assert 0 < capacity.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def test_affinity_of_this_process_counts(self):
        allowed = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {min(allowed)})
            assert read_capacity().cores == 1
        finally:
            os.sched_setaffinity(0, allowed)

    @pytest.mark.parametrize("meminfo", ["", "MemTotal: lots kB", "MemTotal: 0 kB", "MemFree: 5 kB"])
    def test_memory_is_asked_from_the_kernel_where_meminfo_is_useless(self, host: Host, meminfo: str):
        host.write("proc/meminfo", meminfo)
        assert host.read().memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def test_empty_root(self, tmp_path: Path):
        assert read_capacity(root=tmp_path / "nothing", affinity_count=3).cores == 3


class TestVersion2:
    @pytest.fixture(autouse=True)
    def _unified(self, host: Host):
        host.mount("/sys/fs/cgroup")
        host.belong("0::/system.slice/render.service")

    def test_own_group(self, host: Host):
        host.write("/sys/fs/cgroup/system.slice/render.service/cpu.max", "250000 100000")
        host.write("/sys/fs/cgroup/system.slice/render.service/memory.max", 4 * GIB)
        assert host.read() == HostCapacity(
            2,
            4 * GIB,
            "2 cores (cgroup quota 2.5 of /sys/fs/cgroup/system.slice/render.service, affinity 8), "
            "4.0 GiB (cgroup limit of /sys/fs/cgroup/system.slice/render.service, physical 16.0 GiB)",
        )

    def test_a_parent_is_tighter(self, host: Host):
        host.write("/sys/fs/cgroup/system.slice/render.service/cpu.max", "600000 100000")
        host.write("/sys/fs/cgroup/system.slice/render.service/memory.max", 8 * GIB)
        host.write("/sys/fs/cgroup/system.slice/cpu.max", "300000 100000")
        host.write("/sys/fs/cgroup/system.slice/memory.max", 2 * GIB)
        capacity = host.read()
        assert (capacity.cores, capacity.memory_bytes) == (3, 2 * GIB)
        assert "of /sys/fs/cgroup/system.slice," in capacity.reason

    def test_the_top_of_the_mount_counts(self, host: Host):
        host.write("/sys/fs/cgroup/system.slice/render.service/memory.max", "max")
        host.write("/sys/fs/cgroup/memory.max", GIB)
        assert host.read().memory_bytes == GIB

    def test_quota_above_affinity_does_not_decide(self, host: Host):
        host.write("/sys/fs/cgroup/system.slice/render.service/cpu.max", "1600000 100000")
        assert host.read(4).reason.startswith("4 cores (affinity 4, cgroup quota 16 of /sys/fs/cgroup/system.slice")

    def test_part_of_a_core_is_one(self, host: Host):
        host.write("/sys/fs/cgroup/system.slice/render.service/cpu.max", "5000 100000")
        assert host.read().cores == 1

    def test_odd_period(self, host: Host):
        host.write("/sys/fs/cgroup/system.slice/render.service/cpu.max", "29999 10000")
        assert host.read().cores == 2

    def test_limit_above_physical_does_not_decide(self, host: Host):
        host.write("/sys/fs/cgroup/system.slice/render.service/memory.max", 64 * GIB)
        assert host.read().memory_bytes == 16 * GIB
        assert host.read().reason.endswith("16.0 GiB (physical)")

    def test_siblings_do_not_count(self, host: Host):
        host.write("/sys/fs/cgroup/system.slice/render.service/cgroup.procs", "1")
        host.write("/sys/fs/cgroup/system.slice/other.service/memory.max", 1 << 20)
        host.write("/sys/fs/cgroup/system.slice/other.service/cpu.max", "1000 100000")
        assert host.read().memory_bytes == 16 * GIB
        assert host.read().cores == 8

    @pytest.mark.parametrize(
        "text",
        [
            "max 100000",
            f"{V1_NO_MEMORY_LIMIT} 100000",
            "-1 100000",
            "0 100000",
            "100000 0",
            "100000",
            "two cores",
            "",
            "9" * 5000,
        ],
    )
    def test_no_quota(self, host: Host, text: str):
        host.write("/sys/fs/cgroup/system.slice/render.service/cpu.max", text)
        assert host.read() == HostCapacity(8, 16 * GIB, "8 cores (affinity 8, no cgroup quota), 16.0 GiB (physical)")

    @pytest.mark.parametrize(
        "text", ["max", "-1", "0", "", "4 GiB", "1e9", V1_NO_MEMORY_LIMIT, 2**63 - 1, 2**64, "٤٠٩٦", "1_000"]
    )
    def test_no_memory_limit(self, host: Host, text: object):
        host.write("/sys/fs/cgroup/system.slice/render.service/memory.max", text)
        assert host.read().memory_bytes == 16 * GIB

    def test_bytes_that_are_no_text(self, host: Host):
        host.write("/sys/fs/cgroup/system.slice/render.service/memory.max", "")
        (host.root / "sys/fs/cgroup/system.slice/render.service/memory.max").write_bytes(b"\xff\x00\xfe123")
        assert host.read().memory_bytes == 16 * GIB

    def test_a_folder_where_a_file_should_be(self, host: Host):
        (host.root / "sys/fs/cgroup/system.slice/render.service/cpu.max").mkdir(parents=True)
        assert host.read().cores == 8


class TestContainerPaths:
    """The path in /proc/self/cgroup is not always one that exists below the mount."""

    def test_private_namespace(self, host: Host):
        host.mount("/sys/fs/cgroup")
        host.belong("0::/")
        host.write("/sys/fs/cgroup/memory.max", 3 * GIB)
        host.write("/sys/fs/cgroup/cpu.max", "200000 100000")
        assert (host.read().cores, host.read().memory_bytes) == (2, 3 * GIB)

    def test_host_path_that_does_not_exist_here(self, host: Host):
        host.mount("/sys/fs/cgroup")
        host.belong("0::/kubepods/pod12/abc")
        host.write("/sys/fs/cgroup/memory.max", 3 * GIB)
        assert host.read().memory_bytes == 3 * GIB

    def test_host_path_that_only_begins_like_one_here(self, host: Host):
        host.mount("/sys/fs/cgroup")
        host.belong("0::/system.slice/docker-abc.scope")
        host.write("/sys/fs/cgroup/system.slice/memory.max", GIB)
        host.write("/sys/fs/cgroup/memory.max", 3 * GIB)
        assert host.read().memory_bytes == 3 * GIB

    def test_mount_point_that_no_path_can_have(self, host: Host):
        host.mount_lines.append(r"31 23 0:28 / /a\000b rw - cgroup2 cgroup2 rw")
        host.write("proc/self/mountinfo", "\n".join(host.mount_lines))
        assert host.read().memory_bytes == 16 * GIB

    def test_mount_shows_the_containers_group_as_its_root(self, host: Host):
        host.mount("/sys/fs/cgroup", mount_root="/docker/abc")
        host.belong("0::/docker/abc/worker")
        host.write("/sys/fs/cgroup/memory.max", 3 * GIB)
        host.write("/sys/fs/cgroup/worker/memory.max", 2 * GIB)
        assert host.read().memory_bytes == 2 * GIB

    def test_mount_root_is_no_mere_prefix_of_a_name(self, host: Host):
        host.mount("/sys/fs/cgroup", mount_root="/docker/abc")
        host.belong("0::/docker/abcdef")
        host.write("/sys/fs/cgroup/def/memory.max", GIB)
        host.write("/sys/fs/cgroup/memory.max", 3 * GIB)
        assert host.read().memory_bytes == 3 * GIB

    def test_group_outside_the_namespace(self, host: Host):
        host.mount("/sys/fs/cgroup/inner")
        host.belong("0::/../outer")
        host.write("/sys/fs/cgroup/outer/memory.max", GIB)
        host.write("/sys/fs/cgroup/inner/memory.max", 3 * GIB)
        assert host.read().memory_bytes == 3 * GIB

    def test_another_groups_bind_mount_is_not_ours(self, host: Host):
        host.mount("/mnt/watched", mount_root="/other")
        host.mount("/sys/fs/cgroup")
        host.belong("0::/own")
        host.write("/mnt/watched/memory.max", GIB)
        host.write("/sys/fs/cgroup/own/memory.max", 3 * GIB)
        assert host.read().memory_bytes == 3 * GIB

    def test_the_last_mount_on_a_point_is_the_visible_one(self, host: Host):
        host.mount("/sys/fs/cgroup", mount_root="/hidden")
        host.mount("/sys/fs/cgroup", mount_root="/docker/abc")
        host.belong("0::/docker/abc/worker")
        host.write("/sys/fs/cgroup/worker/memory.max", 2 * GIB)
        assert host.read().memory_bytes == 2 * GIB

    def test_mount_point_with_a_space(self, host: Host):
        host.mount(r"/my\040groups")
        host.belong("0::/")
        host.write("/my groups/memory.max", 2 * GIB)
        assert host.read().memory_bytes == 2 * GIB

    def test_path_with_colons(self, host: Host):
        host.mount("/sys/fs/cgroup")
        host.belong("0::/cri-containerd:abc:def")
        host.write("/sys/fs/cgroup/cri-containerd:abc:def/memory.max", 2 * GIB)
        assert host.read().memory_bytes == 2 * GIB

    def test_memberships_unreadable(self, host: Host):
        host.mount("/sys/fs/cgroup")
        host.write("/sys/fs/cgroup/memory.max", 2 * GIB)
        assert host.read().memory_bytes == 2 * GIB


class TestVersion1:
    @pytest.mark.parametrize("point", ["/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu", "/cgroups/processor"])
    def test_mount_layouts(self, host: Host, point: str):
        host.mount(point, kind="cgroup", options="rw,cpu,cpuacct")
        host.belong("5:cpuset:/", "4:cpu,cpuacct:/user.slice/me")
        host.write(f"{point}/user.slice/me/cpu.cfs_quota_us", 150000)
        host.write(f"{point}/user.slice/me/cpu.cfs_period_us", 50000)
        assert host.read().cores == 3

    def test_nested_limits(self, host: Host):
        host.mount("/sys/fs/cgroup/memory", kind="cgroup", options="rw,memory")
        host.belong("4:memory:/user.slice/me")
        host.write("/sys/fs/cgroup/memory/user.slice/me/memory.limit_in_bytes", 5 * GIB)
        host.write("/sys/fs/cgroup/memory/user.slice/memory.limit_in_bytes", 3 * GIB)
        host.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NO_MEMORY_LIMIT)
        assert host.read().memory_bytes == 3 * GIB

    def test_docker_with_the_hosts_paths(self, host: Host):
        host.mount("/sys/fs/cgroup/memory", kind="cgroup", options="rw,memory", mount_root="/docker/abc")
        host.mount("/sys/fs/cgroup/cpu,cpuacct", kind="cgroup", options="rw,cpu,cpuacct", mount_root="/docker/abc")
        host.belong("4:memory:/docker/abc", "3:cpu,cpuacct:/docker/abc")
        host.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", 2 * GIB)
        host.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", 400000)
        host.write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", 100000)
        assert (host.read().cores, host.read().memory_bytes) == (4, 2 * GIB)

    def test_limit_of_a_group_above_the_mount(self, host: Host):
        host.mount("/sys/fs/cgroup/memory", kind="cgroup", options="rw,memory", mount_root="/kubepods/pod1/abc")
        host.belong("4:memory:/kubepods/pod1/abc")
        host.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NO_MEMORY_LIMIT)
        host.write("/sys/fs/cgroup/memory/memory.stat", f"cache 5\nhierarchical_memory_limit {6 * GIB}\ntotal_rss 7")
        assert host.read().memory_bytes == 6 * GIB

    @pytest.mark.parametrize(
        ("quota", "period"), [(-1, 100000), (0, 100000), ("max", 100000), (5, "x"), (5, 0), ("", "")]
    )
    def test_no_quota(self, host: Host, quota: object, period: object):
        host.mount("/sys/fs/cgroup/cpu", kind="cgroup", options="rw,cpu")
        host.belong("4:cpu:/")
        host.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota)
        host.write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period)
        assert host.read().reason.startswith("8 cores (affinity 8, no cgroup quota)")

    def test_quota_without_a_period(self, host: Host):
        host.mount("/sys/fs/cgroup/cpu", kind="cgroup", options="rw,cpu")
        host.belong("4:cpu:/")
        host.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", 100000)
        assert host.read().cores == 8


class TestHybrid:
    """Version 1 hierarchies with the unified one beside them, without controllers."""

    @pytest.fixture(autouse=True)
    def _hybrid(self, host: Host):
        for name in ("cpu", "cpuacct", "memory", "name=systemd"):
            host.mount(f"/sys/fs/cgroup/{name}", kind="cgroup", options=f"rw,{name}")
        host.mount("/sys/fs/cgroup/unified")
        host.belong("9:name=systemd:/", "4:memory:/process_api/254b", "2:cpuacct:/", "1:cpu:/", "0::/")

    def test_version_1_limits_count(self, host: Host):
        host.write("/sys/fs/cgroup/memory/process_api/254b/memory.limit_in_bytes", 2 * GIB)
        host.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", 500000)
        host.write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000)
        assert (host.read().cores, host.read().memory_bytes) == (5, 2 * GIB)

    def test_unlimited_as_on_a_bare_host(self, host: Host):
        host.write("/sys/fs/cgroup/memory/process_api/254b/memory.limit_in_bytes", V1_NO_MEMORY_LIMIT)
        host.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NO_MEMORY_LIMIT)
        host.write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", -1)
        host.write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", 100000)
        assert host.read() == HostCapacity(8, 16 * GIB, "8 cores (affinity 8, no cgroup quota), 16.0 GiB (physical)")

    def test_the_tighter_of_both_versions(self, host: Host):
        host.write("/sys/fs/cgroup/memory/process_api/254b/memory.limit_in_bytes", 4 * GIB)
        host.write("/sys/fs/cgroup/unified/memory.max", 3 * GIB)
        assert host.read().memory_bytes == 3 * GIB


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    texts=st.fixed_dictionaries({name: st.binary(max_size=200) for name in ("cgroup", "mountinfo", "cpu", "memory")})
)
def test_garbage_is_no_limit_and_no_error(tmp_path: Path, texts: dict[str, bytes]):
    host = Host(tmp_path)
    host.mount("/sys/fs/cgroup")
    host.write("/sys/fs/cgroup/cpu.max", "")
    (tmp_path / "proc/self/cgroup").write_bytes(texts["cgroup"])
    with (tmp_path / "proc/self/mountinfo").open("ab") as mountinfo:
        mountinfo.write(texts["mountinfo"] + b"\n31 23 0:28 / /a\\000b rw - cgroup2 c rw\n1 2 3 / /x - cgroup2\n")
    (tmp_path / "sys/fs/cgroup/cpu.max").write_bytes(b"x" + texts["cpu"])
    (tmp_path / "sys/fs/cgroup/memory.max").write_bytes(b"x" + texts["memory"])
    assert host.read(5) == HostCapacity(5, 16 * GIB, "5 cores (affinity 5, no cgroup quota), 16.0 GiB (physical)")


@pytest.mark.parametrize("line", [f"0::/{'a' * 5000}", "0::/a\0b", "0::", "::", "0", "0:::", "0::relative"])
def test_damaged_memberships_fall_back_to_the_mount(host: Host, line: str):
    host.mount("/sys/fs/cgroup")
    host.belong(line)
    host.write("/sys/fs/cgroup/memory.max", 2 * GIB)
    assert host.read().memory_bytes == 2 * GIB


FULL_HD = {"width_px": 1920, "height_px": 1080}
FULL_HD_BYTES = BASE_SESSION_BYTES + BYTES_PER_PIXEL * 1920 * 1080
ROOMY = HostCapacity(8, 64 * GIB, "8 cores (affinity 8, no cgroup quota), 64.0 GiB (physical)")


def with_memory_for(session_count: int, *, spare_bytes: int = 0) -> HostCapacity:
    return dataclasses.replace(ROOMY, memory_bytes=PARENT_BYTES + session_count * FULL_HD_BYTES + spare_bytes)


class TestChooseSessions:
    @pytest.mark.parametrize(
        ("capacity", "segment_count", "cap", "sessions", "threads", "decided"),
        [
            (ROOMY, 100, 0, 8, 1, "limited by cores"),
            (ROOMY, 8, 0, 8, 1, "limited by cores"),
            (ROOMY, 3, 0, 3, 2, "limited by segments"),
            (ROOMY, 1, 0, 1, 8, "limited by segments"),
            (ROOMY, 0, 0, 1, 8, "limited by segments"),
            (ROOMY, 100, 2, 2, 4, "limited by the job's sessions"),
            (ROOMY, 100, 200, 8, 1, "limited by cores"),
            (with_memory_for(4), 100, 0, 4, 2, "limited by memory"),
            (with_memory_for(4, spare_bytes=-1), 100, 0, 3, 2, "limited by memory"),
            (with_memory_for(1), 100, 0, 1, 8, "limited by memory"),
            (with_memory_for(1, spare_bytes=-1), 100, 0, 1, 8, "memory is short even for one"),
            (dataclasses.replace(ROOMY, memory_bytes=0), 100, 0, 1, 8, "memory is short even for one"),
        ],
    )
    def test_what_decides(self, capacity, segment_count, cap, sessions, threads, decided):
        plan = choose_sessions(capacity, **FULL_HD, segment_count=segment_count, cap=cap)
        assert (plan.sessions, plan.threads) == (sessions, threads)
        assert f", {decided}: {capacity.reason}" in plan.reason

    def test_reason_is_one_line(self):
        plan = choose_sessions(ROOMY, **FULL_HD, segment_count=3)
        assert plan.reason == (
            "3 sessions x 2 threads, limited by segments: 8 cores (affinity 8, no cgroup quota), 64.0 GiB (physical); "
            "0.3 GiB a session and 0.2 GiB beside"
        )

    def test_larger_pictures_leave_room_for_fewer(self):
        capacity = with_memory_for(8)
        uhd = choose_sessions(capacity, width_px=3840, height_px=2160, segment_count=100)
        assert uhd.sessions < choose_sessions(capacity, **FULL_HD, segment_count=100).sessions == 8

    @settings(deadline=None)
    @given(
        cores=st.integers(1, 512),
        memory_bytes=st.integers(0, 2048 * GIB),
        width_px=st.integers(1, 16384),
        height_px=st.integers(1, 16384),
        segment_count=st.integers(1, 5000),
        cap=st.integers(0, 600),
    )
    def test_bounds(self, cores, memory_bytes, width_px, height_px, segment_count, cap):
        capacity = HostCapacity(cores, memory_bytes, "")
        plan = choose_sessions(capacity, width_px=width_px, height_px=height_px, segment_count=segment_count, cap=cap)
        session_bytes = BASE_SESSION_BYTES + BYTES_PER_PIXEL * width_px * height_px
        assert plan.sessions >= 1
        assert plan.threads >= 1
        assert plan.sessions * plan.threads <= cores
        assert plan.sessions <= segment_count
        assert not cap or plan.sessions <= cap
        fits = plan.sessions * session_bytes + PARENT_BYTES <= memory_bytes
        assert fits or (plan.sessions == 1 and "memory is short" in plan.reason)
        assert "\n" not in plan.reason
        # One more would break a bound, and so would one more thread in each.
        one_more_fits = (plan.sessions + 1) * session_bytes + PARENT_BYTES <= memory_bytes
        assert plan.sessions in (cores, segment_count, cap) or not one_more_fits
        assert plan.sessions * (plan.threads + 1) > cores


def test_a_photo_larger_than_usual_takes_memory_of_every_session():
    capacity = HostCapacity(cores=8, memory_bytes=4 << 30, reason="")
    film = {"width_px": 1920, "height_px": 1080, "segment_count": 100}
    usual = choose_sessions(capacity, **film, largest_photo_px=12_000_000)
    large = choose_sessions(capacity, **film, largest_photo_px=100_000_000)
    assert usual == choose_sessions(capacity, **film)
    assert large.sessions < usual.sessions
    assert large.sessions * 88_000_000 * 12 < capacity.memory_bytes
    assert "memory" in large.reason
