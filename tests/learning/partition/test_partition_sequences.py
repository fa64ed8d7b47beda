"""Splitting models of sequences: sensor data, recurrent networks, transformers with masks, token ids."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedlp_edge import LayeredModel, ModelSettings, build_model, partition
from tests.learning.sample_models import step

WIDTH, CLASSES, STEPS = 8, 3, 12
SENSOR = torch.zeros(1, 2, 32)
SEQUENCE = torch.zeros(1, STEPS, 4)
TOKENS = torch.zeros(1, STEPS, dtype=torch.int64)


class SensorNet(nn.Module):
    """1-D convolutions, a dropout that is a function, and a size that is carried through."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, WIDTH, 5, padding=2)
        self.blocks = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, padding=1) for _ in range(3))
        self.fc = nn.Linear(WIDTH * 4, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.size(0)
        x = self.stem(x)
        for block in self.blocks:
            x = functional.max_pool1d(functional.relu(x + block(x)), 2)
        return self.fc(functional.dropout(x.view(batch, -1), 0.2, self.training))


class Recurrent(nn.Module):
    """Two recurrent layers whose state begins at zeros of the batch's size; time comes first inside."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.first = kind(4, WIDTH)
        self.second = kind(WIDTH, WIDTH, num_layers=2, dropout=0.2)
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        start = torch.zeros(1, x.shape[0], WIDTH, device=x.device)
        state = (start, start) if isinstance(self.first, nn.LSTM) else start
        x, _ = self.first(x.transpose(0, 1), state)
        x, _ = self.second(x)
        return self.fc(x[-1])


class Encoder(nn.Module):
    """Token ids with padding (0), a mask of it in every layer, and torch's own encoder."""

    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Embedding(20, WIDTH)
        self.position = nn.Parameter(torch.randn(1, STEPS, WIDTH) / 10)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.1, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        padding = tokens == 0
        x = self.embed(tokens) + self.position[:, : tokens.shape[1]]
        causal = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=x.device).triu(1)
        if self.batch_first:
            x = self.encoder(x, mask=causal, src_key_padding_mask=padding)
        else:
            x = self.encoder(x.transpose(0, 1), mask=causal, src_key_padding_mask=padding).transpose(0, 1)
        return self.fc((x * ~padding.unsqueeze(-1)).sum(1) / (~padding).sum(1, keepdim=True))


def _sequences(example: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if example.is_floating_point():
        return torch.randn(3, *example.shape[1:], generator=generator)
    tokens = torch.randint(1, 20, (3, STEPS), generator=generator)
    tokens[0, 7:] = 0
    tokens[1, 10:] = 0
    return tokens


MODELS = {
    "sensor": (SensorNet, SENSOR, ["stem", "blocks.0", "blocks.1", "blocks.2"]),
    "lstm": (lambda: Recurrent(nn.LSTM), SEQUENCE, ["first", "second"]),
    "gru": (lambda: Recurrent(nn.GRU), SEQUENCE, ["first", "second"]),
    "encoder": (Encoder, TOKENS, ["embed .. encoder.layers.0", "encoder.layers.1", "encoder.layers.2"]),
    "time first": (
        lambda: Encoder(batch_first=False),
        TOKENS,
        ["embed .. encoder.layers.0", "encoder.layers.1", "encoder.layers.2"],
    ),
}


@pytest.mark.parametrize(("make", "example", "names"), MODELS.values(), ids=MODELS)
def test_splits_models_of_sequences(make: Callable[[], nn.Module], example: torch.Tensor, names: list[str]) -> None:
    torch.manual_seed(0)
    model = make()
    x = _sequences(example)
    layered = partition(model, example)
    assert [unit.name for unit in layered.layer_units] == names
    assert layered.original_state_dict().keys() == model.state_dict().keys()
    for training in (False, True):
        model.train(training)
        layered.train(training)
        torch.manual_seed(1)
        expected = model(x)
        torch.manual_seed(1)
        assert torch.equal(layered(x), expected)
    _train_every_depth(layered, x)


def _train_every_depth(layered: LayeredModel, x: torch.Tensor) -> None:
    whole = layered.blueprint().costs[-1].parameters
    for depth in layered.depths:
        submodel = layered.submodel(depth).eval()
        layered.eval()
        assert torch.equal(submodel(x), layered(x, depth=depth))
        assert submodel(x).shape == (len(x), CLASSES)
        assert sum(p.numel() for p in submodel.parameters()) <= whole
        assert step(submodel, x, torch.arange(len(x)) % CLASSES) > 0


def test_carries_a_mask_beside_the_feature() -> None:
    layered = partition(Encoder(), TOKENS).eval()
    tokens = _sequences(TOKENS)
    other = tokens.clone()
    other[0, 7:] = 5
    feature, *masks = layered.get_submodule("L1")(tokens)
    assert torch.equal(layered.activations(tokens, 1), feature)
    assert any(mask.shape == tokens.shape and torch.equal(mask != 0, tokens == 0) for mask in masks)
    assert not torch.equal(layered(tokens), layered(other))


def test_takes_token_ids_in_floating_point() -> None:
    layered = partition(Encoder(), TOKENS).eval()
    tokens = _sequences(TOKENS)
    assert torch.equal(layered.submodel(2)(tokens.float()), layered(tokens, depth=2))
    blocks = [nn.Embedding(20, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Flatten(), nn.Linear(WIDTH * STEPS, CLASSES)]
    listed = partition(blocks, TOKENS).eval()
    assert listed.layer_units[0].state_names == ("L1.0.weight",)
    assert torch.equal(listed(tokens.float()), nn.Sequential(*blocks)(tokens))


def test_builds_a_model_of_token_ids_by_name() -> None:
    settings = ModelSettings(
        name=f"{__name__}:Encoder", input=(STEPS,), classes=5, tokens=True, depths=2, head_mode="personal"
    )
    layered = build_model(settings, seed=0, allow_models=[settings.name])
    assert layered(torch.ones(2, STEPS)).shape == (2, 5)
    assert len(layered.depths) == 2


def test_splits_code_that_looks_at_shapes() -> None:
    class Peculiar(nn.Module):
        """Python decides by shapes, types and dictionaries, none of which depends on values."""

        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, WIDTH), nn.Linear(WIDTH, WIDTH)
            self.fc = nn.Linear(WIDTH, CLASSES)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            batch, steps, _ = x.shape
            if steps > 5 and isinstance(x, torch.Tensor):
                x = x.reshape(batch * steps, -1)
            kept = {"hidden": self.one(x).relu_().view(batch, steps, -1)}
            weights = torch.linspace(0, 1, steps, device=x.device).expand(batch, -1).unsqueeze(-1)
            hidden = self.two(kept["hidden"]) * weights
            hidden[:, 0] = 0
            return {"logits": self.fc(hidden.sum(1) / max(1, len(range(steps))))}

    model = Peculiar()
    layered = partition(model, SEQUENCE)
    assert [unit.name for unit in layered.layer_units] == ["one", "two"]
    x = torch.randn(5, STEPS, 4)
    assert torch.equal(layered(x), model(x)["logits"])
    _train_every_depth(layered, x)


class Reversed(torch.autograd.Function):
    """The mean over time, with a gradient that points the wrong way."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=1, keepdim=True)

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return -gradient.expand(-1, STEPS, -1) / STEPS


@pytest.mark.parametrize("shift", [torch.no_grad()(lambda x: x.mean(dim=1, keepdim=True)), Reversed.apply])
def test_keeps_code_with_gradients_of_its_own_whole(shift: Callable[[torch.Tensor], torch.Tensor]) -> None:
    class Shift(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return shift(x)

    class Shifted(Recurrent):
        def __init__(self) -> None:
            super().__init__(nn.GRU)
            self.shift = Shift()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x - self.shift(x))

    model = Shifted()
    layered = partition(model, SEQUENCE)
    x = torch.randn(2, STEPS, 4, requires_grad=True)
    expected = torch.autograd.grad(model.eval()(x).sum(), x)[0]
    assert torch.equal(torch.autograd.grad(layered.eval()(x).sum(), x)[0], expected)
