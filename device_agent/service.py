"""Runs the agent: one queue of events, and one loop that carries out what the protocol decides.

Transport and worker run in threads and processes of their own and only put events on the queue, so nothing here can
stop a keep-alive, and nothing needs a lock.
"""

from __future__ import annotations

import logging
import queue
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from device_agent.data_watch import DataWatch, data_fingerprint
from device_agent.deployment import can_export, store_model
from device_agent.installation.installer import Installer, InstallerOptions
from device_agent.installation.offer_choice import measured_cost
from device_agent.installation.serving_process import ServingProcess
from device_agent.installation.version_store import VersionStore
from device_agent.protocol.events import (
    BuildModel,
    CheckModel,
    ChunkDelivered,
    ChunkRefused,
    DeviceMeasured,
    DropFiles,
    Effect,
    Effects,
    Event,
    ExportModel,
    FilesWanted,
    ForgetUpdate,
    Identity,
    InstallationReported,
    InstallFailed,
    InstallFiles,
    InstallModel,
    Leave,
    Log,
    MeasureAgain,
    ModelBuilt,
    ModelChecked,
    ModelInstalled,
    NothingToExport,
    Publish,
    SendChunk,
    SendProbe,
    ServingReported,
    Stop,
    Subscribe,
    Tick,
    TrainingFailed,
    TrainRound,
    Unsubscribe,
)
from device_agent.protocol.machine import DeviceProtocol, DeviceStores, ProtocolOptions
from device_agent.protocol.update import UpdateId
from device_agent.state_directory import StateDirectory
from device_agent.trainer import PersonalModelMade, Trainer
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.core.planning.device_facts import without_statistics
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import DeviceError, NoCoordinatorError, StorageError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.probe.host import device_facts, probe_host
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.serving.serving_options import ServingOptions
from fedlp_edge.system.lifecycle import remedy
from fedlp_edge.transport.base import Delivered, Refused, Transport
from fedlp_edge.wire.admission import admit_unit
from fedlp_edge.wire.chunks import split
from fedlp_edge.wire.messages import InstallState, UnitVersion, encode
from fedlp_edge.worker.jobs import DeviceMeasurement
from fedlp_edge.worker.process import WorkerDied, WorkerEvent, WorkerProcess, WorkerReply

log = logging.getLogger(__name__)

Clock = Callable[[], float]
InboxItem = Event | WorkerEvent | Delivered


@dataclass(frozen=True)
class AgentSettings:
    """The settings of an agent, with all defaults filled in.

    Attributes:
        identity: Identity of the agent.
        data: Specification of the training data.
        state: Directory of its own.
        profile: Caps on what training may take.
        threads: Number of threads for training.
        allow_models: ``module:callable`` models whose code may run.
        root: Bytes of the root of trust; None for none. With one, nothing is installed that is not signed.
        once: End when the run is over.
        wait_seconds: Seconds without a coordinator after which the agent ends; None for never.
        calibration: Calibration of this machine, if it was found out.
        measure_link: Whether to measure the link's rate by echoes, unless the profile says that it is metered.
        report_metrics: Tell the coordinator how well the model does on held-out samples, and what inputs look like.
        keep_models: Number of versions of the model that stay on the disk, the current one included.
        serving: Where the installed model answers requests; None for nowhere.
    """

    identity: Identity
    data: str
    state: Path
    profile: DeviceProfile
    threads: int = 1
    allow_models: frozenset[str] = frozenset()
    root: bytes | None = None
    once: bool = False
    wait_seconds: float | None = None
    calibration: Calibration | None = None
    measure_link: bool = True
    report_metrics: bool = True
    keep_models: int = 2
    serving: ServingOptions | None = None


class Agent:
    """The service of one device.

    Args:
        settings: Settings of the agent.
        state: Open state directory, which the agent frees at the end of ``run``.
        transport: Transport, not yet started.
        worker: Worker process, whose events go to ``inbox``.
        inbox: Queue in which the events of transport and worker wait for the loop.
        clock: Returns monotonic seconds.
        executor: Tries models, one at a time; a thread by default.
    """

    def __init__(
        self,
        settings: AgentSettings,
        state: StateDirectory,
        transport: Transport,
        worker: WorkerProcess,
        inbox: queue.SimpleQueue[InboxItem],
        clock: Clock = time.monotonic,
        executor: Executor | None = None,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._clock = clock
        self._queue = inbox
        self._blueprint: tuple[ModelSettings, Blueprint] | None = None
        self._tokens: dict[int, ChunkDelivered] = {}
        self._stop: Stop | None = None

        self._lock = state.lock
        self._outbox, self._units, self._models = state.outbox, state.units, state.models
        self._releases = state.releases
        self._versions = VersionStore(state.path / "models")
        serving = settings.serving
        sink = inbox.put if settings.report_metrics else _keep
        self._serving = None if serving is None else ServingProcess(serving, sink, clock)
        self._installer = Installer(
            settings.identity.device,
            self._versions,
            _installer_options(settings, state.path, self._versions, self._serving),
            executor or ThreadPoolExecutor(1, "installation"),
            lambda what: inbox.put(what if isinstance(what, FilesWanted) else InstallationReported(what)),
        )
        self._worker = worker
        self._trainer = Trainer(worker, self._units, self._outbox, state.path, settings.data, settings.report_metrics)
        spec = parse_spec(settings.data)
        self._watch = DataWatch(lambda: data_fingerprint(spec), clock)
        options = ProtocolOptions(
            allow_models=settings.allow_models,
            can_export=can_export(),
            once=settings.once,
            wait_seconds=settings.wait_seconds,
            report_metrics=settings.report_metrics,
            signed_only=settings.root is not None,
            measure_link=settings.measure_link and not settings.profile.metered,
            link_bytes_per_second=settings.profile.link_bytes_per_second,
        )
        self._machine = DeviceProtocol(
            settings.identity,
            DeviceStores(self._units, self._admit, self._models, self._admit_final, self._releases, self._installer),
            self._outbox.entries(),
            secrets.token_bytes,
            options,
        )

    @classmethod
    def open(
        cls,
        settings: AgentSettings,
        transport: Transport,
        make_worker: Callable[[Callable[[WorkerEvent], None]], WorkerProcess],
        clock: Clock = time.monotonic,
        inbox: queue.SimpleQueue[InboxItem] | None = None,
        executor: Executor | None = None,
    ) -> Self:
        """Locks and reads the state directory, and makes the agent that works in it.

        Args:
            settings: Settings of the agent.
            transport: Transport, not yet started.
            make_worker: Makes the worker process from the function that takes its events.
            clock: Returns monotonic seconds.
            inbox: Queue of the events of transport and worker; a new one by default.
            executor: Tries models, one at a time; a thread by default.

        Raises:
            DataError: The specification of the data is wrong.
            StorageError: The state directory is unusable, or another agent runs there.
        """
        inbox = queue.SimpleQueue() if inbox is None else inbox
        state = StateDirectory.open(settings.state)
        state.outbox.drop_others(settings.identity.device)
        return cls(settings, state, transport, make_worker(inbox.put), inbox, clock, executor)

    def stop(self) -> None:
        """Tells the agent to end; may be called from any thread."""
        self._queue.put(Leave())

    def run(self) -> bool:
        """Works until told to stop, or, with ``once``, until the run is over.

        Returns:
            Whether it ended by itself.

        Raises:
            BrokerError: The first connection to the broker failed.
            DataError: The training data are not usable.
            DeviceError: The device cannot take part, or another one has its name.
            NoCoordinatorError: No coordinator was there for as long as the settings say.
        """
        try:
            self._watch.loading()
            self._trainer.measure()
            # Asked for before the connection is there, so that the first Connected finds all of it in place.
            self._carry_out(self._machine.start())
            self._installer.recover()
            self._transport.start(self._queue.put)
            try:
                left = self._loop()
            except Exception:
                # A clean end of the connection is no loss, of which the broker would tell: without a goodbye the
                # coordinator would wait for this device until the deadline of each round.
                with suppress(Exception):
                    self._carry_out(self._machine.handle(Leave(), self._clock()))
                raise
            self._carry_out(self._machine.handle(Leave(), self._clock()))
        except OSError as error:
            raise StorageError(unusable(self._settings.state, error)) from None
        finally:
            self._transport.stop()
            self._worker.stop()
            if self._serving is not None:
                self._serving.stop()
            try:
                self._installer.stop()
            finally:
                self._lock.close()
        if self._stop is not None and self._stop.error:
            raise (NoCoordinatorError if self._stop.no_coordinator else DeviceError)(self._stop.error)
        if left:
            waiting = len(self._outbox.entries())
            kept = f" ({waiting} finished update(s) wait for the coordinator)" if waiting else ""
            log.info("stopped; nothing is lost, start the same command again to go on%s", kept)
        return not left

    def _loop(self) -> bool:
        """Returns whether the agent was told to leave."""
        while self._stop is None:
            event = self._next_event()
            if isinstance(event, Leave):
                return True
            if self._serving is not None and not self._installer.unproven:
                self._serving.poll()
            for translated in self._translate(event):
                self._carry_out(self._machine.handle(translated, self._clock()))
            self._installer.poll(self._clock())
            if self._watch.changed() and self._machine.free and not self._trainer.busy:
                log.info("the data have changed and are loaded again")
                self._watch.loading()
                self._trainer.measure(again=True)
        return False

    def _next_event(self) -> InboxItem:
        """Waits for an event, at most until something is due; what is due is done with every event."""
        with suppress(queue.Empty):
            return self._queue.get_nowait()
        served = None if self._serving is None else self._serving.next_wakeup()
        times = (self._machine.next_wakeup(), self._watch.next_wakeup(), self._installer.next_wakeup(), served)
        due = min((time for time in times if time is not None), default=None)
        try:
            return self._queue.get(timeout=None if due is None else max(0.0, due - self._clock()))
        except queue.Empty:
            return Tick()

    def _translate(self, event: Event | WorkerEvent | Delivered) -> list[Event]:
        """Returns the protocol's event for an event of transport or worker."""
        if isinstance(event, Delivered):
            chunk = self._tokens.pop(event.token, None)
            return [chunk] if chunk else []
        if isinstance(event, InstallationReported):
            self._installation_came_to(event.report.state)
        if isinstance(event, Refused) and event.too_long and (chunk := self._tokens.pop(event.token or 0, None)):
            return [ChunkRefused(chunk.update, chunk.index)]
        if not isinstance(event, WorkerReply | WorkerDied):
            return [event]
        result = self._trainer.finish(event)
        if isinstance(result, DeviceMeasurement):
            return [self._measured(result)]
        if isinstance(result, ModelBuilt):
            self._blueprint = (result.model, result.blueprint)
        if isinstance(result, PersonalModelMade):
            self._install(result.path, result.run, f"onnx-{result.depth}")
            result.path.unlink(missing_ok=True)
            return [] if result.proof is None else [ModelChecked(result.proof)]
        return [] if result is None else [result]

    def _measured(self, result: DeviceMeasurement) -> DeviceMeasured:
        """Makes the report of this device of what its worker has measured, and logs it."""
        settings = self._settings
        facts = device_facts(probe_host(), result, settings.profile, settings.threads, settings.calibration)
        if not settings.report_metrics:
            facts = without_statistics(facts)
        log.info(
            "%s: %d samples, %.1f GMAC/s in training on %s, %.0f MB for training",
            facts.profile,
            facts.samples,
            facts.training_macs_per_second / 1e9,
            facts.cuda_name or f"{facts.threads} CPU thread(s)",
            facts.training_memory / 1e6,
        )
        if result.found:
            log.info("data: %s", result.found)
        if result.remarks:
            log.warning("data: %s", result.remarks)
        return DeviceMeasured(facts)

    def _installation_came_to(self, state: InstallState) -> None:
        if state == "probation":
            self._installer.watch(self._clock())
        elif state in ("installed", "failed"):
            self._releases.keep_only(())

    def _carry_out(self, effects: Effects) -> None:
        for effect in effects:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Publish() | SendChunk() | SendProbe() | Subscribe() | Unsubscribe():
                self._transmit(effect)
            case MeasureAgain():
                self._watch.loading()
                self._trainer.measure(again=True)
            case BuildModel():
                self._trainer.build(effect)
            case TrainRound():
                self._train(effect)
            case ForgetUpdate(update):
                self._outbox.forget(update)
            case InstallModel(run, version):
                self._install(self._models.path(version.digest), run, version.unit)
            case InstallFiles(install, names):
                digests = {file.name: file.version.digest for file in install.files}
                self._installer.install(install, {name: self._releases.path(digests[name]) for name in names})
            case DropFiles():
                self._releases.keep_only(())
            case ExportModel():
                self._export(effect)
            case CheckModel(version=version, layers=layers):
                paths = [self._models.path(layer.digest) for layer in layers]
                self._trainer.check(effect, self._models.path(version.digest), paths)
            case Log(text, warning):
                log.log(logging.WARNING if warning else logging.INFO, text)
            case Stop():
                self._stop = effect

    def _transmit(self, effect: Publish | SendChunk | SendProbe | Subscribe | Unsubscribe) -> None:
        match effect:
            case Publish(topic, message, retain):
                self._transport.publish(topic, encode(message), retain=retain)
            case SendChunk(update, index, most):
                self._send(update, index, most)
            case SendProbe(topic, payload):
                self._transport.publish(topic, payload)
            case Subscribe(topic):
                self._transport.subscribe(topic)
            case Unsubscribe(topic):
                self._transport.unsubscribe(topic)

    def _send(self, update: UpdateId, index: int, most: int | None) -> None:
        blob = self._outbox.blob(update)
        entry = self._outbox.entry(update)
        token = 0
        for chunk in split(blob, update.digest, entry.chunk_bytes, [(index, index + 1)], most=most):
            token = self._transport.publish(self._upload_topic, chunk)
        # The broker acknowledges in order, so the last piece stands for all of them.
        self._tokens[token] = ChunkDelivered(update, index)

    def _train(self, effect: TrainRound) -> None:
        if self._blueprint is None:
            return
        try:
            self._trainer.train(effect, self._blueprint[0], effect.until - self._clock())
        except OSError as error:
            self._queue.put(TrainingFailed(effect.fingerprint, "worker", f"the weights: {error.strerror}"))

    def _export(self, effect: ExportModel) -> None:
        layers = [self._models.path(version.digest) for version in effect.layers]
        if not self._trainer.export(effect, layers, self._settings.identity.topics.fleet):
            self._queue.put(NothingToExport("this device has not trained in the run, so it has no head of its own"))

    def _install(self, file: Path, run: str, unit: str) -> None:
        if self._settings.root is not None:  # nothing asks for this; it is the last door
            self._queue.put(InstallFailed("the model is not signed"))
            return
        try:
            target = store_model(file, self._versions, run, unit)
            self._installer.adopt(target)
        except (DeviceError, StorageError) as error:
            self._queue.put(InstallFailed(str(error)))
        except OSError as error:
            self._queue.put(
                InstallFailed(f"{self._versions.directory}: {error.strerror}; {remedy(error) or 'make room there'}")
            )
        else:
            self._models.keep_only(())
            self._queue.put(ModelInstalled(str(self._versions.path(target))))

    def _admit(self, version: UnitVersion, blob: memoryview) -> None:
        if self._blueprint is not None:
            admit_unit(self._blueprint[1].downloads[version.unit], version, blob, verified=True)

    def _admit_final(self, version: UnitVersion, blob: memoryview) -> None:
        """An ONNX file is tried after it is installed, so its digest is all; layers are admitted like any others."""
        if not version.unit.startswith("onnx-"):
            self._admit(version, blob)

    @property
    def _upload_topic(self) -> str:
        identity = self._settings.identity
        return identity.topics.of("upload", identity.device)


def _keep(report: ServingReported) -> None:
    """Leaves a report on the device."""


def _installer_options(
    settings: AgentSettings, state: Path, versions: VersionStore, serving: ServingProcess | None
) -> InstallerOptions:
    """Returns how models are verified on this device."""
    threads = settings.profile.threads or (settings.serving.threads if settings.serving is not None else 1)
    measure, limits = partial(measured_cost, threads=threads), settings.profile.answer_limits
    if settings.root is None:
        return InstallerOptions(keep=settings.keep_models, measure=measure, limits=limits, serving=serving)
    from device_agent.installation.signed_source import SignedSources  # noqa: PLC0415 - an extra
    from device_agent.installation.trusted_models import TrustedModels  # noqa: PLC0415

    trusted = TrustedModels(state / "release")

    def kept() -> list[Path]:
        units = [path for name in ("cache", "downloads") for path in (state / name).glob("*")]
        return [*units, *versions.directory.glob("versions/*/*.onnx")]

    sources = SignedSources(settings.root, settings.identity.device, trusted, kept)
    return InstallerOptions(
        keep=settings.keep_models,
        make_source=sources,
        trusts=trusted.has,
        measure=measure,
        limits=limits,
        serving=serving,
    )


def unusable(state: Path, error: OSError) -> str:
    """Returns one line for a state directory that can no longer be used."""
    if not state.is_dir():
        return f"{state} was removed while the agent was at work; start it again, and it fetches what it needs"
    elsewhere = isinstance(error.filename, str) and state.absolute() not in Path(error.filename).absolute().parents
    place = error.filename if elsewhere else state
    text = f"{place}: {error.strerror or error}; {remedy(error) or 'make room there'}"
    return text if elsewhere else f"{text}; --state names another place"
