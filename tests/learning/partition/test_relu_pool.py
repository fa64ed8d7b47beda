"""Max pools before ReLUs: the same values and gradients, bit for bit, whatever the way in."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge.learning.partition.partition import partition
from fedlp_edge.learning.partition.relu_pool import pool_first


def sequence() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))


def kinds(block: nn.Module) -> list[str]:
    return [type(part).__name__ for part in block.children()]


def test_pool_first_keeps_names_and_leaves_the_block_alone() -> None:
    block = sequence()
    assert kinds(pool_first(block)) == ["Conv2d", "MaxPool2d", "ReLU"]
    assert [name for name, _ in pool_first(block).named_children()] == ["0", "2", "1"]
    assert kinds(block) == ["Conv2d", "ReLU", "MaxPool2d"]
    assert pool_first(block).state_dict().keys() == block.state_dict().keys()


def test_pool_first_passes_two_pools_and_looks_into_plain_sequences() -> None:
    block = nn.Sequential(nn.Sequential(nn.ReLU(), nn.MaxPool1d(2), nn.MaxPool1d(2)), nn.Linear(2, 2))
    assert kinds(next(pool_first(block).children())) == ["MaxPool1d", "MaxPool1d", "ReLU"]


@pytest.mark.parametrize(
    "block",
    [
        nn.Sequential(nn.ReLU6(), nn.MaxPool2d(2)),  # what saturates passes its gradient to another place
        nn.Sequential(nn.ReLU(), nn.AvgPool2d(2)),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, return_indices=True)),
        nn.Sequential(nn.ReLU(), nn.BatchNorm2d(1), nn.MaxPool2d(2)),
        nn.ReLU(),
    ],
)
def test_pool_first_returns_the_block_itself_where_nothing_is_gained(block: nn.Module) -> None:
    assert pool_first(block) is block


@settings(max_examples=60, deadline=None)
@given(
    values=arrays.arrays("float32", (1, 1, 5, 5), elements=st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0, 1.5, 3.0])),
    window=st.integers(1, 3),
    stride=st.integers(1, 3),
    ceil=st.booleans(),
)
def test_values_and_gradients_are_the_same(values: object, window: int, stride: int, *, ceil: bool) -> None:
    block = nn.Sequential(nn.ReLU(), nn.MaxPool2d(window, stride, padding=window // 2, ceil_mode=ceil))
    ways = []
    for way in (block, pool_first(block)):
        x = torch.tensor(values, requires_grad=True)
        y = way(x)
        y.backward(torch.arange(1.0, 1.0 + y.numel()).reshape(y.shape))
        ways.append((y, x.grad))
    for first, second in zip(*ways, strict=True):
        assert torch.equal(first, second)


class Own(nn.Module):
    """ReLUs before pools in every spelling, one of whose values is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = sequence()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.twice = nn.Conv2d(2, 2, 3, padding=1)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.pool(functional.relu(self.conv(x)))
        rectified = self.twice(x).relu_()
        x = self.pool(rectified) + functional.avg_pool2d(rectified, 2)
        return self.fc(x.flatten(1))


def order_of_calls(model: nn.Module, x: Tensor) -> list[tuple[str, int]]:
    """ReLUs and max pools of a forward pass, and the sizes of what they are given."""
    seen: list[tuple[str, int]] = []

    class Watcher(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            name = getattr(func, "__name__", "").strip("_")
            if name in ("relu", "max_pool2d", "boolean_dispatch", "fn"):
                seen.append(("relu" if name == "relu" else "pool", args[0].numel()))
            return result

    with Watcher():
        model(x)
    return seen


def test_partition_pools_first_and_learns_the_same() -> None:
    torch.manual_seed(0)
    own = Own()
    x = torch.randn(4, 1, 16, 16)
    split = partition(own, x[:1], depths=3).train()
    expected = own.train()(x)
    assert torch.equal(split(x), expected)
    gradients = torch.autograd.grad(expected.square().sum(), list(own.parameters()))
    again = torch.autograd.grad(split(x).square().sum(), list(own.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))
    rectified = [size for kind, size in order_of_calls(split, x) if kind == "relu"]
    assert rectified == [4 * 2 * 64, 4 * 2 * 16, 4 * 2 * 16]  # the last one is read twice and stays as it was


class AddsPositions(nn.Module):
    """Writes into what the pool gives, through a view of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.positions, self.out = nn.Parameter(torch.ones(2, 4)), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu(self.conv(x))).flatten(2)
        x += self.positions
        return self.out(x.flatten(1))


def drops_in_place() -> nn.Module:
    first = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(first, nn.Dropout(0.5, inplace=True), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("make", [AddsPositions, drops_in_place])
def test_order_stays_where_what_follows_writes_into_the_result(make: Callable[[], nn.Module]) -> None:
    part = partition(make(), torch.zeros(1, 1, 4, 4)).submodel(1).train()
    part(torch.rand(2, 1, 4, 4)).sum().backward()
    assert all(value.grad is not None for value in part.parameters())
