"""This module counts what a served model answers: how fast, which labels, and how sure it is compared with its test.

A model in the field is rarely told whether it was right. That its scores are distributed otherwise than on the
samples that it was checked with is the earliest sign that the world has changed, and it needs no labels.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Sequence

from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.learning.export.metadata import ScoreHistogram
from fedlp_edge.learning.export.score_histogram import bin_of

_LATEST = 1000  # answers from which percentiles of the latency are computed
_PERCENTILES = (50, 90, 99)
_MAX_LABELS = 1000  # labels that are counted apart


class AnswerStatistics:
    """Counts answers; may be called from several threads.

    Args:
        file: Name of the model's file.
        reference: Distribution of the scores on the samples that the model was checked with; None if it is not known.
        edges: Edges of the bins in which scores are counted without a reference; empty to count none.
    """

    def __init__(self, file: str = "", reference: ScoreHistogram | None = None, edges: Sequence[float] = ()) -> None:
        self._file = file
        self._reference = reference
        self._edges = tuple(edges) if reference is None else reference.edges
        self._lock = threading.Lock()
        self._answers = 0
        self._refused = 0
        self._seconds: deque[float] = deque(maxlen=_LATEST)
        self._labels: Counter[str] = Counter()
        self._scores = [0] * (len(self._edges) + 1)

    def answered(self, label: str, score: float | None, seconds: float) -> None:
        """Counts an answer.

        Args:
            label: What the model answered; empty for a task without labels.
            score: How sure it is, or the number that it gives; None if it gives none.
            seconds: Time from the request's last byte to the answer.
        """
        with self._lock:
            self._answers += 1
            self._seconds.append(seconds)
            if label and (label in self._labels or len(self._labels) < _MAX_LABELS):
                self._labels[label] += 1
            if score is not None:
                self._scores[bin_of(self._edges, score)] += 1

    def refused(self) -> None:
        """Counts a request that could not be answered."""
        with self._lock:
            self._refused += 1

    def report(self) -> ServingReport:
        """Returns the counts so far."""
        with self._lock:
            seconds, counted = sorted(self._seconds), sum(self._scores)
            scores = tuple(count / counted for count in self._scores) if counted and self._edges else ()
            return ServingReport(
                file=self._file,
                answers=self._answers,
                refused=self._refused,
                milliseconds={share: 1000 * _percentile(seconds, share) for share in _PERCENTILES} if seconds else {},
                labels=dict(self._labels.most_common()),
                edges=self._edges,
                scores=scores,
                drift=distance(scores, self._reference.shares) if scores and self._reference is not None else None,
            )


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns the Jensen-Shannon distance of two distributions over the same bins: 0 if equal, 1 if disjoint.

    It is the root of the Jensen-Shannon divergence in bits (Endres and Schindelin, IEEE Trans. Inf. Theory 49, 2003).
    """
    mean = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
    divergence = (_relative_entropy(one, mean) + _relative_entropy(other, mean)) / 2
    return math.sqrt(min(1.0, max(0.0, divergence)))


def _relative_entropy(shares: Sequence[float], mean: Sequence[float]) -> float:
    return sum(share * math.log2(share / middle) for share, middle in zip(shares, mean, strict=True) if share > 0)


def _percentile(ascending: Sequence[float], share: int) -> float:
    return ascending[min(len(ascending) - 1, math.ceil(share / 100 * len(ascending)) - 1)]
