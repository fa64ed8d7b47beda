"""What an agent's worker loads: nothing that a small board cannot afford. Each test looks at a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKER = """
import json, sys, torch
from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.learning.data import load_data
from fedlp_edge.learning.jobs import JobRunner
from fedlp_edge.learning.models import build_model
from fedlp_edge.learning.training import train_round
from fedlp_edge.worker.jobs import Build, Built, WorkerOptions

settings = ModelSettings(input=(1, 8, 8))
built = JobRunner(WorkerOptions(threads=1, device="cpu")).run(Build(model=settings))
assert isinstance(built, Built), built
model, data = build_model(settings, seed=0).submodel(3), load_data("digits#limit=64")
for optimizer in ("sgd", "adam"):
    train_round(model, data, TrainingSettings(optimizer=optimizer), seed=0, device=torch.device("cpu"))
print(json.dumps([name for name in ("torchvision", "torch._dynamo", "onnx", "sympy") if name in sys.modules]))
"""

TRACED = """
import json, sys, torch
from tests.learning.test_partition_sequences import Encoder, TOKENS
from fedlp_edge import partition
partition(Encoder(), TOKENS).blueprint()
print(json.dumps([name for name in ("torchvision", "torch._dynamo") if name in sys.modules]))
"""


def _run(program: str, directory: Path) -> Any:
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{program}"],
        cwd=directory,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(ran.stdout.splitlines()[-1])


def test_trains_without_loading_the_compiler_or_the_vision_library(tmp_path: Path) -> None:
    assert _run(WORKER, tmp_path) == []


def test_splits_a_users_model_without_the_compiler(tmp_path: Path) -> None:
    assert _run(TRACED, tmp_path) == []
