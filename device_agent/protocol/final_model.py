"""Downloads the ONNX file of the device's depth after the last round, and has it installed.

A device with a head of its own fetches the final layers instead and has the file made here. The coordinator stays as
long as it hears that more has come, and until it hears how it ended.
"""

from __future__ import annotations

from typing import Literal

from device_agent.limits import LIMITS
from device_agent.protocol.assignment import AssignedModel
from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.downloads import Downloads
from device_agent.protocol.events import (
    CheckModel,
    Effects,
    ExportModel,
    Identity,
    InstallFailed,
    InstallModel,
    Log,
    ModelChecked,
    ModelInstalled,
    NothingToExport,
    Publish,
    Stop,
)
from fedlp_edge.errors import PeerError
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.wire.admission import max_unit_bytes
from fedlp_edge.wire.messages import DeploymentReport, ModelProof, RunEnded

_LIMITS = LIMITS.final_model

HELD_BACK = "this device installs signed models alone; fedlp release sign and fedlp deploy bring it this one"
"""Reason of a device with a root of trust to install no final model of a run."""


class FinalModelFetch:
    """The end of a run on this device, from the coordinator's message to the installed file.

    Args:
        identity: Identity of the agent.
        coordinator: Presence of the coordinator.
        downloads: Downloads of ONNX files, and of the final layers.
        can_export: Whether what makes ONNX files is installed here.
        once: End the agent when all is done.
        reports: Whether the coordinator is told what this device finds about the file.
        signed_only: Whether the file is held back, as nothing vouches for it; its weights are fetched all the same, so
            that a signed release need not bring them.
    """

    def __init__(
        self,
        identity: Identity,
        coordinator: CoordinatorPresence,
        downloads: Downloads,
        *,
        can_export: bool,
        once: bool,
        reports: bool = True,
        signed_only: bool = False,
    ) -> None:
        self._identity = identity
        self._coordinator = coordinator
        self._downloads = downloads
        self._can_export = can_export
        self._once = once
        self._reports = reports
        self._signed_only = signed_only
        self._check: CheckModel | None = None
        self._proof: ModelProof | None = None
        self._own_model: AssignedModel | None = None
        self._run_ended: RunEnded | None = None
        self._latest: RunEnded | None = None
        self._finished: RunEnded | None = None
        self._last_report: DeploymentReport | None = None
        self._reported_at = 0.0
        self._missing = 0
        self._pending = 0
        self._started_at = 0.0
        self._installing = False
        self._lingers = False
        self._leaves_at: float | None = None

    @property
    def idle(self) -> bool:
        """Whether no final model is in transit or in work."""
        return self._run_ended is None

    def next_wakeup(self) -> float | None:
        """Returns when ``poll`` has something to do unless an event comes first, in seconds; None if never."""
        if self._lingers:
            return 0.0 if self._leaves_at is None else self._leaves_at
        if self._run_ended is None:
            return None
        if self._comparing:
            return self._reported_at + _LIMITS.report_seconds
        return self._downloads.next_wakeup() if self._give_up_at is None else self._give_up_at

    def start(self, message: RunEnded, own_model: AssignedModel | None, now: float) -> Effects:
        """Begins to download what the message on the end of the run names.

        Args:
            message: Message that lists the final models.
            own_model: The model that this device trained in the run; None if it had no assignment.
            now: The time.
        """
        if self._run_ended == message:
            return []
        if self._is_repeated(message):  # the coordinator has not received the last report
            report = self._last_report
            said: Effects = [Publish(self._up, report)] if report is not None and report.run == message.run else []
            return [*said, *said, Stop()] if self._lingers else said
        self._latest = message
        note = Log(f"run {message.run} is over" + (f" after {message.rounds} rounds" if message.rounds else ""))
        if (message.layers and not message.models) or (message.models and self._signed_only):
            begin = self._hold_back if self._signed_only else self._start_export
            return [note, *begin(message, own_model, now)]
        if not message.models:
            refused = f"no final model: the coordinator could not export this depth: {message.refused}"
            notes = [note, Log(refused, warning=True)] if message.refused else [note]
            return [*notes, *self._done()]
        for version in message.models:
            if not version.unit.startswith("onnx-") or not 0 < version.size <= _LIMITS.model_bytes:
                return [note, *self._fail(f"the final model {version.unit} is not acceptable", message.run)]
        self._run_ended, self._own_model, self._pending = message, None, len(message.models)
        self._check, self._proof = self._wanted_check(message, own_model), None
        self._started_at = self._reported_at = now
        layers = () if self._check is None else self._check.layers
        self._downloads.start((*message.models, *layers), now, patience=0.0)
        return [note, *self.progress()]

    def _is_repeated(self, message: RunEnded) -> bool:
        """Whether this end of a run has been dealt with.

        A run that goes on after its end ends with more rounds, and one of the same configuration, which has the same
        name, with another model.
        """
        before = self._finished
        if before is None or message.run != before.run:
            return False
        return not message.rounds or (message.rounds, _digests(message)) == (before.rounds, _digests(before))

    def _hold_back(self, message: RunEnded, own_model: AssignedModel | None, now: float) -> Effects:
        """Fetches the final layers, of which a signed file can be assembled, and installs nothing."""
        note = Log(f"no final model yet: {HELD_BACK}")
        most = {} if own_model is None else own_model.blueprint.downloads
        if any(
            layer.unit not in most or not 0 < layer.size <= max_unit_bytes(most[layer.unit]) for layer in message.layers
        ):
            return [note, *self._held_back(message.run)]
        self._run_ended, self._own_model, self._check, self._proof = message, None, None, None
        self._started_at = self._reported_at = now
        self._downloads.start(message.layers, now, patience=0.0)
        return [note, *self.progress()]

    def _held_back(self, run: str) -> Effects:
        self.cancel()
        return [*self._report("failed", run, HELD_BACK), *self._done()]

    def _wanted_check(self, message: RunEnded, own_model: AssignedModel | None) -> CheckModel | None:
        """Returns the check that this device makes of its file, if it is asked to and its owner allows the report."""
        if not (self._reports and message.holdout and message.layers and own_model is not None):
            return None
        (version, *more), blueprint = message.models, own_model.blueprint
        depth = int(version.unit.removeprefix("onnx-"))
        if more or depth not in blueprint.depths:
            return None
        most = {unit.id: max_unit_bytes(unit) for unit in blueprint.downloads_of_answer(depth)}
        if sorted(most) != sorted(layer.unit for layer in message.layers):
            return None
        if any(not 0 < layer.size <= most[layer.unit] for layer in message.layers):
            return None
        return CheckModel(own_model.model, depth, version, message.layers, message.holdout, message.ranges)

    def _start_export(self, message: RunEnded, own_model: AssignedModel | None, now: float) -> Effects:
        """Downloads the units below the device's own head."""
        if own_model is None:
            why = "this device had no place in the run when it ended"
            return [Log(f"no final model: {why}"), *self._report("failed", message.run, why), *self._done()]
        if not self._can_export:
            why = f"making one of this device's own head needs onnx: {install_command('coordinator')}"
            note = Log(f"no final model: {why}", warning=True)
            return [note, *self._report("failed", message.run, why), *self._done()]
        most = {unit.id: max_unit_bytes(unit) for unit in own_model.blueprint.downloads_of(own_model.depth)}
        if sorted(most) != sorted(version.unit for version in message.layers):
            return self._fail(f"the final layers are not those of depth {own_model.depth}", message.run)
        for version in message.layers:
            if not 0 < version.size <= most[version.unit]:
                return self._fail(f"the final layer {version.unit} is not acceptable", message.run)
        self._run_ended, self._own_model, self._pending = message, own_model, 1
        self._check = self._proof = None
        self._started_at = self._reported_at = now
        self._downloads.start(message.layers, now, patience=0.0)
        return self.progress()

    def coordinator_online(self, now: float) -> None:
        """Goes on, since a coordinator is online (again)."""
        self._downloads.ask_soon(now)

    def received(self, now: float) -> Effects:
        """Notes that a chunk has come, and reports that now and then, so that the coordinator waits."""
        if self._run_ended is None or self._downloads.complete or now < self._reported_at + _LIMITS.report_seconds:
            return self.progress()
        before, self._missing = self._missing, self._downloads.missing
        if before == self._missing:  # what it had already
            return []
        self._reported_at = now
        return self._report("receiving", self._run_ended.run)

    def progress(self) -> Effects:
        """Installs the files once they are all there."""
        if self._run_ended is None or self._installing or not self._downloads.complete:
            return []
        if self._signed_only:
            return self._held_back(self._run_ended.run)
        self._installing = True
        if self._own_model is not None:
            message, own_model = self._run_ended, self._own_model
            export = ExportModel(
                message.run, message.rounds, own_model.model, own_model.depth, message.layers, message.holdout
            )
            return [*self._report("received", message.run), export]
        if self._check is not None:
            return [*self._report("received", self._run_ended.run), self._check]
        return self._install(self._run_ended)

    def happened(self, event: ModelChecked | ModelInstalled | InstallFailed | NothingToExport) -> Effects:
        """Takes what became of the final model on this device."""
        match event:
            case ModelChecked():
                return self.checked(event)
            case ModelInstalled():
                return self.installed(event)
            case InstallFailed():
                return self.install_failed(event)
            case NothingToExport():
                return self.nothing_to_export(event)

    def checked(self, event: ModelChecked) -> Effects:
        """Takes the comparison of the file with the model of its weights; a file that differs is not used."""
        self._proof = event.proof
        if self._run_ended is None or self._check is None:
            return []  # a file that was made here is installed already
        self._check = None
        if event.differs:
            return self._fail(event.proof.problem)
        if event.proof.problem:
            note = Log(f"the final model could not be compared with PyTorch: {event.proof.problem}", warning=True)
            return [note, *self._install(self._run_ended)]
        text = f"the final model differs from PyTorch by at most {event.proof.max_abs_diff:.1e} on held-out samples"
        return [Log(text), *self._install(self._run_ended)]

    def _install(self, message: RunEnded) -> Effects:
        return [InstallModel(message.run, version) for version in message.models]

    def installed(self, event: ModelInstalled) -> Effects:
        """Reports that a file is in its place and computes."""
        self._pending -= 1
        note = Log(f"final model installed: {event.path}")
        if self._run_ended is None or self._pending:
            return [note]
        run = self._run_ended.run
        return [note, *self._report("installed", run), *self._done()]

    def nothing_to_export(self, event: NothingToExport) -> Effects:
        """Reports that this device has not trained a head."""
        note = Log(f"no final model: {event.reason}")
        if self._run_ended is None:
            return [note]
        run = self._run_ended.run
        return [note, *self._report("failed", run, event.reason), *self._done()]

    def install_failed(self, event: InstallFailed) -> Effects:
        """Reports that a file is not usable."""
        return self._fail(event.reason)

    def rejected(self, error: PeerError) -> Effects:
        """Reports that a download is not acceptable."""
        return self._fail(str(error))

    def start_round(self) -> None:
        """Drops the final model, since a round has begun, and with it perhaps another run of the same name."""
        self.cancel()
        self._finished = None
        self._downloads.abandon()

    def cancel(self) -> None:
        """Drops the final model."""
        self._run_ended, self._check, self._installing = None, None, False
        self._lingers, self._leaves_at = False, None

    def poll(self, now: float) -> Effects:
        """Requests what is missing, or gives up."""
        if self._lingers:
            return self._linger(now)
        if self._run_ended is None:
            return []
        if self._comparing:
            return self._say_that_it_compares(now)
        if self._give_up_at is not None:
            return (
                self._fail("the coordinator left before the final model had arrived") if now >= self._give_up_at else []
            )
        requests = self._downloads.requests(self._run_ended.run, self._identity.device, now)
        return [Publish(self._up, request) for request in requests]

    @property
    def _comparing(self) -> bool:
        """Whether the worker compares the file with the model, which takes long on a slow device."""
        return self._installing and self._check is not None

    def _say_that_it_compares(self, now: float) -> Effects:
        """Has the coordinator wait for what is found, but not for ever."""
        if self._run_ended is None or now < self._reported_at + _LIMITS.report_seconds:
            return []
        self._reported_at = now
        over = now >= self._started_at + _LIMITS.compare_seconds
        return [] if over else self._report("received", self._run_ended.run)

    def _linger(self, now: float) -> Effects:
        """Ends once the coordinator has stayed away for too long to hear the last report."""
        if self._leaves_at is None:
            self._leaves_at = now + _LIMITS.linger_seconds
        return [Stop()] if now >= self._leaves_at else []

    @property
    def _give_up_at(self) -> float | None:
        """Returns when to stop waiting for a coordinator that left during the download; None if none did."""
        left_at = self._coordinator.left_at
        if left_at is None or left_at < self._started_at or self._downloads.complete:
            return None
        return left_at + _LIMITS.patience_seconds

    @property
    def _up(self) -> str:
        return self._identity.topics.of("up", self._identity.device)

    def _report(
        self, state: Literal["receiving", "received", "installed", "failed"], run: str, reason: str = ""
    ) -> Effects:
        report = DeploymentReport(
            run=run,
            device=self._identity.device,
            state=state,
            reason=reason[: LIMITS.messages.reason_characters],
            proof=self._proof if state in ("installed", "failed") else None,
        )
        if state == "receiving":
            return [Publish(self._up, report)]
        self._last_report = report
        # An agent that ends now cannot be asked again, and the coordinator would wait for a report that got lost.
        return [Publish(self._up, report)] * (2 if self._once and state != "received" else 1)

    def _done(self) -> Effects:
        self.cancel()
        self._finished = self._latest
        if not self._once:
            return []
        told = self._last_report is not None and self._last_report.proof is not None
        if told and not (self._coordinator.online and self._coordinator.connected):
            self._lingers = True
            return [
                Log("the coordinator is away and has not heard how the file compares; this agent waits a while for it")
            ]
        return [Stop()]

    def _fail(self, reason: str, run: str | None = None) -> Effects:
        run = run or (self._run_ended.run if self._run_ended is not None else None)
        self.cancel()
        report = self._report("failed", run, reason) if run is not None else []
        return [*report, Stop(reason) if self._once else Log(reason, warning=True)]


def _digests(message: RunEnded) -> set[str]:
    """Returns the digests of the final model of a run."""
    return {version.digest for version in message.models or message.layers}
