"""Invariants of every split, over random small networks in both forms, traced and explicit."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from fedlp_edge import partition
from tests.learning.sample_models import Residual

CHANNELS, CLASSES = 4, 3


class Bottleneck(nn.Module):
    """Two branches, joined: nothing inside can be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(CHANNELS, CHANNELS // 2, 1)
        self.right = nn.Conv2d(CHANNELS, CHANNELS // 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


class Dropping(nn.Module):
    """A parameter-free function of the mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, 0.3, self.training)


PARTS = {
    "conv": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    "norm": lambda: nn.BatchNorm2d(CHANNELS),
    "relu": nn.ReLU,
    "residual": lambda: Residual(CHANNELS),
    "branches": Bottleneck,
    "dropping": Dropping,
    "blur": lambda: nn.AvgPool2d(3, stride=1, padding=1),
}


class Chain(nn.Module):
    """The parts one after the other, in a forward that has to be traced."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            x = part(x)
        return x


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(PARTS)), max_size=7),
    most=st.integers(1, 5),
    traced=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_splits_any_chain_into_units_that_make_up_the_model(
    names: list[str], most: int, traced: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    parts = [nn.Conv2d(1, CHANNELS, 3), *(PARTS[name]() for name in names), nn.Flatten()]
    parts.append(nn.Linear(CHANNELS * 16, CLASSES))
    model = (Chain(parts) if traced else nn.Sequential(*parts)).eval()
    images = torch.randn(3, 1, 6, 6)
    layered = partition(model, images, depths=most).eval()

    assert 1 <= len(layered.depths) <= most
    assert torch.equal(layered(images), model(images))
    assert layered.original_state_dict().keys() == model.state_dict().keys()
    exchanged = [name for unit in layered.units for name in unit.state_names]
    assert len(exchanged) == len(set(exchanged))
    assert set(exchanged) == {name for name, value in layered.state_dict().items() if value.is_floating_point()}
    again = partition(model, images, depths=most)
    assert again.blueprint().digest == layered.blueprint().digest

    costs = layered.blueprint().costs
    for depth, cost in zip(layered.depths, costs, strict=True):
        submodel = layered.submodel(depth)
        logits = submodel(images)
        assert logits.shape == (3, CLASSES)
        assert torch.equal(logits, layered(images, depth=depth))
        assert submodel.state_dict().keys() <= layered.state_dict().keys()
        assert cost.parameters == sum(p.numel() for p in submodel.parameters()) <= costs[-1].parameters
        submodel.train()(images).sum().backward()
        assert all(parameter.grad is not None for parameter in submodel.parameters())
