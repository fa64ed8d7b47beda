"""Built-in, torchvision's and users' models, by the words of a configuration."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

import fedlp_edge
from fedlp_edge import LayeredModel, ModelSettings, build_model
from fedlp_edge.errors import ModelError, PartitionError
from tests.learning.sample_models import step

PAPER = ModelSettings(name="fedlp-cnn", input=(3, 32, 32), classes=10, head_mode="personal")


def test_builds_the_papers_network_to_the_parameter() -> None:
    blueprint = build_model(PAPER, seed=0).blueprint(PAPER.name)
    exchanged = [sum(unit.parameters for unit in blueprint.exchanged_by(depth)) for depth in blueprint.depths]
    assert exchanged == [10272, 28896, 65952, 140064, 551466]
    assert blueprint.costs[-1].parameters == 551466
    assert blueprint.costs[-1].forward_macs == 38_896_896
    inputs = [unit.tensors[0].shape[1] for unit in blueprint.units if unit.kind == "head"]
    assert inputs == [8192, 4096, 4096, 2048, 2048]
    assert [unit.name for unit in blueprint.units[:5]] == ["conv1-2", "conv3", "conv4", "conv5", "conv6"]


def test_counts_the_papers_network_as_the_authors_counter_does() -> None:
    """thop adds four operations for every value that a batch normalisation gives; see docs/fedlp.md."""
    layered = build_model(PAPER, seed=0).eval()
    macs = [cost.forward_macs for cost in layered.blueprint().costs]
    normalised = []
    for depth in layered.depths:
        submodel, values = layered.submodel(depth), []
        for module in submodel.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.register_forward_hook(lambda _module, _given, result, seen=values: seen.append(result.numel()))
        submodel(torch.zeros(1, 3, 32, 32))
        normalised.append(sum(values))
    assert normalised == [65_536, 81_920, 98_304, 106_496, 114_688]
    assert [count + 4 * values for count, values in zip(macs, normalised, strict=True)] == [
        11_633_920, 15_893_760, 25_396_480, 29_885_696, 39_355_648,
    ]  # fmt: skip


def test_builds_the_narrow_network_to_the_parameter() -> None:
    settings = ModelSettings(name="fedlp-cnn-narrow", input=(1, 28, 28), head_mode="personal")
    blueprint = build_model(settings, seed=0).blueprint()
    exchanged = [sum(unit.parameters for unit in blueprint.exchanged_by(depth)) for depth in blueprint.depths]
    assert exchanged == [696, 1896, 4248, 8952, 37_410]
    assert [unit.tensors[0].shape for unit in blueprint.units[5:]] == [
        (64, 1568), (64, 784), (64, 784), (64, 288), (64, 288),
    ]  # fmt: skip


def test_fits_the_papers_network_to_another_input() -> None:
    blueprint = build_model(ModelSettings(name="fedlp-cnn", input=(1, 28, 28)), seed=0).blueprint()
    assert [unit.tensors[0].shape[1] for unit in blueprint.units[5:]] == [6272, 3136, 3136, 1152, 1152]


@pytest.mark.parametrize(
    ("settings", "depths"),
    [
        (ModelSettings(name="fedlp-cnn", input=(1, 8, 8)), 5),
        (ModelSettings(name="small-cnn", input=(1, 8, 8)), 5),
        (ModelSettings(name="small-cnn", input=(1, 28, 28)), 5),
        (ModelSettings(name="small-cnn", input=(3, 32, 20), classes=3), 5),
        (ModelSettings(name="mlp", input=(1, 8, 8)), 3),
        (ModelSettings(name="mlp", input=(13,), classes=2), 3),
    ],
    ids=lambda value: f"{value.name}-{value.input}" if isinstance(value, ModelSettings) else str(value),
)
def test_trains_built_in_models_at_every_depth(settings: ModelSettings, depths: int) -> None:
    layered = build_model(settings, seed=0).eval()
    assert len(layered.depths) == depths
    images = torch.randn(4, *settings.input, generator=torch.Generator().manual_seed(0))
    for depth in layered.depths:
        submodel = layered.submodel(depth)
        assert torch.equal(submodel(images), layered(images, depth=depth))
        assert submodel(images).shape == (4, settings.classes)
        assert step(submodel, images, torch.tensor([0, 1, 0, 1])) > 0


def test_keeps_the_small_network_small() -> None:
    costs = build_model(ModelSettings(), seed=0).blueprint().costs
    assert costs[-1].parameters == 135_674
    assert costs[-1].forward_macs == 10_049_024


def test_draws_the_same_weights_from_the_same_seed() -> None:
    def fingerprint(seed: int) -> str:
        digest = hashlib.sha256()
        for value in build_model(ModelSettings(), seed=seed).state_dict().values():
            digest.update(value.numpy().tobytes())
        return digest.hexdigest()

    random = torch.random.get_rng_state()
    assert fingerprint(3) == fingerprint(3)
    assert fingerprint(3) != fingerprint(4)
    assert torch.equal(torch.random.get_rng_state(), random)


def test_imports_the_package_without_torch() -> None:
    program = "import sys, fedlp_edge; fedlp_edge.Unit; print('torch' in sys.modules, 'partition' in dir(fedlp_edge))"
    ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "False True"


def test_refuses_an_unknown_public_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'split'"):
        fedlp_edge.split  # noqa: B018


def test_builds_a_torchvision_model_for_its_input_and_classes() -> None:
    layered = build_model(ModelSettings(name="torchvision:mobilenet_v2", input=(3, 32, 32), classes=4), seed=0)
    assert layered(torch.zeros(2, 3, 32, 32)).shape == (2, 4)
    own = build_model(ModelSettings(name="torchvision:squeezenet1_1", input=(3, 32, 32), classes=0), seed=0)
    assert own.classes == 1000


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (ModelSettings(name="smal-cnn"), "did you mean small-cnn"),
        (ModelSettings(name="MLP"), r"did you mean mlp\?"),
        (ModelSettings(name="ResNet-18"), r"did you mean torchvision:resnet18\?"),
        (ModelSettings(name="best.pt"), r"'best\.pt' is a file; name how the model is made, and give its weights with"),
        (ModelSettings(name="small-cnn", classes=0), "set classes"),
        (ModelSettings(name="small-cnn", input=(1, 3, 8)), "nothing would be left of 1x3x8; it needs at least 4x4"),
        (ModelSettings(name="fedlp-cnn", input=(3, 7, 32)), "at least 8x8"),
        (ModelSettings(name="fedlp-cnn", input=(32,)), r"takes images .* try mlp"),
        (ModelSettings(name="torchvision:resnet19"), "near: resnet1"),
        (ModelSettings(name="torchvision:vit_b_16", input=(3, 32, 48)), "square images"),
        (ModelSettings(name="torchvision:vit_b_16", input=(3, 30, 30)), "cannot be built for 3x30x30"),
        (ModelSettings(name="resnet18", input=(3, 64, 64)), "did you mean torchvision:resnet18?"),
        (ModelSettings(name="torchvision:resnet18", input=(64, 64, 3)), "their channels come first: 3x64x64"),
        (ModelSettings(name="torchvision:resnet18", input=(1, 28, 28)), "does not run on an input of 1x28x28"),
        (ModelSettings(name="no_such_module:build"), "cannot import no_such_module"),
        (ModelSettings(name="tests.learning.zoo.test_build:absent"), "has no attribute 'absent'"),
        (
            ModelSettings(name="tests.learning.zoo.test_build:fails"),
            r"failed: KeyError: 'missing' \(test_build\.py, line",
        ),
        (ModelSettings(name="tests.learning.zoo.test_build:gives_text"), "gave a str"),
        (ModelSettings(name="tests.learning.zoo.test_build:gives_two"), "gave a model and SGD: return the model alone"),
        (
            ModelSettings(name="tests.learning.zoo.test_build:gives_state"),
            "gave a OrderedDict, .*: return the model, and name a file of its state with weights =",
        ),
        (ModelSettings(depths=3), "small-cnn comes split into 5 depths, the configuration says 3; leave depths out"),
        (ModelSettings(name="tests.learning.zoo.test_build:already_split"), "gave a model for 1x8x8"),
    ],
)
def test_says_why_a_model_cannot_be_built(settings: ModelSettings, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        build_model(settings, seed=0, allow_models=None)
    assert "\n" not in str(caught.value)


def test_runs_a_users_code_only_if_allowed() -> None:
    settings = ModelSettings(name="tests.learning.zoo.test_build:blocks", input=(4,), classes=3)
    with pytest.raises(ModelError, match=r"--allow-model tests\.learning\.zoo\.test_build:blocks"):
        build_model(settings, seed=0)
    with pytest.raises(ModelError, match="does not run unasked"):
        build_model(settings, seed=0, allow_models=("tests.learning.zoo.test_build:blocks_too",))
    layered = build_model(settings, seed=0, allow_models=(settings.name,))
    assert [unit.id for unit in layered.units] == ["L1", "H1"]


def test_takes_a_users_split_model_as_it_is() -> None:
    settings = ModelSettings(
        name="tests.learning.zoo.test_build:already_split", input=(1, 8, 8), classes=10, head_mode="personal"
    )
    layered = build_model(settings, seed=0, allow_models=None)
    assert layered.blueprint().head_mode == "personal"
    with pytest.raises(ModelError, match="for 10 classes, the configuration says 7"):
        build_model(ModelSettings(name=settings.name, input=(1, 8, 8), classes=7), seed=0, allow_models=None)


def test_names_the_users_model_that_cannot_be_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lone_layer.py").write_text("import torch\ndef build():\n    return torch.nn.ReLU()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PartitionError, match="ReLU is a single layer"):
        build_model(ModelSettings(name="lone_layer:build", input=(4,), classes=2), seed=0, allow_models=None)


def blocks(num_classes: int) -> list[torch.nn.Module]:
    return [torch.nn.Linear(4, 4), torch.nn.Linear(4, num_classes)]


def fails() -> None:
    raise KeyError("missing")


def gives_text() -> str:
    return "resnet18"


def gives_two() -> tuple[nn.Module, object]:
    model = nn.Linear(2, 2)
    return model, torch.optim.SGD(model.parameters())


def gives_state() -> object:
    return nn.Linear(2, 2).state_dict()


def already_split() -> LayeredModel:
    return build_model(ModelSettings(name="mlp", input=(1, 8, 8), classes=10), seed=0)


def refuses_to_compile(*_: object) -> Any:
    raise AssertionError("compiled")


class Compiled(nn.Module):
    """Has its forward compiled, as people do who train on a server."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    @torch.compile(backend=refuses_to_compile)
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)  # type: ignore[no-any-return]


def compiled() -> nn.Module:
    return nn.Sequential(Compiled(4, 3), nn.ReLU(), Compiled(3, 2))


def test_functions_that_a_model_has_compiled_run_as_they_are_written() -> None:
    settings = ModelSettings(name="tests.learning.zoo.test_build:compiled", input=(4,), classes=2)
    try:
        submodel = build_model(settings, seed=1, allow_models=None).submodel(1)
        assert step(submodel, torch.ones(2, 4), torch.tensor([0, 1])) > 0
    finally:
        torch.compiler.set_stance("default")


def test_pooled_heads_take_the_place_of_a_built_in_models_own() -> None:
    settings = ModelSettings(name="fedlp-cnn-narrow", exit_heads="pooled")
    model, own = build_model(settings, seed=0), build_model(ModelSettings(name="fedlp-cnn-narrow"), seed=0)
    # Linear layers on 8 channels of 4x4 places, 16 of 2x2, 16 of 2x2, 32 of 1x1; the classifier is the model's.
    assert [head.parameters for head in model.head_units] == [1290, 650, 650, 330, 19_146]
    assert [head.parameters for head in own.head_units][:4] == [101_066, 50_890, 50_890, 19_146]
    largest = build_model(msgspec.structs.replace(settings, exit_heads="max-pooled"), seed=0)
    # 8 channels of 7x7 places, 16 of 7x7, 16 of 7x7, 32 of 3x3.
    assert [head.parameters for head in largest.head_units] == [3_930, 7_850, 7_850, 2_890, 19_146]
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(model.eval()(x), own.eval()(x))
    assert build_model(settings, seed=0).blueprint().digest == model.blueprint().digest
