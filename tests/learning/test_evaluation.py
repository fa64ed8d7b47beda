"""Losses on held-out data that lack a class."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.evaluation import Scores, evaluate
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
