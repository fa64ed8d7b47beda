from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.start_weights import StartWeights, StartWeightsReport
from fedlp_edge.errors import StartWeightsError
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.partition.partition import partition
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.learning.zoo.weight_loading import start_from

SETTINGS = ModelSettings(name="own", input=(4,))


def network(classes: int = 3) -> nn.Sequential:
    """Four blocks and a classifier of user-given names."""
    blocks: list[tuple[str, nn.Module]] = [
        (f"b{number}", nn.Sequential(OrderedDict(fc=nn.Linear(4, 4), relu=nn.ReLU()))) for number in range(1, 5)
    ]
    blocks[1] = ("b2", nn.Sequential(OrderedDict(fc=nn.Linear(4, 4), bn=nn.BatchNorm1d(4))))
    return nn.Sequential(OrderedDict([*blocks, ("head", nn.Linear(4, classes))]))


def layered(classes: int = 3, depths: int | None = None, seed: int = 0) -> LayeredModel:
    torch.manual_seed(seed)
    return partition(network(classes), torch.zeros(1, 4), depths=depths, seed=seed)


def started(
    model: LayeredModel, tensors: dict[str, Tensor], directory: Path, *, reset_heads: bool = False
) -> StartWeightsReport:
    torch.save(tensors, directory / "w.pt")
    return start_from(model, SETTINGS, StartWeights("w.pt", str(directory / "w.pt"), reset_heads=reset_heads))


def checkpoint(model: LayeredModel) -> dict[str, Tensor]:
    """What a run keeps: the floating-point tensors under their layered names."""
    return {name: value.clone() for name, value in model.state_dict().items() if value.is_floating_point()}


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod.", "backbone.net."])
def test_takes_the_users_names_with_any_prefix(tmp_path: Path, prefix: str) -> None:
    torch.manual_seed(1)
    theirs, model = network(), layered()
    tensors = {prefix + name: value for name, value in theirs.state_dict().items()} | {"loss.weight": torch.ones(2)}
    report = started(model, tensors, tmp_path)
    taken = model.original_state_dict()
    assert all(torch.equal(taken[n], v) for n, v in theirs.state_dict().items() if v.is_floating_point())
    assert set(report.taken) == {n for n, v in theirs.state_dict().items() if v.is_floating_point()}
    assert set(report.anew) == {f"H{depth}.linear.{kind}" for depth in (1, 2, 3) for kind in ("weight", "bias")}
    assert report.left_out == ("loss.weight",)
    assert report.parameters == 4 * 20 + 16 + 15
    assert report.of == report.parameters + 3 * 15


@pytest.mark.parametrize("wrapper", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_takes_names_that_wrappers_stand_in_the_middle_of(tmp_path: Path, wrapper: str) -> None:
    torch.manual_seed(1)
    theirs, model = network().state_dict(), layered()
    report = started(model, {n.replace("b3.", f"b3.{wrapper}."): v for n, v in theirs.items()}, tmp_path)
    assert torch.equal(model.original_state_dict()["b3.fc.weight"], theirs["b3.fc.weight"])
    assert report.left_out == ()


@pytest.mark.parametrize(
    ("ours", "older"),
    [
        (("b2.bn.weight", "b2.bn.bias"), ("b2.bn.gamma", "b2.bn.beta")),  # of files that came from TensorFlow
        (
            tuple(f"b3.fc.parametrizations.weight.original{number}" for number in (0, 1)),
            ("b3.fc.weight_g", "b3.fc.weight_v"),
        ),
    ],
)
def test_takes_names_of_older_versions(tmp_path: Path, ours: tuple[str, str], older: tuple[str, str]) -> None:
    torch.manual_seed(1)
    theirs, own = network(), network()
    for model in (theirs, own):
        weight_norm(model.get_submodule("b3.fc"))
    state = theirs.state_dict()
    renamed = dict(zip(ours, older, strict=True))
    split = partition(own, torch.zeros(1, 4))
    report = started(split, {renamed.get(name, name): value for name, value in state.items()}, tmp_path)
    assert all(torch.equal(split.original_state_dict()[name], state[name]) for name in ours)
    assert report.left_out == ()


class _LayerScale(nn.Module):
    """A module whose weight and gamma are two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.gamma = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.gamma


def test_a_tensor_is_taken_once(tmp_path: Path) -> None:
    model = partition(nn.Sequential(OrderedDict(scale=_LayerScale(), head=nn.Linear(4, 3))), torch.zeros(1, 4))
    report = started(model, {"scale.gamma": torch.ones(4), "head.bias": torch.ones(3)}, tmp_path)
    assert report.taken == ("scale.gamma", "head.bias")
    assert report.anew["scale.weight"] == "not in the file"


def test_finds_a_bare_state_for_a_model_that_wraps_it(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = network()
    wrapped = partition(nn.Sequential(OrderedDict(net=nn.Identity(), **network()._modules)), torch.zeros(1, 4))
    assert len(started(wrapped, theirs.state_dict(), tmp_path).taken) == 14

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.inner(x)
            return logits

    model = partition(Wrapper(), torch.zeros(1, 4))
    report = started(model, theirs.state_dict(), tmp_path)
    assert len(report.taken) == 14
    assert report.taken[0].startswith("inner.")


def test_a_classifier_of_other_outputs_starts_anew(tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs, model = network(classes=7), layered(classes=3)
    before = model.get_submodule("H4").state_dict()["head.weight"].clone()
    report = started(model, theirs.state_dict(), tmp_path)
    assert report.anew["head.weight"] == "[7, 4] in the file, [3, 4] in the model"
    assert "head.bias" in report.anew
    assert torch.equal(model.get_submodule("H4").state_dict()["head.weight"], before)
    assert "b4.fc.weight" in report.taken


def test_an_earlier_run_gives_its_heads_as_well(tmp_path: Path) -> None:
    earlier, model = layered(seed=1), layered(seed=2)
    report = started(model, checkpoint(earlier), tmp_path)
    assert not report.anew
    assert not report.left_out
    assert report.parameters == report.of
    pairs = zip(checkpoint(earlier).items(), checkpoint(model).items(), strict=True)
    assert all(torch.equal(one, other) for (_, one), (_, other) in pairs)


def test_a_run_of_other_outputs_gives_all_but_the_heads(tmp_path: Path) -> None:
    report = started(layered(classes=3), checkpoint(layered(classes=5, seed=1)), tmp_path)
    assert {name.rpartition(".")[0] for name in report.anew} == {"head", "H1.linear", "H2.linear", "H3.linear"}
    assert len(report.taken) == 12


def test_heads_that_are_reset_start_anew_though_all_of_them_fit(tmp_path: Path) -> None:
    earlier, model = layered(seed=1), layered(seed=2)
    before = checkpoint(model)
    report = started(model, checkpoint(earlier), tmp_path, reset_heads=True)
    assert {name: value for name, value in report.anew.items() if name[:2] != "H2"} == {
        f"{head}.{kind}": "reset_heads" for head in ("head", "H1.linear", "H3.linear") for kind in ("weight", "bias")
    }
    assert (len(report.taken), report.left_out) == (12, ())
    theirs, now = checkpoint(earlier), checkpoint(model)
    assert all(torch.equal(value, (before if name[0] == "H" else theirs)[name]) for name, value in now.items())
    assert report.line.endswith("12 of 20 tensors taken (61.5 %), H1.linear, H2.linear, H3.linear, head anew")


def test_a_classifier_that_is_reset_may_have_any_shape_and_any_values(tmp_path: Path) -> None:
    theirs = network(classes=7).state_dict()
    theirs["head.bias"] = torch.full((7,), torch.nan)
    report = started(layered(), theirs, tmp_path, reset_heads=True)
    assert report.anew["head.bias"] == "reset_heads"
    assert "b4.fc.weight" in report.taken


def test_a_run_of_other_depths_gives_its_layers_and_the_heads_behind_the_same_layers(tmp_path: Path) -> None:
    earlier, model = layered(depths=2, seed=1), layered(seed=2)
    assert [unit.name for unit in earlier.layer_units] == ["b1 .. b2", "b3 .. b4"]
    report = started(model, checkpoint(earlier), tmp_path)
    # What is behind b1 and b2 in both is exit 1 of the one and exit 2 of the other.
    assert torch.equal(model.get_parameter("H2.linear.weight"), earlier.get_parameter("H1.linear.weight"))
    assert torch.equal(model.get_parameter("L3.b3.fc.weight"), earlier.get_parameter("L2.b3.fc.weight"))
    assert torch.equal(model.get_parameter("H4.head.weight"), earlier.get_parameter("H2.head.weight"))
    assert set(report.anew) == {f"H{depth}.linear.{kind}" for depth in (1, 3) for kind in ("weight", "bias")}


def test_personal_heads_are_none_of_the_runs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = partition(network(), torch.zeros(1, 4), head_mode="personal")
    report = started(model, checkpoint(layered(seed=1)), tmp_path)
    assert not report.anew
    assert set(report.left_out) == {f"H{depth}.linear.{kind}" for depth in (1, 2, 3) for kind in ("weight", "bias")}


def test_layers_of_equal_names_go_by_their_unit(tmp_path: Path) -> None:
    def own(seed: int) -> LayeredModel:
        torch.manual_seed(seed)
        layers = [(f"l{number}", nn.Linear(4, 4)) for number in (1, 2)]
        return LayeredModel(layers, [("e", nn.Linear(4, 3)), ("h", nn.Linear(4, 3))], torch.zeros(1, 4), classes=3)

    model = own(2)
    report = started(model, checkpoint(own(1)), tmp_path)
    assert len(report.taken) == 8
    assert torch.equal(model.get_parameter("L2.weight"), own(1).get_parameter("L2.weight"))


def test_dimensions_of_one_are_added_and_dropped(tmp_path: Path) -> None:
    theirs = network().state_dict()
    theirs["b1.fc.weight"] = theirs["b1.fc.weight"].reshape(4, 4, 1, 1)
    report = started(layered(), theirs, tmp_path)
    assert report.reshaped == {"b1.fc.weight": "[4, 4, 1, 1] to [4, 4]"}


@pytest.mark.parametrize(
    ("before", "channels", "kernels"),
    [(3, 1, [6.0]), (1, 3, [1 / 3] * 3), (3, 4, [0.75, 1.5, 2.25, 0.75])],
)
def test_a_first_convolution_follows_the_channels_of_the_input(
    tmp_path: Path, before: int, channels: int, kernels: list[float]
) -> None:
    def convolutions(given: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(given, 1, 1, bias=False), nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(8, 2))

    theirs = convolutions(before).state_dict()
    theirs["0.weight"] = torch.arange(1.0, before + 1).reshape(1, before, 1, 1)
    model = partition(convolutions(channels), torch.zeros(1, channels, 2, 2))
    torch.save(theirs, tmp_path / "w.pt")
    settings = ModelSettings(name="own", input=(channels, 2, 2))
    report = start_from(model, settings, StartWeights("w.pt", str(tmp_path / "w.pt")))
    assert model.original_state_dict()["0.weight"].flatten().tolist() == pytest.approx(kernels)
    assert report.reshaped == {"0.weight": f"[1, {before}, 1, 1] to [1, {channels}, 1, 1]"}


def test_adapters_are_merged_by_the_user(tmp_path: Path) -> None:
    theirs = network().state_dict()
    theirs["head.base_layer.weight"] = theirs.pop("head.weight")
    theirs["head.lora_A.default.weight"] = torch.ones(1, 4)
    with pytest.raises(
        StartWeightsError, match=r"holds adapters beside the weights \(head\.lora_A.*: merge them first"
    ):
        started(layered(), theirs, tmp_path)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    model = layered()
    theirs = {
        name: value.half() if value.is_floating_point() else value for name, value in network().state_dict().items()
    }
    started(model, theirs, tmp_path)
    assert torch.equal(model.original_state_dict()["b1.fc.bias"], theirs["b1.fc.bias"].float())


def _without(name: str, value: Tensor) -> dict[str, Tensor]:
    return {**network().state_dict(), name: value}


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (_without("b2.fc.weight", torch.zeros(8, 4)), r"b2.fc.weight is \[8, 4\] in .*w.pt and \[4, 4\] in the model"),
        (_without("b2.fc.weight", torch.full((4, 4), torch.nan)), "b2.fc.weight in .* not finite"),
        (_without("b2.bn.running_var", torch.full((4,), -1.0)), "b2.bn.running_var in .* is below 0"),
        (
            {"x.y": torch.zeros(2)},
            r"nothing in .*w.pt fits the layers of own: it has x.y; the model has b1.fc.weight, ",
        ),
        ({"n": torch.tensor(3)}, "holds whole numbers alone, as a quantised model does"),
        ({"head.weight": torch.zeros(3, 4)}, "nothing in .* fits the layers"),
    ],
)
def test_refuses_weights_of_another_model(tmp_path: Path, tensors: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(StartWeightsError, match=reason) as said:
        started(layered(), tensors, tmp_path)
    assert "\n" not in str(said.value)


def _under(prefixes: tuple[str, ...], seed: int = 0) -> dict[str, Tensor]:
    """Networks of different values under one prefix each."""
    tensors = {}
    for number, prefix in enumerate(prefixes):
        torch.manual_seed(seed + number)
        tensors |= {prefix + name: value for name, value in network().state_dict().items()}
    return tensors


@pytest.mark.parametrize("prefixes", [("student.", "teacher."), ("student.module.", "teacher.", "")])
def test_two_networks_of_equal_names_are_not_guessed_between(tmp_path: Path, prefixes: tuple[str, ...]) -> None:
    tensors, model = _under(prefixes), layered()
    with pytest.raises(StartWeightsError, match="several networks that fit, with the prefixes") as said:
        started(model, tensors, tmp_path)
    assert all((prefix or "no prefix") in str(said.value) for prefix in prefixes)
    assert "save the one to start from alone" in str(said.value)


def test_a_running_average_under_a_prefix_is_taken_before_the_last_state(tmp_path: Path) -> None:
    tensors, model = _under(("", "net.ema.")), layered()
    started(model, tensors, tmp_path)
    assert torch.equal(model.original_state_dict()["b1.fc.weight"], tensors["net.ema.b1.fc.weight"])


def test_one_network_under_two_names_and_one_of_other_shapes_are_no_second_one(tmp_path: Path) -> None:
    one = network().state_dict()
    model = layered()
    started(
        model, {prefix + name: value for prefix in ("model.", "loss.model.") for name, value in one.items()}, tmp_path
    )
    assert torch.equal(model.original_state_dict()["b1.fc.weight"], one["b1.fc.weight"])
    wide = {f"base.{name}": value.repeat_interleave(2, 0) if value.dim() else value for name, value in one.items()}
    report = started(layered(), wide | {f"tiny.{name}": value for name, value in one.items()}, tmp_path)
    assert len(report.taken) == 14


def test_refuses_a_file_that_has_changed(tmp_path: Path) -> None:
    save_file({"b1.fc.bias": torch.zeros(4)}, tmp_path / "w.safetensors")
    with pytest.raises(StartWeightsError, match="has changed: its SHA-256 is"):
        start_from(layered(), SETTINGS, StartWeights("w", str(tmp_path / "w.safetensors"), "0" * 64))


def test_positions_follow_the_size_of_the_input(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    small = ModelSettings(name="torchvision:vit_b_16", input=(3, 32, 32), classes=2)
    state = build_model(small, seed=1).original_state_dict()
    torch.save(state, tmp_path / "vit.pth")
    large = ModelSettings(name=small.name, input=(3, 64, 64), classes=3, weights=str(tmp_path / "vit.pth"))
    model = build_model(large, seed=2)
    positions = model.original_state_dict()["encoder.pos_embedding"]
    assert positions.shape == (1, 17, 768)
    corners = positions[0, [1, 4, 13, 16]]
    assert torch.allclose(corners, state["encoder.pos_embedding"][0, 1:], atol=1e-5)


def test_the_library_builds_a_model_with_its_start_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = ModelSettings(name="mlp", input=(1, 8, 8), freeze=("hidden1",))
    theirs = build_model(settings, seed=1)
    torch.save(theirs.original_state_dict(), tmp_path / "w.pt")
    with caplog.at_level(logging.INFO, "fedlp.learning"):
        model = build_model(ModelSettings(**{**_fields(settings), "weights": str(tmp_path / "w.pt")}), seed=2)
    assert torch.equal(model.get_parameter("L1.hidden1.fc.weight"), theirs.get_parameter("L1.hidden1.fc.weight"))
    assert not torch.equal(model.get_parameter("H1.linear.weight"), theirs.get_parameter("H1.linear.weight"))
    assert model.blueprint("mlp").digest == theirs.blueprint("mlp").digest
    assert "8 of 12 tensors taken" in caplog.text


def _fields(settings: ModelSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}
