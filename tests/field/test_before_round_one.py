"""What is wrong with a configuration, samples or a model is said before the first round, with the place to mend."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import fedlp_edge
from coordinator.command import app
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError, DataError
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.spec.source_checks import check_outside, check_source
from fedlp_edge.learning.evaluation import try_samples
from fedlp_edge.learning.zoo.build import build_model


def pictures(root: Path) -> str:
    (root / "nut").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(root / "nut" / "a.png")
    return f"imagefolder:{root}"


@pytest.mark.parametrize(
    ("evaluate", "words"),
    [("imagefolder:/no/such/place", "there is no image directory"), ("digit", "is unknown: use digits")],
)
def test_a_typo_in_evaluate_is_refused_with_its_line_before_anything_is_written(
    tmp_path: Path, evaluate: str, words: str
) -> None:
    config = tmp_path / "fleet.toml"
    config.write_text(f'fleet = "shop"\n[data]\nevaluate = "{evaluate}"\n')
    result = CliRunner().invoke(app, ["--config", str(config), "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, ConfigError)
    assert f"{config}:3: [data] evaluate: " in str(result.exception)
    assert words in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_no_file_is_written_among_pictures(tmp_path: Path) -> None:
    spec = parse_spec(pictures(tmp_path / "parts"))
    check_source(spec)
    check_outside(spec, tmp_path / "runs", "--out")
    with pytest.raises(DataError, match="name a place outside with --out"):
        check_outside(spec, tmp_path / "parts" / "runs" / "x", "--out")


def test_missing_pillow_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = parse_spec(pictures(tmp_path))
    monkeypatch.setattr("fedlp_edge.learning.data.spec.source_checks.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install"):
        check_source(spec)


def test_a_model_with_one_output_is_split_like_any_other() -> None:
    # One logit tells two classes apart, and is what a regression of one number has.
    own = fedlp_edge.partition(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)), torch.zeros(1, 4))
    built_in = build_model(ModelSettings(name="mlp", input=(4,), classes=1), 0)
    for model in (own, built_in):
        assert [tuple(logits.shape) for logits in model.exits(torch.zeros(3, 4))] == [(3, 1)] * len(model.depths)


def test_a_split_into_one_depth_is_remarked() -> None:
    one = fedlp_edge.partition(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)), torch.zeros(1, 4))
    assert "one depth only" in one.blueprint().remark
    blocks = [nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)]
    assert not fedlp_edge.partition(blocks, torch.zeros(1, 4)).blueprint().remark


def test_samples_are_sent_through_every_exit_and_leave_the_model_as_it_was(tmp_path: Path) -> None:
    model = build_model(ModelSettings(name="small-cnn", input=(3, 16, 16), classes=2), 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try_samples(model, load_data(pictures(tmp_path) + "#holdout=0", "train", (3, 16, 16)))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
