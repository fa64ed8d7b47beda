"""What an agent's worker loads: nothing that a small board cannot afford. Each test looks at a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WORKER = """
import json, sys, torch
from fedlp_edge.core.settings import MemorySaving, ModelSettings, ObjectiveSettings, TrainingSettings
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.worker.job_runner import JobRunner
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.learning.training.loop import train_round
from fedlp_edge.worker.jobs import Build, Built, WorkerOptions

settings = ModelSettings(input=(1, 8, 8))
built = JobRunner(WorkerOptions(threads=1, device="cpu")).run(Build(model=settings))
assert isinstance(built, Built), built
model, data = build_model(settings, seed=0).submodel(3), load_data("digits#limit=64")
objective = ObjectiveSettings(logit_adjustment=1.0, proximal=0.1, distillation=0.5)
for optimizer in ("sgd", "adam"):
    for more in ({}, {"objective": objective}, {"memory": MemorySaving(checkpointing=True)}):
        training = TrainingSettings(optimizer=optimizer, **more)
        train_round(model, data, training, seed=0, device=torch.device("cpu"))
unwanted = ("torchvision", "torch._dynamo", "onnx", "sympy", "sklearn", "PIL")
print(json.dumps([name for name in unwanted if name in sys.modules]))
"""

TRACED = """
import json, sys, torch
from tests.learning.partition.test_partition_sequences import Encoder, TOKENS
from fedlp_edge import ModelSettings, build_model, partition
from fedlp_edge.learning.profiling.step_trace import trace_steps
partition(Encoder(), TOKENS).blueprint()
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__(); self.a = torch.nn.Linear(4, 4); self.b = torch.nn.Linear(4, 2)
    def forward(self, x): return self.b(self.a(x))
partition(Net(), torch.zeros(1, 4)).blueprint()
build_model(ModelSettings(), seed=0).submodel(3)(torch.zeros(2, 1, 28, 28)).sum().backward()
model = build_model(ModelSettings(name="mlp", input=(1, 8, 8)), seed=0)
trace_steps(model, model.sample, 1)
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


def test_splits_and_watches_models_without_the_compiler_or_the_vision_library(tmp_path: Path) -> None:
    assert _run(TRACED, tmp_path) == []
