"""What `fedlp_edge.partition` promises, on models that fit on a page."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedlp_edge import PartitionError, partition
from tests.learning.sample_models import Residual, UsersNet, step

INPUT = torch.zeros(1, 1, 8, 8)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_names_layers_after_the_models_own_modules() -> None:
    layered = partition(UsersNet(), INPUT)
    assert [(unit.id, unit.name) for unit in layered.units] == [
        ("L1", "stem"),
        ("L2", "blocks.0"),
        ("L3", "blocks.1"),
        ("L4", "blocks.2"),
        ("H1", "exit 1"),
        ("H2", "exit 2"),
        ("H3", "exit 3"),
        ("H4", "fc"),
    ]
    assert layered.layer_units[1].state_names == (
        "L2.blocks.0.conv.weight",
        "L2.blocks.0.conv.bias",
        "L2.blocks.0.bn.weight",
        "L2.blocks.0.bn.bias",
        "L2.blocks.0.bn.running_mean",
        "L2.blocks.0.bn.running_var",
    )
    assert layered.layer_units[1].parameters == 8 * 8 * 9 + 8 + 8 + 8
    assert layered.depths == range(1, 5)


def test_computes_what_the_users_model_computes(images: torch.Tensor) -> None:
    model = UsersNet().eval()
    layered = partition(model, INPUT)
    assert torch.equal(layered(images), model(images))
    assert layered.get_submodule("H4.fc") is model.fc


def test_gives_every_exit_in_one_pass(images: torch.Tensor) -> None:
    layered = partition(UsersNet().eval(), INPUT)
    for depth, logits in zip(layered.depths, layered.exits(images), strict=True):
        assert logits.shape == (3, 5)
        assert torch.equal(logits, layered(images, depth=depth))


def test_refuses_a_depth_that_does_not_exist(images: torch.Tensor) -> None:
    layered = partition(UsersNet(), INPUT)
    for depth in (0, 5, -1):
        with pytest.raises(ValueError, match="between 1 and 4"):
            layered(images, depth=depth)
        with pytest.raises(ValueError, match="between 1 and 4"):
            layered.submodel(depth)


def test_trains_a_submodel_of_every_depth_apart_from_the_whole(images: torch.Tensor) -> None:
    layered = partition(UsersNet(), INPUT)
    before = {name: value.clone() for name, value in layered.state_dict().items()}
    for depth in layered.depths:
        submodel = layered.submodel(depth)
        assert submodel.state_dict().keys() == {
            name for name in before if name.split(".")[0] in {f"L{n}" for n in range(1, depth + 1)} | {f"H{depth}"}
        }
        submodel.eval()
        layered.eval()
        assert torch.equal(submodel(images), layered(images, depth=depth))
        assert step(submodel, images, torch.tensor([0, 1, 2])) > 0
        assert not torch.equal(submodel.state_dict()["L1.stem.weight"], before["L1.stem.weight"])
    assert all(torch.equal(value, before[name]) for name, value in layered.state_dict().items())


def test_keeps_a_functional_dropout_that_depends_on_the_mode(images: torch.Tensor) -> None:
    layered = partition(UsersNet(), INPUT)
    layered.eval()
    assert torch.equal(layered(images), layered(images))
    layered.train()
    assert not torch.equal(layered(images), layered(images))
    assert not torch.equal(layered.submodel(4)(images), layered.submodel(4)(images))


def test_leaves_the_users_model_and_the_random_numbers_alone(images: torch.Tensor) -> None:
    model = UsersNet()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    random = torch.random.get_rng_state()
    layered = partition(model, INPUT, num_classes=7)
    layered.blueprint()
    assert torch.equal(torch.random.get_rng_state(), random)
    step(layered.submodel(4), images, torch.tensor([0, 1, 6]))
    assert [module.training for module in model.modules()] == modes
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model.fc.out_features == 5


def test_draws_the_same_heads_from_the_same_seed_without_moving_random_numbers() -> None:
    model = UsersNet()
    random = torch.random.get_rng_state()
    one, same, other = (partition(model, INPUT, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), random)
    assert torch.equal(one["H1.linear.weight"], same["H1.linear.weight"])
    assert not torch.equal(one["H1.linear.weight"], other["H1.linear.weight"])


def test_replaces_the_classifier_for_another_number_of_classes(images: torch.Tensor) -> None:
    layered = partition(UsersNet(), INPUT, num_classes=7)
    assert [logits.shape for logits in layered.exits(images)] == [(3, 7)] * 4
    assert layered.blueprint().classes == 7


def test_loads_the_trained_state_back_into_the_users_model(images: torch.Tensor) -> None:
    layered = partition(UsersNet(), INPUT)
    trained = layered.submodel(4)
    step(trained, images, torch.tensor([0, 1, 2]))
    layered.load_state_dict(trained.state_dict(), strict=False)
    fresh = UsersNet()
    fresh.load_state_dict(layered.original_state_dict())
    assert torch.equal(fresh.eval()(images), trained.eval()(images))


def test_describes_costs_that_grow_with_the_depth() -> None:
    blueprint = partition(UsersNet(), INPUT, head_mode="personal").blueprint("mine:net")
    assert (blueprint.model, blueprint.input_shape, blueprint.classes) == ("mine:net", (1, 8, 8), 5)
    assert [unit.id for unit in blueprint.global_units] == ["L1", "L2", "L3", "L4", "H4"]
    macs = [cost.forward_macs for cost in blueprint.costs]
    assert macs == sorted(macs)
    assert blueprint.costs[3].forward_macs == 64 * (9 * 8 + 3 * 9 * 8 * 8) + 8 * 5
    assert blueprint.costs[3].parameters == sum(p.numel() for p in UsersNet().parameters())


def test_limits_the_number_of_depths() -> None:
    model = UsersNet(blocks=12)
    assert len(partition(model, INPUT).depths) == 8
    assert len(partition(model, INPUT, depths=3).depths) == 3
    assert len(partition(model, INPUT, depths=100).depths) == 13


def test_splits_the_same_in_every_process() -> None:
    program = (
        "import torch; from fedlp_edge import partition; from tests.learning.sample_models import UsersNet;"
        "print(partition(UsersNet(12), torch.zeros(1, 1, 8, 8)).blueprint().digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {partition(UsersNet(12), INPUT).blueprint().digest}


def test_takes_every_block_of_a_sequence_as_a_layer(images: torch.Tensor) -> None:
    model = nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(1, 4, 3), nn.ReLU(), Residual(4), nn.Flatten(), nn.Linear(784, 3)
    ).eval()
    layered = partition(model, INPUT)
    assert [unit.name for unit in layered.layer_units] == ["1", "3"]
    assert layered.layer_units[0].state_names == ("L1.1.weight", "L1.1.bias")
    assert torch.equal(layered(images), model(images))
    assert layered.original_state_dict().keys() == model.state_dict().keys()


def test_takes_a_list_of_blocks_that_cannot_be_traced(images: torch.Tensor) -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x) if x.sum().item() > 0 else -self.fc(x)

    blocks = [nn.Sequential(nn.Flatten(), nn.Linear(64, 6)), Moody(), Moody(), nn.Linear(6, 2)]
    layered = partition(blocks, INPUT)
    assert len(layered.depths) == 3
    assert torch.equal(layered(images), nn.Sequential(*blocks)(images))


def test_joins_explicit_blocks_only_when_asked() -> None:
    blocks = [nn.Flatten(), *(nn.Linear(64, 64) for _ in range(12)), nn.Linear(64, 2)]
    assert len(partition(blocks, INPUT).depths) == 12
    assert len(partition(blocks, INPUT, depths=4).depths) == 4


def test_keeps_blocks_that_share_weights_in_one_layer(images: torch.Tensor) -> None:
    shared = nn.Linear(64, 64)
    blocks = [nn.Flatten(), nn.Linear(64, 64), shared, nn.ReLU(), shared, nn.Linear(64, 64), nn.Linear(64, 2)]
    layered = partition(blocks, INPUT)
    assert [unit.state_names for unit in layered.layer_units] == [
        ("L1.1.weight", "L1.1.bias"),
        ("L2.2.weight", "L2.2.bias"),
        ("L3.5.weight", "L3.5.bias"),
    ]
    assert torch.equal(layered(images), nn.Sequential(*blocks)(images))


def test_keeps_a_submodule_whole_that_cannot_be_traced(images: torch.Tensor) -> None:
    class Moody(Residual):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if x.sum().item() > 0 else x

    model = UsersNet().eval()
    model.blocks[1] = Moody(8).eval()
    layered = partition(model, INPUT)
    assert len(layered.depths) == 4
    assert torch.equal(layered(images), model(images))
    assert torch.equal(layered(-images), model(-images))


def test_keeps_a_submodule_whole_that_is_built_differently_in_training(images: torch.Tensor) -> None:
    class Noisy(Residual):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                x = x + torch.ones_like(x)
            return super().forward(x)

    model = UsersNet()
    model.blocks[1] = Noisy(8)
    layered = partition(copy.deepcopy(model), INPUT)
    expected = model.blocks[1](model.blocks[0](functional.relu(model.stem(images))))
    layered.train()
    assert torch.equal(layered.activations(images, 3), expected)


def test_leaves_out_auxiliary_outputs_of_training(images: torch.Tensor) -> None:
    class WithAuxiliary(UsersNet):
        def __init__(self) -> None:
            super().__init__()
            self.auxiliary = nn.Linear(8, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
            middle = self.blocks[0](self.stem(x))
            logits = self.fc(self.blocks[1](middle).mean((2, 3)))
            return (logits, self.auxiliary(middle.mean((2, 3)))) if self.training else logits

    model = WithAuxiliary()
    layered = partition(model, INPUT)
    layered.train()
    assert layered(images).shape == (3, 5)
    assert not any("auxiliary" in name for name in layered.state_dict())
    missing = model.load_state_dict(layered.original_state_dict(), strict=False).missing_keys
    assert {name.split(".")[0] for name in missing} == {"blocks", "auxiliary"}
    assert all(name.startswith(("blocks.2.", "auxiliary.")) for name in missing)


def test_keeps_optional_inputs_at_their_defaults(images: torch.Tensor) -> None:
    class Optional(UsersNet):
        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, scale: float = 2.0) -> torch.Tensor:
            if mask is not None:
                x = x * mask
            return super().forward(x * scale)

    model = Optional().eval()
    assert torch.equal(partition(model, INPUT)(images), model(images))


def test_does_not_exchange_integer_state_or_constants() -> None:
    class WithConstants(UsersNet):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("gain", torch.ones(8, 1, 1), persistent=False)
            self.register_buffer("shift", torch.zeros(8, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.blocks[0](self.stem(x) * self.gain + self.shift) + torch.tensor(1.0)
            return self.fc(self.blocks[1](x).mean((2, 3)))

    model = WithConstants()
    layered = partition(model, INPUT)
    names = {name for unit in layered.units for name in unit.state_names}
    assert "L1.shift" not in {tensor.name for tensor in layered.layer_units[0].tensors}
    assert {tensor.name: tensor.kind for tensor in layered.layer_units[0].constants} == {"L1.shift": "constant"}
    assert not any(part in name for name in layered.state_dict() for part in ("gain", "constant"))
    assert not any("num_batches_tracked" in name for name in names)
    assert not hasattr(model, "_tensor_constant0")


def test_counts_tied_weights_of_one_layer_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.two.weight = self.one.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(x))

    layered = partition([Tied(), nn.Linear(4, 2)], torch.zeros(1, 4))
    assert layered.layer_units[0].state_names == ("L1.0.one.weight", "L1.0.one.bias", "L1.0.two.bias")


class DataDependent(UsersNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum().item() > 0 else super().forward(-x)


class ModeDependent(UsersNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + torch.ones_like(x) if self.training else x)


class TwoInputs(UsersNet):
    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return super().forward(x + other)


class Pair(UsersNet):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        return super().forward(x), x


class Mapped(UsersNet):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return {"out": super().forward(x)}


@dataclass
class Answer:
    """What a model of a user's returns."""

    prediction: torch.Tensor


class Named(UsersNet):
    def forward(self, x: torch.Tensor) -> Answer:  # type: ignore[override]
        return Answer(super().forward(x))


class NoLogits(UsersNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[1](self.blocks[0](self.stem(x)))


class TiedEnds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ends, self.middle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ends(self.middle(self.ends(x)))


class SkipsEverything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.side = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side = self.side(x)
        return self.two(self.one(x)) + side


class Locked(UsersNet):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Picks(UsersNet):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x[x.mean(dim=(1, 2, 3)) <= 10])


class TimeFirst(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1)


class Half(UsersNet):
    def __init__(self) -> None:
        super().__init__()
        self.fc.half()


@pytest.mark.parametrize(
    ("model", "example", "reason"),
    [
        (DataDependent(), INPUT, r"decides by the values of tensors \(test_partition\.py, line \d+\); move that into"),
        (ModeDependent(), INPUT, r"ModeDependent itself computes something else in training"),
        (TwoInputs(), INPUT, r"several inputs \(x, other\)"),
        (Pair(), INPUT, r"returns a tuple and not one tensor of logits"),
        (NoLogits(), INPUT, r"gives \[2, 8, 8, 8\] for a batch of 2, not logits"),
        (TiedEnds(), torch.zeros(1, 4), r"the same weights at both ends \(ends\.weight\)"),
        (SkipsEverything(), torch.zeros(1, 4), r"no place where a single feature .*model_side \(in side\)"),
        (nn.ReLU(), torch.zeros(1, 4), r"ReLU is a single layer"),
        (Locked(), INPUT, r"Locked cannot be copied.*keep locks"),
        (Picks(), INPUT, r"decides by the values of tensors"),
        (
            nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2)),
            torch.zeros(1, 4),
            r"weight is not known yet; call the model once",
        ),
        (
            [nn.Linear(4, 4), TimeFirst(), nn.Linear(4, 4), TimeFirst(), nn.Flatten(), nn.Linear(12, 2)],
            torch.zeros(1, 3, 4),
            r"layer 1 gives a feature without the samples in its first dimension",
        ),
        (Half(), INPUT, r"fc.weight is float16.*call model.float\(\) first"),
        (UsersNet(), torch.zeros(1, 3, 8, 8), r"UsersNet does not run on an input of 3x8x8"),
        ([nn.Flatten(), nn.Sequential(nn.Linear(64, 4), nn.Linear(4, 2))], INPUT, r"at least two must have parameters"),
        (nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), INPUT, r"block 0 does not run on an input of 1x8x8"),
        ([nn.Linear(4, 4), nn.LSTM(4, 4), nn.Linear(4, 2)], torch.zeros(1, 4), r"block 1 gives a tuple"),
        ([nn.Linear(4, 4), torch.relu], torch.zeros(1, 4), r"a block must be an nn.Module, not a builtin"),
        ("resnet18", INPUT, r"a model is an nn.Module or a list of them, not a str"),
        (UsersNet(), torch.zeros(8), r"example_input must be a tensor with a batch dimension"),
    ],
)
def test_says_why_a_model_cannot_be_split(model: nn.Module, example: torch.Tensor, reason: str) -> None:
    with pytest.raises(PartitionError, match=reason) as caught:
        partition(model, example)
    assert "\n" not in str(caught.value)


def test_says_which_argument_is_wrong() -> None:
    with pytest.raises(PartitionError, match="cannot have 0 depths"):
        partition(UsersNet(), INPUT, depths=0)
    with pytest.raises(PartitionError, match="head_mode is shared or personal"):
        partition(UsersNet(), INPUT, head_mode="private")  # type: ignore[arg-type]
    with pytest.raises(PartitionError, match="build the model with 9 classes"):
        partition([nn.Linear(4, 4), _Custom()], torch.zeros(1, 4), num_classes=9)


class _Custom(nn.Module):
    """A classifier without a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def test_submodel_gives_all_the_exits_that_it_holds(images: torch.Tensor) -> None:
    layered = partition(UsersNet().eval(), INPUT)
    submodel = layered.submodel(3, exits="all")
    assert [name for name, _ in submodel.named_children()] == ["L1", "L2", "L3", "H1", "H2", "H3"]
    for mine, whole in zip(submodel.exits(images), layered.exits(images)[:3], strict=True):
        assert torch.equal(mine, whole)
    assert torch.equal(submodel(images), layered(images, depth=3))


def test_submodel_with_its_own_head_has_one_exit(images: torch.Tensor) -> None:
    submodel = partition(UsersNet().eval(), INPUT).submodel(3)
    (logits,) = submodel.exits(images)
    assert torch.equal(logits, submodel(images))


def test_costs_count_all_the_heads_that_a_depth_holds() -> None:
    layered = partition(UsersNet(), INPUT)
    own = layered.blueprint()
    layered.exit_mode = "all"
    held = layered.blueprint()
    heads = [unit.parameters for unit in layered.head_units]
    for depth in layered.depths:
        one, many = own.costs[depth - 1], held.costs[depth - 1]
        assert many.parameters == one.parameters + sum(heads[: depth - 1])
        assert many.parameters == sum(p.numel() for p in layered.submodel(depth).parameters())
        assert (many.forward_macs > one.forward_macs) == (depth > 1)
        assert many.activation_bytes >= one.activation_bytes


def test_block_that_writes_into_its_input_leaves_the_exit_before_it_its_feature() -> None:
    blocks = [nn.Linear(4, 4), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)), nn.Linear(4, 2)]
    part = partition(blocks, torch.zeros(1, 4)).submodel(2, "all")
    sum(exit.sum() for exit in part.exits(torch.rand(3, 4))).backward()
    assert all(value.grad is not None for value in part.parameters())


def test_long_sequence_has_as_many_layers_as_small_machines_measure_and_a_list_all_that_it_says() -> None:
    blocks = [nn.Linear(2, 2) for _ in range(41)]
    example = torch.zeros(1, 2)
    assert len(partition(nn.Sequential(*blocks), example).depths) == 32
    assert len(partition(blocks, example).depths) == 40
    assert len(partition(nn.Sequential(*blocks), example, depths=40).depths) == 40


@pytest.mark.parametrize("kind", [Mapped, Named])
def test_an_output_of_nothing_but_the_logits_may_call_them_as_it_likes(
    kind: type[UsersNet], images: torch.Tensor
) -> None:
    torch.manual_seed(0)
    model = kind().eval()
    assert torch.equal(partition(model, INPUT).eval()(images), UsersNet.forward(model, images))


class Bounded(nn.Linear):
    """Bounds its weights in each forward, as layers of networks for EEG do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.weight.data = self.weight.data.clamp(-0.1, 0.1)
        return super().forward(x)


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = Bounded(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.one(x).relu())  # type: ignore[no-any-return]


class BoundsAnother(nn.Module):
    """Bounds the weights of a layer in the forward of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.one.weight.data = self.one.weight.data.clamp(-0.1, 0.1)
        return self.out(self.one(x).relu())  # type: ignore[no-any-return]


def test_new_data_of_weights_in_the_outermost_forward_are_refused_with_their_line() -> None:
    with pytest.raises(PartitionError, match=r"its forward assigns to the data of a tensor \(test_partition\.py, line"):
        partition(BoundsAnother(), torch.zeros(1, 4))


@pytest.mark.parametrize("model", [Nested(), [BoundsAnother()]])
def test_weights_that_a_forward_bounds_are_bounded_in_the_copy_of_a_device(model: nn.Module | list[nn.Module]) -> None:
    submodel = partition(model, torch.zeros(1, 4)).submodel(1)
    [weight] = [value for name, value in submodel.named_parameters() if name.endswith("one.weight")]
    with torch.no_grad():
        weight.fill_(7)
    submodel(torch.ones(2, 4))
    assert weight.unique().tolist() == pytest.approx([0.1])


@pytest.mark.parametrize("tracked", [True, False])
def test_a_norm_without_running_statistics_is_named_since_answers_depend_on_the_batch(
    tracked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    norm = nn.BatchNorm2d(2, track_running_stats=tracked)
    partition(nn.Sequential(nn.Conv2d(1, 2, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)), INPUT)
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in said] == ([] if tracked else ['"1" with track_running_stats=False'])
