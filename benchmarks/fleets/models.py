"""The two models of the transport benchmarks, by size: what is in them does not matter, how much of it does.

``small`` is the network that simulations are compared with, 421,642 parameters; ``big`` is a ResNet-18 for small
pictures, 11,173,962 parameters and 9,600 running statistics, which are exchanged as well. torch is imported only to
build one, so that benchmarks and their stand-in devices do not load it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import WorkerError
from fedlp_edge.worker.jobs import Build, Built, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

if TYPE_CHECKING:
    from torch import nn


class Model(NamedTuple):
    """A model to move about; with personal heads its full depth is exactly the network, without early exits."""

    settings: ModelSettings
    parameters: int


def cnn() -> nn.Module:
    """Two convolutions and two linear layers for grey pictures of 28x28."""
    from torch import nn  # noqa: PLC0415

    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Flatten(), nn.Linear(3136, 128), nn.ReLU()),
        nn.Linear(128, 10),
    )


def resnet18() -> nn.Module:
    """torchvision's ResNet-18 with a first convolution of 3x3, as is usual for pictures of 32x32."""
    from torch import nn  # noqa: PLC0415
    from torchvision.models import resnet18 as build  # noqa: PLC0415

    model: nn.Module = build(weights=None, num_classes=10)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    return model


def _settings(builder: str, shape: tuple[int, ...]) -> ModelSettings:
    return ModelSettings(name=f"benchmarks.fleets.models:{builder}", input=shape, classes=10, head_mode="personal")


MODELS = {
    "small": Model(_settings("cnn", (1, 28, 28)), 421_642),
    "big": Model(_settings("resnet18", (3, 32, 32)), 11_173_962),
}


def blueprint(model: Model) -> Blueprint:
    """The model as data, built and split once in a worker process.

    Raises:
        WorkerError: it cannot be built.
    """
    with WorkerProcess(WorkerOptions(allow_models=(model.settings.name,))) as worker:
        built = worker.call(Build(model=model.settings), timeout=300.0)
    if not isinstance(built, Built) or built.blueprint.costs[-1].parameters != model.parameters:
        raise WorkerError(f"{model.settings.name} does not have {model.parameters} parameters")
    return built.blueprint
