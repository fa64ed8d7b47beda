"""An agent that plays a small board, on the machine's real control groups: held to it, and gone without a trace.

Where no group can be made (no root, or a container without the controller) the agent must say so and work all the same.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fedlp_edge.probe.host import BOARD_SYSTEM_MEMORY
from fedlp_edge.system.cgroups import AGENT_PREFIX, ControlGroup, own_group, read_text
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.memory_group import why_not

pytestmark = pytest.mark.real_start

RAM = 1_000_000_000
PROFILE = f'name = "board"\nram_mb = {RAM // 1_000_000}\ntraining_memory_mb = 100\n'


@contextmanager
def agent(directory: Path, url: str, device: str) -> Iterator[tuple[psutil.Process, str]]:
    """An agent that has measured itself, and what it has logged until then; it is killed if it still runs after."""
    profile = directory / "board.toml"
    profile.write_text(PROFILE)
    command = [
        *(sys.executable, "-m", "device_agent", "--broker", url, "--fleet", "confined", "--id", device),
        *("--data", "digits#limit=100", "--state", str(directory / device), "--profile", str(profile)),
        *("--device", "cpu", "--threads", "1", "--no-calibrate"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            seen = ""
            while "MB for training" not in seen:
                line = process.stderr.readline()
                assert line, seen
                seen += line
            yield psutil.Process(process.pid), seen
        finally:
            process.kill()


def groups(pid: int) -> list[ControlGroup]:
    """Of an agent that was started from here."""
    parent = own_group("memory")
    return [] if parent is None else parent.below(f"{AGENT_PREFIX}{pid}-")


@pytest.mark.system
def test_agent_is_held_to_its_profile_and_leaves_no_group(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    reason = why_not()
    with agent(tmp_path, mosquitto.url, "killed") as (process, log):
        if reason:
            warnings.warn(f"{reason}; checked is that the agent says so", stacklevel=1)
            assert "no control group can be made" in log
            return
        (group,) = groups(process.pid)
        (worker,) = process.children()
        assert (group.directory / "agent/cgroup.procs").read_text().split() == [str(process.pid)]
        assert (group.directory / "worker/cgroup.procs").read_text().split() == [str(worker.pid)]
        limit = int(read_text(group.directory / ("memory.limit_in_bytes" if group.version == 1 else "memory.max")))
        # What the agent had taken before it entered counts, too.
        assert 0 < RAM - BOARD_SYSTEM_MEMORY - limit < 100_000_000
        assert 0 < group.working_set_bytes < limit
        process.kill()
        worker.wait(60)
    assert group.directory.exists()

    with agent(tmp_path, mosquitto.url, "stopped") as (process, _):
        assert not group.directory.exists()
        (group,) = groups(process.pid)
        process.terminate()
        process.wait(60)
    assert not group.directory.exists()
