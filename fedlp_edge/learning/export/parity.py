"""This module checks that an ONNX file gives the same logits as the PyTorch model, up to rounding errors.

Two runtimes add numbers in different orders, so their results differ by an amount that is proportional to the size of
these numbers. A fixed bound would refuse a good file with logits in the thousands, and accept a wrong file with tiny
logits. So the bound is relative to the size of the logits. Where a model amplifies rounding errors, the bound is
derived from PyTorch's own rounding error, measured against double precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedlp_edge.learning.model.module_copies import copied

RELATIVE_TOLERANCE = 1e-4
"""Largest accepted difference of a logit, as a share of the largest logit; single precision gives about 1e-6."""

SMALLEST_SIZE = 0.1
"""Size of logits below which the bound is absolute, because so small logits are differences of larger numbers."""

OWN_ERRORS = 10.0
"""Largest accepted difference as a multiple of PyTorch's own rounding error, in a model that amplifies rounding."""

MAX_RELATIVE = 1e-2
"""Largest accepted difference as a share of the largest logit, whatever PyTorch's own rounding error is."""

OTHER_ANSWERS = 0.01
"""Share of samples whose predicted class may differ; samples with a tie of the two best logits do not count."""

TIE = 1e-6
"""Difference of two logits, as a share of the largest logit, below which they count as equal."""

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Parity:
    """Holds the result of a comparison.

    Attributes:
        max_abs_diff: Largest absolute difference of a logit.
        problem: Reason why the file must not be used, as the end of a sentence that begins with its name; None if the
            file passes.
    """

    max_abs_diff: float
    problem: str | None


def compare_logits(expected: Logits, got: Logits, own_error: float = 0.0) -> Parity:
    """Compares the logits of PyTorch and of another runtime.

    Args:
        expected: Logits of PyTorch, float32 [N, classes].
        got: Logits of the other runtime, float32 [N, classes].
        own_error: Largest rounding error of PyTorch's logits; 0 if it was not measured.
    """
    if np.isnan(expected).any():
        return Parity(float("nan"), "is refused: the model computes what is not a number on real samples")
    finite = np.isfinite(expected)
    if np.isnan(got).any() or not np.array_equal(expected[~finite], got[~finite]) or not np.isfinite(got[finite]).all():
        return Parity(
            float("nan"), "is refused: onnxruntime computes numbers that are not finite where PyTorch does not"
        )
    # A logit of minus infinity rules a class out. Both runtimes agree on these here, so only finite ones are compared.
    answers, others = expected.argmax(axis=1), got.argmax(axis=1)
    expected, got = np.where(finite, expected, 0.0), np.where(finite, got, 0.0)
    difference = np.abs(got.astype(np.float64) - expected)
    worst = float(difference.max(initial=0.0))
    size = np.abs(expected).max(axis=1)
    # A sample with small logits is computed from numbers as large as those of other samples, hence the median.
    size = np.maximum(np.maximum(size, np.median(size)), SMALLEST_SIZE)
    allowed = np.clip(OWN_ERRORS * own_error, RELATIVE_TOLERANCE * size, MAX_RELATIVE * size)
    if (difference > allowed[:, None]).any():
        sample = int((difference.max(axis=1) / allowed).argmax())
        return Parity(
            worst,
            f"is refused: onnxruntime differs from PyTorch by {difference[sample].max():.1e} on real samples "
            f"(at most {allowed[sample]:.0e} is accepted for logits of this size, {size[sample]:.3g})",
        )
    lead = np.take_along_axis(expected, answers[:, None], 1) - np.take_along_axis(expected, others[:, None], 1)
    other = int((lead[:, 0] > np.maximum(TIE * size, 2 * own_error)).sum())
    if other > OTHER_ANSWERS * len(expected):
        return Parity(
            worst, f"is refused: onnxruntime answers {other} of {len(expected)} real samples otherwise than PyTorch"
        )
    return Parity(worst, None)


def own_error(model: nn.Module, batches: list[Tensor], expected: Logits) -> float:
    """Measures the rounding error of a model: the largest difference of its logits from those in double precision.

    Args:
        model: Model that computed ``expected``.
        batches: Samples, one tensor [B, ...] per batch.
        expected: Logits of the model in single precision, float32 [N, classes].

    Returns:
        Largest absolute difference; 0 if the model does not run in double precision.
    """
    try:
        exact = copied(model, [model]).double()
        with torch.no_grad():
            logits = torch.cat([exact(x.double()) for x in batches]).numpy()
    except Exception:  # a model whose code fixes a precision may raise any error
        return 0.0
    finite = np.isfinite(logits) & np.isfinite(expected)
    return float(np.abs(logits[finite] - expected[finite]).max(initial=0.0))
