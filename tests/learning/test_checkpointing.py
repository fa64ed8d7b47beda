from __future__ import annotations

import torch
from torch import nn

from fedlp_edge.learning.checkpointing import recomputed
from fedlp_edge.learning.layered import LayeredModel


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
