"""Losses on held-out data that lack a class."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.evaluation import ExitSummation, Scores, evaluate, held_out_scores
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.learning.training.loop import train_round

CLASSES = ("a", "b", "c")


def samples(y: list[int]) -> Dataset:
    return Dataset.of_tensor(torch.ones(len(y), 1), torch.tensor(y), CLASSES, scale=1.0, mean=(0.0,), std=(1.0,))


def scores(model: nn.Module, y: list[int]) -> Scores:
    return evaluate(model, lambda x: [model(x)], (1,), samples(y))


def test_a_device_that_alone_holds_a_class_spoils_the_loss_on_data_without_it_and_not_that_of_the_others() -> None:
    model = nn.Linear(1, 3)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    settings = TrainingSettings(batch_size=1, lr=20.0, momentum=0.0)
    train_round(model, samples([2, 2, 2]), settings, seed=0, device=torch.device("cpu"))

    found = scores(model, [0, 1])

    assert found.loss[1] is not None
    assert found.loss[1] > 10 * math.log(3)
    assert found.known_loss[1] == pytest.approx(math.log(2))


def test_data_of_all_classes_need_no_other_loss() -> None:
    assert scores(nn.Linear(1, 3), [2, 0, 1]).known_loss == {}


def test_a_model_that_answers_the_wrong_known_class_is_found_out_all_the_same() -> None:
    model = nn.Linear(1, 3)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([0.0, 100.0, 0.0]))
    assert scores(model, [0, 2]).known_loss[1] == pytest.approx(math.log(2))
    assert scores(model, [0, 0, 1]).known_loss[1] == pytest.approx(200 / 3)


class Constant(nn.Module):
    """An exit that answers every sample alike."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor([logits])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(x), -1)


def two_exits(first: tuple[float, ...], last: tuple[float, ...]) -> Submodel:
    parts = {"L1": nn.Identity(), "L2": nn.Identity(), "H1": Constant(*first), "H2": Constant(*last)}
    return Submodel(parts, 2)


def correct(model: Submodel, answer: AnswerMode) -> dict[int, tuple[float, ...]]:
    """What is right, by depth and class, of one sample of the first of three classes."""
    found = held_out_scores(model, (1, 2), samples([0]), Classification(3), torch.device("cpu"), 1, answer)
    return {depth: of_depth.sums["correct"][:1] for depth, of_depth in found.items()}


def test_a_mean_of_exits_is_right_where_each_exit_is_wrong() -> None:
    model = two_exits((2.0, 3.0, 0.0), (2.0, 0.0, 3.0))  # their mean is (2, 1.5, 1.5)
    assert correct(model, "exit") == {1: (0.0,), 2: (0.0,)}
    assert correct(model, "mean") == {1: (0.0,), 2: (1.0,)}


def test_a_mean_of_exits_is_wrong_where_the_deepest_exit_is_right() -> None:
    model = two_exits((0.0, 5.0, 0.0), (1.0, 0.0, 0.0))
    assert correct(model, "exit") == {1: (0.0,), 2: (1.0,)}
    assert correct(model, "mean") == {1: (0.0,), 2: (0.0,)}


def test_an_ensemble_counts_exits_that_are_not_judged_themselves() -> None:
    summed = ExitSummation((2,), Classification(3), exits=(1, 2))
    first, last = torch.tensor([[2.0, 3.0, 0.0]]), torch.tensor([[2.0, 0.0, 3.0]])
    summed.add([first, last], torch.tensor([0]), torch.ones(1, 1))
    sums = summed.sums()
    assert (set(sums.exits), set(sums.ensembles)) == ({2}, {2})
    assert (sums.exits[2]["correct"][0], sums.ensembles[2]["correct"][0]) == (0.0, 1.0)
