"""A model as stages, each from one tensor to one tensor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fedlp_edge import partition
from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.partition.stages import Stage, stages_of_blocks, stages_of_graph

X = torch.arange(6.0).reshape(2, 3)


def through(stages: list[Stage]) -> Tensor:
    value = X
    for stage in stages:
        value = stage.module(value)
    return value


def sharing() -> list[tuple[str, nn.Module]]:
    """Blocks of which the first and the third have the same weights."""
    first = nn.Linear(3, 3)
    return [("a", first), ("b", nn.Linear(3, 3)), ("c", first), ("d", nn.Linear(3, 3)), ("e", nn.Linear(3, 2))]


class Residual(nn.Module):
    """Two residual additions and a classifier, without a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.classifier = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.one(x).relu()
        x = x + self.two(x).relu()
        return self.classifier(x)


def test_block_without_weights_belongs_to_the_layer_before_it() -> None:
    blocks = [("a", nn.Linear(3, 4)), ("b", nn.ReLU()), ("c", nn.Linear(4, 4)), ("d", nn.Linear(4, 2))]
    stages = stages_of_blocks(blocks, X, most=None)
    assert [stage.holders for stage in stages] == [("a",), ("c",), ("d",)]
    assert list(stages[0].module.state_dict()) == ["a.weight", "a.bias"]
    assert torch.equal(through(stages), nn.Sequential(*[block for _, block in blocks])(X))


def test_blocks_before_the_first_weights_belong_to_the_first_layer() -> None:
    blocks = [("flatten", nn.Flatten()), ("a", nn.Linear(3, 4)), ("b", nn.Linear(4, 2))]
    assert [stage.holders for stage in stages_of_blocks(blocks, X, most=None)] == [("a",), ("b",)]


def test_blocks_that_share_weights_are_one_layer_with_all_between() -> None:
    assert [stage.holders for stage in stages_of_blocks(sharing(), X, most=None)] == [("a", "b", "c"), ("d",), ("e",)]


def test_layers_are_joined_until_there_are_no_more_than_wanted() -> None:
    blocks = [(f"{number}", nn.Linear(3, 3)) for number in range(4)] + [("classifier", nn.Linear(3, 2))]
    assert [s.holders for s in stages_of_blocks(blocks, X, most=2)] == [("0", "1"), ("2", "3"), ("classifier",)]


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(PartitionError) as caught:
        stages_of_blocks([("a", nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))), ("b", nn.ReLU())], X, most=None)
    assert str(caught.value) == (
        "of the 2 blocks too few can be told apart: at least two must have parameters of their own, "
        "one layer and the classifier (here 1; all others have none); "
        "a list of one block that holds them all is learned whole, with one depth"
    )
    with pytest.raises(PartitionError, match=r"^block b does not run on an input of 3: "):
        stages_of_blocks([("a", nn.Linear(3, 4)), ("b", nn.Linear(3, 2))], X, most=None)


def test_graph_is_cut_where_one_feature_is_passed_on() -> None:
    model = Residual().eval()
    stages = stages_of_graph(model, X, most=None)
    assert [stage.holders for stage in stages] == [("one",), ("two",), ("classifier",)]
    assert list(stages[1].module.state_dict()) == ["two.weight", "two.bias"]
    assert torch.allclose(through(stages), model(X))
    assert stages[0].module.get_submodule("one").weight is model.one.weight


class OneProduct(nn.Module):
    """Multiplies with weights of its own, twice in one call."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Parameter(torch.eye(3)), nn.Parameter(torch.ones(3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.multi_dot([x, self.one, self.two])


def test_model_with_weights_in_one_part_alone_is_learned_whole() -> None:
    model = nn.Sequential(nn.Flatten(), OneProduct(), nn.Sigmoid()).eval()
    stages = stages_of_graph(model, X, most=None)
    assert [len(list(stage.module.parameters())) for stage in stages] == [0, 2]
    assert list(stages[1].module.state_dict()) == ["1.one", "1.two"]
    assert torch.allclose(through(stages), model(X))


def test_a_block_that_is_alone_is_learned_whole() -> None:
    block = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    stages = stages_of_blocks([("0", block)], X, most=None)
    assert [stage.holders for stage in stages] == [("input",), ("0",)]
    assert torch.equal(through(stages), block(X))
    with pytest.raises(PartitionError, match="others have none"):
        stages_of_blocks([("0", nn.ReLU())], X, most=None)


class Regression(nn.Module):
    """A linear model, with inputs on a common scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.linear = nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.scale(x))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Linear(3, 2), ["weight", "bias"]),
        (nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(3, 2)), ["2.weight", "2.bias"]),
        (Regression(), None),
    ],
)
def test_model_of_a_single_layer_has_one_depth_and_all_of_it_is_the_classifier(
    model: nn.Module, names: list[str] | None
) -> None:
    layered = partition(model, X, num_classes=2)
    assert [(unit.id, unit.parameters > 0) for unit in layered.units] == [("L1", False), ("H1", True)]
    state = layered.original_state_dict()
    assert list(state) == names or list(state) == list(model.state_dict())
    assert torch.equal(layered.eval()(X), model.eval()(X))
    assert partition(model, X, num_classes=4)(X).shape == (len(X), 4)
