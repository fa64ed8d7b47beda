"""A trial export before the first round: what the exporter lacks is found, and what runs is let through."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.worker.job_runner import JobRunner
from fedlp_edge.worker.jobs import ExportTried, TryExport, WorkerOptions

CODE = """
import torch
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

class Unknown(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x)

def net(last, outputs=3):
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), last, nn.Linear(8, outputs))

class Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 8, proj_size=4, batch_first=True)
        self.middle, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.middle(self.lstm(x)[0][:, -1]).relu())

def plain(): return net(nn.ReLU())
def one(): return net(nn.ReLU(), 1)
def same(): return net(nn.ReLU(), 6)
def unknown(): return net(Unknown())
def turned(): return net(orthogonal(nn.Linear(8, 8)))
def words(): return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3))
"""


def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, **settings: object) -> ExportTried:
    (tmp_path / "own_nets.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_nets", raising=False)
    model = ModelSettings(**{"name": f"own_nets:{name}", "input": (6,), "classes": 3, **settings})
    runner = JobRunner(WorkerOptions(device="cpu", allow_models=(model.name,)))
    result = runner.run(TryExport(model=model, depths=(1, 2, 9), directory=str(tmp_path)))
    assert isinstance(result, ExportTried)
    assert [path.name for path in tmp_path.iterdir()] == ["own_nets.py"]
    return result


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("plain", {}),
        ("plain", {"head_mode": "personal"}),
        ("plain", {"task": "multi-label"}),
        ("one", {"task": "regression", "classes": 1}),
        ("same", {"task": "anomaly", "classes": 0}),
        ("turned", {}),
        ("words", {"tokens": True}),
    ],
)
def test_a_model_that_can_be_exported_is_let_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, settings: dict[str, object]
) -> None:
    assert tried(tmp_path, monkeypatch, name, **settings).refused == ()


def test_depths_that_cannot_be_exported_are_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [refused] = tried(tmp_path, monkeypatch, "unknown").refused
    assert refused.depth == 2
    assert "depth 2 of own_nets:unknown: PyTorch cannot export this model to ONNX: " in refused.reason
    assert "bessel_j0" in refused.reason


def test_an_lstm_with_projections_is_refused_by_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    found = tried(tmp_path, monkeypatch, "Projected", input=(5, 3))
    assert {entry.depth for entry in found.refused} == {1, 2}
    assert all("ONNX has no LSTM with projections: leave proj_size out" in entry.reason for entry in found.refused)
    assert "initial_c" not in capfd.readouterr().err
