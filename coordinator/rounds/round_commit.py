"""Makes the next global model of a closed round: average, server step, checkpoint, evaluation, commit.

One round from top to bottom: ``close`` (average and server step), ``_publish`` (the new model on its way, and to disk),
``_evaluate`` (on held-out data), ``_commit`` (for good), ``_tidy`` (what is of no use any more).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from coordinator.background import Background
from coordinator.fleet.fleet_classes import FleetClasses
from coordinator.limits import LIMITS
from coordinator.rounds.round_check import RoundCheck
from coordinator.rounds.round_updates import RoundUpdates
from coordinator.rounds.run_history import RunHistory
from coordinator.run_context import RunContext
from coordinator.summary_file import SummaryFile
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.device_scores import median_losses
from fedlp_edge.core.metrics.metric_sums import MetricSums
from fedlp_edge.reporting import events
from fedlp_edge.reporting.answer_counts import answer_counts
from fedlp_edge.reporting.round_accounting import round_finished
from fedlp_edge.reporting.summary import Purpose, RoundSummary, Traffic, values_of
from fedlp_edge.wire.messages import Offer
from fedlp_edge.worker.jobs import Evaluate, Evaluated
from fedlp_edge.worker.process import WorkerProcess

log = logging.getLogger("fedlp.coordinator")


@dataclass
class _ClosedRound:
    """The closed round whose model is being made.

    Attributes:
        updates: Updates that arrived.
        lost: Devices that were given up.
        began: Time when the round opened, in seconds of the run's clock.
        traffic: Traffic since the round before was closed.
        committed: Function that is called once the round is committed.
        evaluation: Id of the worker's job that measures the new model; None if none is under way.
    """

    updates: RoundUpdates
    lost: tuple[str, ...]
    began: float
    traffic: dict[Purpose, Traffic]
    committed: Callable[[], None]
    evaluation: int | None = None


class RoundCommit:
    """The steps that carry closed rounds to their end, one round at a time.

    Args:
        context: Context of the run.
        model: The global model; takes the server steps.
        history: History that the committed rounds are added to.
        summary_file: Updated with every committed round.
        model_server: Gets every new model.
        worker: Evaluates.
        background: Writes checkpoints and removes files.
        classes: The numbers of the fleet's classes.

    Attributes:
        model: The global model.
        history: The committed rounds.
    """

    def __init__(
        self,
        context: RunContext,
        model: GlobalModel,
        history: RunHistory,
        summary_file: SummaryFile,
        model_server: ModelServer,
        worker: WorkerProcess,
        background: Background,
        classes: FleetClasses,
    ) -> None:
        self.model = model
        self.history = history
        self._context = context
        self._summary_file = summary_file
        self._model_server = model_server
        self._worker = worker
        self._background = background
        self._classes = classes
        self._check = RoundCheck(model, context.config.limits.norm_ratio, self._withdrawn)
        self._closed: _ClosedRound | None = None
        self._warned = False

    def close(self, updates: RoundUpdates, lost: tuple[str, ...], began: float, committed: Callable[[], None]) -> None:
        """Averages the updates that arrived, makes the server step, and sends the new model out.

        Args:
            updates: Updates of the round.
            lost: Devices that were given up.
            began: Time when the round opened, in seconds of the run's clock.
            committed: Function that is called once the round is committed.
        """
        self._check.apply(updates, self._loss_on_devices(updates), self._guessed_classes)
        traffic = self._context.messenger.take_traffic()  # what is sent from here on belongs to the next round
        self._closed = closed = _ClosedRound(updates, lost, began, traffic, committed)
        self._publish(closed)

    def evaluated(self, job: int, result: Evaluated) -> None:
        """Takes the worker's evaluation of the new model."""
        closed = self._closed
        if closed is None or job != closed.evaluation:
            return
        closed.evaluation = None
        # Of a class that the data lack, an honest device may be the only one that has samples: the more it teaches
        # the model to answer that class, the worse the model looks on samples of the others.
        loss = {depth: math.inf if value is None else value for depth, value in result.exit_loss.items()}
        if self._check.withdraw_outlier(closed.updates, loss, self._guessed_classes):
            self._publish(closed)
        else:
            self._commit(closed, result)

    def clear_spool(self) -> None:
        """Removes all updates from the disk: the last round is committed."""
        self._background.do(self._context.directory.clear_spool)

    @property
    def _guessed_classes(self) -> int:
        """Number of classes among which a model without any knowledge guesses; 0 for a task without classes."""
        return self._context.blueprint.classes if self._context.config.model.task == "classification" else 0

    def _withdrawn(self, offer: Offer, reason: str) -> None:
        """Reports that the round's model is made without an update that was admitted."""
        self._context.emit(
            events.UpdateRejected(
                time=time.time(), round=offer.round, device=offer.device, code="implausible", reason=reason
            )
        )

    def _loss_on_devices(self, updates: RoundUpdates) -> dict[int, float]:
        """Returns the devices' median loss of the model that they started from; empty where the coordinator judges."""
        config = self._context.config
        if config.data.evaluate or not config.holdout_share or config.rounds.mode == "buffered":
            return {}
        return median_losses(updates.scores())

    def _publish(self, closed: _ClosedRound) -> None:
        """Sends the new model out and writes its checkpoint."""
        round, checkpoints = closed.updates.round, self._context.checkpoints
        last = round == self._context.config.rounds.count
        ahead = frozenset[str]() if last else self._held(closed.updates)
        self._model_server.put_weights(self._context.blueprint, self.model.weights, ahead)
        weights, state = self.model.whole, self.model.state
        self._background.do(lambda: checkpoints.save(round, weights, state), then=lambda: self._evaluate(closed))

    def _held(self, updates: RoundUpdates) -> frozenset[str]:
        """Returns the units that the devices of a round train, as those of the next round will, too."""
        depths = {place.depth for place in updates.cohort.places}
        return frozenset(unit.id for depth in depths for unit in self._context.blueprint.exchanged_by(depth))

    def _evaluate(self, closed: _ClosedRound) -> None:
        data = self._context.config.data.evaluate
        if not data:
            self._commit(closed, None)
            return
        closed.evaluation = self._worker.submit(
            Evaluate(
                model=self._classes.model,
                state_path=str(self._context.checkpoints.evaluated_path(closed.updates.round)),
                depths=self.history.judged_depths,
                answer=self._context.config.answer,
                data=data,
                training_loss=self._training_loss(closed.updates),
            )
        )

    def _training_loss(self, updates: RoundUpdates) -> float | None:
        """Returns the mean loss of the devices' own samples; None while an accuracy at chance level is no surprise."""
        offers = [update.offer for update in updates.accepted.values()]
        if updates.round < min(LIMITS.early_rounds, self._context.config.rounds.count) or not offers:
            return None
        return sum(offer.loss for offer in offers) / len(offers)

    def _commit(self, closed: _ClosedRound, judged: Evaluated | None) -> None:
        updates = closed.updates
        seconds = self._context.clock() - closed.began
        summary = updates.summary(seconds, judged, self.history.profiles, closed.traffic, closed.lost)
        self._context.journal.commit_round(updates.round, msgspec.json.encode(summary))
        self.history.add(summary)
        spent, round, kept = updates.spent(), updates.round, self.history.judged.kept_rounds
        if judged is not None and judged.scores.sums:
            self._note_answers(round, judged.scores.sums, kept)
        self._background.do(lambda: self._tidy(spent, round, kept))
        metric = self.history.judged.metric
        values = values_of(metric, summary.metrics, summary.accuracy).values()
        log.info("round %d: %d of %d devices, %s %s%s", round, len(updates.accepted), len(summary.devices), metric,
                 " ".join(f"{value:.3f}" for value in values) or "not evaluated", _on_devices(summary))  # fmt: skip
        warning = self._new_warning(summary.warning, summary.round)
        self._context.emit(round_finished(summary, len(updates.accepted), warning))
        self._summary_file.update()
        self._closed = None
        closed.committed()

    def _note_answers(self, round: int, sums: Mapping[int, MetricSums], kept: frozenset[int]) -> None:
        """Keeps how the model answered, for the plot of the final model."""
        depth = self.history.judged.judged_depth(sums)
        if depth in sums:
            answers = answer_counts(self._classes.model, "central", depth, sums[depth])
            if answers is not None:
                self._context.journal.put_answers(round, msgspec.json.encode(answers), kept)

    def _new_warning(self, warning: str, round: int) -> str:
        """Returns whether a warning is reported: when it comes up and at the end, not after every round in between."""
        if not warning or (self._warned and round < self._context.config.rounds.count):
            return ""
        self._warned = True
        log.warning("round %d: %s", round, warning)
        return warning

    def _tidy(self, spent: Sequence[Path], round: int, kept: frozenset[int]) -> None:
        """Removes what a committed round leaves behind."""
        for update in spent:
            update.unlink(missing_ok=True)
        self._context.checkpoints.prune(round, kept)


def _on_devices(summary: RoundSummary) -> str:
    """Returns the log's text on what devices measured; empty if they measured nothing."""
    told = [
        f"depth {depth} {' '.join(f'{name} {value:.3f}' for name, value in scores.mean.items())}"
        for depth, scores in summary.on_devices.items()
    ]
    return f"; on devices, before the round: {', '.join(told)}" if told else ""
