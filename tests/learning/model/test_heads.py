"""Exit heads fit what a layer gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.model.heads import exit_head, has_channels_first, max_pooled_head, replace_classifier


@pytest.mark.parametrize(
    ("feature", "channels_first", "inputs"),
    [
        ((7,), True, 7),
        ((6, 8, 12), True, 6 * 16),
        ((6, 9, 6), True, 6 * 9),
        ((6, 14, 14), True, 6 * 4),
        ((6, 7, 7), True, 6),
        ((8, 12, 6), False, 6 * 16),
        ((6, 10), True, 6 * 2),
        ((10, 6), False, 6),
        ((6, 2, 2, 2), True, 6),
        ((2, 2, 2, 6), False, 6),
    ],
)
def test_fits_the_feature(feature: tuple[int, ...], channels_first: bool, inputs: int) -> None:
    head = exit_head(feature, 3, channels_first=channels_first)
    assert head(torch.zeros(2, *feature)).shape == (2, 3)
    assert sum(parameter.numel() for parameter in head.parameters()) == (inputs + 1) * 3


def test_averages_the_places_and_not_the_channels() -> None:
    x = torch.arange(2.0 * 3 * 4).reshape(1, 2, 3, 4)
    assert exit_head((2, 3, 4), 1, channels_first=True)[:-1](x).tolist() == [[5.5, 17.5]]
    assert exit_head((2, 3, 4), 1, channels_first=False)[:-1](x).tolist() == [[10.0, 11.0, 12.0, 13.0]]
    tokens = torch.tensor([[[0.0, 10.0], [2.0, 20.0]]])
    assert exit_head((2, 2), 1, channels_first=False)[:-1](tokens).tolist() == [[1.0, 15.0]]


def test_pools_to_a_coarser_grid_to_stay_within_its_budget() -> None:
    sizes = [
        sum(p.numel() for p in exit_head((6, 12, 12), 2, channels_first=True, budget=budget).parameters())
        for budget in (1000, 193, 100, 25, 1)
    ]
    assert sizes == [194, 110, 50, 14, 14]


@pytest.mark.parametrize(
    ("feature", "inputs"),
    [
        ((6, 28, 28), 6 * 7 * 7),
        ((6, 16, 8), 6 * 8 * 4),
        ((6, 7, 7), 6 * 3 * 3),
        ((6, 1, 1), 6),
        ((6, 40), 6 * 5),
        ((7,), 7),
    ],
)
def test_max_pooled_head_halves_the_places_until_they_are_few(feature: tuple[int, ...], inputs: int) -> None:
    head = max_pooled_head(feature, 3, channels_first=True)
    assert head(torch.zeros(2, *feature)).shape == (2, 3)
    assert sum(parameter.numel() for parameter in head.parameters()) == (inputs + 1) * 3


def test_max_pooled_head_halves_on_to_stay_within_its_budget() -> None:
    heads = [max_pooled_head((6, 12, 12), 2, channels_first=True, budget=budget) for budget in (434, 433, 1)]
    assert [sum(p.numel() for p in head.parameters()) for head in heads] == [434, 110, 14]


def test_max_pooled_head_takes_maxima_and_not_of_the_channels() -> None:
    x = torch.arange(2.0 * 2 * 4).reshape(1, 2, 2, 4)
    assert max_pooled_head((2, 2, 4), 1, channels_first=True)[:-1](x).tolist() == [[5.0, 7.0, 13.0, 15.0]]
    tokens = torch.tensor([[[0.0, 10.0], [2.0, 20.0]]])
    assert max_pooled_head((2, 2), 1, channels_first=False)[:-1](tokens).tolist() == [[1.0, 15.0]]


def test_refuses_a_feature_without_channels() -> None:
    with pytest.raises(PartitionError, match="one number per sample"):
        exit_head((), 2, channels_first=True)


@pytest.mark.parametrize(
    ("layer", "feature", "expected"),
    [
        (nn.Conv2d(3, 8, 1), (8, 4, 4), True),
        (nn.Conv2d(3, 8, 1), (16, 8, 8), True),  # concatenated: only the kind of module tells
        (nn.Linear(3, 8), (4, 4, 8), False),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Linear(8, 8)), (8, 4, 4), True),  # moved back to the front, by size
        (nn.LayerNorm(8), (8, 8, 8), False),
        (nn.Conv1d(3, 8, 1), (8, 20), True),
        (nn.MultiheadAttention(8, 2), (20, 8), False),
        (nn.ReLU(), (8, 4, 4), True),
        (nn.ReLU(), (20, 8), False),
        (nn.Linear(3, 8), (8,), True),
    ],
)
def test_guesses_where_the_channels_are(layer: nn.Module, feature: tuple[int, ...], expected: bool) -> None:
    assert has_channels_first(layer, feature) is expected


def test_replaces_the_last_layer_with_as_many_outputs() -> None:
    head = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5, bias=False)).eval()
    replace_classifier(head, 3, own=5)
    assert head(torch.zeros(1, 4)).shape == (1, 3)
    assert head[0].out_features == 5
    assert head[2].bias is None
    assert not head[2].training


def test_replaces_a_convolution() -> None:
    head = nn.Sequential(nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    replace_classifier(head, 3, own=5)
    assert head(torch.zeros(1, 4, 2, 2)).shape == (1, 3)
