from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.family.file_answers import (
    ModelAnswers,
    as_the_graph_takes,
    compared_indices,
    probabilities,
    stopping_depths,
)
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.tasks.classification import Classification


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


def two_exits() -> ModelAnswers:
    """Answers of exit 1, the sample x with the logits (x, -x), and of exit 2 with the logits (2x, -2x)."""
    parts: dict[str, nn.Module] = {name: nn.Linear(1, 1, bias=False) for name in ("L1", "L2")}
    parts |= {name: nn.Linear(1, 2, bias=False) for name in ("H1", "H2")}
    with torch.no_grad():
        for name, value in (("L1", [[1.0]]), ("L2", [[2.0]]), ("H1", [[1.0], [-1.0]]), ("H2", [[1.0], [-1.0]])):
            parts[name].weight.copy_(torch.tensor(value))  # type: ignore[union-attr, operator]
    data = Dataset.of_tensor(torch.tensor([[1.0], [-3.0]]), torch.tensor([0, 1]), (), 1.0, (0.0,), (1.0,))
    return ModelAnswers(Submodel(parts, 2).eval(), dict.fromkeys((1, 2), Classification(2)), data)


@pytest.mark.parametrize(
    ("depths", "rows", "refused"),
    [
        ((1, 2), ((1.0, -1.0), (-6.0, 6.0)), False),
        ((2, 2), ((2.0, -2.0), (-6.0, 6.0)), False),  # the other exit is as good where the confidence is near
        ((2, 2), ((1.0, -1.0), (-6.0, 6.0)), True),  # it says exit 2 and gives what exit 1 does
        ((1, 2), ((1.0, -1.0), (-6.1, 6.0)), True),
        ((1, 2), ((-1.0, 1.0), (-6.0, 6.0)), True),
    ],
)
def test_a_file_with_early_exits_is_compared_at_the_exit_where_it_stopped(
    depths: tuple[int, int], rows: tuple[tuple[float, float], ...], refused: bool
) -> None:
    # Both samples are compared in a batch, and again one by one.
    got = np.array([*rows, *rows], np.float32)
    found = two_exits().compare_mixed(np.array([*depths, *depths]), got, "fp32")
    assert (found.problem is not None) == refused
