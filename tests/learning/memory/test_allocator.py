from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedlp_edge.core.settings import MemorySaving, TrainingSettings
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.memory.allocator import cached_allocation, parts
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.training.loop import train_round

CPU = torch.device("cpu")


def trained(memory_saving: MemorySaving, *, dropout: float = 0.0) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    layers = [
        ("one", nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Dropout(dropout))),
        ("two", nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())),
    ]
    heads = [
        ("h1", nn.Sequential(nn.Flatten(), nn.Linear(288, 10))),
        ("h2", nn.Sequential(nn.Flatten(), nn.Linear(128, 10))),
    ]
    model = LayeredModel(layers, heads, torch.zeros(1, 1, 8, 8), classes=10).submodel(2)
    settings = TrainingSettings(batch_size=24, compute="float32", memory=memory_saving)
    train_round(model, load_data("digits#limit=100"), settings, seed=3, device=CPU)
    return model.state_dict()


@pytest.mark.parametrize("micro_batch", [1, 4, 7, 12])
def test_accumulation_makes_the_steps_of_the_whole_batch(micro_batch: int) -> None:
    whole, in_parts = trained(MemorySaving()), trained(MemorySaving(micro_batch=micro_batch))
    for name, value in whole.items():
        torch.testing.assert_close(in_parts[name], value, rtol=1e-4, atol=1e-6)


def test_checkpoints_and_roomy_allocation_change_no_bit() -> None:
    whole = trained(MemorySaving(), dropout=0.3)
    with cached_allocation():
        again = trained(MemorySaving(checkpointing=True), dropout=0.3)
    assert all(value.equal(again[name]) for name, value in whole.items())


@given(count=st.integers(1, 200), micro_batch=st.integers(0, 64))
def test_parts_cover_a_batch_without_single_samples(count: int, micro_batch: int) -> None:
    ranges = parts(count, micro_batch)
    assert [start for start, _ in ranges] == [0, *(stop for _, stop in ranges[:-1])]
    assert ranges[-1][1] == count
    sizes = [stop - start for start, stop in ranges]
    assert min(sizes) >= min(2, count)
    assert max(sizes) <= (max(3, micro_batch) if micro_batch else count)
