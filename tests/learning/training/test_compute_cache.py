"""How compute modes that were chosen are remembered and shared."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from fedlp_edge.core.settings import ComputeMode, MemorySaving, ModelSettings, TrainingSettings
from fedlp_edge.learning.training.compute_cache import ComputeCache, describe
from fedlp_edge.learning.training.compute_trial import Choice
from fedlp_edge.learning.training.fallback import Execution, FailedAttempt
from tests.learning.training.computed_models import CPU, TRAINING, SpoiltInBfloat16, digits, pooled_net

MODEL = ModelSettings(name="small-cnn", input=(1, 8, 8))


def mode_of(choices: ComputeCache, model: nn.Module, training: TrainingSettings = TRAINING) -> ComputeMode:
    return choices.execution(model, digits(), training, MODEL, 1).compute


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
