"""Splitting torchvision's classifiers: the same activations, bit for bit, and one training step at every depth.

The largest are built with fewer channels: how a model is split follows from its modules and how they are called.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fedlp_edge import LayeredModel, ModelSettings, build_model, partition
from tests.learning.sample_models import step

# Name, constructor arguments, image side, and for some depths the module of the original that gives their feature.
NAMED = [
    pytest.param(
        "resnet18",
        {},
        32,
        {1: "layer1.0", 2: "layer1.1", 3: "layer2.0", 4: "layer2.1", 5: "layer3.0", 6: "layer3.1", 7: "layer4.0"},
        id="resnet18",
    ),
    pytest.param(
        "vgg11_bn",
        {},
        32,
        {1: "features.7", 2: "features.10", 3: "features.14", 4: "features.17", 5: "features.21", 7: "classifier.2"},
        id="vgg11_bn",
    ),
    pytest.param(
        "mobilenet_v2",
        {},
        32,
        {1: "features.3", 2: "features.9", 3: "features.12", 4: "features.14", 6: "features.16", 7: "features.17"},
        id="mobilenet_v2",
    ),
    pytest.param(
        "vit_b_16",
        {},
        32,
        {depth: f"encoder.layers.encoder_layer_{block}" for depth, block in enumerate((0, 1, 2, 4, 6, 8, 10), start=1)},
        id="vit_b_16",
    ),
]
OTHERS = [
    ("squeezenet1_1", {}, 64),
    ("googlenet", {"init_weights": False}, 32),
    ("densenet121", {}, 32),
    ("shufflenet_v2_x0_5", {}, 32),
    ("mnasnet0_5", {}, 32),
    ("swin_t", {}, 32),
    ("convnext_tiny", {}, 32),
    ("efficientnet_b0", {}, 32),
    ("regnet_y_400mf", {}, 32),
]


def _narrow() -> dict[str, Callable[[], nn.Module]]:
    """Makers of models with fewer channels than torchvision's, by the name of the model that they stand for."""
    from torchvision import models
    from torchvision.models.convnext import CNBlockConfig
    from torchvision.models.vgg import make_layers

    class NarrowVgg(models.VGG):
        """``vgg11_bn`` with an eighth of the channels in front of a classifier that is as much narrower."""

        def __init__(self) -> None:
            nn.Module.__init__(self)  # VGG's own would make a classifier of 120 million parameters
            self.features = make_layers([8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"], batch_norm=True)
            self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
            first, second, last = nn.Linear(64 * 49, 512), nn.Linear(512, 512), nn.Linear(512, 10)
            self.classifier = nn.Sequential(
                *(first, nn.ReLU(True), nn.Dropout()), *(second, nn.ReLU(True), nn.Dropout()), last
            )

    return {
        "vgg11_bn": NarrowVgg,
        "vit_b_16": lambda: models.VisionTransformer(
            image_size=32, patch_size=16, num_layers=12, num_heads=4, hidden_dim=64, mlp_dim=256, num_classes=10
        ),
        "swin_t": lambda: models.SwinTransformer(
            patch_size=[4, 4],
            embed_dim=24,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=[7, 7],
            stochastic_depth_prob=0.2,
            num_classes=10,
        ),
        "convnext_tiny": lambda: models.ConvNeXt(
            [
                CNBlockConfig(24, 48, 3),
                CNBlockConfig(48, 96, 3),
                CNBlockConfig(96, 192, 9),
                CNBlockConfig(192, None, 3),
            ],
            stochastic_depth_prob=0.1,
            num_classes=10,
        ),
    }


def _split(name: str, options: dict[str, object], side: int) -> tuple[nn.Module, LayeredModel, torch.Tensor]:
    from torchvision import models

    torch.manual_seed(0)
    build = _narrow().get(name)
    model = build() if build is not None else models.get_model(name, weights=None, num_classes=10, **options)
    images = torch.randn(2, 3, side, side)
    return model, partition(model, images), images


def _outputs_of(model: nn.Module, names: set[str], images: torch.Tensor) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: found.update({name: out.clone()})
        )
        for name in names
    ]
    model(images)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(("name", "options", "side", "feature_of"), NAMED)
def test_trains_prefixes_that_compute_what_the_original_does(
    name: str, options: dict[str, object], side: int, feature_of: dict[int, str]
) -> None:
    model, layered, images = _split(name, options, side)
    layered.eval()
    model.eval()
    with torch.no_grad():
        assert torch.equal(layered(images), model(images))
        expected = _outputs_of(model, set(feature_of.values()), images)
        for depth, module in feature_of.items():
            assert torch.equal(layered.activations(images, depth), expected[module]), module
    units = {unit.id: unit for unit in layered.units}
    for depth in layered.depths:
        submodel = layered.submodel(depth)
        assert submodel.state_dict().keys() <= layered.state_dict().keys()
        with torch.no_grad():
            assert torch.equal(submodel(images), layered(images, depth=depth))
        held = sum(parameter.numel() for parameter in submodel.parameters())
        assert held == sum(units[f"L{d}"].parameters for d in range(1, depth + 1)) + units[f"H{depth}"].parameters
        assert held <= sum(parameter.numel() for parameter in model.parameters())
        assert step(submodel, images, torch.tensor([0, 1])) > 0


def test_computes_the_same_activations_in_training() -> None:
    model, layered, images = _split("resnet18", {}, 32)
    original = copy.deepcopy(model)
    expected = _outputs_of(original.train(), {"layer2.1"}, images)
    layered.train()
    assert torch.equal(layered.activations(images, 4), expected["layer2.1"])


@pytest.mark.parametrize(("name", "options", "side"), OTHERS, ids=str)
def test_splits_other_classifiers(name: str, options: dict[str, object], side: int) -> None:
    model, layered, images = _split(name, options, side)
    model.eval()
    layered.eval()
    with torch.no_grad():
        assert torch.equal(layered(images), model(images))
        assert [logits.shape for logits in layered.exits(images)] == [(2, 10)] * 8
    layered.train()
    assert step(layered.submodel(2), images, torch.tensor([0, 1])) > 0


def test_keeps_stochastic_depth_of_a_transformer() -> None:
    _, layered, images = _split("swin_t", {}, 32)
    layered.train()
    assert not torch.equal(layered.activations(images, 7), layered.activations(images, 7))
    layered.eval()
    assert torch.equal(layered.activations(images, 7), layered.activations(images, 7))


def test_keeps_class_token_and_positions_in_the_first_layer() -> None:
    layered = build_model(ModelSettings(name="torchvision:vit_b_16", input=(3, 32, 32)), seed=0)
    first = layered.layer_units[0].state_names
    assert {"L1.class_token", "L1.encoder.pos_embedding", "L1.conv_proj.weight"} <= set(first)
    assert layered.units[-1].state_names == ("H8.heads.head.weight", "H8.heads.head.bias")
