"""This module says how the scores of a model's answers are distributed, by which a change of the inputs is noticed.

A score is the probability of the most probable class or label, the score of an anomaly, or the first predicted number.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.learning.export.metadata import OUTPUT, ScoreHistogram

PROBABILITY_EDGES = tuple(round(0.1 * number, 1) for number in range(1, 10))
"""Edges of the bins of probabilities: ten of equal width."""

_BINS = 10  # of scores that are no probabilities; as many scores fall into each


def scores_of(task: str, outputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """Returns the score of each sample, float64 [B].

    Args:
        task: Task of the model.
        outputs: What the graph gives for B samples, by name of the output.
    """
    if task == "classification":
        return np.asarray(softmax(outputs[OUTPUT]).max(axis=1))
    if task == "multi-label":
        return np.asarray(np.asarray(outputs["probabilities"], np.float64).max(axis=1))
    first = outputs["score"] if task == "anomaly" else next(iter(outputs.values()))
    return np.asarray(first, np.float64).reshape(len(first), -1)[:, 0]


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns the probabilities of classes, float64 [B, classes], each row of which adds up to 1.

    Args:
        logits: Logits of the classes, [B, classes].
    """
    values = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return result


def has_probabilities(task: str) -> bool:
    """Tells whether the scores of a task are probabilities, 0 to 1."""
    return task in ("classification", "multi-label")


def score_histogram(task: str, scores: npt.NDArray[np.float64]) -> ScoreHistogram | None:
    """Counts scores in bins that suit the task; None if there are none, or some are not finite.

    Args:
        task: Task of the model.
        scores: Scores, float64 [N].
    """
    if not len(scores) or not np.isfinite(scores).all():
        return None
    if has_probabilities(task):
        edges = PROBABILITY_EDGES
    else:
        edges = tuple(np.unique(np.quantile(scores, np.arange(1, _BINS) / _BINS)).tolist())
    counts = np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1)
    return ScoreHistogram(edges=edges, shares=tuple((counts / len(scores)).tolist()))


def bin_of(edges: Sequence[float], score: float) -> int:
    """Returns the number of the bin of a score, 0 to the number of edges."""
    return bisect.bisect_right(edges, score)
