from __future__ import annotations

import pytest
import torch

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.tasks.choose_task import make_task
from fedlp_edge.learning.tasks.own_task import OwnTask

GOOD = """
class Ordinal:
    targets = "values"
    def __init__(self, outputs):
        self.outputs = outputs
    def loss(self, outputs, y, x):
        return (outputs - y).abs().mean()
    def sums(self, outputs, y, x):
        return {"close": ((outputs - y).abs() < 1).sum()}
    def metrics(self, sums):
        return {"close_share": sums["close"][0] / sums["samples"][0]}
    def predict(self, outputs, x):
        return {"level": outputs.round()}
"""
X, Y, OUTPUTS = torch.zeros(2, 1), torch.tensor([[1.0], [4.0]]), torch.tensor([[1.5], [2.0]])


@pytest.fixture
def code(tmp_path, monkeypatch):
    """Writes a module and gives the name of its task."""

    def written(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return f"{name}:Ordinal"

    return written


def use(name):
    task = OwnTask(name, 1)
    task.metrics({key: tuple(values.tolist()) for key, values in task.sums(OUTPUTS, Y, X).items()})
    task.predict(OUTPUTS, X)


def test_does_what_the_code_says(code):
    task = OwnTask(code("ordinal_good", GOOD), 1)
    sums = {name: tuple(values.tolist()) for name, values in task.sums(OUTPUTS, Y, X).items()}
    assert sums == {"samples": (2,), "loss": (2.5,), "close": (1,)}
    assert task.metrics(sums) == {"close_share": 0.5, "loss": 1.25}
    assert task.predict(OUTPUTS, X)["level"].tolist() == [[2.0], [2.0]]
    assert task.targets == "values"


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("no_loss", ("def loss", "def lost"), "without the function loss"),
        ("wrong_kind", ('"values"', '"words"'), "its targets are 'words'"),
        ("vector", (".abs().mean()", ".abs()"), r"loss gave a tensor \[2, 1\] of torch.float32, not one number"),
        (
            "failing",
            ("return (outputs - y)", "raise KeyError('w'); return (outputs - y)"),
            "loss failed: KeyError: 'w'",
        ),
        ("no_tensor", ('{"close": ((outputs - y).abs() < 1).sum()}', '{"close": 1}'), "'close': a int"),
        ("taken", ('{"close":', '{"loss":'), "names of small letters other than samples and loss"),
        ("no_number", ('sums["close"][0] /', '"many" if 1 else'), "metrics must be numbers"),
        ("no_names", ('{"level": outputs.round()}', "outputs"), "predict gave a tensor"),
    ],
)
def test_says_in_one_line_what_is_wrong(code, name, change, problem):
    with pytest.raises(ModelError, match=problem) as caught:
        use(code(f"ordinal_{name}", GOOD.replace(*change)))
    assert "\n" not in str(caught.value)


def test_is_not_run_unasked(code):
    settings = ModelSettings(task=code("ordinal_asked", GOOD), classes=1)
    with pytest.raises(ModelError, match="--allow-model ordinal_asked:Ordinal"):
        make_task(settings, 1)
    assert make_task(settings, 1, ("ordinal_asked:Ordinal",)).targets == "values"
    assert make_task(settings, 1, None).targets == "values"


@pytest.mark.parametrize("name", ["classification", "multi-label", "regression", "anomaly"])
def test_built_in_tasks_are_made_by_name(name):
    assert make_task(ModelSettings(task=name), 3).name == name
