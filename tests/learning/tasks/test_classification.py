from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from torch.nn import functional

from fedlp_edge.core.metrics.metric_sums import added
from fedlp_edge.learning.tasks.classification import Classification, class_logits
from tests.learning.tasks.support import numbers

X = torch.zeros(1)


def test_one_output_is_the_log_odds_of_class_one():
    z = torch.tensor([[2.0], [-1.0]])
    assert class_logits(z).tolist() == [[0.0, 2.0], [0.0, -1.0]]
    y = torch.tensor([1, 0])
    expected = functional.binary_cross_entropy_with_logits(z[:, 0], y.float())
    assert Classification(1).loss(z, y, X).item() == pytest.approx(expected.item())
    assert Classification(1).predict(z, X)["logits"].shape == (2, 2)


def test_counts_who_is_taken_for_whom():
    outputs = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [2.0, 0.0, 0.0]])
    sums = numbers(Classification(3).sums(outputs, torch.tensor([0, 0, 2]), X))
    assert sums["confusion"] == (1, 1, 0, 0, 0, 0, 1, 0, 0)
    assert (sums["support"], sums["predicted"], sums["correct"]) == ((2, 0, 1), (2, 1, 0), (1, 0, 0))


def test_many_classes_have_neither_matrix_nor_curves():
    sums = Classification(65).sums(torch.zeros(2, 65), torch.tensor([0, 64]), X)
    assert sums.keys() == {"samples", "loss", "support", "predicted", "correct"}


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(2, 40), st.integers(0, 2**31))
def test_metrics_are_those_of_scikit_learn(classes, samples, seed):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (samples,), generator=generator)
    # Multiples of the width of a bin, so that no two different scores share one.
    outputs = torch.randint(-3, 4, (samples, classes), generator=generator) / 2
    task = Classification(classes)
    half = samples // 2
    parts = [numbers(task.sums(outputs[part], y[part], X)) for part in (slice(half), slice(half, None))]
    found = task.metrics(added(parts))
    answers = outputs.argmax(dim=1)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(y, answers))
    assert found["macro_f1"] == pytest.approx(sklearn_metrics.f1_score(y, answers, average="macro"))
    recall = sklearn_metrics.recall_score(y, answers, average="macro", labels=sorted(set(y.tolist())))
    assert found["balanced_accuracy"] == pytest.approx(recall)
    assert found["loss"] == pytest.approx(functional.cross_entropy(outputs, y).item(), rel=1e-5)


def test_area_under_the_curve_is_that_of_scikit_learn_up_to_the_width_of_a_bin():
    generator = torch.Generator().manual_seed(5)
    y = torch.randint(0, 3, (400,), generator=generator)
    outputs = torch.randn(400, 3, generator=generator) + 2 * functional.one_hot(y, 3)
    found = Classification(3).metrics(numbers(Classification(3).sums(outputs, y, X)))
    shares = outputs.softmax(dim=1).numpy()
    expected = np.mean([sklearn_metrics.roc_auc_score(y == c, shares[:, c]) for c in range(3)])
    assert found["roc_auc"] == pytest.approx(expected, abs=0.005)
