"""This module counts how the final model answered, as a confusion matrix or as pairs of true and predicted values.

The counts come from the sums that an evaluation or the devices have added up, so no sample is needed for them. They are
bounded, stand in ``summary.json``, and the pictures of a run are drawn from them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fedlp_edge.core.metrics.metric_sums import MetricSums
from fedlp_edge.core.metrics.task_metrics import VALUE_BINS, VALUE_RANGE
from fedlp_edge.core.settings import ModelSettings

MAX_TARGETS = 4
"""Most targets whose values are kept."""

Counts = tuple[tuple[int, ...], ...]


class ValueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The answers for one target of a regression.

    Attributes:
        name: Name of the target; its number if it has none.
        unit: Unit of the target; empty if it is unknown.
        low: Lower edge of the first bin, in the target's unit; the outermost bins hold everything beyond, too.
        high: Upper edge of the last bin.
        counts: Number of samples by true and then by predicted value, in bins of equal width.
    """

    name: str
    unit: str = ""
    low: float
    high: float
    counts: Counts


class AnswerCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of one exit to samples that it was not trained on.

    Attributes:
        source: Origin of the samples: the ``central`` test data, or what the ``devices`` hold out.
        depth: Depth of the exit.
        samples: Number of samples.
        names: Names of the classes; their numbers if they have none.
        confusion: Number of samples by true and then by predicted class; empty for a task without classes, and for more
            classes than a confusion matrix is kept for.
        values: Answers for the first targets of a regression; empty for other tasks.
    """

    source: Literal["central", "devices"]
    depth: int
    samples: int
    names: tuple[str, ...] = ()
    confusion: Counts = ()
    values: tuple[ValueCounts, ...] = ()

    def most_confused(self, pairs: int = 3) -> list[tuple[str, str, int, int]]:
        """Returns the pairs of classes that are confused most.

        Args:
            pairs: Most pairs to return.

        Returns:
            True class, predicted class, number of samples, and number of samples of the true class.
        """
        found = [
            (count, true, predicted)
            for true, row in enumerate(self.confusion)
            for predicted, count in enumerate(row)
            if count and true != predicted
        ]
        found.sort(key=lambda entry: (-entry[0], entry[1:]))
        return [
            (self.names[true], self.names[predicted], count, sum(self.confusion[true]))
            for count, true, predicted in found[:pairs]
        ]


def answer_counts(
    model: ModelSettings, source: Literal["central", "devices"], depth: int, sums: MetricSums
) -> AnswerCounts | None:
    """Returns how an exit answered; None if the sums of its task do not say so.

    Args:
        model: Settings of the model, with the names and numbers that the fleet has agreed on.
        source: Origin of the samples.
        depth: Depth of the exit.
        sums: Sums of the samples.
    """
    samples = int(sums["samples"][0]) if "samples" in sums else 0
    if model.task == "classification" and "confusion" in sums:
        classes = len(sums["support"])
        return AnswerCounts(
            source=source,
            depth=depth,
            samples=samples,
            names=_names(model.class_names, classes),
            confusion=_square(sums["confusion"], classes),
        )
    if model.task == "regression" and "pairs" in sums:
        return AnswerCounts(source=source, depth=depth, samples=samples, values=_values(model, sums["pairs"]))
    return None


def _values(model: ModelSettings, pairs: tuple[float, ...]) -> tuple[ValueCounts, ...]:
    cells = VALUE_BINS**2
    targets = len(pairs) // cells
    names = _names(model.class_names, targets)
    units = model.target_units or ("",) * targets
    means, deviations = model.target_mean or (0.0,) * targets, model.target_std or (1.0,) * targets
    return tuple(
        ValueCounts(
            name=names[number],
            unit=units[number],
            low=means[number] - VALUE_RANGE * deviations[number],
            high=means[number] + VALUE_RANGE * deviations[number],
            counts=_square(pairs[number * cells : (number + 1) * cells], VALUE_BINS),
        )
        for number in range(min(targets, MAX_TARGETS))
    )


def _names(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Returns names by number, the number itself where there is no name."""
    return tuple(names[number] if number < len(names) else str(number) for number in range(count))


def _square(flat: tuple[float, ...], size: int) -> Counts:
    return tuple(tuple(int(count) for count in flat[row * size : (row + 1) * size]) for row in range(size))
