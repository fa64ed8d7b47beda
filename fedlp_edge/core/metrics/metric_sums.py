"""This module adds up what metrics are computed from, over batches, parts of a data set, and devices.

A task says in *sums* how a model answered to some samples: a confusion matrix, squared errors, histograms of scores.
Sums of different samples add up number by number, so that a metric of all samples follows without any sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

MAX_NUMBERS = 1 << 16
"""Most numbers in one array of sums, such as a confusion matrix of 256 classes."""

SumsName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]
SumsArray = Annotated[tuple[float, ...], msgspec.Meta(max_length=MAX_NUMBERS)]
MetricSums = Annotated[Mapping[SumsName, SumsArray], msgspec.Meta(max_length=32)]
"""Sums by name, each a flat array of numbers whose meaning the task knows."""


def added(parts: Iterable[MetricSums]) -> dict[str, tuple[float, ...]]:
    """Adds up sums of different samples, in the order in which they are given.

    Args:
        parts: Sums of one task and one number of outputs.

    Raises:
        ValueError: The parts have different names, or arrays of different lengths.
    """
    total: dict[str, tuple[float, ...]] | None = None
    for part in parts:
        if total is None:
            total = dict(part)
            continue
        if total.keys() != part.keys():
            raise ValueError(f"sums of {', '.join(part)} cannot be added to sums of {', '.join(total)}")
        total = {name: tuple(a + b for a, b in zip(values, part[name], strict=True)) for name, values in total.items()}
    return total or {}
