from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.learning.model.activation_checkpointing import recomputed
from fedlp_edge.learning.model.layered import LayeredModel


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5))


def test_recomputed_gives_the_same_values_gradients_and_statistics() -> None:
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ends = []
    for run in (lambda layer: layer(x), lambda layer: recomputed(layer, x)):
        layer = net()
        torch.manual_seed(5)
        result = run(layer)
        x.grad = None
        result.square().sum().backward()
        drawn = torch.rand(1)  # what follows draws the same numbers, too
        assert x.grad is not None
        ends.append([result, x.grad.clone(), drawn, *(p.grad for p in layer.parameters()), *layer.buffers()])
    assert all(a.equal(b) for a, b in zip(*ends, strict=True))


def test_submodel_trains_alike_with_checkpoints() -> None:
    layers = [("one", net()), ("two", nn.Conv2d(4, 2, 3))]
    heads = [
        ("h1", nn.Sequential(nn.Flatten(), nn.Linear(144, 3))),
        ("h2", nn.Sequential(nn.Flatten(), nn.Linear(32, 3))),
    ]
    model = LayeredModel(layers, heads, torch.zeros(1, 1, 8, 8), classes=3, exit_mode="all")
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    ends = []
    for checkpointing in (False, True):
        part = model.submodel(2).train()
        part.checkpointing = checkpointing
        torch.manual_seed(5)
        torch.stack([logits.square().sum() for logits in part.exits(x)]).sum().backward()
        ends.append([*(p.grad for p in part.parameters()), *part.buffers()])
    assert all(a is not None and a.equal(b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(1, 4, 3), nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3))),  # works on its input in place
        # Gives a view of its feature, on which the next one works in place.
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Unflatten(1, (2, 2))), nn.Sequential(nn.ReLU(True), nn.Flatten(1, 2))),
    ],
)
def test_submodel_bears_layers_that_work_in_place(layers: tuple[nn.Module, nn.Module]) -> None:
    parts = [(str(number), layer) for number, layer in enumerate(layers)]
    heads = [(name, nn.Sequential(nn.Flatten(), nn.LazyLinear(3))) for name, _ in parts]
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for number, (_, head) in enumerate(heads):
        head(nn.Sequential(*layers[: number + 1])(x))
    model = LayeredModel(parts, heads, torch.zeros(1, 1, 8, 8), classes=3)
    ends = []
    for checkpointing in (False, True, True):
        part = model.submodel(2).train()
        part.checkpointing = checkpointing
        part(x).square().sum().backward()
        ends.append([p.grad for p in part.parameters()])
    for again in ends[1:]:
        assert all(a is not None and a.equal(b) for a, b in zip(ends[0], again, strict=True))
