"""FIARSE: which weights a device holds, their gradients, and who counts in their averages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.rivals.importance_masks import (
    SIZES,
    ImportanceMasks,
    ImportanceModel,
    MaskedLinear,
    digits,
    held,
    travelling_bytes,
)
from fedlp_edge.core.algorithm.aggregation import LayerwiseMean
from fedlp_edge.core.settings import SchemeSettings, ServerSettings, UpdateSettings
from fedlp_edge.learning.rng import seeded


def model() -> ImportanceMasks:
    with seeded(1):
        built = digits(3)
    assert isinstance(built, ImportanceMasks)
    return built


def linear(size: float) -> MaskedLinear:
    layer = nn.Linear(2, 2)
    masked = MaskedLinear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, -1.0], [0.5, -3.0]]))
        layer.bias.copy_(torch.tensor([2.0, 0.25]))
    masked.hold(layer, size)
    return masked


def test_a_device_holds_the_weights_of_largest_magnitude_of_a_layer() -> None:
    layer = linear(0.5).train()
    assert float(layer.threshold) == 2
    assert layer.get_buffer("weight_mask").tolist() == [[1, 0], [0, 1]]
    assert layer.get_buffer("bias_mask").tolist() == [1, 0]
    assert layer(torch.tensor([[1.0, 10.0]])).tolist() == [[4 + 2, -30]]


def test_gradients_go_through_the_mask() -> None:
    weights = torch.tensor([2.0, -6.0, 1.0], requires_grad=True)
    held(weights, torch.tensor(2.0)).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    # 1 + 2 * 2 * 2 / 16, 1 + 2 * 2 * 6 / 64, and nothing below the threshold.
    assert weights.grad is not None
    assert weights.grad.tolist() == [1.5, 1.375, 0]


def test_a_weight_is_averaged_over_the_devices_that_held_it() -> None:
    built = model()
    blueprint = built.blueprint()
    weights = {name: value.numpy().copy() for name, value in built.state_dict().items()}
    server = ImportanceModel(blueprint, SchemeSettings(), ServerSettings(), weights, update=UpdateSettings(), seed=1)
    name, mean = "H5.fc2.bias", LayerwiseMean(4, blueprint.nested_shapes, blueprint.statistics)
    mean.add({name: np.float32([1, 0, 0]), name + "_mask": np.float32([1, 0, 0])}, 1)
    mean.add({name: np.float32([5, 4, 0]), name + "_mask": np.float32([1, 1, 0])}, 3)
    server.step(1, mean)
    assert server.weights[name] - weights[name] == pytest.approx(np.float32([4, 4, 0]), abs=1e-6)


def test_levels_cost_their_share() -> None:
    blueprint = model().blueprint()
    whole = blueprint.costs[-1].forward_macs
    assert [cost.forward_macs for cost in blueprint.costs] == [int(size * whole) for size in SIZES]
    masked = sum(u.parameters for u in blueprint.units) - 2 * (8 + 8 + 16 + 16 + 32 + 32)
    norms = 8 * 2 * (8 + 8 + 16 + 16 + 32 + 32)
    assert travelling_bytes(blueprint, 5, "none", "none") == 8 * masked + norms
    # A quarter of the values both ways, and a bit for each.
    assert travelling_bytes(blueprint, 1, "none", "none") == pytest.approx(2 * masked + masked / 8 + norms, abs=20)
    assert {t.kind for u in blueprint.units for t in u.tensors if t.name.endswith("_mask")} == {"statistic"}
