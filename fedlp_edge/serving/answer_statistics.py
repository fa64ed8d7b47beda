"""This module counts what a served model answers: how fast, which labels, and how sure it is compared with its test.

A model in the field is rarely told whether it was right. That its confidence is distributed otherwise than on the
samples that it was checked with is the earliest sign that the world has changed, and it needs no labels.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Sequence

import msgspec

CONFIDENCE_BINS = 10
"""Bins of equal width, from 0 to 1, in which confidences are counted."""

_LATEST = 1000  # answers from which percentiles of the latency are computed
_PERCENTILES = (50, 90, 99)
_MAX_LABELS = 1000  # labels that are counted apart


class AnswerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a model has answered since it was loaded.

    Attributes:
        answers: Number of answers.
        refused: Number of requests that could not be answered.
        milliseconds: Percentiles (50, 90, 99) of the time for an answer over the latest thousand; empty without any.
        labels: Number of answers by label.
        confidence: Share of the answers by confidence, in `CONFIDENCE_BINS` bins; empty without any.
        drift: Jensen-Shannon distance, 0 to 1, of ``confidence`` from that on the samples that the model was checked
            with; None without answers, or if the model's file does not say it.
    """

    answers: int
    refused: int
    milliseconds: dict[int, float]
    labels: dict[str, int]
    confidence: tuple[float, ...]
    drift: float | None


class AnswerStatistics:
    """Counts answers; may be called from several threads.

    Args:
        reference: Share of the samples that the model was checked with by confidence; empty if it is not known.
    """

    def __init__(self, reference: Sequence[float] = ()) -> None:
        self._reference = tuple(reference)
        self._lock = threading.Lock()
        self._answers = 0
        self._refused = 0
        self._seconds: deque[float] = deque(maxlen=_LATEST)
        self._labels: Counter[str] = Counter()
        self._confidence = [0] * CONFIDENCE_BINS

    def answered(self, label: str, confidence: float, seconds: float) -> None:
        """Counts an answer.

        Args:
            label: What the model answered.
            confidence: How sure it is, 0 to 1.
            seconds: Time from the request's last byte to the answer.
        """
        with self._lock:
            self._answers += 1
            self._seconds.append(seconds)
            if label in self._labels or len(self._labels) < _MAX_LABELS:
                self._labels[label] += 1
            self._confidence[confidence_bin(confidence)] += 1

    def refused(self) -> None:
        """Counts a request that could not be answered."""
        with self._lock:
            self._refused += 1

    def report(self) -> AnswerReport:
        """Returns the counts so far."""
        with self._lock:
            seconds = sorted(self._seconds)
            confidence = tuple(count / self._answers for count in self._confidence) if self._answers else ()
            return AnswerReport(
                answers=self._answers,
                refused=self._refused,
                milliseconds={share: 1000 * _percentile(seconds, share) for share in _PERCENTILES} if seconds else {},
                labels=dict(self._labels.most_common()),
                confidence=confidence,
                drift=distance(confidence, self._reference) if confidence and self._reference else None,
            )


def confidence_bin(confidence: float) -> int:
    """Returns the bin of a confidence, 0 to `CONFIDENCE_BINS` - 1."""
    return min(CONFIDENCE_BINS - 1, max(0, int(confidence * CONFIDENCE_BINS)))


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns the Jensen-Shannon distance of two distributions over the same bins: 0 if equal, 1 if disjoint.

    It is the root of the Jensen-Shannon divergence in bits (Endres and Schindelin, IEEE Trans. Inf. Theory 49, 2003).
    """
    mean = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
    divergence = (_relative_entropy(one, mean) + _relative_entropy(other, mean)) / 2
    return math.sqrt(max(0.0, divergence))


def _relative_entropy(shares: Sequence[float], mean: Sequence[float]) -> float:
    return sum(share * math.log2(share / middle) for share, middle in zip(shares, mean, strict=True) if share > 0)


def _percentile(ascending: Sequence[float], share: int) -> float:
    return ascending[min(len(ascending) - 1, math.ceil(share / 100 * len(ascending)) - 1)]
