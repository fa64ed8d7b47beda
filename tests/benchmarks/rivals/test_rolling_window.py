"""FedRolex: which channels a narrow device trains in which round."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.rivals.rolling_window import RollingModel, rolled_places
from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean
from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.settings import ModelSettings, SchemeSettings, ServerSettings, UpdateSettings
from fedlp_edge.learning.model.width import WidthModel
from fedlp_edge.learning.zoo.build import build_model

SETTINGS = ModelSettings(name="fedlp-cnn-narrow", input=(1, 8, 8), classes=3, scaling="width", width_ratios=(0.25, 1.0))
FIRST = "L1.conv1.weight"
"""Of eight channels, two of which the narrow level has."""


def rolling_model(server: ServerSettings) -> tuple[WidthModel, RollingModel]:
    built = build_model(SETTINGS, seed=1)
    assert isinstance(built, WidthModel)
    weights = {name: value.numpy().copy() for name, value in built.state_dict().items()}
    made = RollingModel(built.blueprint(), SchemeSettings(), server, weights, update=UpdateSettings(), seed=1)
    return built, made


def narrow_update(model: WidthModel, value: float) -> LayerwiseMean:
    blueprint = model.blueprint()
    mean = LayerwiseMean(1, blueprint.nested_shapes, blueprint.statistics)
    mean.add({t.name: np.full(t.shape, value, np.float32) for u in blueprint.widths[0] for t in u.tensors}, 1)
    return mean


def test_every_hidden_layer_rolls_by_one_channel_and_its_readers_with_it() -> None:
    chain = [
        TensorSpec("conv1", (4, 1, 3, 3)),
        TensorSpec("bias1", (4,)),
        TensorSpec("conv2", (6, 4, 3, 3)),
        TensorSpec("norm2", (6,)),
        TensorSpec("linear", (5, 24)),  # six channels of four pixels each
        TensorSpec("bias", (5,)),
        TensorSpec("classifier", (3, 5)),
        TensorSpec("classes", (3,)),
    ]
    assert rolled_places(chain, channels=1) == {
        "conv1": (1, 0),
        "bias1": (1,),
        "conv2": (1, 1),
        "norm2": (1,),
        "linear": (1, 4),
        "bias": (1,),
        "classifier": (0, 1),
        "classes": (0,),
    }


def test_the_window_rolls_on_until_every_channel_was_trained() -> None:
    built, model = rolling_model(ServerSettings())
    trained = []
    for round in range(1, 9):
        before = model.weights[FIRST]
        model.step(round, narrow_update(built, 0.5))
        # By the numbers that the channels had at the beginning.
        changed = (np.roll(model.weights[FIRST], 1, axis=0) != before).any(axis=(1, 2, 3))
        trained.append(sorted((np.flatnonzero(changed) + round - 1) % 8))
    assert trained == [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [6, 7], [0, 7]]


def test_rolling_changes_nothing_that_the_model_computes() -> None:
    built, model = rolling_model(ServerSettings(ema=0.5))
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = built.submodel(2).train()(x)
    for round in range(1, 4):
        model.step(round, narrow_update(built, 0.0))
    for weights in (model.weights, model.evaluated):
        built.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
        assert torch.allclose(built.submodel(2).train()(x), expected, atol=1e-5)
    assert not np.array_equal(model.weights[FIRST], np.roll(model.weights[FIRST], 1, axis=0))


def test_momentum_rolls_with_its_channels() -> None:
    built, model = rolling_model(ServerSettings(optimizer="momentum", momentum=0.5, lr=1.0))
    model.step(1, narrow_update(built, 1.0))

    def first(moments: dict[str, Array]) -> list[float]:
        return [float(value) for value in moments[FIRST][:, 0, 0, 0]]

    assert first(model.state.first_moments) == [1, 0, 0, 0, 0, 0, 0, 1]
    model.step(2, narrow_update(built, 1.0))
    # Channel 1 had 1 and gets another 1; channel 0, which is last now, is not sent and keeps its moment.
    assert first(model.state.first_moments) == [1, 0, 0, 0, 0, 0, 1, 1.5]
