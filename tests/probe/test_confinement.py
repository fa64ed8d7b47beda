"""Which bounds follow from a profile, and what becomes of a process's groups, on small trees of files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlp_edge.probe.confinement import Bounds, Confinement, bounds_of, remove_leftovers
from fedlp_edge.probe.host import Host
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.system.cgroups import AGENT_PREFIX, ControlGroup
from tests.probe.trees import tree
from tests.system.test_cgroups import VERSION_1, VERSION_2

MB = 1_000_000
HOST = Host("pi", "aarch64", memory_available=3000 * MB, memory_total=4000 * MB, cores=4.0, own_memory=40 * MB)
ALL = Bounds(memory=760 * MB, cores=1.0, worker=True, profile="board")
NAME = f"{AGENT_PREFIX}{os.getpid()}-12345"
STAT = {f"proc/{os.getpid()}/stat": f"{os.getpid()} (a (b) c) S " + " ".join(["0"] * 18) + " 12345 0 0"}


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield


def text(path: Path) -> str:
    return path.read_text().strip()


def test_bounds_are_the_board_less_its_system_and_the_agent():
    profile = DeviceProfile(name="board", ram_mb=1000, threads=2, training_memory_mb=50)
    assert bounds_of(profile, HOST, 2) == Bounds(760 * MB, 2.0, True, "board")


@pytest.mark.parametrize(
    "profile",
    [
        DeviceProfile(),
        DeviceProfile(name="fast-link", link_mbit_per_second=10),
        DeviceProfile(name="as-large", ram_mb=8000, threads=4),
        DeviceProfile(name="too-small-for-pytorch", ram_mb=512),
    ],
)
def test_asks_for_no_group_where_it_would_bound_nothing(profile: DeviceProfile):
    assert bounds_of(profile, HOST, 1).controllers == []


def test_grants_the_threads_that_the_owner_asks_for():
    assert bounds_of(DeviceProfile(name="one", threads=1), HOST, 3).cores == 3.0
    assert bounds_of(DeviceProfile(name="one", threads=1), HOST, 4).cores is None


def test_confines_in_version_1_below_the_group_of_each_controller(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = tree(tmp_path, VERSION_1 | STAT)
    memory, cpu = (root / "sys/fs/cgroup" / name / "service" for name in ("memory", "cpu"))
    with Confinement(ALL, root) as confinement:
        assert text(memory / NAME / "memory.limit_in_bytes") == str(760 * MB)
        assert text(memory / NAME / "agent/cgroup.procs") == str(os.getpid())
        assert text(cpu / NAME / "cpu.cfs_quota_us") == "100000"
        assert text(cpu / NAME / "agent/cgroup.procs") == str(os.getpid())
        assert confinement.worker == ControlGroup(memory / NAME / "worker", 1)
        assert (memory / NAME / "worker").is_dir()
    assert text(memory / "cgroup.procs") == text(cpu / "cgroup.procs") == str(os.getpid())
    (record,) = caplog.records
    assert record.getMessage() == (
        "profile board: control groups see to it that agent and worker share 760 MB and the time of 1 CPU, "
        "training keeps to its memory"
    )


def test_confines_in_version_2_below_one_group(tmp_path: Path):
    root = tree(tmp_path, VERSION_2 | STAT)
    service = root / "sys/fs/cgroup/service"
    with Confinement(ALL, root) as confinement:
        assert text(service / "cgroup.subtree_control") == "+cpu +memory"
        assert text(service / NAME / "cgroup.subtree_control") == "+memory"
        assert text(service / NAME / "memory.max") == str(760 * MB)
        assert text(service / NAME / "memory.swap.max") == "0"
        assert text(service / NAME / "cpu.max") == "100000 100000"
        assert text(service / NAME / "agent/cgroup.procs") == str(os.getpid())
        assert confinement.worker == ControlGroup(service / NAME / "worker", 2)
        (service / "cgroup.procs").mkdir()  # as long as it hands controllers on, it takes no process
    assert text(service / NAME / "cgroup.subtree_control") == "-memory"
    assert text(service / "cgroup.subtree_control") == "-cpu -memory"


def test_lets_a_root_group_enable_what_others_may_use_by_now(tmp_path: Path):
    root = tree(tmp_path, VERSION_2 | STAT)
    service = root / "sys/fs/cgroup/service"
    with Confinement(ALL, root):
        assert text(service / "cgroup.subtree_control") == "+cpu +memory"
    assert text(service / "cgroup.subtree_control") == "+cpu +memory"
    assert text(service / "cgroup.procs") == str(os.getpid())


def test_touches_nothing_without_bounds(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = tree(tmp_path, VERSION_1 | STAT)
    before = sorted(root.rglob("*"))
    with Confinement(Bounds(), root) as confinement:
        assert confinement.worker is None
    assert sorted(root.rglob("*")) == before
    assert not caplog.records


def test_says_in_one_line_that_there_are_no_groups(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with Confinement(ALL, tmp_path) as confinement:
        assert confinement.worker is None
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "address space" in record.getMessage()
    assert "number of threads" in record.getMessage()


def test_is_back_in_its_group_when_the_controllers_cannot_be_handed_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    root = tree(tmp_path, VERSION_2 | STAT)
    service = root / "sys/fs/cgroup/service"
    (service / "cgroup.subtree_control").unlink()
    (service / "cgroup.subtree_control").mkdir()  # refuses to be written, also to root
    with Confinement(ALL, root) as confinement:
        assert confinement.worker is None
        assert text(service / "cgroup.procs") == str(os.getpid())
    (record,) = caplog.records
    assert "no control group can be made (Is a directory); memory for training is limited by address space" in (
        record.getMessage()
    )


def test_keeps_the_quota_where_only_memory_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    root = tree(tmp_path, VERSION_1 | STAT)
    (root / "sys/fs/cgroup/memory/service/memory.limit_in_bytes").unlink()
    with Confinement(ALL, root):
        assert text(root / "sys/fs/cgroup/cpu/service" / NAME / "cpu.cfs_quota_us") == "100000"
    refused, held = (record.getMessage() for record in caplog.records)
    assert refused.endswith("(its controller is not there); memory for training is limited by address space")
    assert held == "profile board: control groups see to it that agent and worker share the time of 1 CPU"


def test_removes_what_a_killed_agent_has_left_and_nothing_else(tmp_path: Path):
    root = tree(tmp_path, STAT)
    parent = root / "groups"
    killed, used_again = f"{AGENT_PREFIX}999999999-5", f"{AGENT_PREFIX}{os.getpid()}-5"
    for name in (killed, used_again, NAME, "another"):
        (parent / name / "worker").mkdir(parents=True)
    remove_leftovers(ControlGroup(parent, 1), root)
    assert sorted(path.name for path in parent.iterdir()) == sorted(["another", NAME])
