"""Keeps ``summary.json`` up to date: committed rounds, devices that cannot take part, and final models.

The file holds all rounds, so it is longer after every round, and takes longer to write. During a run that may take a
small share of the time only: what is news waits for the next time then. The journal has it at once in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from coordinator.final.final_export import FinalExport
from coordinator.rounds.run_history import RunHistory
from coordinator.run_context import RunContext
from fedlp_edge.core.rounds.fitness import Fitness
from fedlp_edge.reporting.summary import TIME_SHARE, Purpose, Summary, Traffic, load_if_there, save_encoded
from fedlp_edge.storage.time_share import TimeShare


class SummaryFile:
    """The summary of one run on the disk.

    Args:
        context: Context of the run.
        history: The rounds that are committed.
        fitness: Fitness of a device, as it stands.
    """

    def __init__(self, context: RunContext, history: RunHistory, fitness: Callable[[str], Fitness]) -> None:
        self._context = context
        self._history = history
        self._fitness = fitness
        self._time_share = TimeShare(TIME_SHARE, context.clock)
        self._is_behind = False

    def update(self) -> None:
        """Writes the summary of the run as it stands, now or at one of the next ticks."""
        self._is_behind = True
        self.tick()

    def tick(self) -> None:
        """Writes what waits to be written, if there is time for it."""
        if self._is_behind and self._time_share.is_due:
            self.write()

    def catch_up(self) -> None:
        """Writes what waits to be written: the run stops."""
        if self._is_behind:
            self.write()

    def earlier(self, digest: str) -> Summary | None:
        """Returns the summary that an earlier life wrote after the last round, if the model has this digest."""
        earlier = load_if_there(self._context.directory.summary)
        same = earlier is not None and earlier.final is not None and earlier.final.model_digest == digest
        return earlier if same else None

    def write(self, export: FinalExport | None = None, traffic: Mapping[Purpose, Traffic] | None = None) -> None:
        """Writes the summary of the run as it stands.

        Args:
            export: Export of the final models, once the last round is committed.
            traffic: Traffic after the last round.
        """
        context = self._context
        summary = Summary(
            run=context.run,
            fleet=context.config.fleet,
            model=context.config.model.name,
            rounds=(),
            devices=self._history.outcomes(self._fitness),
            final=export.final if export else None,
            onnx=export.models if export else (),
            refused=export.refused if export else (),
            delivered=export.delivered if export else {},
            proofs=export.findings.proofs() if export else (),
            handed_over=export is not None and export.done,
            traffic=dict(traffic or {}),
            start_weights=context.start_weights,
            task=context.config.model.task,
            metric=self._history.judged.metric,
        )
        with self._time_share.measured():
            save_encoded(summary, context.journal.summaries(), context.directory.summary)
        self._is_behind = False
