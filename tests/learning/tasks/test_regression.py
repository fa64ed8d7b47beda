from __future__ import annotations

import pytest
import torch
from sklearn import metrics as sklearn_metrics

from fedlp_edge.core.metrics.metric_sums import added
from fedlp_edge.learning.tasks.regression import Regression
from tests.learning.tasks.support import numbers

X = torch.zeros(1)


def test_outputs_are_standard_deviations_from_the_mean():
    task = Regression(mean=(10.0,), std=(2.0,))
    outputs, y = torch.tensor([[1.0], [0.0]]), torch.tensor([[12.0], [14.0]])
    assert task.predict(outputs, X)["values"].tolist() == [[12.0], [10.0]]
    assert task.loss(outputs, y, X).item() == 2.0


def test_answers_on_the_device_of_the_outputs():
    outputs = torch.empty(2, 1, device="meta")
    assert Regression(mean=(10.0,), std=(2.0,)).predict(outputs, X)["values"].device.type == "meta"


def test_metrics_are_those_of_scikit_learn_in_the_units_of_the_targets():
    generator = torch.Generator().manual_seed(4)
    mean, std = torch.tensor([1e4, -3.0]), torch.tensor([5.0, 0.1])
    true = torch.randn(200, 2, generator=generator)
    outputs = true + torch.randn(200, 2, generator=generator) / 2
    task, y = Regression(mean.tolist(), std.tolist()), true * std + mean
    parts = [numbers(task.sums(outputs[part], y[part], X)) for part in (slice(50), slice(50, None))]
    found = task.metrics(added(parts))
    predicted = task.predict(outputs, X)["values"]
    for name, function in (
        ("mae", sklearn_metrics.mean_absolute_error),
        ("rmse", sklearn_metrics.root_mean_squared_error),
        ("r2", sklearn_metrics.r2_score),
    ):
        by_target = function(y.double(), predicted.double(), multioutput="raw_values")
        assert [found[f"{name}_1"], found[f"{name}_2"]] == pytest.approx(by_target.tolist(), rel=1e-3)
        assert found[name] == pytest.approx(by_target.mean(), rel=1e-3)


def test_pairs_beyond_the_picture_are_counted_at_its_edge():
    task = Regression()
    sums = task.sums(torch.tensor([[99.0], [float("nan")]]), torch.tensor([[-99.0], [-99.0]]), X)
    pairs = sums["pairs"].reshape(32, 32)
    assert pairs[0, 31] == pairs.sum() == 2
