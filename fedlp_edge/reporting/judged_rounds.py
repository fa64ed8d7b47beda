"""This module reads from the summaries of rounds what they are judged by: which is best, and whether the run is over.

The summaries stand in the journal, so a run that is started again decides as it did before.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Collection, Iterable

import msgspec

from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.rounds.metric_history import MeasuredRound, MetricHistory
from fedlp_edge.core.settings import EvaluationSettings, ModelChoice
from fedlp_edge.reporting.summary import FinalModel, RoundSummary, answered_with, exits_trained_in, values_of

log = logging.getLogger(__name__)


class Judging(msgspec.Struct, frozen=True):
    """How the rounds of a run are judged.

    Attributes:
        evaluation: Settings of the run.
        choice: Model that is exported.
        task: Task of the model.
        central: Whether there are central test data.
        rounds: Rounds of the run.
        answer: What exported models answer with, by which they are judged.
    """

    evaluation: EvaluationSettings = EvaluationSettings()
    choice: ModelChoice = "last"
    task: str = "classification"
    central: bool = True
    rounds: int = 0
    answer: AnswerMode = "exit"


class JudgedRounds:
    """The committed rounds of a run, judged.

    Args:
        judging: How they are judged.
        summaries: Summaries of the rounds that are committed already, from first to last.
    """

    def __init__(self, judging: Judging, summaries: Iterable[RoundSummary] = ()) -> None:
        self._judging = judging
        self._history = MetricHistory(judging.evaluation, judging.evaluation.metric_of(judging.task))
        self._accuracy: dict[int, dict[int, float]] = {}
        self._metrics: dict[int, dict[int, dict[str, float]]] = {}
        self._trained: set[int] = set()
        self._last = 0
        for summary in summaries:
            self.add(summary)

    def add(self, summary: RoundSummary) -> None:
        """Takes a committed round into account."""
        self._last = summary.round
        summary = answered_with(summary, self._judging.answer, self._judging.task)
        self._accuracy[summary.round] = summary.accuracy
        self._metrics[summary.round] = summary.metrics
        self._trained |= exits_trained_in(summary)
        if (measured := self._measured(summary)) is not None:
            self._history.add(measured)

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return self._history.metric

    @property
    def enough(self) -> str:
        """Why no further round is needed although the run has more, in one line; empty if it goes on or is over."""
        return self._history.plateau if self._last < self._judging.rounds else ""

    @property
    def over(self) -> bool:
        """Whether no round is left to do."""
        return self._last >= self._judging.rounds or bool(self._history.plateau)

    def ends_with(self, summary: RoundSummary) -> bool:
        """Returns whether no round is left to do once this one is committed."""
        trial = copy.copy(self)
        # Figures of the rounds before do not count here, and copying them would take longer with every round.
        trial._accuracy, trial._metrics = {}, {}
        trial._trained, trial._history = set(self._trained), self._history.copy()
        trial.add(summary)
        return trial.over

    def final_model(self, kept: Callable[[int], bool], digest_of: Callable[[int], str]) -> FinalModel:
        """Returns what the summary says of the model that the run ends with, once a round is committed.

        Args:
            kept: Function that returns whether the checkpoint of a round is still there.
            digest_of: Function that returns the digest of the model after a round.
        """
        best = self.best(kept)
        if best is not None and best != (wanted := self.best()) and wanted is not None:
            log.warning("the checkpoint of round %d, the best by %s, is gone: see [rounds] keep_checkpoints",
                        wanted.round, self.metric)  # fmt: skip
        round = best.round if best is not None else self._last
        return FinalModel(
            accuracy=self._accuracy[round],
            metrics=self._metrics[round],
            model_digest=digest_of(round),
            round=round,
            metric=self.metric if best is not None else "",
            value=best.value if best is not None else None,
            enough=self.enough,
        )

    def best(self, kept: Callable[[int], bool] = lambda _: True) -> MeasuredRound | None:
        """Returns the best round, if the best one is to be exported and one was measured.

        Args:
            kept: Function that returns whether the checkpoint of a round is still there.
        """
        return self._history.best(kept) if self._judging.choice == "best" else None

    @property
    def kept_rounds(self) -> frozenset[int]:
        """Rounds whose checkpoints stay however old they are: the best one may be wanted when the run is over."""
        best = self._history.best()
        return frozenset([best.round]) if best else frozenset()

    def _measured(self, summary: RoundSummary) -> MeasuredRound | None:
        """The metric that a summary has, and the round whose model it is of; None if it has none."""
        evaluation = self._judging.evaluation
        if evaluation.from_devices(central=self._judging.central):
            return self._measured_on_devices(summary)
        values = _of_central_data(summary, self._history.metric)
        if not values:
            return None
        depth = self.judged_depth(values)
        return MeasuredRound(summary.round, values[depth]) if depth in values else None

    def judged_depth(self, measured: Collection[int]) -> int:
        """Returns the depth that stands for the model.

        Args:
            measured: Depths of the exits that central test data were answered by; one at least.
        """
        # The full model is always measured, but says nothing as long as no device trains its last layers.
        return self._judging.evaluation.depth or max(self._trained.intersection(measured), default=max(measured))

    def _measured_on_devices(self, summary: RoundSummary) -> MeasuredRound | None:
        """The metric of the devices of a round, which have judged the model that the round before made."""
        metric, before = self._history.metric, summary.round - 1
        values = {depth: scores.mean[metric] for depth, scores in summary.on_devices.items() if metric in scores.mean}
        depth = self._judging.evaluation.depth or max(values, default=0)
        return MeasuredRound(before, values[depth]) if before and depth in values else None


def _of_central_data(summary: RoundSummary, metric: str) -> dict[int, float]:
    """The values of a metric by depth."""
    if found := values_of(metric, summary.metrics, summary.accuracy):
        return found
    if metric == "loss":
        return {depth: math.nan if value is None else value for depth, value in summary.loss.items()}
    return {}
