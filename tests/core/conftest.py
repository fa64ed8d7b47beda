"""The paper's CNN as plain data, written by hand so that no test of the core needs torch."""

from __future__ import annotations

import pytest

from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit


def convolution(name: str, inputs: int, outputs: int) -> tuple[TensorSpec, ...]:
    """A 3x3 convolution with bias and its BatchNorm: weights, then running statistics."""
    return (
        TensorSpec(f"{name}.weight", (outputs, inputs, 3, 3), "trained"),
        TensorSpec(f"{name}.bias", (outputs,), "trained"),
        TensorSpec(f"{name}.norm.weight", (outputs,), "trained"),
        TensorSpec(f"{name}.norm.bias", (outputs,), "trained"),
        TensorSpec(f"{name}.norm.running_mean", (outputs,), "statistic"),
        TensorSpec(f"{name}.norm.running_var", (outputs,), "statistic", least=0.0),
    )


def head(depth: int, inputs: int) -> Unit:
    """Two linear layers, inputs-128-10."""
    return Unit(
        f"H{depth}",
        f"head{depth}",
        "head",
        depth,
        (
            TensorSpec(f"head{depth}.0.weight", (128, inputs), "trained"),
            TensorSpec(f"head{depth}.0.bias", (128,), "trained"),
            TensorSpec(f"head{depth}.1.weight", (10, 128), "trained"),
            TensorSpec(f"head{depth}.1.bias", (10,), "trained"),
        ),
    )


@pytest.fixture
def paper_cnn() -> Blueprint:
    """``fedlp-cnn`` on 3x32x32: six convolutions in five layers, personal shallow heads."""
    layers = (
        Unit("L1", "conv1-2", "layer", 1, convolution("conv1", 3, 32) + convolution("conv2", 32, 32)),
        Unit("L2", "conv3", "layer", 2, convolution("conv3", 32, 64)),
        Unit("L3", "conv4", "layer", 3, convolution("conv4", 64, 64)),
        Unit("L4", "conv5", "layer", 4, convolution("conv5", 64, 128)),
        Unit("L5", "conv6", "layer", 5, convolution("conv6", 128, 128)),
    )
    heads = tuple(head(depth, inputs) for depth, inputs in enumerate((8192, 4096, 4096, 2048, 2048), start=1))
    # Pixels times weights of each convolution; the map is 32x32, then 16x16, then 8x8.
    prefix = (
        32 * 32 * (3 * 32 * 9 + 32 * 32 * 9),
        16 * 16 * 32 * 64 * 9,
        16 * 16 * 64 * 64 * 9,
        8 * 8 * 64 * 128 * 9,
        8 * 8 * 128 * 128 * 9,
    )
    costs = tuple(
        DepthCost(
            depth,
            sum(layer.parameters for layer in layers[:depth]) + heads[depth - 1].parameters,
            sum(prefix[:depth]) + sum(t.numel for t in heads[depth - 1].tensors if len(t.shape) == 2),
            100_000 * depth,
        )
        for depth in range(1, 6)
    )
    return Blueprint("fedlp-cnn", (3, 32, 32), 10, "personal", layers + heads, costs)


@pytest.fixture
def three_depths() -> Blueprint:
    """Three layers of 1000 parameters (4000 bytes) each, shared heads of 10 (40 bytes)."""
    layers = tuple(
        Unit(f"L{d}", f"block{d}", "layer", d, (TensorSpec(f"block{d}.weight", (1000,), "trained"),)) for d in (1, 2, 3)
    )
    heads = tuple(
        Unit(f"H{d}", f"head{d}", "head", d, (TensorSpec(f"head{d}.weight", (10,), "trained"),)) for d in (1, 2, 3)
    )
    costs = (
        DepthCost(1, 1_010, 1_000_000, 50_000),
        DepthCost(2, 2_010, 2_000_000, 100_000),
        DepthCost(3, 3_010, 3_000_000, 150_000),
    )
    return Blueprint("three", (4,), 10, "shared", layers + heads, costs)
