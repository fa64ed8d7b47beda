from __future__ import annotations

import pytest
import torch
from rich.console import Console
from torch import nn

from fedlp_edge.cli.depths import (
    build_and_try_export,
    build_blueprint,
    constants_line,
    depth_table,
    exchanged_bytes,
    parse_input,
)
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError, ModelError
from fedlp_edge.learning.zoo.build import build_model
from tests.two_layers import NAME


def test_reads_shapes() -> None:
    assert parse_input("3x32x32") == (3, 32, 32)
    assert parse_input("64") == (64,)


@pytest.mark.parametrize("text", ["", "3x", "3y32", "0x8x8", "-1x8", "3 x 8"])
def test_refuses_what_is_no_shape(text: str) -> None:
    with pytest.raises(ConfigError, match="write the shape of one sample as 3x32x32"):
        parse_input(text)


def test_says_that_a_model_is_unknown() -> None:
    with pytest.raises(ModelError, match="unknown model 'nope'"):
        build_blueprint(ModelSettings(name="nope", input=(1, 8, 8)))


@pytest.fixture(scope="module")
def personal() -> Blueprint:
    return build_blueprint(ModelSettings(name="fedlp-cnn", input=(3, 32, 32), head_mode="personal"))


def test_shows_every_depth_within_a_terminal_of_80_columns(personal: Blueprint) -> None:
    console = Console(width=80, record=True, file=None, color_system=None)
    with console.capture() as shown:
        console.print(depth_table(personal, "more", "<{}>".format))

    lines = [line.split() for line in shown.get().splitlines()]
    assert lines[0] == ["depth", "layer", "parameters", "bytes", "MMACs", "saved", "more"]
    assert [line[1] for line in lines[1:]] == ["1", "2", "3", "4", "5"]
    assert [line[-1] for line in lines[1:]] == ["<1>", "<2>", "<3>", "<4>", "<5>"]


def test_counts_what_is_exchanged_without_personal_heads(personal: Blueprint) -> None:
    # 10,272 parameters and 128 running statistics.
    assert exchanged_bytes(personal, 1) == 4 * 10_400


def test_says_what_is_downloaded_once() -> None:
    blueprint = build_model(ModelSettings(name="mlp", input=(1, 8, 8), freeze=("hidden1",)), seed=0).blueprint()
    line = constants_line(blueprint)
    assert line is not None
    # 64 * 256 weights and 256 biases.
    assert line.plain.startswith("not trained: 66.6 kB at full depth, downloaded once")
    assert constants_line(build_model(ModelSettings(name="mlp", input=(1, 8, 8)), seed=0).blueprint()) is None


def test_knows_a_task_of_the_users_own() -> None:
    model = ModelSettings(name="mlp", input=(1, 8, 8), task="tests.fleets.ordinal:make")
    assert build_blueprint(model).classes == 10


class Unknown(nn.Module):
    """A layer that ONNX has no operator for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def without_operator() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), Unknown(), nn.Linear(8, 3))


def test_tries_the_export_of_a_model_of_the_users_own() -> None:
    own = ModelSettings(name="tests.cli.test_depths:without_operator", input=(6,), classes=3)
    blueprint, no_export = build_and_try_export(own)
    assert blueprint.full_depth == 2
    assert no_export.startswith("depth 2 of tests.cli.test_depths:without_operator: ")
    assert no_export.endswith("; a run needs [export] depths = [1]")
    assert "\n" not in no_export
    assert build_and_try_export(ModelSettings(name=NAME, input=(1,), classes=2))[1] == ""
