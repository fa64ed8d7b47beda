"""Measuring and limiting what a job takes."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch

from fedlp_edge.learning.memory import limits
from fedlp_edge.learning.memory.limits import PeakMeter, is_out_of_memory, limited, trim_heap

CPU = torch.device("cpu")
MIB = 1 << 20


def test_limited_refuses_what_goes_beyond_the_budget() -> None:
    with limited(32 * MIB, CPU):
        torch.ones(32 * MIB, dtype=torch.uint8)
        with pytest.raises(RuntimeError) as caught:
            torch.empty(1024 * MIB, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert torch.empty(1024 * MIB, dtype=torch.uint8).numel() == 1024 * MIB


def test_limited_is_exact_to_the_stated_slack() -> None:
    """In a fresh process, since what other tests left in the allocator's hands would count as free."""
    program = (
        "import torch\n"
        "from fedlp_edge.learning.memory.limits import SLACK_BYTES, limited\n"
        "with limited(32 << 20, torch.device('cpu')):\n"
        "    torch.ones((32 << 20) + SLACK_BYTES // 2, dtype=torch.uint8)\n"
        "    print('within')\n"
        "    try:\n"
        "        torch.ones((33 << 20) + SLACK_BYTES, dtype=torch.uint8)\n"
        "    except RuntimeError:\n"
        "        print('beyond')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "within\nbeyond\n"


def test_limited_without_a_budget_limits_nothing() -> None:
    with limited(None, CPU):
        assert torch.ones(64 * MIB, dtype=torch.uint8)[-1] == 1


@pytest.mark.parametrize("by_kernel", [True, False])
def test_peak_meter_sees_memory_that_is_gone_again(by_kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not by_kernel:
        monkeypatch.setattr(limits, "reset_high_water_mark", lambda: False)
    trim_heap()
    meter = PeakMeter(CPU)
    meter.start()
    block = torch.ones(64 * MIB, dtype=torch.uint8)
    time.sleep(0.2)  # a thread that samples must have its turn, on a machine that does other things too
    del block
    assert 48 * MIB < meter.stop() < 90 * MIB


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory of whom?"), False),
    ],
)
def test_is_out_of_memory_knows_its_many_faces(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_build_says_what_its_libraries_take_and_nothing_of_built_in_models() -> None:
    program = """
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.worker.job_runner import JobRunner
from fedlp_edge.worker.jobs import Build, WorkerOptions
runner = JobRunner(WorkerOptions(device="cpu"))
for name in ("small-cnn", "torchvision:squeezenet1_1"):
    built = runner.run(Build(model=ModelSettings(name=name, input=(3, 64, 64)), steps=True)).blueprint
    assert all(cost.step is not None for cost in built.costs)
    print(built.building.libraries, built.building.peak)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    own, foreign = (tuple(map(int, line.split())) for line in done.stdout.splitlines())
    assert own == (0, 0)
    # torchvision and what it imports, beside a model of 5 MB.
    assert 10_000_000 < foreign[0] < foreign[1]
