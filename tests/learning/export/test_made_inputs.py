"""Inputs for models of which nobody here has samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from fedlp_edge.core.device_data import InputFacts
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.export.made_inputs import MADE, made_inputs


def test_have_the_mean_and_deviation_of_each_channel_once_they_are_normalised() -> None:
    facts = InputFacts(scale=1 / 255, mean=(0.5,), std=(0.25,), channel_mean=(3.0, -1.0), channel_std=(0.5, 2.0))
    made = made_inputs(facts, nn.Identity(), (2, 16, 16), tokens=False)
    x, y = made.batch(slice(0, MADE))
    assert x.shape == (MADE, 2, 16, 16)
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([3.0, -1.0], abs=0.1)
    assert x.std((0, 2, 3)).tolist() == pytest.approx([0.5, 2.0], abs=0.1)
    assert y.tolist() == [0] * MADE
    assert (made.scale, made.mean, made.std) == (1 / 255, (0.5,), (0.25,))


@pytest.mark.parametrize("told", [InputFacts(), InputFacts(channel_mean=(1.0,) * 3, channel_std=(1.0,) * 3)])
def test_are_standard_normal_where_channels_are_not_told_or_do_not_fit(told: InputFacts) -> None:
    x, _ = made_inputs(told, nn.Identity(), (2, 32), tokens=False).batch(slice(0, MADE))
    assert x.mean().item() == pytest.approx(0.0, abs=0.1)
    assert x.std().item() == pytest.approx(1.0, abs=0.1)


def test_are_normalised_as_devices_normalise_pictures_for_a_model_of_grey_ones(tmp_path: Path) -> None:
    Image.new("L", (4, 4), 9).save(tmp_path / "a.png")
    Image.new("L", (4, 4), 200).save(tmp_path / "b.png")
    (tmp_path / "labels.csv").write_text("file,label\na.png,dark\nb.png,bright\n", "utf-8")
    # Devices describe pictures before they know the model.
    told = load_data(parse_spec(f"imagefolder:{tmp_path}"), "train").facts().inputs
    trained = load_data(parse_spec(f"imagefolder:{tmp_path}#size=4&channels=1"), "train")
    assert told is not None
    assert len(told.mean) == 3
    made = made_inputs(told, nn.Identity(), (1, 4, 4), tokens=False)
    assert made.stored().shape == (MADE, 1, 4, 4)
    assert (made.scale, made.mean, made.std) == (trained.scale, trained.mean, trained.std)


def test_are_the_same_every_time() -> None:
    first, again = (made_inputs(InputFacts(), nn.Identity(), (3,), tokens=False) for _ in range(2))
    assert torch.equal(first.stored(), again.stored())


def test_are_tokens_that_every_embedding_knows() -> None:
    model = nn.ModuleList([nn.Embedding(50, 4), nn.Embedding(7, 4)])
    x, _ = made_inputs(InputFacts(), model, (20,), tokens=True).batch(slice(0, MADE))
    assert sorted(set(x.flatten().tolist())) == [0, 1, 2, 3, 4, 5, 6]


class Looked(nn.Module):
    """Looks its whole input up."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.table(x.long())
        return found.flatten(1)


def test_are_zeros_and_ones_where_a_model_looks_some_of_them_up() -> None:
    model = nn.Sequential(Looked(), nn.Linear(6, 2))
    x, _ = made_inputs(InputFacts(), model, (3,), tokens=False).batch(slice(0, MADE))
    assert set(x.flatten().tolist()) == {0.0, 1.0}
    assert model.training
