"""This module decides whether a file in any precision answers as the PyTorch model does.

A file in float32 differs by rounding alone, so its bound is tight (see `fedlp_edge.learning.export.parity`). Fewer bits
change every number a little. So in fp16 and int8 the error is compared with the size of the outputs, and an answer
counts as another one only where PyTorch is surer of its own than this error explains. What the change costs is
measured besides: a file may be refused here, or pass and be worth less.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedlp_edge.learning.export.parity import SMALLEST_SIZE, Logits, compare_logits
from fedlp_edge.learning.export.precision import Precision

MAX_ERROR = {"fp16": 0.02, "int8": 0.5}
"""Largest accepted error, the root of its mean square, as a share of the size of the outputs."""

MAX_OTHER_ANSWERS = 0.05
"""Largest accepted share of samples with another answer that the error does not explain."""

_EXPLAINED = 4.0
"""Lead of PyTorch's answer, as a multiple of the error, up to which another answer is explained."""


@dataclass(frozen=True, slots=True)
class FileDifference:
    """How a file differs from the PyTorch model.

    Attributes:
        max_abs_diff: Largest absolute difference of an output.
        agreement: Share of the samples, 0 to 1, with the same answer: the same class, or values within the bound.
        problem: Why the file must not be used, as the end of a sentence that begins with its name; None if it passes.
    """

    max_abs_diff: float
    agreement: float
    problem: str | None


def compare_outputs(
    expected: Logits, got: Logits, precision: Precision, *, classes: bool, own_error: float = 0.0
) -> FileDifference:
    """Compares outputs of a file with those of the PyTorch model.

    Args:
        expected: Outputs of PyTorch, float32 [N, K].
        got: Outputs of the file, float32 [N, K].
        precision: Precision of the file.
        classes: Whether the answer is the largest of the K outputs.
        own_error: Rounding error of PyTorch itself; 0 if it was not measured.
    """
    if expected.shape != got.shape:
        return FileDifference(0.0, 0.0, f"is refused: it gives {got.shape} where PyTorch gives {expected.shape}")
    if precision == "fp32":
        rows = (expected, got) if classes else (expected.reshape(-1, 1), got.reshape(-1, 1))
        parity = compare_logits(*rows, own_error)
        return FileDifference(parity.max_abs_diff, _agreement(expected, got, classes=classes), parity.problem)
    known = np.isfinite(expected)
    if not np.isfinite(got[known]).all():
        return FileDifference(0.0, 0.0, f"is refused: in {precision} it computes numbers that are not finite")
    expected, got = np.where(known, expected, 0.0), np.where(known, got, 0.0)
    difference = np.abs(expected.astype(np.float64) - got)
    worst, error = float(difference.max(initial=0.0)), float(np.sqrt(np.square(difference).mean()))
    size = max(float(np.median(np.abs(expected).max(axis=1))), SMALLEST_SIZE)
    agreement = _agreement(expected, got, classes=classes, bound=MAX_ERROR[precision] * size)
    if error > MAX_ERROR[precision] * size:
        return FileDifference(
            worst,
            agreement,
            f"is refused: in {precision} its outputs are off by {error:.2g} on average "
            f"(at most {MAX_ERROR[precision] * size:.2g} is accepted for outputs of this size, {size:.3g})",
        )
    if classes:
        lead = expected.max(axis=1) - np.take_along_axis(expected, got.argmax(axis=1)[:, None], 1)[:, 0]
        other = int((lead > _EXPLAINED * error).sum())
        if other > MAX_OTHER_ANSWERS * len(expected):
            return FileDifference(
                worst, agreement, f"is refused: in {precision} it answers {other} of {len(expected)} samples otherwise"
            )
    return FileDifference(worst, agreement, None)


def _agreement(expected: Logits, got: Logits, *, classes: bool, bound: float = 1e-4) -> float:
    if classes:
        return float((expected.argmax(axis=1) == got.argmax(axis=1)).mean())
    allowed = np.maximum(bound, 1e-4 * np.abs(expected).max(initial=0.0))
    return float((np.abs(expected - got) <= allowed).all(axis=1).mean())
