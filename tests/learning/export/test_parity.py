"""When an exported file counts as computing the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedlp_edge.learning.export.parity import compare_logits, own_error

RNG = np.random.default_rng(0)


def logits(size: float) -> np.ndarray:
    return (size * RNG.standard_normal((64, 5))).astype(np.float32)


@pytest.mark.parametrize("size", [0.3, 1.0, 64.0, 5000.0, 1e6])
def test_rounding_is_accepted_and_an_error_of_a_thousandth_is_not(size: float) -> None:
    expected = logits(size)
    assert compare_logits(expected, expected * np.float32(1 + 5e-6)).problem is None
    wrong = expected.copy()
    wrong[7, 2] += 2e-3 * np.abs(expected).max()
    assert "differs from PyTorch by" in str(compare_logits(expected, wrong).problem)


def test_bound_follows_each_sample_so_that_one_huge_logit_hides_nothing() -> None:
    expected = logits(1.0)
    expected[0] = [1e6, 0.0, 0.0, 0.0, 0.0]
    wrong = expected.copy()
    wrong[5] += 0.01
    assert compare_logits(expected, wrong).problem is not None


def test_close_numbers_with_other_answers_are_refused() -> None:
    """All logits lie close together beside a large common part, which hides what tells the classes apart."""
    expected = np.float32(5000.0) + logits(0.05)
    assert compare_logits(expected, expected[:, ::-1]).problem == (
        f"is refused: onnxruntime answers {(expected.argmax(1) != 2).sum()} of 64 real samples otherwise than PyTorch"
    )


def test_answers_that_are_a_toss_up_do_not_count() -> None:
    expected = np.zeros((64, 5), np.float32)
    assert compare_logits(expected, expected + np.linspace(0, 1e-7, 5, dtype=np.float32)).problem is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_in_onnxruntime_alone_is_refused(value: float) -> None:
    expected = logits(1.0)
    got = expected.copy()
    got[3, 1] = value
    assert "not finite where PyTorch does not" in str(compare_logits(expected, got).problem)


def test_model_that_computes_what_is_not_a_number_is_refused() -> None:
    broken = np.full((4, 5), np.nan, np.float32)
    assert "the model computes what is not a number" in str(compare_logits(broken, broken).problem)


def test_classes_that_both_rule_out_are_no_difference() -> None:
    expected = logits(1.0)
    expected[:, 4] = -np.inf
    assert compare_logits(expected, expected.copy()).problem is None


class Magnifier(nn.Module):
    """Magnifies the rounding of its input ten thousand times."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1e4 * ((x + 1000.0) - 1000.0)


def test_model_that_magnifies_rounding_is_judged_by_its_own_error() -> None:
    x = torch.linspace(0.001, 1.0, 50).reshape(10, 5)
    expected = Magnifier()(x).numpy()
    other = Magnifier()(x + 5e-5).numpy()
    error = own_error(Magnifier(), [x], expected)
    assert error > 0.01
    assert compare_logits(expected, other).problem is not None
    assert compare_logits(expected, other, error).problem is None
    assert compare_logits(expected, expected * np.float32(0.97), error).problem is not None


def test_own_error_of_a_model_that_knows_one_precision_counts_as_none() -> None:
    class Single(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ torch.ones(5, 5)

    x = torch.ones(2, 5)
    assert own_error(Single(), [x], Single()(x).numpy()) == 0.0
