from __future__ import annotations

import pytest
import torch
from sklearn import metrics as sklearn_metrics

from fedlp_edge.core.metrics.task_metrics import score_quantile
from fedlp_edge.learning.tasks.anomaly import Anomaly
from tests.learning.tasks.support import numbers

X = torch.zeros(2, 1, 2)


def test_only_normal_samples_are_learned():
    outputs = torch.tensor([[1.0, 1.0], [9.0, 9.0]], requires_grad=True)
    loss = Anomaly().loss(outputs, torch.tensor([0, 1]), X)
    loss.backward()
    assert loss.item() == 1.0
    assert outputs.grad[1].tolist() == [0.0, 0.0]


def test_a_batch_of_anomalies_teaches_nothing():
    assert Anomaly().loss(torch.ones(2, 2), torch.tensor([1, 1]), X).item() == 0.0


def test_answers_are_score_verdict_and_reconstruction():
    answers = Anomaly(threshold=2.0).predict(torch.tensor([[1.0, 1.0], [2.0, 0.0]]), X)
    assert answers["score"].tolist() == [1.0, 2.0]
    assert answers["anomalous"].tolist() == [False, True]
    assert answers["reconstruction"].shape == X.shape


def test_curve_and_threshold_follow_from_the_histograms():
    generator = torch.Generator().manual_seed(6)
    y = (torch.arange(600) % 5 == 0).long()
    errors = torch.rand(600, generator=generator) * (1 + 3 * y)
    outputs = errors.sqrt()[:, None].repeat(1, 2)
    task = Anomaly()
    sums = numbers(task.sums(outputs, y, torch.zeros(600, 1, 2)))
    assert sums["samples"] == (480,)
    assert task.metrics(sums)["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(y, errors), abs=0.01)
    expected = errors[y == 0].quantile(0.9).item()
    assert score_quantile(sums, 0.9) == pytest.approx(expected, rel=0.08)
