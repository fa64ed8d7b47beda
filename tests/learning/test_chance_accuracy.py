"""A model that its devices have learned and that judges like a guess: the warning names the cause."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedlp_edge.learning.chance_accuracy import explain_chance_accuracy, is_at_chance
from fedlp_edge.learning.data.dataset import Dataset

NAMES = ("bolt", "nut", "washer")


def dataset() -> Dataset:
    """Sixty samples of which each says its class, as one of three numbers that is 1."""
    y = torch.arange(60) % 3
    return Dataset.of_tensor(nn.functional.one_hot(y, 3).float(), y, NAMES, scale=1.0, mean=(0.0,), std=(1.0,))


def judge(model: nn.Module, data: Dataset, training_loss: float = 0.1) -> str:
    model.eval()
    with torch.no_grad():
        accuracy = float((model(data.stored()).argmax(dim=1) == data.y).float().mean())
    return explain_chance_accuracy(model, model, data, accuracy, training_loss, NAMES)


class Fixed(nn.Module):
    """Answers by a table."""

    def __init__(self, table: list[list[float]]) -> None:
        super().__init__()
        self.table = torch.tensor(table)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.table


def test_finds_class_numbers_that_differ() -> None:
    said = judge(Fixed([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]), dataset())
    assert '"bolt" is answered with "nut"' in said
    assert "100.0 % are right" in said


def test_finds_running_statistics_that_lag_and_leaves_them_alone() -> None:
    norm = nn.BatchNorm1d(3)
    model = nn.Sequential(norm, Fixed([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]))
    norm.running_mean = torch.tensor([0.0, 500.0, 500.0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    said = judge(model, dataset())
    assert "batch norm are behind" in said
    assert "100.0 %" in said
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not norm.training


def test_finds_one_answer_for_everything() -> None:
    assert 'answered with "nut"' in judge(Fixed([[0.0, 1, 0]] * 3), dataset())


def test_says_that_a_frequent_class_explains_one_answer_and_a_low_loss() -> None:
    y = torch.tensor([1] * 38 + [0, 2])
    uneven = Dataset.of_tensor(nn.functional.one_hot(y, 3).float(), y, NAMES, scale=1.0, mean=(0.0,), std=(1.0,))
    said = judge(Fixed([[0.0, 1, 0]] * 3), uneven, training_loss=0.2)
    assert 'answered with "nut", the class of 95 % of the test data' in said
    assert "logit_adjustment" in said
    assert "prepared otherwise" not in said


def test_says_so_where_the_devices_have_learned_nothing_themselves() -> None:
    assert "hardly learned their own samples" in judge(Fixed([[0.0, 1, 0]] * 3), dataset(), training_loss=1.09)
    assert "hardly learned" in judge(Fixed([[0.0, 1, 0]] * 3), dataset(), training_loss=float("nan"))


def test_says_nothing_of_a_good_model_and_of_too_few_samples() -> None:
    assert judge(Fixed([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]), dataset()) == ""
    few = Dataset.of_tensor(torch.zeros(4, 3), torch.arange(4) % 2, (), 1.0, (0.0,), (1.0,))
    assert not is_at_chance(0.5, few)


@pytest.mark.parametrize(("accuracy", "chance"), [(1 / 3, True), (0.45, True), (0.6, False)])
def test_chance_is_the_most_frequent_class_as_far_as_the_samples_can_tell(accuracy: float, chance: bool) -> None:
    assert is_at_chance(accuracy, dataset()) == chance
