"""What a device minimises, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fedlp_edge.core.settings import ObjectiveSettings
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.training.objectives import make_objective

Y = torch.tensor([0, 1])


class Says(nn.Module):
    """Answers every sample with the same logits, which are its parameters."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


def two_exits(shallow: Says, deep: Says) -> Submodel:
    return Submodel({"L1": nn.Identity(), "L2": nn.Identity(), "H1": shallow, "H2": deep}, depth=2)


def cross_entropy(*logits: float, of: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[of]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def loss(settings: ObjectiveSettings, model: nn.Module, labels: Tensor = Y) -> Tensor:
    return make_objective(settings, labels, list(model.parameters()))(model, torch.zeros(2, 1), Y)


def test_default_objective_is_the_mean_cross_entropy() -> None:
    wanted = (cross_entropy(2.0, 1.0, of=0) + cross_entropy(2.0, 1.0, of=1)) / 2
    assert loss(ObjectiveSettings(), Says(2.0, 1.0)).item() == pytest.approx(wanted)


def test_exits_count_all_the_same() -> None:
    shallow, deep = (0.0, 3.0), (1.0, 0.0)
    wanted = sum(cross_entropy(*exit, of=y) for exit in (shallow, deep) for y in (0, 1)) / 4
    assert loss(ObjectiveSettings(), two_exits(Says(*shallow), Says(*deep))).item() == pytest.approx(wanted)


def test_exits_each_get_their_own_gradient() -> None:
    shallow, deep = Says(0.0, 0.0), Says(math.log(3.0), 0.0)
    loss(ObjectiveSettings(), two_exits(shallow, deep)).backward()
    # Softmax less the frequency of the label, over two exits: (1/2 - 1/2) / 2 and (3/4 - 1/2) / 2.
    assert shallow.logits.grad is not None
    assert deep.logits.grad is not None
    assert shallow.logits.grad.tolist() == pytest.approx([0.0, 0.0])
    assert deep.logits.grad.tolist() == pytest.approx([0.125, -0.125])


def test_logit_adjustment_leaves_nothing_to_learn_where_the_prior_explains_the_labels() -> None:
    model = Says(0.0, 0.0)
    frequent = torch.tensor([0, 0, 0, 1] * 1000)
    y = torch.tensor([0, 0, 0, 1])
    objective = make_objective(ObjectiveSettings(logit_adjustment=1.0), frequent, list(model.parameters()))
    objective(model, torch.zeros(4, 1), y).backward()
    assert model.logits.grad is not None
    assert model.logits.grad.tolist() == pytest.approx([0.0, 0.0], abs=1e-3)


def test_logit_adjustment_reaches_every_exit() -> None:
    labels = torch.tensor([0, 0, 1])
    offsets = [math.log(3 / 5), math.log(2 / 5)]
    exits = [(0.0, 3.0), (1.0, 0.0)]
    adjusted = [tuple(a + b for a, b in zip(exit, offsets, strict=True)) for exit in exits]
    wanted = sum(cross_entropy(*exit, of=y) for exit in adjusted for y in (0, 1)) / 4
    model = two_exits(Says(*exits[0]), Says(*exits[1]))
    assert loss(ObjectiveSettings(logit_adjustment=1.0), model, labels).item() == pytest.approx(wanted, rel=1e-6)


def test_proximal_adds_to_the_cross_entropy() -> None:
    model = Says(0.0, 0.0)
    objective = make_objective(ObjectiveSettings(proximal=2.0), Y, list(model.parameters()))
    with torch.no_grad():
        model.logits.add_(3.0)
    assert objective(model, torch.zeros(2, 1), Y).item() == pytest.approx(math.log(2) + 2.0 / 2 * (9 + 9))


def test_distillation_of_one_exit_is_nothing() -> None:
    settings = ObjectiveSettings(distillation=1.0)
    assert loss(settings, Says(2.0, 1.0)).item() == loss(ObjectiveSettings(), Says(2.0, 1.0)).item()


def test_distillation_with_factor_one_is_the_objective_of_depthfl_divided_by_the_depth() -> None:
    p, q = [0.75, 0.25], [0.4, 0.6]
    model = two_exits(Says(*map(math.log, p)), Says(*map(math.log, q)))
    cross_entropies = [-math.log(distribution[y]) for distribution in (p, q) for y in (0, 1)]
    depthfl = sum(cross_entropies) / 2 + kl(p, q) + kl(q, p)
    assert loss(ObjectiveSettings(distillation=1.0), model).item() == pytest.approx(depthfl / 2, rel=1e-5)


def test_distillation_from_the_ensemble_is_what_the_settings_ask_for() -> None:
    p, q = [0.75, 0.25], [0.4, 0.6]
    model = two_exits(Says(*map(math.log, p)), Says(*map(math.log, q)))
    cross_entropies = [-math.log(distribution[y]) for distribution in (p, q) for y in (0, 1)]
    roots = [math.sqrt(a * b) for a, b in zip(p, q, strict=True)]  # of the mean of the logits, not yet normalised
    mean = [root / sum(roots) for root in roots]
    expected = sum(cross_entropies) / 4 + (kl(mean, p) + kl(mean, q)) / 2
    settings = ObjectiveSettings(distillation=1.0, distillation_teacher="ensemble")
    assert loss(settings, model).item() == pytest.approx(expected, rel=1e-5)


def test_mask_takes_absent_classes_out_of_the_cross_entropy() -> None:
    model = Says(2.0, 1.0, 5.0)
    value = loss(ObjectiveSettings(mask_absent=True), model)
    assert value.item() == pytest.approx((cross_entropy(2.0, 1.0, 0.0, of=0) + cross_entropy(2.0, 1.0, 0.0, of=1)) / 2)
    value.backward()
    assert model.logits.grad is not None
    assert model.logits.grad[2] == 0


def test_label_smoothing_gives_every_class_its_part() -> None:
    model = Says(2.0, 1.0, 0.0)
    objective = make_objective(ObjectiveSettings(), Y, list(model.parameters()), label_smoothing=0.3)
    # The label keeps 0.7, and each of the three classes gets 0.1.
    exits = [cross_entropy(2.0, 1.0, 0.0, of=number) for number in range(3)]
    wanted = 0.7 * (exits[0] + exits[1]) / 2 + 0.1 * sum(exits)
    assert objective(model, torch.zeros(2, 1), Y).item() == pytest.approx(wanted)


def test_class_weights_are_the_inverse_frequencies_of_the_device() -> None:
    model = Says(2.0, 1.0, 0.0)
    labels = torch.tensor([0, 0, 0, 2])
    objective = make_objective(ObjectiveSettings(), labels, list(model.parameters()), balance="weights")
    # 4 / (2 * 3) for class 0 and 4 / (2 * 1) for class 2; class 1, of which there is no sample, counts for nothing.
    wanted = (2 / 3 * cross_entropy(2.0, 1.0, 0.0, of=0) + 2 * cross_entropy(2.0, 1.0, 0.0, of=2)) / 2
    assert objective(model, torch.zeros(2, 1), torch.tensor([0, 2])).item() == pytest.approx(wanted)


def test_class_weights_add_up_over_parts_of_a_batch() -> None:
    model, y = Says(2.0, 1.0), torch.tensor([0, 0, 0, 1])
    objective = make_objective(ObjectiveSettings(), y, list(model.parameters()), balance="weights")
    whole = objective(model, torch.zeros(4, 1), y).item()
    parts = [objective(model, torch.zeros(2, 1), part).item() for part in y.split(2)]
    assert sum(parts) / 2 == pytest.approx(whole)
