"""This module describes what a served model has answered: how fast, which labels, and how its scores have moved."""

from __future__ import annotations

from typing import Annotated

import msgspec

MAX_REPORTED_LABELS = 32
"""Most labels that a device tells the coordinator of."""

_MAX_LABEL = 64
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class ServingReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a model has answered since it was loaded.

    Attributes:
        file: Name of the model's file.
        answers: Number of answers.
        refused: Number of requests that could not be answered.
        milliseconds: Percentiles (50, 90, 99) of the time for an answer over the latest thousand; empty without any.
        labels: Number of answers by label, most frequent first; empty for a task without labels.
        edges: Upper edges of all bins of ``scores`` but the last; empty if scores are not counted.
        scores: Share of the answers in each bin of scores; empty without answers.
        drift: Jensen-Shannon distance, 0 to 1, of ``scores`` from those on the samples that the model was checked
            with; None without answers, or if the model's file does not say it.
    """

    file: Annotated[str, msgspec.Meta(max_length=256)] = ""
    answers: _Count = 0
    refused: _Count = 0
    milliseconds: Annotated[dict[int, Annotated[float, msgspec.Meta(ge=0)]], msgspec.Meta(max_length=16)] = {}
    labels: Annotated[dict[str, _Count], msgspec.Meta(max_length=1000)] = {}
    edges: Annotated[tuple[float, ...], msgspec.Meta(max_length=64)] = ()
    scores: Annotated[tuple[_Share, ...], msgspec.Meta(max_length=65)] = ()
    drift: _Share | None = None

    @property
    def shortened(self) -> ServingReport:
        """The report with the most frequent labels alone, each cut to a length that a message bears."""
        most = list(self.labels.items())[:MAX_REPORTED_LABELS]
        return msgspec.structs.replace(self, labels={label[:_MAX_LABEL]: count for label, count in most})
