"""Logits are adjusted by class frequencies."""

from __future__ import annotations

import math

import pytest
import torch

from fedlp_edge.learning.training.objectives.adjustment import LogitAdjustment, log_prior


def test_log_prior_smooths_by_one_sample_per_class() -> None:
    prior = log_prior(torch.tensor([0, 0, 0, 1]), classes=3)
    assert prior.exp().tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_logit_adjustment_adds_tau_times_the_log_of_the_prior() -> None:
    adjusted = LogitAdjustment(2.0, torch.tensor([0, 0, 1]))(torch.tensor([[1.0, 1.0]]))
    assert adjusted.tolist() == [pytest.approx([1 + 2 * math.log(3 / 5), 1 + 2 * math.log(2 / 5)], abs=1e-6)]
