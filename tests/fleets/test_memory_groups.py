"""The kernel's own limits: what the probe reads of them, and what a worker that meets one leaves behind.

Where no group can be made (no root, or a container without the controller) the first test says why and checks the group
that it is in; ``tests/probe/test_cgroup_limits.py`` tests everywhere how limits are read, on files of both versions.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import psutil
import pytest

from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.errors import WorkerError
from fedlp_edge.probe.cgroup_limits import read_limits
from fedlp_edge.worker.jobs import WorkerOptions
from fedlp_edge.worker.process import WorkerProcess
from tests.fleets.memory_group import memory_group, why_not, within
from tests.worker.test_jobs import Bench

pytestmark = pytest.mark.real_start

LIMIT = 64 << 20
READ = "import json; from fedlp_edge.probe.cgroup_limits import read_limits as r; l = r(); "
READ += "print(json.dumps([l.memory_total, l.memory_available]))"


def test_probe_reads_the_limit_of_a_real_group() -> None:
    if reason := why_not():
        warnings.warn(f"{reason}; checked is the group that this test is in", stacklevel=1)
        limits = read_limits()
        assert limits.memory_total is None or limits.memory_total > 0
        assert limits.memory_available is None or limits.memory_available <= psutil.virtual_memory().total
        return
    with memory_group("read") as group:
        group.limit_memory(LIMIT)
        done = subprocess.run(within(group, [sys.executable, "-c", READ]), capture_output=True, text=True, check=True)
    total, available = json.loads(done.stdout)
    assert total == LIMIT
    assert 0 < available < LIMIT


def test_worker_killed_by_the_kernel_is_reported_as_short_of_memory(tmp_path: Path) -> None:
    if reason := why_not():
        warnings.warn(f"{reason}; a worker is killed by hand instead", stacklevel=1)
    model = ModelSettings(name="small-cnn", input=(1, 28, 28))
    with WorkerProcess(WorkerOptions(device="cpu")) as worker:
        bench = Bench(worker, tmp_path, model)
        large = TrainingSettings(batch_size=2000, compute="float32")
        data = "fashion-mnist#limit=2000"
        assert worker.pid is not None
        if reason:
            psutil.Process(worker.pid).kill()
            return
        with memory_group("kill") as group:
            group.limit_memory(LIMIT)
            group.take(worker.pid)
            with pytest.raises(WorkerError, match="was killed by the kernel, most likely for memory"):
                bench.train(5, data=data, training=large)
        # The next job starts a worker anew, outside of the group.
        result, _ = bench.train(5, data="fashion-mnist#limit=64", training=TrainingSettings(batch_size=8))
        assert result.samples == 64


TRAIN = """
import mmap, sys, torch
from pathlib import Path
from fedlp_edge.system.cgroups import ControlGroup
from fedlp_edge.learning.memory.limits import limited
group = ControlGroup.at(Path(sys.argv[1])) if sys.argv[1] else None
with limited(32 << 20, torch.device("cpu"), group=group):
    torch.ones(32 << 20, dtype=torch.uint8)
    try:
        torch.ones(256 << 20, dtype=torch.uint8)
    except RuntimeError:
        print("refused", flush=True)
    shared = mmap.mmap(-1, 256 << 20)
    for _ in range(256):
        shared.write(bytes(1 << 20))
    print("shared", flush=True)
"""


def test_training_meets_its_own_limit_first_and_the_groups_where_that_does_not_see() -> None:
    """Tensors beyond the budget are an error that a worker survives; shared memory is the kernel's to end."""
    program = [sys.executable, "-c", TRAIN]
    if reason := why_not():
        warnings.warn(f"{reason}; checked is what holds without one", stacklevel=1)
        assert subprocess.run([*program, ""], capture_output=True, text=True, check=True).stdout.split()[0] == "refused"
        return
    with memory_group("train") as group:
        command = within(group, [*program, str(group.directory)])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stdout.split(), done.returncode, group.oom_kills) == (["refused"], -signal.SIGKILL, 1)
