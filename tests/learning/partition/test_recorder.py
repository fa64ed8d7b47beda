"""One forward pass as a graph."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.partition.recorder import RecordingError, record


class Bias(nn.Module):
    """Adds a tensor that is no part of its state."""

    def __init__(self) -> None:
        super().__init__()
        self._shift = [torch.ones(3)]

    def forward(self, x: Tensor) -> Tensor:
        return x + self._shift[0]


class Decides(nn.Module):
    """Decides by the values of tensors."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Auxiliary(nn.Module):
    """Has a second output in training."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits = self.fc(x)
        return (logits, logits * 2) if self.training else logits


def test_every_call_is_a_node_with_its_shape_and_work() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    recording = record(model, torch.ones(2, 3), training=False, whole=())
    weighty = {node.target: node.meta["macs"] for node in recording.graph.nodes if node.meta["macs"]}
    assert list(weighty.values()) == [2 * 3 * 4, 2 * 4 * 2]
    assert recording.output.meta["shape"] == (2, 2)
    assert recording.output.meta["learns"]
    assert recording.logits.tolist() == model(torch.ones(2, 3)).tolist()
    names = [name for name, _ in recording.output.meta["nn_module_stack"].values()]
    assert names == ["model", "model.2"]


def test_submodule_is_recorded_as_one_call_where_it_is_named() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.Tanh()), nn.Linear(3, 2))
    whole = record(model, torch.ones(2, 3), training=False, whole={"model.0"})
    called = [node.target for node in whole.graph.nodes if node.op == "call_module"]
    assert called[0] == "model.0"
    assert "model.0.0" not in called


def test_tensor_outside_of_the_state_becomes_a_constant() -> None:
    model = nn.Sequential(Bias(), nn.Linear(3, 2))
    recording = record(model, torch.ones(2, 3), training=False, whole=())
    assert {name: value.tolist() for name, value in recording.constants.items()} == {"_constant0": [1.0, 1.0, 1.0]}
    added = [node for node in recording.graph.nodes if node.target in (operator.add, torch.add, "add")]
    assert len(added) == 1


def test_model_and_its_modes_are_left_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    record(model, torch.randn(4, 3), training=True, whole=())
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model[0]._forward_hooks


def test_output_of_training_alone_is_left_out() -> None:
    recording = record(Auxiliary(), torch.ones(2, 3), training=True, whole=())
    assert recording.output.meta["shape"] == (2, 2)


def test_decision_by_values_names_the_module_that_decides() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Decides())
    with pytest.raises(RecordingError, match="its forward decides by the values of tensors") as caught:
        record(model, torch.ones(2, 3), training=False, whole=())
    assert caught.value.module == "model.1"


def test_switching_off_gradients_cannot_be_recorded() -> None:
    class Frozen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return functional.relu(x)

    with pytest.raises(RecordingError, match="its forward switches gradients off"):
        record(Frozen(), torch.ones(2, 3), training=False, whole=())


def test_output_that_is_no_tensor_is_refused() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x, x]

    with pytest.raises(PartitionError, match=r"^Pair returns a list and not one tensor of logits \[batch, classes\]"):
        record(Pair(), torch.ones(2, 3), training=False, whole=())
