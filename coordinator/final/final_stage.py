"""Runs the stage after the last round: final models are exported and handed out, and the summary is completed."""

from __future__ import annotations

import logging
import math
import time

from coordinator.final.final_choice import choose_final
from coordinator.final.final_export import FinalExport
from coordinator.limits import LIMITS
from coordinator.run_context import RunContext
from coordinator.run_parts import RunParts
from fedlp_edge.core.device_data import agreed_inputs
from fedlp_edge.reporting import events
from fedlp_edge.worker.process import WorkerEvent

log = logging.getLogger("fedlp.coordinator")


class FinalStage:
    """The stage of one run that follows its last round.

    Args:
        context: Context of the run.
        parts: Parts that the run consists of.
        began: Time when the coordinator started, in seconds of the run's clock.
        hand_out: Whether to hand out the models of a run that is finished: wait without end for the devices that lack
            their final models.

    Attributes:
        export: Export of the final models; None as long as rounds are left to do.
    """

    def __init__(self, context: RunContext, parts: RunParts, began: float, *, hand_out: bool) -> None:
        self.export: FinalExport | None = None
        self._context = context
        self._parts = parts
        self._began = began
        self._hand_out = hand_out
        self._taken_up = False

    @property
    def finished(self) -> bool:
        """Whether the run is over and every device has its final model, or is not waited for."""
        return self.export is not None and self.export.done

    def begin(self, *, again: bool = False) -> None:
        """Exports the final models, or hands them out at once if there is nothing to export.

        Args:
            again: An earlier life of the coordinator has committed the last round.
        """
        context, commit, model_server = self._context, self._parts.commit, self._parts.model_server
        choice = choose_final(context, commit.history, commit.model)
        # Devices with a head of their own make their final models from what the model server holds.
        model_server.encoding = "none"
        model_server.put_weights(context.blueprint, choice.weights)
        self.export = export = FinalExport(
            context,
            model=self._parts.classes.model,
            depths=commit.history.useful_depths,
            choice=choice,
            worker=self._parts.worker,
            model_server=model_server,
            inputs=agreed_inputs(self._parts.known_devices.data.values()),
            thresholds=commit.history.thresholds(choice.final.round),
        )
        self._taken_up = again
        if again:
            until = math.inf if self._hand_out else context.clock() + LIMITS.return_seconds
            known = [device for device, (plan, _) in context.journal.plans().items() if plan.depth]
            export.take_up(self._parts.summary_file.earlier(choice.final.model_digest), known, until)
        if export.exports:
            export.export()
        else:
            self._finish(export)

    def answered(self, answer: WorkerEvent) -> None:
        """Takes the worker's result for an exported depth."""
        if self.export is not None and self.export.answered(answer):
            self._finish(self.export)

    def reconnected(self) -> None:
        """Notes that the broker is back, which no device could be heard without."""
        if self.export is not None:
            self.export.reconnected(self._context.clock())

    def tick(self) -> None:
        """Stops waiting for devices from which nothing has come for too long."""
        if self.export is not None:
            self.export.tick(self._context.clock())

    def end(self) -> None:
        """Writes the outcome of the handover into the summary, if the devices were told of their models."""
        if self.export is not None and self.export.announced:
            found = self.export.findings
            if found.told:
                self._context.emit(
                    events.ModelsProved(time=time.time(), proofs=found.proofs(), on_devices=found.scores())
                )
            self._parts.summary_file.write(self.export, self._context.messenger.take_traffic())

    def _finish(self, export: FinalExport) -> None:
        context, choice = self._context, export.choice
        self._parts.summary_file.write(export)
        context.messenger.announce("finished")
        members = self._parts.membership.heard_of()
        for member in self._parts.membership.all():
            if member not in members:
                why = "the broker has kept its status, and nothing else was heard of it"
                log.warning("%s is not waited for: %s", member.device, why)
        export.announce_end(members, context.clock())
        if not self._taken_up:
            present, last = {member.device for member in members}, self._parts.commit.history.last
            left = [device for device in last.devices if device.id not in present] if last is not None else []
            export.await_return({d.id: d.depth for d in left if d.status == "contributed"}, context.clock())
        context.emit(
            events.RunFinished(
                time=time.time(),
                rounds=choice.rounds,
                accuracy=choice.final.accuracy,
                metrics=choice.final.metrics,
                model_digest=choice.final.model_digest,
                seconds=context.clock() - self._began,
                enough=choice.final.enough,
                best=choice.final.round if choice.final.metric else None,
            )
        )
