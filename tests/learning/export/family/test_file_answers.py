from __future__ import annotations

import numpy as np
import pytest
import torch

from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.family.file_answers import (
    as_the_graph_takes,
    compared_indices,
    probabilities,
    stopping_depths,
)


def samples(number: int) -> Dataset:
    x = torch.arange(number, dtype=torch.uint8)[:, None]
    return Dataset.of_tensor(x, torch.zeros(number, dtype=torch.int64), (), 0.5, (1.0,), (2.0,))


def test_some_samples_are_compared_one_by_one_too() -> None:
    assert [indices.tolist() for indices in compared_indices(samples(3))] == [[0, 1, 2], [0], [1], [2]]
    assert sum(map(len, compared_indices(samples(255)))) == 255 + 8


def test_a_graph_takes_bytes_or_normalised_numbers() -> None:
    data = samples(3)
    assert as_the_graph_takes(data, slice(1, 3), raw=True).tolist() == [[1], [2]]
    assert as_the_graph_takes(data, slice(1, 3), raw=False).tolist() == [[-0.25], [0.0]]


def test_probabilities_of_large_logits_are_finite() -> None:
    assert probabilities(np.array([[1000.0, 1000.0], [0.0, -np.inf]])).tolist() == [[0.5, 0.5], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("confidences", "depths"),
    [((0.9, 0.1, 0.1), {1}), ((0.7, 0.9, 0.1), {2}), ((0.1, 0.1, 0.1), {3}), ((0.79, 0.9, 0.1), {1, 2})],
)
def test_a_sample_stops_at_the_first_sure_exit(confidences: tuple[float, ...], depths: set[int]) -> None:
    by_depth = {depth: np.array([value]) for depth, value in enumerate(confidences, start=1)}
    assert stopping_depths(by_depth, 0.8, margin=0.02) == [depths]
