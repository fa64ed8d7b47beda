from collections import OrderedDict

import pytest
import torch
from torch import nn

from fedlp_edge.core.planning.prediction import training_memory
from fedlp_edge.core.settings import MemorySaving, ModelSettings, TrainingSettings
from fedlp_edge.errors import FreezeError
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.partition.partition import partition
from fedlp_edge.learning.profiling.step_trace import with_step_costs
from fedlp_edge.learning.training.loop import train_round
from fedlp_edge.learning.zoo.build import build_model


def layered() -> LayeredModel:
    """Three layers: ``stem`` with a norm, ``body`` with a norm that has no weights, ``neck``; and a classifier."""
    torch.manual_seed(0)
    blocks = OrderedDict(
        stem=nn.Sequential(OrderedDict(flat=nn.Flatten(), fc=nn.Linear(64, 8), bn=nn.BatchNorm1d(8))),
        body=nn.Sequential(OrderedDict(fc=nn.Linear(8, 8), bn=nn.BatchNorm1d(8, affine=False), relu=nn.ReLU())),
        neck=nn.Sequential(OrderedDict(fc=nn.Linear(8, 4), relu=nn.ReLU())),
        head=nn.Linear(4, 10),
    )
    return partition(nn.Sequential(blocks), torch.zeros(1, 1, 8, 8))


def constants(model: LayeredModel) -> set[str]:
    return {tensor.name for unit in model.units for tensor in unit.constants}


STEM = {f"L1.stem.{name}" for name in ("fc.weight", "fc.bias", "bn.weight", "bn.bias", "bn.running_mean")} | {
    "L1.stem.bn.running_var"
}


@pytest.mark.parametrize(
    ("pattern", "frozen"),
    [
        ("stem", STEM),
        ("L1", STEM),
        ("stem.*", STEM),
        ("st?m", STEM),
        ("stem.fc", {"L1.stem.fc.weight", "L1.stem.fc.bias"}),
        ("L1.stem.fc.weight", {"L1.stem.fc.weight"}),
        ("stem.bn.bias", {"L1.stem.bn.bias"}),  # its weight learns, so its statistics move
        ("body.bn", {"L2.body.bn.running_mean", "L2.body.bn.running_var"}),
        ("head.bias", {"H3.head.bias"}),  # of the user's model; the shallow heads have no such names
        ("H1", {"H1.linear.weight", "H1.linear.bias"}),
        ("H*.bias", {"H1.linear.bias", "H2.linear.bias", "H3.head.bias"}),
        ("*.fc.bias", {"L1.stem.fc.bias", "L2.body.fc.bias", "L3.neck.fc.bias"}),
        ("*.bias", {"L1.stem.fc.bias", "L1.stem.bn.bias", "L2.body.fc.bias", "L3.neck.fc.bias", "H3.head.bias"}),
    ],
)
def test_freezes_what_a_pattern_names(pattern: str, frozen: set[str]) -> None:
    model = layered()
    model.freeze(pattern)
    assert constants(model) == frozen
    assert model.blueprint().constants == frozen


def test_heads_that_the_users_model_lacks_go_by_their_unit_alone() -> None:
    with pytest.raises(FreezeError, match=r"no module or parameter of the model matches 'linear\.\*'"):
        layered().freeze("linear.*")


@pytest.mark.parametrize(
    ("pattern", "near"),
    [("stemm", "near: stem"), ("body.bm", "near: body.bn"), ("encoder.*", "its modules are stem, body, neck, head")],
)
def test_names_what_is_near_to_a_pattern_that_matches_nothing(pattern: str, near: str) -> None:
    with pytest.raises(FreezeError, match=near):
        layered().freeze("stem", pattern)


@pytest.mark.parametrize(
    ("patterns", "reason"),
    [
        (("*",), "with the whole model frozen, a device of depth 3 has nothing to train"),
        (("L*", "head"), "with the whole model frozen"),
        (("stem", "H1"), "with depth 1 frozen"),
    ],
)
def test_leaves_every_depth_something_to_train(patterns: tuple[str, ...], reason: str) -> None:
    with pytest.raises(FreezeError, match=reason):
        layered().freeze(*patterns)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_changes_nothing_that_is_frozen(checkpointing: bool) -> None:
    model = layered()
    model.freeze("stem", "body.bn")
    submodel = model.submodel(3)
    before = {name: value.clone() for name, value in submodel.state_dict().items()}
    settings = TrainingSettings(memory=MemorySaving(checkpointing=checkpointing))
    train_round(submodel, load_data("digits#limit=64"), settings, seed=1, device=torch.device("cpu"))
    still = {name for name, value in submodel.state_dict().items() if torch.equal(value, before[name])}
    frozen = constants(model) & set(before)
    assert {name for name in still if not name.endswith("num_batches_tracked")} == frozen
    assert all(parameter.grad is None for parameter in submodel.parameters())


def test_no_backward_pass_goes_through_what_is_frozen_below() -> None:
    model = layered()
    model.freeze("L1", "L2")
    submodel = model.submodel(3)
    submodel.checkpointing = True
    seen: list[bool] = []
    submodel.get_submodule("L3").register_forward_pre_hook(lambda _module, given: seen.append(given[0].requires_grad))
    submodel.train()(torch.zeros(2, 1, 8, 8)).sum().backward()
    assert seen[0] is False
    assert submodel.get_parameter("L3.neck.fc.weight").grad is not None


def test_costs_and_plans_know_what_is_frozen() -> None:
    settings = ModelSettings(name="small-cnn", input=(1, 28, 28))
    whole, frozen = (
        build_model(settings, seed=0),
        build_model(ModelSettings(input=settings.input, freeze=("stage1", "stage2", "stage3")), seed=0),
    )
    one, other = (with_step_costs(model, model.blueprint()) for model in (whole, frozen))
    assert [cost.forward_macs for cost in one.costs] == [cost.forward_macs for cost in other.costs]
    assert [unit.nbytes for unit in other.units[:3]] == [0, 0, 0]
    last, less = one.costs[-1], other.costs[-1]
    gone = sum(unit.parameters for unit in one.units[:3])
    assert last.parameters - less.parameters == gone
    assert less.activation_bytes < last.activation_bytes / 2
    assert training_memory(less, TrainingSettings()) < training_memory(last, TrainingSettings())
    assert last.step is not None
    assert less.step is not None
    assert less.step.macs < last.step.macs * 0.7
    # A frozen prefix alone: what a device of depth 3 trains is its head, and nothing is stored for the layers.
    assert other.costs[2].parameters == other.by_id["H3"].parameters


def test_freezing_changes_neither_the_split_nor_the_values() -> None:
    settings = ModelSettings(name="mlp", input=(1, 8, 8))
    whole, frozen = build_model(settings, 3), build_model(ModelSettings(name="mlp", input=(1, 8, 8), freeze=("L1",)), 3)
    assert [unit.id for unit in whole.units] == [unit.id for unit in frozen.units]
    pairs = zip(whole.state_dict().values(), frozen.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert whole.blueprint().digest != frozen.blueprint().digest


def test_a_model_scaled_by_width_is_not_frozen() -> None:
    with pytest.raises(ValueError, match="freeze"):
        ModelSettings(scaling="width", freeze=("L1",))
