from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.learning.export.family.file_check import compare_outputs
from fedlp_edge.learning.export.precision import Precision

LOGITS = np.array([[1000.0, 0.0], [0.0, 1000.0], [500.0, 0.0], [0.0, 2000.0]], dtype=np.float32)


@pytest.mark.parametrize(
    ("precision", "error", "passes"), [("fp32", 0.05, True), ("fp32", 1.0, False), ("fp16", 5.0, True),
                                       ("fp16", 50.0, False), ("int8", 50.0, True), ("int8", 900.0, False)]
)  # fmt: skip
def test_an_error_is_compared_with_the_size_of_the_logits(precision: Precision, error: float, passes: bool) -> None:
    found = compare_outputs(LOGITS, LOGITS + np.float32(error), precision, classes=True)
    assert (found.problem is None) is passes
    assert found.max_abs_diff == pytest.approx(error, rel=1e-3)


def test_another_answer_counts_where_pytorch_is_surer_than_the_error() -> None:
    many = np.tile(LOGITS, (25, 1))
    swapped = many.copy()
    swapped[:6] = swapped[:6, ::-1]
    found = compare_outputs(many, swapped, "int8", classes=True)
    assert found.agreement == 0.94
    tied = np.tile(np.array([[1.0, 1.001]], dtype=np.float32), (10, 1))
    assert compare_outputs(tied, tied[:, ::-1].copy(), "int8", classes=True).problem is None


def test_numbers_that_are_not_finite_are_refused() -> None:
    broken = LOGITS.copy()
    broken[0, 0] = np.inf
    found = compare_outputs(LOGITS, broken, "fp16", classes=False)
    assert found.problem == "is refused: in fp16 it computes numbers that are not finite"


def test_outputs_of_another_shape_are_refused() -> None:
    found = compare_outputs(LOGITS, LOGITS[:, :1], "fp32", classes=True)
    assert found.problem == "is refused: it gives (4, 1) where PyTorch gives (4, 2)"
