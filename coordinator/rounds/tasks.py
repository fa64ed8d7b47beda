"""Gives devices their tasks, and broadcasts the new units of the model that the tasks start from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from coordinator.limits import LIMITS
from coordinator.run_context import RunContext
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.core.learning_rate import training_in_round
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.wire.messages import Task


class Tasks:
    """The sender of a run's tasks.

    Args:
        context: Context of the run.
        model_server: Serves the model.
        chunk_bytes: Payload bytes of a chunk of an update.
        listeners: Function that returns how many devices hear a broadcast, those without a task included.
        settle_broadcast: Function that sees to it that the encoding of the model is chosen, called before every task.
        last_counted: Function that returns the round of a device's last update that is in the model; 0 if none is.
    """

    def __init__(
        self,
        context: RunContext,
        model_server: ModelServer,
        chunk_bytes: int,
        listeners: Callable[[], int],
        settle_broadcast: Callable[[], None] = lambda: None,
        last_counted: Callable[[str], int] = lambda _: 0,
    ) -> None:
        self._context = context
        self._blueprint = context.blueprint
        self._model_server = model_server
        self._chunk_bytes = chunk_bytes
        self._listeners = listeners
        self._settle_broadcast = settle_broadcast
        self._last_counted = last_counted

    def give(self, round: int, places: Sequence[CohortMember], seconds_left: float) -> None:
        """Gives devices their tasks of a round, and broadcasts each unit that they need and that was not sent yet."""
        self._settle_broadcast()
        everyone: dict[str, list[str]] = {unit: [] for unit in self._blueprint.downloads}
        for place in places:
            for unit in self._blueprint.downloads_of(place.depth):
                everyone[unit.id].append(place.device)
        readers = {unit: devices for unit, devices in everyone.items() if devices}
        patience = self._patience(readers, len(places))
        for place in places:
            self.tell(round, place, seconds_left, patience)
        self._model_server.broadcast(readers)

    def tell(
        self, round: int, place: CohortMember, seconds_left: float, patience: float = LIMITS.task_patience_seconds
    ) -> None:
        """Sends one device its task, which may be a repeat.

        Args:
            round: Number of the round of the task.
            place: Place of the device.
            seconds_left: Seconds until its deadline.
            patience: Seconds that what was broadcast may still be on its way.
        """
        self._settle_broadcast()
        scheme, units = self._context.config.scheme, self._blueprint.exchanged_by(place.depth)
        every = scheme.exchange_every
        training = training_in_round(self._context.config.training, round, self._context.config.rounds.count)
        self._context.messenger.tell(
            Task(
                run=self._context.run,
                round=round,
                device=place.device,
                depth=place.depth,
                samples=place.samples,
                seed=self._context.config.seed,
                lpr=place.lpr,
                lpr_of=place.lpr_of,
                exchange_every={unit.id: every[unit.id] for unit in units if unit.id in every},
                granularity=scheme.granularity,
                prune=scheme.prune,
                personal_heads=scheme.personal_heads,
                training=msgspec.structs.replace(training, memory=place.memory_saving),
                manifest=self._model_server.versions(unit.id for unit in self._blueprint.downloads_of(place.depth)),
                deadline_seconds=seconds_left,
                chunk_bytes=self._chunk_bytes,
                patience_seconds=patience,
                encoding=place.encoding,
                holdout=self._context.config.holdout_share,
                answer=self._context.config.answer,
                fresh_statistics=not self._context.config.data.evaluate,
                feedback_from=self._last_counted(place.device) if self._context.config.update.error_feedback else None,
            )
        )

    def _patience(self, units: Iterable[str], cohort: int) -> float:
        """Returns the seconds that the broadcast of these units may take to reach a device."""
        # Everybody hears it, those without a task in this round too.
        fan_out = self._model_server.new(units) * max(cohort, self._listeners()) / LIMITS.broker_bytes_per_second
        return min(max(LIMITS.task_patience_seconds, fan_out), self._context.config.rounds.deadline_seconds / 4)
