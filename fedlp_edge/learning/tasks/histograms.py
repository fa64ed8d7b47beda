"""This module bins scores and values, so that curves and quantiles follow from counts that add up over devices."""

from __future__ import annotations

import torch
from torch import Tensor

from fedlp_edge.core.metrics.task_metrics import (
    ERROR_BINS,
    ERROR_DECADES,
    MAX_LOG_ODDS,
    SCORE_BINS,
    VALUE_BINS,
    VALUE_RANGE,
)


def score_histogram(log_odds: Tensor, positive: Tensor) -> dict[str, Tensor]:
    """Counts scores by bin, apart for positive and negative samples.

    Args:
        log_odds: Scores, [B, K].
        positive: Whether a sample is positive, bool [B, K].

    Returns:
        ``positives`` and ``negatives``, int64 [K * SCORE_BINS], by class or label and then by rising score.
    """
    columns = log_odds.shape[1]
    size = columns * SCORE_BINS
    # One count of all, negative scores behind positive ones: selecting either kind takes longer than counting it.
    places = _bins(log_odds, -MAX_LOG_ODDS, MAX_LOG_ODDS, SCORE_BINS)
    places += SCORE_BINS * torch.arange(columns, device=places.device)
    places += size * ~positive
    counts = places.flatten().bincount(minlength=2 * size)
    return {"positives": counts[:size], "negatives": counts[size:]}


def error_histogram(errors: Tensor) -> Tensor:
    """Counts reconstruction errors by bins of their logarithm, int64 [ERROR_BINS].

    Args:
        errors: Mean squared errors, [B].
    """
    logarithms = errors.clamp(min=10 ** ERROR_DECADES[0]).log10()
    return _bins(logarithms, *ERROR_DECADES, ERROR_BINS).bincount(minlength=ERROR_BINS)


def value_histogram(true: Tensor, predicted: Tensor) -> Tensor:
    """Counts pairs of true and predicted values, int64 [K * VALUE_BINS * VALUE_BINS], by target, true, predicted.

    Args:
        true: Standardised targets, [B, K].
        predicted: Standardised predictions, [B, K].
    """
    rows, columns = (_bins(values, -VALUE_RANGE, VALUE_RANGE, VALUE_BINS) for values in (true, predicted))
    targets = torch.arange(true.shape[1], device=true.device)
    places = (targets * VALUE_BINS + rows) * VALUE_BINS + columns
    return places.flatten().bincount(minlength=true.shape[1] * VALUE_BINS**2)


def _bins(values: Tensor, low: float, high: float, bins: int) -> Tensor:
    """Returns the number of each value's bin, int64; values beyond the range, and NaN, are in the outermost bins."""
    places = ((values - low) * (bins / (high - low))).nan_to_num_(nan=bins, posinf=bins, neginf=0)
    return places.clamp_(0, bins - 1).long()
