import pytest
import torch
from torch import nn

from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.model.tensor_kinds import is_frozen
from fedlp_edge.learning.partition.partition import partition
from fedlp_edge.learning.training.loop import train_round
from tests.fleets.three_kinds import build


def kinds(model: LayeredModel) -> dict[str, tuple[str, float | None]]:
    tensors = (t for unit in model.units for t in (*unit.tensors, *unit.constants))
    return {tensor.name: (tensor.kind, tensor.least) for tensor in tensors if tensor.kind != "trained"}


def test_tells_statistics_from_constants() -> None:
    model = partition(build(), torch.zeros(1, 1, 8, 8))
    frozen = ("1.weight", "1.bias", "2.weight", "2.bias", "2.running_mean")
    assert kinds(model) == {f"L1.frozen.{name}": ("constant", None) for name in frozen} | {
        "L1.frozen.2.running_var": ("constant", 0.0),
        "L2.narrow.1.running_mean": ("statistic", None),
        "L2.narrow.1.running_var": ("statistic", 0.0),
        "L3.masked.0.mask": ("constant", None),
        "L3.masked.1.seen": ("statistic", None),
    }
    assert model.layer_units[0].tensors == ()
    assert [tensor.name for tensor in model.layer_units[2].constants] == ["L3.masked.0.mask"]


def test_a_norm_without_weights_of_its_own_is_not_frozen() -> None:
    assert not is_frozen(nn.BatchNorm1d(4, affine=False))
    assert not is_frozen(nn.BatchNorm1d(4))
    assert not is_frozen(nn.Linear(4, 4).requires_grad_(False))
    assert is_frozen(nn.BatchNorm1d(4).requires_grad_(False))
    assert is_frozen(nn.InstanceNorm1d(4, affine=True, track_running_stats=True).requires_grad_(False))


def test_spectral_norms_vectors_are_statistics() -> None:
    layer = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
    model = partition([nn.Flatten(), layer, nn.ReLU(), nn.Linear(8, 2)], torch.zeros(1, 8))
    assert {name.rpartition(".")[2]: kind for name, (kind, _) in kinds(model).items()} == {
        "_u": "statistic",
        "_v": "statistic",
    }


class Breaks(nn.Module):
    """A buffer in a module that cannot make a step in training on so few samples."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.ones(4))
        self.register_buffer("mask", torch.tensor([0.0, float("-inf"), float("nan"), 0.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) < 3:
            raise ValueError("three samples at least")
        return x * self.table


def test_where_no_step_can_be_made_what_is_finite_may_change() -> None:
    model = partition([nn.Sequential(Breaks(), nn.Linear(4, 4)), nn.Linear(4, 2)], torch.zeros(1, 4))
    assert kinds(model) == {"L1.0.0.table": ("statistic", None), "L1.0.0.mask": ("constant", None)}


def test_models_without_such_buffers_make_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlp_edge.learning.model.tensor_kinds._changed_by_a_step", None)
    partition([nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)], torch.zeros(1, 4))


def test_training_leaves_constants_alone_and_frozen_norms_in_evaluation() -> None:
    model = partition(build(), torch.zeros(1, 1, 8, 8)).submodel(3)
    constants = [name for name in model.state_dict() if name.startswith("L1.") or name.endswith("mask")]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_round(model, load_data("digits#limit=64"), TrainingSettings(), seed=0, device=torch.device("cpu"))
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in constants)
    assert not torch.equal(before["L2.narrow.1.running_var"], after["L2.narrow.1.running_var"])
