"""Numbers that the published code of the rivals' authors gives for tiny inputs, beside what ours gives for them.

The numbers come from running that code with PyTorch 2. Where ours departs from it, a comment says so, and
docs/accuracy.md why.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.rivals.importance_masks import MaskedLinear
from benchmarks.rivals.recurrent_exits import RecurrentSubmodel, SharedExit, recurrent_exits
from benchmarks.rivals.rolling_window import RollingModel
from benchmarks.rivals.scaled_exits import SelfDistilled
from fedlp_edge.core.algorithm import server
from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.core.learning_rate import distillation_factor
from fedlp_edge.core.settings import ObjectiveSettings, SchemeSettings, ServerSettings, UpdateSettings
from fedlp_edge.learning.training.objectives import LocalObjective, make_objective

EXITS = [
    [[1.0, 0.0, -1.0], [0.5, 0.5, 0.0]],
    [[2.0, -1.0, 0.0], [0.0, 1.0, -1.0]],
    [[0.0, 0.0, 3.0], [-2.0, 1.0, 1.0]],
]
"""Logits of three exits for two samples and three classes."""
LABELS = torch.tensor([0, 2])


def test_heterofl_averages_each_element_over_those_who_hold_it() -> None:
    # ``Federation.combine`` with rates 0.5, 0.75 and 0.5, whose devices have added 1, 4 and 2 to all that they hold.
    conv, linear = np.arange(4, dtype=np.float32).reshape(4, 1), np.arange(12, dtype=np.float32).reshape(3, 4)
    weights: dict[str, Array] = {"conv": conv, "linear": linear / np.float32(10)}
    mean = LayerwiseMean(3, {name: value.shape for name, value in weights.items()})
    for channels, added in ((2, 1.0), (3, 4.0), (2, 2.0)):
        mean.add(
            {"conv": np.full((channels, 1), added, np.float32), "linear": np.full((3, channels), added, np.float32)}, 1
        )
    silent = {name: mask for name in weights if (mask := mean.unsent(name)) is not None}
    made, _ = server.apply(ServerSettings(), ServerState(), weights, mean.means(), frozenset(), silent)
    assert made["conv"][:, 0] == pytest.approx(np.float32([2.3333333, 3.3333333, 6, 3]), abs=1e-6)
    assert made["linear"] == pytest.approx(
        np.float32(
            [
                [2.3333333, 2.4333332, 4.2, 0.3],
                [2.7333336, 2.8333333, 4.6, 0.7],
                [3.1333334, 3.2333336, 5.0, 1.1],
            ]
        ),
        abs=1e-6,
    )


def test_fedrolex_has_trained_every_channel_alike_after_a_cycle() -> None:
    # ``ResnetServerRoll`` with rates 0.5 and 0.75 of four channels, whose devices add 1 and 3 in each of four rounds.
    def units(channels: int) -> tuple[Unit, ...]:
        convolution, linear = TensorSpec("conv", (channels, 1, 1, 1)), TensorSpec("linear", (3, channels))
        return Unit("L1", "conv", "layer", 1, (convolution,)), Unit("H1", "linear", "head", 1, (linear,))

    levels = tuple(units(channels) for channels in (2, 3, 4))
    costs = tuple(DepthCost(level, 1, 1, 1) for level in (1, 2, 3))
    blueprint = Blueprint("chain", (1, 1, 1), 3, "shared", units(4), costs, widths=levels)
    start = {"conv": np.zeros((4, 1, 1, 1), np.float32), "linear": np.zeros((3, 4), np.float32)}
    model = RollingModel(blueprint, SchemeSettings(), ServerSettings(), start, update=UpdateSettings(), seed=1)
    found = []
    for round in range(1, 5):
        mean = LayerwiseMean(2, blueprint.nested_shapes)
        for level, added in ((0, 1.0), (1, 3.0)):
            mean.add({t.name: np.full(t.shape, added, np.float32) for u in levels[level] for t in u.tensors}, 1)
        model.step(round, mean)
        found.append(np.roll(model.weights["conv"].ravel(), round).tolist())
    # Their code rolls backwards, to channels 3 and 0 in round two, where equation 3 has 1 and 2: (4, 5, 3, 2) there.
    assert found == [[2, 2, 3, 0], [2, 4, 5, 3], [5, 4, 7, 5], [7, 7, 7, 7]]


@pytest.mark.parametrize(
    ("factor", "loss", "first", "last"),
    [
        (0.0, 4.1278687, [-0.1673795, 0.1223642, 0.0450153], [0.0121445, 0.2439278, -0.2560722]),
        (0.5, 5.5133958, [-0.1122034, 0.1726353, -0.0604319], [-0.0603309, 0.2347801, -0.1744492]),
        (1.0, 6.8989224, [-0.0570273, 0.2229063, -0.1658790], [-0.1328062, 0.2256324, -0.0928262]),
    ],
)
def test_depthfl_has_exits_learn_from_labels_and_each_other(
    factor: float, loss: float, first: list[float], last: list[float]
) -> None:
    logits = [torch.tensor(exit, requires_grad=True) for exit in EXITS]
    objective = make_objective(ObjectiveSettings(distillation=factor), LABELS, ())
    assert isinstance(objective, LocalObjective)
    found = objective.of_exits(logits, LABELS)
    found.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    # Theirs is a sum over the three exits, ours a mean; theirs adds 1e-7 to every probability of a teacher.
    assert 3 * found.item() == pytest.approx(loss, abs=5e-6)
    assert (3 * gradient(logits[0])[0]).tolist() == pytest.approx(first, abs=1e-6)
    assert (3 * gradient(logits[2])[1]).tolist() == pytest.approx(last, abs=1e-6)


def test_depthfl_turns_distillation_up() -> None:
    objective = ObjectiveSettings(distillation=1.0, distillation_rampup=300)
    factors = [distillation_factor(objective, done + 1) for done in (0, 150, 300)]
    assert factors == pytest.approx([0.0067379, 0.2865048, 1], abs=1e-6)


class Answer(nn.Module):
    """A head that gives the same logits whatever it sees."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return 1 * self.logits


def test_scalefl_weighs_exits_by_their_number_and_has_the_shallow_ones_learn_from_the_last() -> None:
    # ``execute_epoch`` and ``KDLoss`` with KD_T = 3 and KD_gamma = 0.15: its ``reduction="mean"`` divides by the three
    # classes as well, so this is our gamma of 0.05.
    heads = [Answer(exit) for exit in EXITS]
    layers = {f"L{number}": nn.Identity() for number in (1, 2, 3)}
    model = SelfDistilled(layers | {f"H{number}": head for number, head in enumerate(heads, start=1)}, 3).train()
    logits = model.exits(torch.zeros(2, 1))
    torch.stack([functional.cross_entropy(exit, LABELS) for exit in logits]).mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    found = [gradient(head.logits).flatten().tolist() for head in heads]
    assert found[0] == pytest.approx([-0.0249403, 0.0217613, 0.0031791, 0.0344203, 0.0310834, -0.0655037], abs=1e-6)
    assert found[1] == pytest.approx([-0.0180440, 0.0065918, 0.0114523, 0.0449371, 0.1115266, -0.1564636], abs=1e-6)
    # Their last exit learns from the shallow ones too, since their teacher is no constant: -0.2476220 comes first.
    assert found[2] == pytest.approx([-0.2386804, 0.0113196, 0.2273608, 0.0060722, 0.1219639, -0.1280361], abs=1e-6)


def test_fiarse_trains_the_largest_weights_through_their_mask() -> None:
    # ``MaskedLinear`` at half its size, with ``Bern`` giving numbers. As published it gives truth values, through which
    # PyTorch passes no gradient: 1 and 10 for the weights and 1 for the bias, without the paper's second term.
    layer, masked = nn.Linear(2, 2), MaskedLinear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[4.0, -1.0], [0.5, -3.0]]))
        layer.bias.copy_(torch.tensor([2.0, 0.25]))
    masked.hold(layer, 0.5)
    masked.train()
    masked(torch.tensor([[1.0, 10.0]])).sum().backward()
    assert masked.threshold.item() == 2
    assert gradient(masked.weight).flatten().tolist() == pytest.approx([1.4444444, 0, 0, 14.8], abs=1e-6)
    assert masked.bias is not None
    assert gradient(masked.bias).tolist() == pytest.approx([1.5, 0], abs=1e-6)


class Mixing(nn.Module):
    """A layer that adds half of the token before to each."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.roll(1, 1) / 2


def test_reefl_looks_at_the_class_tokens_of_all_layers_and_writes_the_next_one() -> None:
    # ``VisionTransformer.forward`` with ``Ree`` of width 8 and such layers.
    shared = SharedExit(8, 4, 3)
    ordered = [shared.positions, shared.meta, *shared.block.parameters(), *shared.head.parameters()]
    with torch.no_grad():
        for number, parameter in enumerate(ordered):
            parameter.copy_(torch.sin(number + torch.arange(float(parameter.numel()))).view_as(parameter) / 2)
        x = torch.cos(torch.arange(48.0)).view(2, 3, 8)
        exits = recurrent_exits([Mixing()] * 4, shared, x)
    assert [logits[0].tolist() for logits in exits] == [
        pytest.approx([-0.1080081, -1.2865646, -0.0326303], abs=1e-5),
        pytest.approx([-0.0764887, -1.2916160, -0.0626797], abs=1e-5),
        pytest.approx([-0.0442708, -1.2949581, -0.0939251], abs=1e-5),
        pytest.approx([-0.0302922, -1.2910128, -0.1090517], abs=1e-5),
    ]


@pytest.mark.parametrize(
    ("labels_before", "gradients"),
    [
        (  # The first exit is best in both batches.
            [0, 2],
            [
                [-0.1673795, 0.1223642, 0.0450153, 0.1918259, 0.1918259, -0.3836517],
                [0.0111742, -0.0803542, 0.0691799, 0.0529026, 0.4734151, -0.5263177],
                [-0.7873420, -0.0770857, 0.8644277, -0.1675370, 0.2960297, -0.1284927],
            ],
        ),
        (  # The last one was so much better in the batch before that it still is by the running mean.
            [2, 2],
            [
                [0.1426018, 0.2220892, -0.3646910, 0.3715073, 0.1397240, -0.5112312],
                [0.3211555, 0.0193708, -0.3405263, 0.2325840, 0.4213132, -0.6538972],
                [-0.4773608, 0.0226392, 0.4547215, 0.0121445, 0.2439278, -0.2560722],
            ],
        ),
    ],
)
def test_reefl_has_exits_learn_from_the_best_so_far(labels_before: list[int], gradients: list[list[float]]) -> None:
    # ``train`` with ``kl_loss="dynamic_ma"`` and ``kl_weight=1`` on two batches, the second one labelled 0 and 2.
    class Fixed(RecurrentSubmodel):
        def _logits(self, x: Tensor) -> tuple[Tensor, ...]:
            return tuple(1 * logits for logits in answers)

    answers = [nn.Parameter(torch.tensor(exit)) for exit in EXITS]
    parts = {f"L{number}": nn.Identity() for number in (1, 2, 3)} | {"H3": nn.Identity()}
    model = Fixed(parts, 3).train()
    for labels in (torch.tensor(labels_before), LABELS):
        for answer in answers:
            answer.grad = None
        logits = model.exits(torch.zeros(2, 1))
        torch.stack([functional.cross_entropy(exit, labels) for exit in logits]).mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    # Theirs is a sum over the three exits, ours a mean.
    for answer, expected in zip(answers, gradients, strict=True):
        assert (3 * gradient(answer)).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def gradient(value: Tensor) -> Tensor:
    assert value.grad is not None
    return value.grad
