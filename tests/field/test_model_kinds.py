"""Models by name whose ends or sizes people leave to the framework that they come from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ModelError, PartitionError
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.zoo.build import build_model

CODE = """
import torch
from torch import nn

def lazy(num_classes=3):
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes))

class Lazy(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.one, self.two, self.head = nn.LazyConv2d(4, 3), nn.LazyConv2d(4, 3), nn.LazyLinear(classes)
    def forward(self, x):
        return self.head(self.two(self.one(x).relu()).relu().flatten(1))

class Ends(nn.Module):
    def __init__(self, classes, end):
        super().__init__()
        self.one, self.head, self.end = nn.Linear(64, 8), nn.Linear(8, classes), end
    def forward(self, x):
        return self.end(self.head(self.one(x.flatten(1)).relu()))

class Flat(nn.Module):
    def forward(self, x):
        return torch.sigmoid(x).unsqueeze(1).squeeze(1)

def lazy_module(num_classes=3): return Lazy(num_classes)
def sigmoid(num_classes=3): return Ends(num_classes, nn.Sigmoid())
def flat(num_classes=3): return Ends(num_classes, Flat())
def hidden(num_classes=3): return Ends(num_classes, nn.Sequential(nn.Sigmoid(), nn.Linear(num_classes, num_classes)))
def a_class(): return Ends

class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 8, padding_idx=0)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2)
        self.out = nn.Linear(8, 3)
    def forward(self, x):
        padding = x == 0
        x = self.layers(self.embed(x), src_key_padding_mask=padding)
        return self.out((x * ~padding.unsqueeze(-1)).sum(1) / (~padding).sum(1, keepdim=True).clamp(min=1))

def padded(): return Padded()
def on_a_gpu():
    raise AssertionError("Torch not compiled with CUDA enabled")
def with_optimizer(): return sigmoid(), torch.optim.SGD(sigmoid().parameters(), 0.1)
one = sigmoid()
weights = one.state_dict()

class Sized(nn.Module):
    def __init__(self, hidden, *, classes): ...

class Coder(nn.Module):
    def __init__(self):
        super().__init__()
        self.coder, self.decoder = nn.Conv2d(1, 2, 2, 2), nn.ConvTranspose2d(2, 1, 2, 2)
    def forward(self, x):
        return self.decoder(self.coder(x).relu())

def coder(): return Coder()
def coder_blocks(): return [nn.Conv2d(1, 2, 2, 2), nn.ReLU(), nn.ConvTranspose2d(2, 1, 2, 2)]
def coder_sequence(): return nn.Sequential(*coder_blocks())
def asks(): return Ends(int(input("classes? ")), nn.Identity())
def on_a_gpu_later(): return Ends(3, Moves())

class Moves(nn.Module):
    def forward(self, x):
        raise RuntimeError("Found no NVIDIA driver on your system.")
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_kinds.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_kinds", raising=False)


def built(name: str, **settings: object) -> LayeredModel:
    given = ModelSettings(name=f"own_kinds:{name}", input=(1, 8, 8), classes=3, **settings)
    return build_model(given, seed=4, allow_models=None)


@pytest.mark.parametrize("name", ["lazy", "lazy_module"])
def test_lazy_modules_take_their_sizes_from_the_input_and_their_values_from_the_seed(name: str) -> None:
    one, two = built(name).state_dict(), built(name).state_dict()
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    assert built(name)(torch.zeros(2, 1, 8, 8)).shape == (2, 3)


@pytest.mark.parametrize("name", ["sigmoid", "flat"])
@pytest.mark.parametrize("task", ["classification", "multi-label"])
def test_a_sigmoid_at_the_end_is_refused_where_the_task_applies_its_own(name: str, task: str) -> None:
    with pytest.raises((PartitionError, ModelError), match="leave out the sigmoid at its end") as caught:
        built(name, task=task)
    assert "\n" not in str(caught.value)


def test_a_sigmoid_elsewhere_or_of_another_task_is_the_users_own() -> None:
    assert len(built("hidden", task="multi-label").depths) >= 1
    assert len(built("sigmoid", task="regression").depths) >= 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("one", "is of type Ends, not a function that makes a model: def make(): return Ends(...)"),
        (
            "weights",
            "is the state of a model (OrderedDict): name a function that makes the model, and a file of the state",
        ),
        ("on_a_gpu", "leave out .cuda() and device=: each machine puts the model where it trains"),
        ("with_optimizer", "gave a model and SGD: return the model alone"),
        ("on_a_gpu_later", "leave out .cuda() and device=: each machine puts the model where it trains"),
        (
            "Sized",
            "takes arguments (hidden, classes) that nobody gives it: write a function that knows them, def make()",
        ),
        ("a_class", "gave the class Ends, not a model: return Ends(...)"),
    ],
)
def test_what_is_no_function_of_a_model_is_refused_by_one_line(name: str, reason: str) -> None:
    with pytest.raises((PartitionError, ModelError)) as caught:
        built(name)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "depths"), [("coder", 1), ("coder_blocks", 1), ("coder_sequence", 1)])
def test_an_autoencoder_that_gives_pictures_gives_rows_of_their_numbers(name: str, depths: int) -> None:
    settings = ModelSettings(name=f"own_kinds:{name}", input=(1, 8, 8), task="anomaly")
    model = build_model(settings, seed=4, allow_models=None)
    assert len(model.depths) == depths
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 64)


def test_a_relative_import_names_the_package(tmp_path: Path) -> None:
    (tmp_path / "own_relative.py").write_text("from .blocks import Block")
    with pytest.raises(ModelError, match="name the package, too, as in package"):
        build_model(ModelSettings(name="own_relative:net", input=(4,)), seed=4, allow_models=None)


def test_an_encoder_that_takes_padding_away_is_built_on_more_than_padding() -> None:
    given = ModelSettings(name="own_kinds:padded", input=(6,), tokens=True, exit_heads="pooled")
    model = build_model(given, seed=4, allow_models=None).eval()
    assert len(model.depths) == 2
    short, padding = torch.tensor([[3.0, 4, 5, 0, 0, 0]]), torch.tensor([[7.0, 7, 7, 7, 7, 7]])
    with torch.no_grad():
        alone, beside = model(short), model(torch.cat([short, padding]))[:1]
    assert torch.allclose(alone, beside, atol=1e-6)
