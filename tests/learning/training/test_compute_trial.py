"""How compute modes are tried on a few batches, and which one is chosen."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fedlp_edge.core.settings import ComputeMode
from fedlp_edge.learning.training.compute_trial import MARGIN, fastest, judge, try_out
from tests.learning.training.computed_models import CPU, TRAINING, SpoiltInBfloat16, digits, pooled_net


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({"float32": 1.0}, "float32"),
        ({"float32": 1.0, "float32-channels-last": 0.9}, "float32"),
        ({"float32": 1.0, "float32-channels-last": 1 / MARGIN}, "float32-channels-last"),
        ({"float32": 1.0, "bfloat16": 0.5}, "bfloat16"),
        # Faster than float32 by the margin, but not than the more exact mode that is.
        ({"float32": 1.0, "float32-channels-last": 0.8, "bfloat16-channels-last": 0.75}, "float32-channels-last"),
        ({"float32": 1.0, "float32-channels-last": 0.8, "bfloat16-channels-last": 0.4}, "bfloat16-channels-last"),
    ],
)
def test_fastest_asks_a_margin_of_every_less_exact_mode(seconds: dict[ComputeMode, float], best: str) -> None:
    assert fastest(seconds) == best


@pytest.mark.parametrize(
    ("losses", "refused"),
    [
        ([2.3, 1.0, 0.5], None),
        ([2.31, 1.1, 0.55], None),
        ([2.3, math.nan, math.nan], "not a number"),
        ([2.5, 1.0, 0.5], "begins at 2.5"),
        ([2.3, 2.2, 2.1], "falls to 2.1"),
        ([2.3, 1.0], None),
    ],
)
def test_judge_measures_by_float32(losses: list[float], refused: str | None) -> None:
    out = judge({"float32": [2.3, 1.0, 0.5], "bfloat16": losses})
    assert out.keys() == ({"bfloat16"} if refused else set())
    assert (refused or "") in out.get("bfloat16", "")


def test_judge_trusts_no_mode_where_float32_diverges() -> None:
    assert judge({"float32": [2.3, math.inf], "bfloat16": [2.3, 1.0]}).keys() == {"bfloat16"}


def test_try_out_refuses_a_mode_that_spoils_the_loss() -> None:
    choice = try_out(SpoiltInBfloat16(), digits(), TRAINING, CPU, ("float32", "bfloat16"))
    assert choice.compute == "float32"
    assert choice.refused == {"bfloat16": "its loss is not a number"}
    assert choice.seconds["float32"] > 0


def test_try_out_leaves_model_and_random_numbers_as_they_were() -> None:
    model = nn.Sequential(pooled_net(), nn.BatchNorm1d(10)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.random.get_rng_state()
    try_out(model, digits(), TRAINING, CPU, ("float32", "float32-channels-last"))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.random.get_rng_state().equal(random)


def test_try_out_raises_what_training_itself_would_raise() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        try_out(nn.Sequential(nn.Flatten(), nn.Linear(3, 10)), digits(), TRAINING, CPU, ("float32", "bfloat16"))
