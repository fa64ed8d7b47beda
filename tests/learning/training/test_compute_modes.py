"""How the processor computes: the modes, the trial among them, and the choice that is kept."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import torch
from torch import Tensor, nn

from fedlp_edge.core.settings import ComputeMode, MemorySaving, ModelSettings, TrainingSettings
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.training.compute_cache import ComputeCache, describe
from fedlp_edge.learning.training.compute_modes import COMPUTE, candidates, has_bfloat16
from fedlp_edge.learning.training.compute_trial import MARGIN, Choice, fastest, judge, try_out
from fedlp_edge.learning.training.fallback import Execution, FailedAttempt
from fedlp_edge.learning.training.loop import DivergedError, train_round

CPU = torch.device("cpu")
MODEL = ModelSettings(name="small-cnn", input=(1, 8, 8))
TRAINING = TrainingSettings(batch_size=8)


class SpoiltInBfloat16(nn.Module):
    """Fine in float32; in bfloat16 its answers are no numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits * math.nan if logits.dtype == torch.bfloat16 else logits


def pooled_net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 10),
        )


def mode_of(choices: ComputeCache, model: nn.Module, training: TrainingSettings = TRAINING) -> ComputeMode:
    return choices.execution(model, digits(), training, MODEL, 1).compute


def digits(limit: int = 100) -> Dataset:
    return load_data(f"digits#limit={limit}")


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


def test_train_round_does_not_go_on_with_a_mode_that_diverges() -> None:
    with pytest.raises(DivergedError):
        train_round(SpoiltInBfloat16(), digits(), TRAINING, seed=0, device=CPU, compute="bfloat16")


def test_choices_take_what_the_settings_name(tmp_path: Path) -> None:
    pinned = TrainingSettings(compute="bfloat16")
    assert mode_of(ComputeCache(CPU, tmp_path), pooled_net(), pinned) == "bfloat16"
    assert list(tmp_path.iterdir()) == []


def test_choices_are_shared_by_later_processes(tmp_path: Path) -> None:
    model = SpoiltInBfloat16()
    assert mode_of(ComputeCache(CPU, tmp_path), model) == "float32"
    (file,) = tmp_path.glob("*.json")
    assert describe(msgspec.json.decode(file.read_bytes(), type=Choice)).startswith("computes in float32")
    file.write_bytes(msgspec.json.encode(Choice("float32-channels-last")))
    assert mode_of(ComputeCache(CPU, tmp_path), model) == "float32-channels-last"


def test_choices_differ_by_depth_and_batch_but_not_by_epochs_and_thrift(tmp_path: Path) -> None:
    choices, model = ComputeCache(CPU, tmp_path), nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    mode_of(choices, model)
    choices.execution(
        model,
        digits(),
        msgspec.structs.replace(TRAINING, epochs=5, memory=MemorySaving(micro_batch=4)),
        MODEL,
        1,
    )
    assert len(list(tmp_path.glob("*.json"))) == 1
    choices.execution(model, digits(), TRAINING, MODEL, 2)
    choices.execution(model, digits(), msgspec.structs.replace(TRAINING, batch_size=16), MODEL, 1)
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_choices_measure_again_where_a_file_is_damaged(tmp_path: Path) -> None:
    model = SpoiltInBfloat16()
    mode_of(ComputeCache(CPU, tmp_path), model)
    (file,) = tmp_path.glob("*.json")
    file.write_text("{")
    assert mode_of(ComputeCache(CPU, tmp_path), model) == "float32"
    assert msgspec.json.decode(file.read_bytes(), type=Choice).compute == "float32"


class ShortInBfloat16(nn.Module):
    """Its bfloat16 needs more memory than there is."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        if logits.dtype == torch.bfloat16:
            raise MemoryError
        return logits


def test_choices_for_lack_of_memory_are_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedlp_edge.learning.training.compute_modes.cpu_flags", lambda: frozenset({"avx512_bf16"}))
    assert mode_of(ComputeCache(CPU, tmp_path), ShortInBfloat16()) == "float32"
    assert list(tmp_path.glob("*.json")) == []


def test_choices_do_without_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    for directory in (None, tmp_path / "taken" / "compute"):
        choices = ComputeCache(CPU, directory)
        assert mode_of(choices, SpoiltInBfloat16()) == "float32"
        choices.learn(
            [FailedAttempt(Execution("bfloat16"), "it crashed", memory=False)], Execution(), TRAINING, MODEL, 1
        )


def test_choices_of_two_at_once_are_the_same(tmp_path: Path) -> None:
    found: list[str] = []

    def choose() -> None:
        found.append(mode_of(ComputeCache(CPU, tmp_path), pooled_net()))

    threads = [threading.Thread(target=choose) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_refused_mode_is_never_taken_again(tmp_path: Path) -> None:
    choices = ComputeCache(CPU, tmp_path)
    mode_of(choices, nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(msgspec.json.encode(Choice("bfloat16", {"float32": 2.0, "bfloat16": 1.0})))
    later = ComputeCache(CPU, tmp_path)
    assert mode_of(later, nn.Identity()) == "bfloat16"
    told = later.learn(
        [FailedAttempt(Execution("bfloat16"), "it failed", memory=False)], Execution(), TRAINING, MODEL, 1
    )
    assert told == ("small-cnn at depth 1: bfloat16 failed (it failed); trained again with float32, and from now on",)
    assert mode_of(later, nn.Identity()) == "float32"
    assert mode_of(ComputeCache(CPU, tmp_path), nn.Identity()) == "float32"
