"""Counting multiply-accumulates and the memory of the backward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.learning.model.costs import MacCounter, measure_costs


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Linear(3, 5), (2, 3), 2 * 3 * 5),
        (nn.Linear(3, 5), (2, 7, 3), 2 * 7 * 3 * 5),
        (nn.Conv1d(2, 4, 3), (1, 2, 10), 8 * 4 * 2 * 3),
        (nn.Conv2d(4, 6, 3, padding=1), (1, 4, 5, 5), 25 * 6 * 4 * 9),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), (1, 4, 5, 5), 25 * 6 * 2 * 9),
        (nn.Conv3d(1, 2, 2), (1, 1, 3, 3, 3), 8 * 2 * 8),
        (nn.ConvTranspose2d(3, 2, 2, stride=2), (1, 3, 4, 4), 16 * 3 * 2 * 4),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (2, 3, 4, 4), 0),
    ],
)
def test_counts_convolutions_and_linear_layers(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    with MacCounter() as counter:
        module(torch.zeros(shape))
    assert counter.macs == macs


@pytest.mark.parametrize("training", [True, False])
def test_counts_the_projections_of_attention(training: bool) -> None:
    module = nn.MultiheadAttention(8, 2, batch_first=True).train(training)
    tokens = torch.zeros(2, 5, 8)
    with MacCounter() as counter, torch.set_grad_enabled(training):
        module(tokens, tokens, tokens)
    assert counter.macs == 4 * (2 * 5 * 8 * 8)


def test_measures_every_depth_per_sample() -> None:
    layers = [nn.Sequential(nn.Linear(4, 3), nn.ReLU()), nn.Linear(3, 6)]
    heads = [nn.Linear(3, 2), nn.Linear(6, 2)]
    first, second = measure_costs(layers, heads, torch.zeros(1, 4))
    assert first.forward_macs == 4 * 3 + 3 * 2
    assert second.forward_macs == 4 * 3 + 3 * 6 + 6 * 2
    # Kept for the backward pass: the input, what ReLU gives (which the next layer reads, too), and the feature.
    assert first.activation_bytes == 4 * (4 + 3)
    assert second.activation_bytes == 4 * (4 + 3 + 6)


@pytest.mark.parametrize(
    "module",
    [nn.LSTM(4, 3, 2, bidirectional=True), nn.GRU(4, 3, bias=False), nn.RNN(4, 3)],
    ids=lambda m: type(m).__name__,
)
def test_counts_every_matrix_of_a_recurrent_layer_once_a_step(module: nn.RNNBase) -> None:
    with MacCounter() as counter:
        module(torch.zeros(5, 2, 4))
    assert counter.macs == 5 * 2 * sum(p.numel() for p in module.parameters() if p.dim() == 2)


def test_counts_a_recurrent_cell_and_a_matrix_product() -> None:
    with MacCounter() as counter:
        nn.LSTMCell(4, 3)(torch.zeros(2, 4))
    assert counter.macs == 2 * (4 * 12 + 3 * 12)
    with MacCounter() as counter:
        torch.addmm(torch.zeros(3), torch.zeros(2, 4), torch.zeros(4, 3))
    assert counter.macs == 2 * 4 * 3


def test_measures_the_shallower_heads_where_all_exits_are_trained() -> None:
    layers = [nn.Linear(4, 3), nn.Linear(3, 6)]
    heads = [nn.Linear(3, 2), nn.Linear(6, 2)]
    first, second = measure_costs(layers, heads, torch.zeros(1, 4), all_exits=True)
    assert first.forward_macs == 4 * 3 + 3 * 2
    assert second.forward_macs == 4 * 3 + 3 * 2 + 3 * 6 + 6 * 2
    assert second.activation_bytes == 4 * (4 + 3 + 6)


def test_keeps_nothing_for_layers_that_are_frozen() -> None:
    layer = nn.Linear(4, 3).requires_grad_(False)
    (cost,) = measure_costs([layer], [nn.Linear(3, 2)], torch.zeros(1, 4))
    assert cost.activation_bytes == 4 * 3


def test_leaves_modules_and_random_numbers_alone() -> None:
    layer = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)).eval()
    head = nn.Linear(4, 2)
    random = torch.random.get_rng_state()
    measure_costs([layer], [head], torch.ones(1, 4))
    assert torch.equal(torch.random.get_rng_state(), random)
    assert torch.equal(layer[0].running_mean, torch.zeros(4))
    assert not layer.training
