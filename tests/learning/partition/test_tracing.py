"""Graphs that are valid for every batch size and in both modes."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.partition.mode_switch import ModeSwitch
from fedlp_edge.learning.partition.tracing import (
    Traced,
    batch_size,
    cannot_run,
    device_of,
    mode,
    trace,
)

SAMPLE = torch.zeros(1, 2, 3)


class Reshaping(nn.Module):
    """Writes the batch size into the shape of a view."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.reshape(x.shape[0], -1))


class Dropping(nn.Module):
    """Passes its own mode on to a function."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.fc(x).mean(dim=1), p=1.0, training=self.training)


class Pairs(nn.Module):
    """Takes two tensors."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Branching(nn.Module):
    """Computes something else in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if self.training else x


def run(traced: Traced, x: Tensor) -> Tensor:
    """Runs the graph on other samples than the recorded ones."""
    graph = torch.fx.Graph()
    graph.output(graph.graph_copy(traced.graph, copies := {}) or copies[traced.output])
    result: Tensor = torch.fx.GraphModule(traced.holder, graph)(x)
    return result


def test_graph_runs_for_every_batch_size() -> None:
    model = Reshaping().eval()
    traced = trace(model, SAMPLE)
    assert traced.sample.shape == (2, 2, 3)
    assert any(node.target is batch_size for node in traced.graph.nodes)
    x = torch.randn(5, 2, 3)
    assert torch.equal(run(traced, x), model(x))


def test_constant_of_a_mode_becomes_a_switch() -> None:
    traced = trace(Dropping(), SAMPLE)
    (switch,) = [module for module in traced.holder.modules() if isinstance(module, ModeSwitch)]
    ones = torch.ones(2, 2)
    assert torch.equal(switch.eval()(ones), ones)
    assert torch.equal(switch.train()(ones), torch.zeros(2, 2))  # everything is dropped
    assert traced.output.target == "mode_switch_0"


def test_submodule_that_follows_the_mode_is_called_as_a_whole() -> None:
    traced = trace(nn.Sequential(nn.Flatten(), nn.Linear(6, 2), Branching()), SAMPLE)
    assert "model.2" in [node.target for node in traced.graph.nodes]


def test_batch_dimension_is_known_of_every_value() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.transpose(0, 1)).mean(dim=0)

    batches = {node.meta["batch"] for node in trace(Turned(), SAMPLE).graph.nodes if node.op != "get_attr"}
    assert batches == {0, 1}


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (nn.Linear(3, 2), "Linear is a single layer, so there is nothing to split; pass the model as a list of blocks"),
        (Pairs(), "Pairs takes several inputs (x, y), and layers pass on a single tensor; "),
        (
            Branching(),
            "the forward of Branching itself computes something else in training than in evaluation; "
            "move that part into a submodule, or pass the model",
        ),
        (nn.Sequential(nn.Linear(4, 2)), "Sequential does not run on an input of 2x3: "),
    ],
)
def test_model_that_cannot_be_traced_is_refused(model: nn.Module, problem: str) -> None:
    with pytest.raises(PartitionError, match=f"^{re.escape(problem)}"):
        trace(model, SAMPLE)


def test_modes_are_restored_after_an_error() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout().eval())
    with pytest.raises(TypeError), mode(model, training=False):
        model(None)
    assert [module.training for module in model.modules()] == [True, True, False]


def test_error_of_a_sample_has_one_line() -> None:
    error = cannot_run("block a", SAMPLE, RuntimeError("no\nstack"), "try another")
    assert str(error) == "block a does not run on an input of 2x3: no; try another"
    assert device_of(SAMPLE) == torch.device("cpu")
