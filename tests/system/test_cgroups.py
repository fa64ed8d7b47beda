"""Making and limiting groups of both versions, on small trees of files; the real kernel's are in tests/system."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.system.cgroups import ControlGroup, own_group
from tests.probe.trees import tree

VERSION_1 = {
    "proc/self/cgroup": "5:cpu,cpuacct:/service\n4:memory:/service\n0::/service",
    "sys/fs/cgroup/memory/service/memory.limit_in_bytes": "9223372036854771712",
    "sys/fs/cgroup/cpu/service/cpu.cfs_quota_us": "-1",
}
VERSION_2 = {
    "proc/self/cgroup": "0::/service",
    "sys/fs/cgroup/service/cgroup.controllers": "cpuset cpu io memory pids",
    "sys/fs/cgroup/service/cgroup.subtree_control": "",
}


def text(path: Path) -> str:
    return path.read_text().strip()


def test_finds_the_own_group_of_each_controller_in_version_1(tmp_path: Path):
    root = tree(tmp_path, VERSION_1)
    assert own_group("memory", root) == ControlGroup(root / "sys/fs/cgroup/memory/service", 1)
    assert own_group("cpu", root) == ControlGroup(root / "sys/fs/cgroup/cpu/service", 1)


def test_finds_the_one_own_group_of_version_2(tmp_path: Path):
    root = tree(tmp_path, VERSION_2)
    assert own_group("memory", root) == own_group("cpu", root) == ControlGroup(root / "sys/fs/cgroup/service", 2)


def test_finds_no_group_that_was_not_handed_the_controller(tmp_path: Path):
    root = tree(tmp_path, VERSION_2 | {"sys/fs/cgroup/service/cgroup.controllers": "pids memory"})
    assert own_group("memory", root) is not None
    assert own_group("cpu", root) is None


def test_finds_no_group_on_a_machine_without_any(tmp_path: Path):
    assert own_group("memory", tmp_path) is None


def test_limits_memory_and_swap_together_in_version_1(tmp_path: Path):
    group = ControlGroup(tmp_path, 1)
    group.limit_memory(64_000_000)
    assert text(tmp_path / "memory.limit_in_bytes") == text(tmp_path / "memory.memsw.limit_in_bytes") == "64000000"
    group.limit_memory(None)
    assert text(tmp_path / "memory.limit_in_bytes") == text(tmp_path / "memory.memsw.limit_in_bytes") == "-1"


def test_limits_memory_and_forbids_swap_in_version_2(tmp_path: Path):
    group = ControlGroup(tmp_path, 2)
    group.limit_memory(64_000_000)
    assert (text(tmp_path / "memory.max"), text(tmp_path / "memory.swap.max")) == ("64000000", "0")
    group.limit_memory(None)
    assert (text(tmp_path / "memory.max"), text(tmp_path / "memory.swap.max")) == ("max", "max")


def test_limits_processor_time_in_both_versions(tmp_path: Path):
    ControlGroup(tmp_path, 1).limit_cores(1.5)
    ControlGroup(tmp_path, 2).limit_cores(1.5)
    assert (text(tmp_path / "cpu.cfs_quota_us"), text(tmp_path / "cpu.cfs_period_us")) == ("150000", "100000")
    assert text(tmp_path / "cpu.max") == "150000 100000"


def test_hands_on_only_what_is_missing_and_takes_that_back(tmp_path: Path):
    root = tree(tmp_path, VERSION_2 | {"sys/fs/cgroup/service/cgroup.subtree_control": "memory pids"})
    group = own_group("memory", root)
    assert group is not None
    assert group.enable_controllers(["memory"]) == []
    handed = group.enable_controllers(["memory", "cpu"])
    assert handed == ["cpu"]
    assert text(group.directory / "cgroup.subtree_control") == "+cpu"
    group.disable_controllers(handed)
    assert text(group.directory / "cgroup.subtree_control") == "-cpu"


@pytest.mark.parametrize(
    ("version", "files", "used", "kills"),
    [
        (
            1,
            {
                "memory.usage_in_bytes": "1000",
                "memory.stat": "inactive_file 5\ntotal_inactive_file 300",
                "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2",
            },
            700,
            2,
        ),
        (
            2,
            {
                "memory.current": "1000",
                "memory.stat": "anon 1\ninactive_file 300",
                "memory.events": "oom 4\noom_kill 3\noom_group_kill 0",
            },
            700,
            3,
        ),
    ],
)
def test_reads_what_a_group_uses_and_who_was_killed_in_it(
    tmp_path: Path, version: int, files: dict[str, str], used: int, kills: int
):
    root = tree(tmp_path, files | ({"memory.limit_in_bytes": "5000"} if version == 1 else {}))
    group = ControlGroup.at(root)
    assert (group.version, group.memory_bytes, group.working_set_bytes, group.oom_kills) == (version, 1000, used, kills)


def test_removes_a_group_with_all_below_it(tmp_path: Path):
    (tmp_path / "a/b/c").mkdir(parents=True)
    assert ControlGroup(tmp_path / "a", 1).remove()
    assert not (tmp_path / "a").exists()
    assert ControlGroup(tmp_path / "a", 1).remove()


def test_leaves_a_group_that_is_busy(tmp_path: Path):
    root = tree(tmp_path, {"a/b/cgroup.procs": "7"})
    assert not ControlGroup(root / "a", 1).remove(0.01)
    assert (root / "a/b/cgroup.procs").exists()
