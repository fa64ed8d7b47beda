"""The objective that settings ask for, with its terms put together."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedlp_edge.core.settings import ObjectiveSettings
from fedlp_edge.learning.tasks.regression import Regression
from fedlp_edge.learning.training.objectives.compose import LocalObjective, make_objective
from fedlp_edge.learning.training.objectives.task_loss import TaskObjective

LABELS = torch.tensor([0, 1, 1, 1])
LOGITS = torch.tensor([[1.0, 0.0], [0.5, 2.0], [0.0, 0.0], [3.0, 1.0]])


def test_without_terms_it_is_the_cross_entropy() -> None:
    objective = make_objective(ObjectiveSettings(), LABELS, ())
    expected = functional.cross_entropy(LOGITS, LABELS)
    assert objective(nn.Identity(), LOGITS, LABELS).item() == pytest.approx(expected.item())


def test_exits_count_by_their_mean() -> None:
    found = LocalObjective().of_exits([LOGITS, 2 * LOGITS], LABELS)
    each = [functional.cross_entropy(logits, LABELS) for logits in (LOGITS, 2 * LOGITS)]
    assert found.item() == pytest.approx(torch.stack(each).mean().item())


def test_settings_name_the_terms() -> None:
    settings = ObjectiveSettings(logit_adjustment=1.0, distillation=0.5, proximal=0.1, mask_absent=True)
    objective = make_objective(settings, LABELS, [nn.Parameter(torch.ones(1))], balance="weights", label_smoothing=0.1)
    assert isinstance(objective, LocalObjective)
    terms = (objective.adjustment, objective.distillation, objective.proximal, objective.mask, objective.class_weights)
    assert None not in terms
    assert objective.label_smoothing == 0.1


def test_other_tasks_have_their_own_loss_and_the_proximal_term() -> None:
    weight = nn.Parameter(torch.ones(1))
    objective = make_objective(ObjectiveSettings(proximal=2.0), LABELS, [weight], task=Regression((0.0,), (1.0,)))
    assert isinstance(objective, TaskObjective)
    with torch.no_grad():
        weight += 3.0
    y = torch.zeros(2, 1)
    assert objective(nn.Identity(), y, y).item() == pytest.approx(2.0 / 2 * 3.0**2)
