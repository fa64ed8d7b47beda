"""Exits learn from the other exits."""

from __future__ import annotations

import math

import pytest
import torch

from fedlp_edge.core.settings import DistillationTeacher
from fedlp_edge.learning.training.objectives.distillation import Distillation


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_distillation_is_the_mean_divergence_from_the_other_exits() -> None:
    p = [[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]]
    exits = torch.tensor(p).log()[:, None, :].repeat(1, 4, 1)
    divergences = [kl(p[j], p[i]) / 2 for i in range(3) for j in range(3) if i != j]
    assert Distillation(0.3)(exits).item() == pytest.approx(0.3 * sum(divergences) / 3, rel=1e-5)


def test_distillation_takes_its_teachers_for_constants() -> None:
    p, q = [0.75, 0.25], [0.5, 0.5]
    exits = torch.tensor([p, q]).log()[:, None, :].requires_grad_()
    Distillation(1.0)(exits).backward()
    # The gradient of KL(p_j || p_i) by the logits of i is p_i - p_j; half of it, for the mean over two exits.
    assert exits.grad is not None
    assert exits.grad[0, 0].tolist() == pytest.approx([0.125, -0.125])
    assert exits.grad[1, 0].tolist() == pytest.approx([-0.125, 0.125])


def test_the_ensemble_teaches_with_the_mean_of_the_logits_of_all_exits() -> None:
    exits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])[:, None, :].repeat(1, 4, 1).requires_grad_()
    loss = Distillation(0.5, teacher="ensemble")(exits)
    p, first, second = ([a / (a + 1), 1 / (a + 1)] for a in map(math.exp, (1.0, 2.0, 0.0)))
    assert loss.item() == pytest.approx(0.5 * (kl(p, first) + kl(p, second)) / 2, rel=1e-5)
    loss.backward()
    # The teacher is a constant: the gradient of KL(p || p_i) by the logits of i is p_i - p, here over 4 samples.
    assert exits.grad is not None
    assert exits.grad[0, 0].tolist() == pytest.approx([0.25 * (first[0] - p[0]) / 4, 0.25 * (first[1] - p[1]) / 4])
    assert exits.grad[1, 3].tolist() == pytest.approx([0.25 * (second[0] - p[0]) / 4, 0.25 * (second[1] - p[1]) / 4])


@pytest.mark.parametrize("teacher", ["exits", "ensemble"])
def test_exits_that_agree_have_nothing_to_learn(teacher: DistillationTeacher) -> None:
    exits = torch.tensor([0.3, -1.0, 2.0]).expand(4, 5, 3)
    assert Distillation(1.0, teacher=teacher)(exits).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("teacher", ["exits", "ensemble"])
def test_distillation_softens_by_the_temperature(teacher: DistillationTeacher) -> None:
    exits = torch.tensor([[[2.0, 0.0]], [[0.0, 0.0]]])
    softened = Distillation(1.0, teacher=teacher)(exits / 4.0).item()
    assert Distillation(1.0, temperature=4.0, teacher=teacher)(exits).item() == pytest.approx(16 * softened, rel=1e-5)
