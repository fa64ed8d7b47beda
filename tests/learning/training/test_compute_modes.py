"""How the processor computes: the modes, the trial among them, and the choice that is kept."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from fedlp_edge.core.settings import ComputeMode, TrainingSettings
from fedlp_edge.learning.training.compute_modes import COMPUTE, candidates, has_bfloat16
from fedlp_edge.learning.training.loop import DivergedError, train_round
from tests.learning.training.computed_models import CPU, TRAINING, SpoiltInBfloat16, digits, pooled_net


def test_every_mode_of_the_settings_is_there() -> None:
    assert tuple(COMPUTE) == get_args(ComputeMode)
    assert all(compute.name == name for name, compute in COMPUTE.items())


@pytest.mark.parametrize("mode", COMPUTE)
def test_train_round_learns_the_same_in_every_mode(mode: ComputeMode) -> None:
    model, reference = pooled_net(), pooled_net()
    outcome = train_round(model, digits(300), TRAINING, seed=1, device=CPU, compute=mode)
    plain = train_round(reference, digits(300), TRAINING, seed=1, device=CPU)
    assert outcome.compute == mode
    assert plain.compute == "float32"
    assert outcome.loss == pytest.approx(plain.loss, rel=0.05)
    tolerance = 0.1 if "bfloat16" in mode else 1e-4
    for mine, other in zip(model.parameters(), reference.parameters(), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("mode", COMPUTE)
def test_train_round_gives_the_same_bits_again_in_every_mode(mode: ComputeMode) -> None:
    ends = []
    for _ in range(2):
        model = pooled_net()
        train_round(model, digits(), TRAINING, seed=1, device=CPU, compute=mode)
        ends.append(model.state_dict())
    assert all(ends[0][name].equal(ends[1][name]) for name in ends[0])


def test_train_round_computes_as_the_settings_say() -> None:
    settings = TrainingSettings(batch_size=8, compute="float32-channels-last")
    assert train_round(pooled_net(), digits(), settings, seed=0, device=CPU).compute == "float32-channels-last"


def test_prepared_lays_filters_out_and_puts_them_back_where_they_were() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3, bias=False))
    known = [parameter.detach() for parameter in model.parameters()]
    with COMPUTE["float32-channels-last"].prepared(model):
        assert [p.stride() for p in model.parameters()] == [(9, 1, 3, 1), (1,), (36, 1, 12, 4)]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(2.0)
    for parameter, values in zip(model.parameters(), known, strict=True):
        assert parameter.data_ptr() == values.data_ptr()
        assert parameter.is_contiguous()
        assert values.unique().tolist() == [2.0]


def test_candidates_lay_out_only_what_has_filters() -> None:
    assert all(not COMPUTE[name].channels_last for name in candidates(nn.Linear(2, 2), CPU))
    assert "float32-channels-last" in candidates(pooled_net(), CPU)
    assert candidates(pooled_net(), CPU)[0] == "float32"


def test_candidates_leave_emulated_bfloat16_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlp_edge.learning.training.compute_modes.cpu_flags", lambda: frozenset({"avx2", "fma"}))
    assert not has_bfloat16(CPU)
    assert candidates(pooled_net(), CPU) == ("float32", "float32-channels-last")


def test_train_round_does_not_go_on_with_a_mode_that_diverges() -> None:
    with pytest.raises(DivergedError):
        train_round(SpoiltInBfloat16(), digits(), TRAINING, seed=0, device=CPU, compute="bfloat16")
