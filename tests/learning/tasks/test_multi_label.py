from __future__ import annotations

import pytest
import torch
from sklearn import metrics as sklearn_metrics

from fedlp_edge.learning.tasks.multi_label import MultiLabel
from tests.learning.tasks.support import numbers

X = torch.zeros(1)
TASK = MultiLabel()


def test_a_label_is_given_from_even_odds_on():
    outputs, y = torch.tensor([[1.0, -1.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    sums = numbers(TASK.sums(outputs, y, X))
    assert (sums["true_positives"], sums["false_positives"], sums["false_negatives"]) == ((1, 1), (1, 0), (0, 0))
    assert sums["exact"] == (1,)


def test_metrics_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(3)
    y = (torch.rand(300, 4, generator=generator) < 0.3).float()
    outputs = torch.randn(300, 4, generator=generator) + 2 * y - 1
    found = TASK.metrics(numbers(TASK.sums(outputs, y, X)))
    answers = outputs > 0
    by_label = sklearn_metrics.f1_score(y, answers, average=None)
    assert [found[f"f1_{label}"] for label in range(1, 5)] == pytest.approx(by_label.tolist())
    assert found["macro_f1"] == pytest.approx(by_label.mean())
    assert found["micro_f1"] == pytest.approx(sklearn_metrics.f1_score(y, answers, average="micro"))
    assert found["subset_accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(y, answers))
    assert found["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(y, outputs), abs=0.005)


def test_a_label_that_nobody_has_or_gives_is_left_out():
    outputs, y = torch.tensor([[1.0, -1.0], [1.0, -1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = TASK.metrics(numbers(TASK.sums(outputs, y, X)))
    assert found["macro_f1"] == 1.0
    assert "f1_2" not in found


def test_answers_are_probabilities():
    assert TASK.predict(torch.tensor([[0.0]]), X)["probabilities"].tolist() == [[0.5]]
