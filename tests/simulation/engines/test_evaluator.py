"""Versions of the global model on parts of the test set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedlp_edge.core.metrics.exit_sums import merged
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.simulation.engines.evaluator import Evaluator
from fedlp_edge.simulation.engines.jobs import EvaluatePart, EvaluatePersonalHead
from fedlp_edge.wire.tensors import pack
from tests.two_layers import VALUES, two_layers

WEIGHTS = {name: np.array(rows, np.float32) for name, rows in VALUES.items()}
SWAPPED = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
RIGHT = WEIGHTS | {"L1.weight": np.array([[1.0], [-1.0]], np.float32)}  # the sign of a sample is its class


def samples(*x: float) -> Dataset:
    """Samples of one number each; those above zero are of class 0."""
    y = torch.tensor([int(value < 0) for value in x])
    return Dataset.of_tensor(torch.tensor(x)[:, None], y, ("0", "1"), 1.0, (0.0,), (1.0,))


def evaluator(*x: float, head_mode: str = "shared") -> Evaluator:
    model = two_layers()
    model.head_mode = head_mode  # type: ignore[assignment]
    blueprint = model.blueprint("two layers")
    return Evaluator(model, blueprint, samples(*x), samples(*x), torch.device("cpu"), Classification(2))


def test_counts_right_answers_of_each_exit() -> None:
    sums = evaluator(1.0, 2.0, -1.0).evaluate(EvaluatePart(0, (1, 2), 0, 3), RIGHT).sums
    assert {depth: of_exit["correct"] for depth, of_exit in sums.exits.items()} == {1: (2.0, 1.0), 2: (2.0, 1.0)}
    turned = RIGHT | {"H2.weight": SWAPPED}
    sums = evaluator(1.0, 2.0, -1.0).evaluate(EvaluatePart(0, (1, 2), 0, 3), turned).sums
    assert {depth: of_exit["correct"] for depth, of_exit in sums.exits.items()} == {1: (2.0, 1.0), 2: (0.0, 0.0)}


def test_parts_add_up_to_the_whole() -> None:
    x = (1.0, 2.0, -1.0, 0.5)
    one = evaluator(*x)
    whole = one.evaluate(EvaluatePart(0, (2,), 0, 4), RIGHT)
    parts = [one.evaluate(EvaluatePart(0, (2,), start, stop), RIGHT) for start, stop in ((0, 1), (1, 4))]
    assert [part.start for part in parts] == [0, 1]
    assert merged([part.sums for part in parts]).exits[2]["correct"] == whole.sums.exits[2]["correct"] == (3.0, 1.0)


def test_reads_the_weights_of_a_new_version_only() -> None:
    one = evaluator(1.0, -1.0)
    turned = RIGHT | {"L2.weight": SWAPPED}
    correct = [
        one.evaluate(EvaluatePart(version, (2,), 0, 2), weights).sums.exits[2]["correct"]
        for version, weights in ((0, RIGHT), (0, turned), (1, turned))
    ]
    assert correct == [(1.0, 1.0), (1.0, 1.0), (0.0, 0.0)]


def test_judges_the_head_of_a_device_behind_the_global_layers() -> None:
    one = evaluator(1.0, -1.0, head_mode="personal")
    layers = {name: array for name, array in RIGHT.items() if name != "H1.weight"}
    for head, correct in ((np.eye(2, dtype=np.float32), (1.0, 1.0)), (SWAPPED, (0.0, 0.0))):
        job = EvaluatePersonalHead("a", 0, 1, pack({"H1.weight": head}), samples=2)
        judged = one.evaluate_personal_head(job, layers)
        assert (judged.device, judged.depth, judged.sums.exits[1]["correct"]) == ("a", 1, correct)


def test_refuses_a_test_set_of_another_shape() -> None:
    model = two_layers()
    wide = Dataset.of_tensor(torch.ones(1, 3), torch.zeros(1, dtype=torch.int64), ("0", "1"), 1.0, (0.0,), (1.0,))
    with pytest.raises(DataError, match="the samples have shape 3 but the model takes 1"):
        Evaluator(model, model.blueprint("m"), wide, wide, torch.device("cpu"), Classification(2))
