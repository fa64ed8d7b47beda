"""Exports the final model to ONNX files that are checked, and hands every device the file of its depth.

A device with a personal head gets the final layers instead, and makes its file itself: the head never leaves it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from coordinator.config import FleetConfig
from coordinator.final.device_findings import DeviceFindings
from coordinator.final.final_choice import FinalChoice
from coordinator.final.handover import Handover
from coordinator.fleet.registry import Member
from coordinator.limits import LIMITS
from coordinator.run_context import RunContext
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.device_data import InputFacts
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.reporting import events
from fedlp_edge.reporting.answer_counts import AnswerCounts, answer_counts
from fedlp_edge.reporting.summary import FinalModel, Summary
from fedlp_edge.wire.messages import DeploymentReport, RunEnded, UnitRequest
from fedlp_edge.worker.jobs import Export, Exported, ExportedModel, Failed, RefusedModel
from fedlp_edge.worker.process import WorkerDied, WorkerEvent, WorkerProcess, WorkerReply

log = logging.getLogger("fedlp.coordinator")

RECEIVED = ("installed", "received")
"""Words of a device that needs nothing more."""

SILENT = "nothing was heard of it any more before it had its model"


_NO_THRESHOLDS: Mapping[int, float] = MappingProxyType({})


class FinalExport:
    """The export of the final model and its handover to the devices.

    Args:
        context: Context of the run.
        model: Settings of the model with the names of its classes.
        depths: Depths that the global model can compute.
        choice: The final model.
        worker: Exports.
        model_server: Serves the files.
        inputs: What inputs look like, for files that are checked on made ones.
        thresholds: Thresholds of an anomaly detector by depth, as devices have measured them.

    Attributes:
        choice: The final model.
        models: Models that were exported, shallowest first.
        refused: Depths that were not, and why.
        delivered: State of the final model on each device that was offered one: ``installed``, ``received`` (it makes
            its file itself, or has not said how it compares), or why it has none.
        findings: What devices found about their files.
    """

    def __init__(
        self,
        context: RunContext,
        model: ModelSettings,
        depths: tuple[int, ...],
        choice: FinalChoice,
        worker: WorkerProcess,
        model_server: ModelServer,
        inputs: InputFacts,
        thresholds: Mapping[int, float] = _NO_THRESHOLDS,
    ) -> None:
        self._context = context
        self._config = context.config
        self._blueprint = context.blueprint
        self._directory = context.directory
        self._model = model
        self.choice = choice
        self._worker = worker
        self._model_server = model_server
        self._depths = _chosen(context.config, depths, context.blueprint)
        self._pending = deque(self._depths)
        self._asked: tuple[int, ...] = ()  # depths of the job
        self._by_depth = False  # whether each depth is a job of its own
        self._job: int | None = None
        self._announced = False
        self._handover = Handover()
        self._inputs = inputs
        self._thresholds = thresholds
        self._received: set[str] = set()
        self._left: frozenset[str] = frozenset()  # that took part to the end, and were gone when it came
        self.findings = DeviceFindings(context.journal, context.config.model.task, choice.final.model_digest)
        self.models: tuple[ExportedModel, ...] = ()
        self.refused: tuple[RefusedModel, ...] = ()
        self.delivered: dict[str, str] = {}

    @property
    def exports(self) -> bool:
        """Whether a depth is left to export."""
        return bool(self._pending)

    @property
    def announced(self) -> bool:
        """Whether the devices that were online know that the run is over."""
        return self._announced

    @property
    def done(self) -> bool:
        """Whether every device has its file, or is not waited for any more."""
        return self._announced and self._handover.done

    @property
    def final(self) -> FinalModel:
        """The final model's entry in the summary."""
        return msgspec.structs.replace(
            self.choice.final,
            on_devices=self.findings.scores(),
            not_reporting=self.findings.not_reporting,
            answers=self._answers(),
        )

    def _answers(self) -> AnswerCounts | None:
        """Returns how the final model answered the central test data or, without any, held-out samples of devices."""
        if (central := self._context.journal.answers(self.choice.final.round)) is not None:
            return msgspec.json.decode(central, type=AnswerCounts)
        sums = self.findings.sums()
        depth = max(sums, default=0)
        return answer_counts(self._model, "devices", depth, sums[depth]) if depth else None

    def take_up(self, earlier: Summary | None, devices: Iterable[str], until: float) -> None:
        """Goes on where an earlier life of the coordinator ended.

        Args:
            earlier: Summary that an earlier process wrote about the same model; its files are not made again.
            devices: Devices that the run knows; those that lack their model are waited for ...
            until: ... no longer than this.
        """
        if earlier is not None:
            self.delivered = dict.fromkeys(self.findings.installed, "installed") | earlier.delivered
            self.refused = tuple(entry for entry in earlier.refused if entry.depth in self._depths)
            for model in earlier.onnx:
                if model.depth in self._depths and (self._directory.onnx / model.file).is_file():
                    self._keep(model)
        settled = {*(model.depth for model in self.models), *(entry.depth for entry in self.refused)}
        self._pending = deque(depth for depth in self._depths if depth not in settled)
        self._handover.await_return((d for d in devices if self.delivered.get(d) not in RECEIVED), until)

    def export(self) -> None:
        """Asks the worker for the ONNX files; ``answered`` takes its results."""
        self._context.emit(events.Exporting(time=time.time(), depths=tuple(self._pending)))
        self._submit_next()

    def answered(self, answer: WorkerEvent) -> bool:
        """Takes the worker's result, and asks for what is left.

        All depths are one job, which takes about as long as one depth. If that job fails, each depth becomes a job of
        its own, so that one that ends the worker process costs no other.

        Returns:
            Whether nothing is left.
        """
        if self._job is None or (isinstance(answer, WorkerDied) and answer.job_id is None):
            return False
        if isinstance(answer, WorkerReply) and isinstance(answer.result, Exported):
            for model in answer.result.models:
                self._take(model)
            for refused in answer.result.refused:
                self._refuse(refused.depth, refused.reason)
        elif len(self._asked) > 1:
            log.info("%s; each depth is exported by itself", _failure(answer))
            self._by_depth = True
            self._submit_next()
            return False
        else:
            self._refuse(self._asked[0], _failure(answer))
        for depth in self._asked:
            self._pending.remove(depth)
        self._submit_next()
        return self._job is None

    def await_return(self, depths: Mapping[str, int], now: float) -> None:
        """Waits a while for devices that left just before the end, as all do when a broker is started anew.

        Args:
            depths: Depth of each device.
            now: Time, in seconds of the run's clock.
        """
        lacking = [d for d, depth in depths.items() if self._depths_for(depth) or self._layers_for(depth)]
        if lacking:
            self._left = frozenset(lacking)
            self._handover.await_return(lacking, now + LIMITS.return_seconds)

    def reconnected(self, now: float) -> None:
        """Notes that the broker is back, which no device could be heard without."""
        self._handover.reconnected(now)

    def announce_end(self, members: list[Member], now: float) -> None:
        """Tells every device that the run is over and which file is its own."""
        self._announced = True
        for member in members:
            self.announce_end_to(member, now)

    def announce_end_to(self, member: Member, now: float) -> None:
        """Tells one device, which may have come late, that the run is over and which file is its own.

        A device that could bear no training gets the shallowest file: to answer takes far less.
        """
        if not self._announced:
            return
        depths = self._depths_for(member.plan.depth)
        layers = self._model_server.versions(self._layers_for(member.plan.depth))
        models = self._model_server.versions(f"onnx-{depth}" for depth in depths)
        trained = member.plan.depth > 0
        holdout = self._holdout if trained and (models or layers) else 0.0
        if models and trained:  # a device that installs signed models alone fetches these instead of the file
            checked = self._blueprint.downloads_of_answer(depths[0])
            layers = self._model_server.versions(unit.id for unit in checked)
        if holdout:
            self.findings.ask(member.device, depths[0] if depths else member.plan.depth, member.facts.samples)
        self._context.messenger.tell(
            RunEnded(
                run=self._context.run,
                device=member.device,
                rounds=self.choice.rounds,
                models=models,
                layers=layers,
                holdout=holdout,
                refused=next((entry.reason for entry in self.refused if entry.depth == member.plan.depth), "")[:2000],
                ranges=bool(models) and not self._config.data.evaluate,
            )
        )
        # Whoever said how it ended is told again, but not waited for again.
        if (models or layers) and self.delivered.get(member.device, SILENT) == SILENT:
            rate = member.facts.link_bytes_per_second
            largest = max(version.chunk_bytes for version in (*models, *layers))
            self._handover.expect(member.device, now, chunk_seconds=largest / rate if rate else 0.0)

    def _depths_for(self, depth: int) -> tuple[int, ...]:
        """Returns the depth whose file a device gets: its own, or else the nearest that there is; none or one.

        A device whose depth changed in the last rounds, or whose depth was refused, would end with nothing otherwise.
        A shallower file is preferred, since it asks for less; a deeper one still takes far less than training did.
        Where the owner of the fleet chose the depths, nothing is handed out in place of what was left out.
        """
        made = [model.depth for model in self.models]
        if depth in made:
            return (depth,)
        if not made or self._config.export.depths != "all" or self._layers_for(depth):
            return ()
        return (min(made, key=lambda other: (other > depth, abs(other - depth))),)

    @property
    def _holdout(self) -> float:
        """Share of their samples on which devices check their files; 0 if they are not asked to.

        Where the coordinator has data, it has measured the statistics of batch norms anew for its files (see
        ``learning.model.fresh_statistics``), which the devices do not have; it has checked the files on its data.
        """
        checked_here = bool(self._config.data.evaluate) and bool(self._blueprint.statistics)
        return 0.0 if checked_here else self._config.holdout_share

    def _layers_for(self, depth: int) -> tuple[str, ...]:
        """Returns the ids of the units from which a device makes its file itself; none if it does not."""
        wanted = self._config.export.depths
        exported = wanted == "all" or (isinstance(wanted, tuple) and depth in wanted)
        if not depth or not exported:
            return ()
        exchanged = self._blueprint.exchanged_by(depth)
        if exchanged == self._blueprint.held_by(depth):
            return ()
        return tuple(unit.id for unit in self._blueprint.downloads_of(depth))

    def requested(self, request: UnitRequest, now: float) -> None:
        """Notes that a device is downloading."""
        missing = sum(stop - start for start, stop in request.missing)
        self._handover.asked(request.device, request.unit, missing, now)

    def reported(self, report: DeploymentReport, now: float) -> None:
        """Takes a device's progress report; a final one ends the waiting for the device."""
        if report.state == "received" and self.findings.awaits(report.device):
            self._received.add(report.device)  # what it finds about its file is waited for, too
            self._handover.heard(report.device, now)
            return
        if report.state == "receiving":
            self._handover.heard(report.device, now)
            return
        if report.proof is not None:
            self.findings.reported(report.device, report.proof)
        expected = self._handover.ended(report.device) or report.device in self.delivered
        if expected:  # not somebody who was never told of a model
            self._conclude(report.device, report.reason if report.state == "failed" else report.state)

    def noticed(self, device: str, now: float) -> None:
        """Notes that a device is online which may have been waited for."""
        self._handover.noticed(device, now)

    def left(self, device: str, now: float) -> None:
        """Notes that a device went offline, which may be back in a moment and go on downloading."""
        self._handover.heard(device, now)

    def tick(self, now: float) -> None:
        """Stops waiting for devices from which nothing has come for too long."""
        away = self._handover.absent
        for device in self._handover.given_up(now):
            if device not in away or device in self._left:  # others left long before the end, and need not come back
                self._conclude(device, "received" if device in self._received else SILENT)

    def _submit_next(self) -> None:
        self._job = None
        if not self._pending:
            return
        self._asked = (self._pending[0],) if self._by_depth else tuple(self._pending)
        self._job = self._worker.submit(
            Export(
                model=self._model,
                state_paths=(str(self.choice.path),),
                depths=self._asked,
                answer=self._config.export.answer,
                data=self._config.data.evaluate,
                inputs=self._inputs,
                thresholds=dict(self._thresholds),
                directory=str(self._directory.onnx),
                metadata={
                    "run": self._context.run,
                    "fleet": self._config.fleet,
                    **({"license": licence} if (licence := self._config.export.license) else {}),
                    **self.choice.metadata,
                },
            )
        )

    def _take(self, model: ExportedModel) -> None:
        """Takes a file that the worker has written and checked."""
        self._keep(model)
        self._context.emit(
            events.ModelExported(
                time=time.time(),
                file=model.file,
                depth=model.depth,
                max_abs_diff=model.max_abs_diff,
                accuracy=model.accuracy,
            )
        )

    def _keep(self, model: ExportedModel) -> None:
        self.models = tuple(sorted((*self.models, model), key=lambda entry: entry.depth))
        self._model_server.put(f"onnx-{model.depth}", (self._directory.onnx / model.file).read_bytes())

    def _refuse(self, depth: int, reason: str) -> None:
        self.refused = (*self.refused, RefusedModel(depth, reason))
        log.warning("depth %d has no ONNX file: %s", depth, reason)
        self._context.emit(events.ModelRefused(time=time.time(), depth=depth, reason=reason))

    def _conclude(self, device: str, outcome: str) -> None:
        if self.delivered.get(device) == outcome:
            return
        self.delivered[device] = outcome
        received = outcome in RECEIVED
        if not received:
            log.warning("%s has no final model: %s", device, outcome)
        reason = "" if received else outcome
        self._context.emit(events.ModelDelivered(time=time.time(), device=device, received=received, reason=reason))


def _failure(answer: WorkerEvent) -> str:
    """Returns why there is no file, from an answer without any."""
    if isinstance(answer, WorkerDied):
        return f"the worker process {answer.exit}"
    return (
        answer.result.reason
        if isinstance(answer.result, Failed)
        else (f"the worker answered with {type(answer.result).__name__}")
    )


def _chosen(config: FleetConfig, available: tuple[int, ...], blueprint: Blueprint) -> tuple[int, ...]:
    """Returns the depths that the coordinator exports."""
    if config.export.depths == "none":
        return ()
    if config.export.depths == "all":
        return available
    if config.export.depths == "full":
        return (blueprint.full_depth,)
    by_devices = {depth for depth in blueprint.depths if blueprint.exchanged_by(depth) != blueprint.held_by(depth)}
    unknown = [depth for depth in config.export.depths if depth not in available and depth not in by_devices]
    if unknown:
        log.warning("depths %s cannot be exported; the global model has %s", unknown, list(available))
    return tuple(depth for depth in config.export.depths if depth in available)
