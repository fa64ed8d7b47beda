from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.step_cost import peak_bytes
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.profiling.step_trace import trace_steps, with_step_costs
from fedlp_edge.learning.zoo.build import build_model

REAL, META = 0, 10**12


def linear() -> LayeredModel:
    layers = [("one", nn.Linear(4, 8, bias=False)), ("two", nn.Linear(8, 16, bias=False))]
    heads = [("h1", nn.Linear(8, 2, bias=False)), ("h2", nn.Linear(16, 2, bias=False))]
    return LayeredModel(layers, heads, torch.zeros(1, 4), classes=2)


@pytest.mark.parametrize("macs", [REAL, META])
def test_trace_counts_products_forward_and_backward(macs: int) -> None:
    first, second = trace_steps(linear(), torch.zeros(1, 4), macs)
    # Two products for the first layer, whose input needs no gradient, and three for all others.
    assert first.macs == 2 * 4 * 8 + 3 * 8 * 2
    assert second.macs == 2 * 4 * 8 + 3 * (8 * 16 + 16 * 2)
    assert second.work["product"].macs == second.macs
    assert second.state_bytes == 4 * (32 + 128 + 32)
    # Layers are run again, heads are not.
    assert (first.recomputed_macs, second.recomputed_macs) == (4 * 8, 4 * 8 + 8 * 16)


@pytest.mark.parametrize("macs", [REAL, META])
def test_trace_sees_what_is_alive_at_once(macs: int) -> None:
    first, _ = trace_steps(linear(), torch.zeros(1, 4), macs)
    assert first.largest_parameter == 4 * 32
    # All gradients are, at the end, and at any moment no more than these and what goes with samples.
    assert 4 * (32 + 16) <= first.memory_points[0].fixed <= 4 * (32 + 16) + 8
    # Many samples: per sample the input (16 bytes), the feature (32) and its gradient are held when the head's turn
    # in the backward pass is over, beside label, logits or their gradients.
    steepest = first.memory_points[-1].per_sample
    assert 16 + 32 + 32 <= steepest <= 16 + 32 + 32 + 8 + 5 * 8


def test_trace_gives_the_same_on_meta_and_for_real() -> None:
    model = build_model(ModelSettings(name="small-cnn", input=(1, 8, 8)), seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert trace_steps(model, model.sample, REAL) == trace_steps(model, model.sample, META)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_trace_sees_less_memory_with_checkpoints() -> None:
    model = build_model(ModelSettings(name="small-cnn", input=(1, 28, 28)), seed=0)
    deepest = trace_steps(model, model.sample, REAL)[-1]
    assert peak_bytes(deepest.checkpointed, 32) < 0.8 * peak_bytes(deepest.memory_points, 32)


class AsksForValues(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (2.0 if x.sum().item() > 0 else 3.0)


def test_trace_runs_for_real_what_asks_for_values() -> None:
    layers = [("one", nn.Sequential(nn.Linear(4, 8), AsksForValues()))]
    model = LayeredModel(layers, [("h", nn.Linear(8, 2))], torch.zeros(1, 4), classes=2)
    (step,) = trace_steps(model, model.sample, META)
    assert step.macs == 2 * 4 * 8 + 3 * 8 * 2


def test_trace_tells_the_kinds_of_operations_apart() -> None:
    layer = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, groups=4, bias=False), nn.Conv2d(8, 8, 3, groups=8, bias=False)),
        *(nn.Conv2d(8, 8, 5, groups=8, bias=False), nn.MaxPool2d(2)),
    )
    head = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    model = LayeredModel([("one", layer)], [("h", head)], torch.zeros(1, 3, 12, 12), classes=2)
    (step,) = trace_steps(model, model.sample, META)
    work = {kind: (done.macs, done.operations) for kind, done in step.work.items()}
    assert work["convolution"] == (2 * 8 * 100 * 27, 2)  # the input needs no gradient
    assert work["grouped"] == (3 * 8 * 64 * 18, 2)
    assert work["depthwise"] == (3 * 8 * 36 * 9, 2)
    assert work["wide-depthwise"] == (3 * 8 * 4 * 25, 2)
    assert work["product"][0] == 3 * 8 * 2
    assert (work["normalization"][1], work["pooling"][1]) == (2, 2)
    assert step.macs == sum(macs for macs, _ in work.values())
    # The filters are read forward and backward, and their gradient is written.
    assert step.work["grouped"].held == 3 * 4 * 8 * 2 * 9


def test_with_steps_fills_the_costs_and_keeps_the_digest() -> None:
    model = linear()
    blueprint = model.blueprint()
    traced = with_step_costs(model, blueprint)
    assert traced.digest == blueprint.digest
    assert [cost.step is not None for cost in traced.costs] == [True, True]
