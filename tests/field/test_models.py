"""Models as people write them: each is split, trained and exported, or refused by one line that says what to do."""

from __future__ import annotations

import random
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlp_edge import partition
from fedlp_edge.core.settings import TrainingSettings
from fedlp_edge.errors import ExportError, PartitionError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.metadata import OnnxMetadata
from fedlp_edge.learning.export.onnx import export
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.profiling.step_trace import with_step_costs
from fedlp_edge.learning.training.loop import train_round

PICTURE, SEQUENCE, TOKENS, VIDEO, CODES = (1, 12, 12), (6, 8), (10,), (2, 4, 8, 8), (4,)
CLASSES = 5


class Cnn(nn.Module):
    """Three convolutions with something between the first two, a pool, a classifier."""

    def __init__(self, between: nn.Module | None = None, pool: nn.Module | None = None, out: nn.Module | None = None):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)
        self.between, self.pool = between or nn.Identity(), pool or nn.AdaptiveAvgPool2d(1)
        self.out = out or nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(functional.relu(self.first(x)))
        x = functional.relu(self.third(functional.relu(self.second(x))))
        return self.out(self.pool(x).flatten(1))


class Recurrent(nn.Module):
    """The tutorial's way: the state is zeros, sized by the batch."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.directions = 2 if bidirectional else 1
        self.one = kind(8, 12, 1, batch_first=True, bidirectional=bidirectional)
        self.two = kind(12 * self.directions, 12, 1, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(12 * self.directions, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.one, self.two):
            start = torch.zeros(self.directions, x.size(0), 12).to(x.device)
            x, _ = layer(x, (start, torch.zeros_like(start)) if isinstance(layer, nn.LSTM) else start)
        return self.out(x[:, -1, :])


class CellLoop(nn.Module):
    """Steps through a sequence by itself, with two states side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell = nn.Linear(8, 12), nn.LSTMCell(12, 12)
        self.hidden, self.out = nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        h, c = torch.zeros(x.size(0), 12), torch.zeros(x.size(0), 12)
        for step in range(x.size(1)):
            h, c = self.cell(x[:, step], (h, c))
        return self.out(functional.relu(self.hidden(h)))


class Words(nn.Module):
    """A mean over embedded words, without the padding."""

    def __init__(self, *, sparse: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8, padding_idx=0, sparse=sparse)
        self.one, self.two, self.out = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        seen = (words != 0).unsqueeze(-1).float()
        x = (self.embed(words) * seen).sum(1) / seen.sum(1).clamp(min=1)
        return self.out(functional.relu(self.two(functional.relu(self.one(x)))))


class PackedWords(nn.Module):
    """Packs its sentences by their lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru, self.out = nn.Embedding(20, 8), nn.GRU(8, 12, batch_first=True), nn.Linear(12, CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        lengths = (words != 0).sum(1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(words), lengths, batch_first=True, enforce_sorted=False)
        return self.out(self.gru(packed)[1][-1])


class KeepsWhatItComputed(Cnn):
    """Keeps its features as an attribute, for a look at them later."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = functional.relu(self.first(x))
        return self.out(self.pool(functional.relu(self.third(functional.relu(self.second(self.seen))))).flatten(1))


class Cosine(nn.Module):
    """A cosine classifier with a large scale, as for faces."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.weight = scale, nn.Parameter(torch.randn(CLASSES, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * functional.linear(functional.normalize(x), functional.normalize(self.weight))


class Spectrum(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft2(x).abs()


class Answers(Cnn):
    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return {"classes": logits, "probabilities": logits.softmax(1)}  # type: ignore[return-value]


class Squeezed(Cnn):
    """Takes away every dimension of size one, the batch's too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).squeeze()


class Centred(Cnn):
    """Compares each sample with the others in its batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(x)
        return logits - logits.mean(dim=0)


class InPlace(Cnn):
    """Scales its input where it stands."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x -= 0.5
        return super().forward(x.div_(0.25))


class Sign(torch.autograd.Function):
    """Rounds to -1 and 1, and lets gradients pass as if it did not."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class Binary(Cnn):
    """Calls such a function in its outermost forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(Sign.apply(x))


class Signs(nn.Module):
    """Calls it in a module of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: Tensor = Sign.apply(x)
        return result


class Mixed(Cnn):
    """Switches its number format by itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


class Scaled(Cnn):
    """Scales its input by statistics of the whole batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward((x - x.mean()) / (x.std() + 1))


class NoGradients(Cnn):
    """Keeps gradients away from what is to be trained, other than by freezing it."""

    def __init__(self) -> None:
        super().__init__(between=nn.Conv2d(4, 4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return super().forward(x)


class Detached(Cnn):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).detach()


class Dropped(Cnn):
    """Drops in evaluation, too, as F.dropout does unless it is told the mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.dropout(x, 0.3))


class Turned(nn.Module):
    """Turns pairs of features by angles that follow from their place, as rotary embeddings do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("turns", torch.polar(torch.ones(6), torch.arange(6.0)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (6, 2)).contiguous())
        return torch.view_as_real(pairs * self.turns).flatten(-2)


class QuantisedLater(nn.Module):
    """Adds through a module, as models do that are prepared for quantisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.sum = nn.Conv2d(4, 4, 1), torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        return self.sum.add(x, self.conv(x))  # type: ignore[no-any-return]


class Hooked(nn.Module):
    """Takes its features from a hook, whose function knows the module by its closure."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.seen, self.out = Cnn(), {}, nn.Linear(8, CLASSES)
        self.net.third.register_forward_hook(lambda module, given, result: self.seen.update(third=result))

    def forward(self, x: Tensor) -> Tensor:
        self.net(x)
        return self.out(self.seen["third"].mean((2, 3)))


class HoldsAFunction(nn.Module):
    """Computes by a function that it holds, and that knows the module by its closure."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(144, 8)
        self.compute = lambda x: functional.relu(self.one(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x)


class Alone(Cnn):
    """Gives its logits as a tuple of one, as models of Hugging Face do with return_dict=False."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (super().forward(x),)  # type: ignore[return-value]


class Dice(Cnn):
    """Drops a part by Python's random numbers."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (0.5 if random.random() < 2 else 1)


class Listed(Cnn):
    """Holds a layer in a list of Python, of which torch knows nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Conv2d(1, 1, 3, padding=1)]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.layers[0](x))


class MadeInForward(Cnn):
    """Makes a layer in each call."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.Conv2d(1, 1, 3, padding=1)(x))


class DroppedInForward(Cnn):
    """Makes a dropout in each call, which is always in training."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.Dropout(0.01)(x))


class OfMapping(Cnn):
    """Takes a batch as Hugging Face gives it."""

    def forward(self, batch: Any) -> Tensor:
        return super().forward(batch["pixel_values"])


class OfObject(Cnn):
    """Takes a batch as an object."""

    def forward(self, batch: Any) -> Tensor:
        return super().forward(batch.pixel_values)


class OneNumber(nn.Module):
    """Gives one number a sample, as people do for a regression."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x[:, 0]).relu()).squeeze(-1)


class Spikes(nn.Module):
    """Calls all of its layers in each step of a loop, so that no cut separates any two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state, answer = torch.zeros_like(x[:, 0]), torch.zeros(x.shape[0], CLASSES)
        for step in range(x.shape[1]):
            state = (0.5 * state + self.one(x[:, step])).relu()
            answer = answer + self.two(state)
        return answer


class Gradients(Cnn):
    """Adds the gradient of its features, as models of energies do."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.requires_grad_()
        (slope,) = torch.autograd.grad(functional.relu(self.first(x)).sum(), x, create_graph=True)
        return super().forward(x + slope)


def exported() -> nn.Module:
    return torch.export.export(Cnn(), (torch.zeros(4, *PICTURE),)).module()


def script_part() -> nn.Module:
    model = Cnn()
    model.part = torch.jit.script(nn.ReLU())  # type: ignore[no-untyped-call]
    return model


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(Cnn(), {nn.Linear})  # type: ignore[no-any-return]


class Complex(Cnn):
    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.ones(2, dtype=torch.complex64))


class Sparse(Cnn):
    """Holds a sparse matrix, as networks on graphs do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ones", torch.eye(3).to_sparse())


class WordOfPython(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({"class": nn.Linear(8, CLASSES), "global": nn.Linear(144, 8)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.heads["class"](self.heads["global"](x.flatten(1)).relu())  # type: ignore[no-any-return]


class Coded(nn.Module):
    """Looks two columns of its input up, as models of tables with categories do."""

    def __init__(self) -> None:
        super().__init__()
        self.place, self.norm, self.mean = nn.Embedding(3, 4), nn.BatchNorm1d(2), nn.Buffer(torch.zeros(2))
        self.one, self.two, self.out = nn.Linear(10, 12), nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        days = functional.one_hot(x[:, 1].long(), 4).float()
        x = torch.cat([self.place(x[:, 0].long()), days, self.norm(x[:, 2:] - self.mean)], dim=1)
        return self.out(functional.relu(self.two(functional.relu(self.one(x)))))


def watched_backward() -> nn.Module:
    """Watches gradients, as loggers do."""
    model = Cnn(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh()))
    for module in model.modules():
        module.register_full_backward_hook(lambda *_: None)
    return model


def old_norm(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    model = Cnn()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and people use it
        norm(model.second)
    model(torch.zeros(1, *PICTURE))  # from now on its weight is the result of a computation
    return model


def frozen() -> nn.Module:
    model = Cnn(nn.BatchNorm2d(4))
    for part in (model.first, model.between):
        part.requires_grad_(False)
    return model


def filmed() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d((1, 2, 2))),
        *(nn.Conv3d(4, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(3)),
        *(nn.Flatten(), nn.Linear(6 * 27, CLASSES)),
    )


class Detector(Cnn):
    """Is of torchvision, as far as its module says."""

    __module__ = "torchvision.models.detection.faster_rcnn"


def compiled_block() -> nn.Module:
    block: nn.Module = torch.compile(nn.Conv2d(1, 4, 3))  # type: ignore[assignment]
    return nn.Sequential(block, nn.Flatten(), nn.Linear(400, CLASSES))


Make = Callable[[], nn.Module]

EXPORTED: dict[str, tuple[Make, tuple[int, ...]]] = {
    "adaptive max pool": (lambda: Cnn(pool=nn.AdaptiveMaxPool2d(7), out=nn.Linear(8 * 49, CLASSES)), PICTURE),
    "weight norm, old": (lambda: old_norm(nn.utils.weight_norm), PICTURE),
    "orthogonal": (lambda: old_norm(nn.utils.parametrizations.orthogonal), PICTURE),
    "LSTM with state": (Recurrent, SEQUENCE),
    "sparse embedding": (lambda: Words(sparse=True), TOKENS),
    "video": (filmed, VIDEO),
    "changes its input": (InPlace, PICTURE),
    "cosine classifier": (lambda: Cnn(out=Cosine(3000.0)), PICTURE),
    "spikes": (Spikes, SEQUENCE),
    "columns of codes": (Coded, CODES),
    "features of a hook": (Hooked, PICTURE),
    "holds a function": (
        lambda: nn.Sequential(OrderedDict(held=HoldsAFunction(), out=nn.Linear(8, CLASSES))),
        PICTURE,
    ),
    "behind a normalisation": (lambda: nn.Sequential(nn.BatchNorm2d(1, affine=False), Cnn()), PICTURE),
}

TRAINED: dict[str, tuple[Make, tuple[int, ...]]] = {
    "spectral norm, old": (lambda: old_norm(nn.utils.spectral_norm), PICTURE),
    "spectrum": (lambda: Cnn(Spectrum()), PICTURE),
    "adaptive mean": (lambda: Cnn(pool=nn.AdaptiveAvgPool2d(7), out=nn.Linear(8 * 49, CLASSES)), PICTURE),
    "two-way GRU with state": (lambda: Recurrent(nn.GRU, bidirectional=True), SEQUENCE),
    "loop of cells": (CellLoop, SEQUENCE),
    "frozen": (frozen, PICTURE),
    "keeps what it computed": (KeepsWhatItComputed, PICTURE),
    "several devices": (lambda: nn.DataParallel(Cnn()), PICTURE),
    "compiled": (lambda: torch.compile(Cnn()), PICTURE),  # type: ignore[dict-item, return-value]
    "compiled block": (compiled_block, PICTURE),
    "spectral norm": (lambda: old_norm(nn.utils.parametrizations.spectral_norm), PICTURE),
    "weight norm": (lambda: old_norm(nn.utils.parametrizations.weight_norm), PICTURE),
    "watched backward": (watched_backward, PICTURE),
    "straight through": (lambda: Cnn(Signs()), PICTURE),
    "rotary positions": (lambda: Cnn(Turned()), PICTURE),
    "quantised later": (lambda: Cnn(QuantisedLater()), PICTURE),
    "a tuple of one": (Alone, PICTURE),
    "logarithms": (lambda: nn.Sequential(Cnn(), nn.Linear(CLASSES, CLASSES), nn.LogSoftmax(dim=1)), PICTURE),
}

REFUSED: dict[str, tuple[Make, tuple[int, ...], str]] = {
    "maps": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 1)), PICTURE, "maps, as of a segmentation, are"),
    "objects": (Detector, PICTURE, "Detector finds objects, whose lists of boxes are no logits"),
    "several results": (Answers, PICTURE, "returns a dict (classes, probabilities) and not one tensor of logits"),
    "packed": (PackedWords, TOKENS, "packs sequences by their lengths"),
    "script": (lambda: torch.jit.script(Cnn()), PICTURE, "is TorchScript"),
    "half precision": (lambda: Cnn().half(), PICTURE, "call model.float() first"),
    "random": (
        lambda: Cnn(nn.FractionalMaxPool2d(3, output_size=(8, 8))),
        PICTURE,
        "draws random numbers in evaluation, too",
    ),
    "dropout without training": (Dropped, PICTURE, "F.dropout(x, 0.5, self.training)"),
    "dropout made in a call": (DroppedInForward, PICTURE, "an nn.Dropout is made in __init__"),
    "layer made in a call": (MadeInForward, PICTURE, "makes a Conv2d with new weights (weight) in each call: make it"),
    "layers in a list": (Listed, PICTURE, "the forward of Listed uses weights [1, 1, 3, 3] that are not part of the"),
    "mapping": (OfMapping, PICTURE, "takes a mapping or an object (its forward uses ['pixel_values'])"),
    "object": (OfObject, PICTURE, "it takes a mapping or an object, and layers pass on a single tensor: wrap it for"),
    "one number": (OneNumber, SEQUENCE, "leave out the squeeze at its end, so that it gives [2, 1]"),
    "squeezed": (Squeezed, PICTURE, "gives [5] for a single sample, not [1, 5]"),
    "minus the batch's mean": (Centred, PICTURE, "depends on the others in its batch"),
    "scaled by the batch": (Scaled, PICTURE, "depends on the others in its batch"),
    "autograd function": (Binary, PICTURE, "put the call into an nn.Module of its own"),
    "gradients off": (NoGradients, PICTURE, "switches gradients off"),
    "detached": (Detached, PICTURE, "no gradient flows from the model's logits to its weights"),
    "all frozen": (lambda: Cnn().requires_grad_(False), PICTURE, "all weights of the model are frozen"),
    "numbers of Python": (Dice, PICTURE, "draws random numbers of Python or numpy"),
    "gradients in the forward": (Gradients, PICTURE, "its forward computes gradients (torch.autograd.grad)"),
    "exported": (exported, PICTURE, "it was exported for batches of that size: give the module that it was exported"),
    "script part": (script_part, PICTURE, "part is TorchScript"),
    "quantised": (quantised, PICTURE, "is quantised (Linear), and such weights cannot be trained"),
    "sparse": (Sparse, PICTURE, "ones is a sparse tensor, which neither layers nor ONNX files hold: make it dense"),
    "complex": (Complex, PICTURE, "turn is complex, and layers are exchanged as float32: hold its real and imaginary"),
    "no values": (lambda: Cnn().to("meta"), PICTURE, "has no values (it is on the meta device)"),
    "word of Python": (WordOfPython, PICTURE, "a word of Python that code of a graph cannot hold"),
    "mixed precision": (Mixed, PICTURE, "leave that out, since devices choose their number"),
    "probabilities": (
        lambda: Cnn(out=nn.Sequential(nn.Linear(8, CLASSES), nn.Softmax(dim=1))),
        PICTURE,
        "leave out the softmax",
    ),
}


def samples(shape: tuple[int, ...]) -> Dataset:
    x = torch.randn(12, *shape, generator=torch.Generator().manual_seed(1))
    if shape is TOKENS:
        x = (x.abs() * 8).clamp(max=19).floor()
    if shape is CODES:
        x[:, :2] = x[:, :2].abs().clamp(max=2).floor()
    y = torch.arange(12) % CLASSES
    return Dataset.of_tensor(x, y, classes=tuple("abcde"), scale=1.0, mean=(0.0,), std=(1.0,))


def split(make: Make, shape: tuple[int, ...]) -> LayeredModel:
    torch.manual_seed(0)
    kind = torch.int64 if shape is TOKENS else torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make()
    return partition(model, torch.ones(1, *shape, dtype=kind), num_classes=CLASSES)


def train(model: LayeredModel, depth: int, data: Dataset) -> nn.Module:
    """One epoch; what is frozen stays, and what results is finite."""
    part = model.submodel(depth)
    before = {name: value.clone() for name, value in part.named_parameters()}
    settings = TrainingSettings(batch_size=8, lr=0.01, optimizer="adam", compute="float32")
    train_round(part, data, settings, seed=1, device=torch.device("cpu"))
    moved = {name for name, value in part.named_parameters() if not torch.equal(value, before[name])}
    assert moved
    assert all(part.get_parameter(name).requires_grad for name in moved)
    assert all(bool(value.isfinite().all()) for value in part.state_dict().values() if value.is_floating_point())
    return part


@pytest.mark.parametrize("name", [*EXPORTED, *TRAINED])
def test_model_is_split_and_trained_at_its_first_and_last_depth(name: str) -> None:
    make, shape = {**EXPORTED, **TRAINED}[name]
    model, data = split(make, shape), samples(shape)
    assert with_step_costs(model, model.blueprint(name)).costs[-1].step
    for depth in {1, model.depths[-1]}:
        train(model, depth, data)


def test_weights_of_functions_that_a_block_holds_are_trained() -> None:
    model = partition([HoldsAFunction(), nn.Linear(8, CLASSES)], torch.ones(1, *PICTURE))
    before = model.submodel(1).get_parameter("L1.0.one.weight")
    assert not train(model, 1, samples(PICTURE)).get_parameter("L1.0.one.weight").equal(before)


@pytest.mark.parametrize("name", EXPORTED)
def test_trained_model_is_exported(name: str, tmp_path: Path) -> None:
    make, shape = EXPORTED[name]
    model, data = split(make, shape), samples(shape)
    depth = model.depths[-1]
    verified = export(train(model, depth, data), card(name, depth, shape), data, tmp_path / "model.onnx", {})
    assert verified.path.exists()


@pytest.mark.parametrize("name", REFUSED)
def test_model_that_cannot_be_split_is_refused_by_one_line(name: str) -> None:
    make, shape, reason = REFUSED[name]
    with pytest.raises(PartitionError) as caught:
        split(make, shape)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


class Unknown(nn.Module):
    """Calls what no exporter knows."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_model_that_cannot_be_exported_is_refused_by_one_plain_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, data = Cnn(Unknown()), samples(PICTURE)
    with pytest.raises(ExportError) as caught:
        export(model, card("mine:net", 3, PICTURE), data, tmp_path / "model.onnx", {})
    said = str(caught.value)
    assert said.startswith("depth 3 of mine:net: PyTorch cannot export this model to ONNX: ")
    assert "bessel_j0" in said
    assert "\n" not in said
    assert "\x1b" not in said
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def card(name: str, depth: int, shape: tuple[int, ...]) -> OnnxMetadata:
    classes = tuple("abcde")
    return OnnxMetadata(model=name, depth=depth, input_shape=shape, classes=classes, scale=1.0, mean=(0.0,), std=(1.0,))


class OwnTrain(Cnn):
    """Keeps its norm and its dropout in evaluation, as people do with layers that somebody else has trained."""

    def __init__(self) -> None:
        super().__init__(between=nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5)))

    def train(self, mode: bool = True) -> OwnTrain:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.Dropout)):
                module.training = False
        return self


def test_what_a_train_of_the_users_own_keeps_in_evaluation_stays_there() -> None:
    model = split(OwnTrain, PICTURE)
    kinds = {tensor.name: tensor.kind for unit in model.units for tensor in (*unit.tensors, *unit.constants)}
    assert {kind for name, kind in kinds.items() if "running" in name} == {"constant"}
    part = train(model, model.depths[-1], samples(PICTURE))
    values = {name: value for name, value in part.state_dict().items() if "running_mean" in name}
    assert values
    assert all(not value.any() for value in values.values())
    assert not any(module.training for module in part.modules() if isinstance(module, nn.Dropout))


class Schedules(Cnn):
    """Changes how much it drops as it runs."""

    def __init__(self) -> None:
        super().__init__(between=nn.Dropout(0.0))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        next(module for module in self.modules() if isinstance(module, nn.Dropout)).p = 0.1 * self.calls
        return super().forward(x)


def test_numbers_that_a_forward_changes_are_named(caplog: pytest.LogCaptureFixture) -> None:
    split(Schedules, PICTURE)
    [line] = [record.getMessage() for record in caplog.records if "as it runs" in record.getMessage()]
    assert 'the forward of Schedules changes "calls", ' in line


class Guarded(Cnn):
    def forward(self, x: Tensor) -> Tensor:
        assert x.max() < 100
        return super().forward(x)


def test_refusal_of_a_decision_by_values_names_the_line() -> None:
    with pytest.raises(
        PartitionError, match=r"decides by the values of tensors \(test_models\.py, line \d+\); move that into a"
    ):
        split(Guarded, PICTURE)


class Carries(nn.Module):
    """Goes on in a batch where the last one ended, as in examples of forecasts."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(8, 12), nn.GRU(12, 12, batch_first=True), nn.Linear(12, CLASSES)
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        state = self.state if self.state is not None and self.state.shape[1] == len(x) else None
        x, state = self.two(x, state)
        self.state = state.detach()
        return self.out(x[:, -1])  # type: ignore[no-any-return]


def test_state_that_a_model_carries_from_batch_to_batch_is_named_and_not_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = split(Carries, SEQUENCE)
    [line] = [record.getMessage() for record in caplog.records]
    assert line == (
        'Carries keeps "state" from one batch to the next and answers by it, though samples come in any order; its '
        "layers and exported files start every batch anew"
    )
    x = samples(SEQUENCE).batch(slice(0, 4))[0]
    model.eval()
    assert torch.equal(model(x), model(x))


def test_what_a_model_keeps_for_a_look_at_it_is_no_state(caplog: pytest.LogCaptureFixture) -> None:
    split(KeepsWhatItComputed, PICTURE)
    assert not caplog.records


class Named(Cnn):
    def forward(self, x: Tensor) -> Tensor:
        return OrderedDict(out=super().forward(x), aux=x)  # type: ignore[return-value]


def test_parts_of_an_output_are_named() -> None:
    with pytest.raises(PartitionError, match=r"returns a OrderedDict \(out, aux\) and not one tensor of logits"):
        split(Named, PICTURE)
