"""Limits of control groups, on small trees of files."""

from __future__ import annotations

from pathlib import Path

from fedlp_edge.probe.cgroup_limits import CgroupLimits, read_limits
from tests.probe.trees import tree

MB = 1_000_000


def test_finds_no_limits_on_a_machine_without_control_groups(tmp_path: Path):
    assert read_limits(tmp_path) == CgroupLimits(None, None, None)


def test_reads_version_2_at_the_mount_point_of_a_container(tmp_path: Path):
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": str(512 * MB),
            "sys/fs/cgroup/memory.current": str(200 * MB),
            "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {50 * MB}\nactive_file 3",
            "sys/fs/cgroup/cpu.max": "150000 100000",
        },
    )
    assert read_limits(root) == CgroupLimits(512 * MB, 362 * MB, 1.5)


def test_takes_the_tightest_level_of_version_2(tmp_path: Path):
    group = "sys/fs/cgroup/system.slice"
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/system.slice/agent.service",
            f"{group}/memory.max": str(300 * MB),
            f"{group}/memory.current": str(250 * MB),
            f"{group}/agent.service/memory.max": str(200 * MB),
            f"{group}/agent.service/memory.high": "max",
            f"{group}/agent.service/memory.current": str(20 * MB),
            f"{group}/agent.service/cpu.max": "max 100000",
        },
    )
    assert read_limits(root) == CgroupLimits(200 * MB, 50 * MB, None)


def test_counts_a_throttling_limit_as_a_limit(tmp_path: Path):
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/",
            "sys/fs/cgroup/memory.max": "max",
            "sys/fs/cgroup/memory.high": str(100 * MB),
            "sys/fs/cgroup/memory.current": str(130 * MB),
        },
    )
    assert read_limits(root) == CgroupLimits(100 * MB, 0, None)


def test_reads_version_1(tmp_path: Path):
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": str(256 * MB),
            "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": str(100 * MB),
            "sys/fs/cgroup/memory/docker/abc/memory.stat": f"total_inactive_file {10 * MB}",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "50000",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000",
        },
    )
    assert read_limits(root) == CgroupLimits(256 * MB, 166 * MB, 0.5)


def test_reads_version_1_inside_a_container_that_does_not_see_its_own_path(tmp_path: Path):
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(256 * MB),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(56 * MB),
        },
    )
    assert read_limits(root) == CgroupLimits(256 * MB, 200 * MB, None)


def test_takes_the_huge_number_of_version_1_for_no_limit(tmp_path: Path):
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/\n5:cpu:/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    )
    assert read_limits(root) == CgroupLimits(None, None, None)


def test_leaves_the_limit_that_an_agent_gave_itself_out_of_the_total(tmp_path: Path):
    group = "sys/fs/cgroup/memory/board/fedlp-agent-7-1"
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/board/fedlp-agent-7-1/agent",
            "sys/fs/cgroup/memory/board/memory.limit_in_bytes": str(1000 * MB),
            "sys/fs/cgroup/memory/board/memory.usage_in_bytes": str(300 * MB),
            f"{group}/memory.limit_in_bytes": str(500 * MB),
            f"{group}/memory.usage_in_bytes": str(200 * MB),
            f"{group}/agent/cgroup.procs": "7",
        },
    )
    assert read_limits(root) == CgroupLimits(1000 * MB, 300 * MB, None)
