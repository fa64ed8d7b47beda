from collections import OrderedDict

import pytest
import torch
from torch import nn

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.model.width import Scaler, WidthModel, narrowed_channels
from fedlp_edge.learning.partition.partition import partition
from fedlp_edge.learning.zoo.build import build_model


def chain() -> LayeredModel:
    """conv 1-2, batch norm, and linear 8-2 behind a flattening of 2x2 places; two layers and a classifier."""
    steps: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(1, 2, 1),
        norm=nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(2))),
        hidden=nn.Sequential(nn.Flatten(), nn.Linear(8, 2)),
        out=nn.Linear(2, 3),
    )
    return partition(nn.Sequential(steps), torch.zeros(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("channels", "ratio", "left"), [(8, 1.0, 8), (8, 0.5, 4), (8, 0.0625, 1), (30, 0.1, 3), (5, 0.5, 3)]
)
def test_channels_left_are_rounded_up(channels: int, ratio: float, left: int):
    assert narrowed_channels(channels, ratio) == left


def test_submodel_holds_the_leading_block_of_every_tensor():
    model = WidthModel(chain(), (0.5, 1.0))
    whole, half = model.state_dict(), model.submodel(1).state_dict()
    assert {name: list(value.shape) for name, value in half.items()} == {
        "L1.conv.weight": [1, 1, 1, 1],
        "L1.conv.bias": [1],
        "L2.norm.bn.weight": [1],
        "L2.norm.bn.bias": [1],
        "L3.hidden.1.weight": [1, 4],
        "L3.hidden.1.bias": [1],
        "H3.out.weight": [3, 1],
        "H3.out.bias": [3],
    }
    for name, value in half.items():
        assert torch.equal(value, whole[name][tuple(slice(side) for side in value.shape)])


def test_submodel_shares_no_memory_with_the_whole():
    model = WidthModel(chain(), (0.5, 1.0))
    before = model.state_dict()["L1.conv.weight"].clone()
    with torch.no_grad():
        model.submodel(1).get_parameter("L1.conv.weight").fill_(9.0)
    assert torch.equal(model.state_dict()["L1.conv.weight"], before)


def test_submodel_divides_what_its_layers_give_by_the_ratio():
    """All but the classifier; the whole width scales nothing."""
    model = WidthModel(chain(), (0.5, 1.0))
    kinds = [type(module).__name__ for module in model.submodel(1).modules() if not list(module.children())]
    assert kinds == ["Conv2d", "Scaler", "BatchNorm2d", "Flatten", "Linear", "Scaler", "Linear"]
    assert not any(isinstance(module, Scaler) for module in model.submodel(2).modules())
    assert Scaler(0.5)(torch.tensor([3.0])).tolist() == [6.0]


def test_whole_width_computes_what_the_model_computes():
    layered = chain()
    model = WidthModel(layered, (0.5, 1.0))
    x = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.submodel(2).train()(x), layered.train()(x))


def test_training_tracks_no_statistics():
    model = WidthModel(chain(), (1.0,))
    assert not list(model.buffers())
    assert not list(model.submodel(1).buffers())


def test_measure_averages_the_statistics_of_all_batches():
    """Static BatchNorm: mean 2 and variance 3 of two batches of one feature, by hand."""
    steps = OrderedDict(fc=nn.Linear(1, 1), bn=nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(1))), out=nn.Linear(1, 2))
    model = WidthModel(partition(nn.Sequential(steps), torch.zeros(1, 1)), (1.0,))
    with torch.no_grad():
        for name, value in (("L1.fc.weight", 1.0), ("L1.fc.bias", 0.0), ("H2.out.weight", 1.0), ("H2.out.bias", 0.0)):
            model.get_parameter(name).fill_(value)
    # Means 1 and 3; unbiased variances 2 and 4.
    model.measure([torch.tensor([[0.0], [2.0]]), torch.tensor([[3 - 2**0.5], [3 + 2**0.5]])])
    assert model(torch.tensor([[2.0], [5.0]]))[:, 0].tolist() == pytest.approx([0.0, 3**0.5], abs=1e-4)
    assert model.exits(torch.tensor([[2.0]]))[0][:, 0].item() == pytest.approx(0.0, abs=1e-6)


def test_evaluation_needs_measured_statistics():
    with pytest.raises(RuntimeError, match="measure"):
        WidthModel(chain())(torch.zeros(1, 1, 2, 2))


def test_blueprint_tells_the_narrow_shapes_and_costs():
    blueprint = WidthModel(chain(), (0.5, 1.0)).blueprint("chain")
    assert blueprint.depths == range(1, 3)
    assert [unit.id for unit in blueprint.global_units] == ["L1", "L2", "L3", "H3"]
    assert [sum(unit.parameters for unit in blueprint.exchanged_by(level)) for level in (1, 2)] == [2 + 2 + 5 + 6, 35]
    assert [cost.parameters for cost in blueprint.costs] == [15, 35]
    # Convolution on 2x2 places, hidden layer, classifier.
    assert [cost.forward_macs for cost in blueprint.costs] == [4 * 1 + 4 * 1 + 3 * 1, 4 * 2 + 8 * 2 + 3 * 2]
    assert blueprint.digest != WidthModel(chain(), (1.0,)).blueprint("chain").digest


@pytest.mark.parametrize("name", ["fedlp-cnn", "fedlp-cnn-narrow", "small-cnn", "mlp"])
def test_built_in_models_can_be_narrowed(name: str):
    model = WidthModel(build_model(ModelSettings(name=name), seed=1))
    x = torch.zeros(2, 1, 28, 28)
    assert [list(model.submodel(level)(x).shape) for level in model.depths] == [[2, 10]] * 5


def test_width_model_refuses_what_is_no_chain():
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    steps = nn.Sequential(nn.Linear(4, 4), Gate(), nn.Linear(4, 2))
    with pytest.raises(PartitionError, match="Gate cannot be narrowed"):
        WidthModel(partition(steps, torch.zeros(1, 4)), (0.5, 1.0))


@pytest.mark.parametrize("ratios", [(), (0.5,), (1.0, 0.5), (0.0, 1.0), (0.5, 0.5, 1.0), (0.5, 2.0)])
def test_width_model_refuses_ratios_that_do_not_rise_to_one(ratios: tuple[float, ...]):
    with pytest.raises(PartitionError, match="must rise to 1"):
        WidthModel(chain(), ratios)
