"""Whether an ONNX file computes what the PyTorch model computes, as far as the arithmetic of either can tell.

Two runtimes add the same numbers in another order, so their results differ, by an amount that is proportional to the
size of what they add. A fixed bound would refuse a good file whose logits are in the thousands, and pass a wrong one
whose logits are tiny. So the bound is relative to the size of the logits; and where a model magnifies rounding by
itself, PyTorch's own error, measured against double precision, says how much may be asked of anybody.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fedlp_edge.learning.model.module_copies import copied

RELATIVE_TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the size of the logits; single precision gives some 1e-6."""

SMALLEST_SIZE = 0.1
"""Logits that are smaller than this are the rest of larger numbers, and are held to an absolute bound."""

OWN_ERRORS = 10.0
"""Times PyTorch's own rounding error that a difference may have in a model that magnifies rounding ..."""

MOST_RELATIVE = 1e-2
"""... as long as it stays below this share of the logits."""

OTHER_ANSWERS = 0.01
"""Share of the samples whose answer may differ; those whose two best logits are as good as equal do not count."""

TIE = 1e-6
"""Share of the size of the logits below which two of them are as good as equal."""

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Parity:
    """What a comparison found.

    Attributes:
        max_abs_diff: largest difference of a logit.
        problem: why the file must not be used, in words that go on from its name; None if it may.
    """

    max_abs_diff: float
    problem: str | None


def compare_logits(expected: Logits, got: Logits, own_error: float = 0.0) -> Parity:
    """Compares what PyTorch and another runtime computed.

    Args:
        expected: PyTorch's logits, [N, classes].
        got: the other's, of the same shape.
        own_error: largest error of PyTorch's own logits, as far as it was measured.
    """
    if np.isnan(expected).any():
        return Parity(float("nan"), "is refused: the model computes what is not a number on real samples")
    finite = np.isfinite(expected)
    if np.isnan(got).any() or not np.array_equal(expected[~finite], got[~finite]) or not np.isfinite(got[finite]).all():
        return Parity(
            float("nan"), "is refused: onnxruntime computes numbers that are not finite where PyTorch does not"
        )
    # A logit of minus infinity rules a class out; both do so alike.
    answers, others = expected.argmax(axis=1), got.argmax(axis=1)
    expected, got = np.where(finite, expected, 0.0), np.where(finite, got, 0.0)
    difference = np.abs(got.astype(np.float64) - expected)
    worst = float(difference.max(initial=0.0))
    size = np.abs(expected).max(axis=1)
    # A sample with small logits is computed from as large numbers as its neighbours.
    size = np.maximum(np.maximum(size, np.median(size)), SMALLEST_SIZE)
    allowed = np.clip(OWN_ERRORS * own_error, RELATIVE_TOLERANCE * size, MOST_RELATIVE * size)
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
    """Largest difference of a model's logits from those that it gives in double precision; 0 if that cannot be had."""
    try:
        exact = copied(model, [model]).double()
        with torch.no_grad():
            logits = torch.cat([exact(x.double()) for x in batches]).numpy()
    except Exception:  # whatever a model says that names a precision in its code
        return 0.0
    finite = np.isfinite(logits) & np.isfinite(expected)
    return float(np.abs(logits[finite] - expected[finite]).max(initial=0.0))
