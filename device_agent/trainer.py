"""Connects the agent to its worker process: effects become jobs, results become events and files.

The worker reads the units where the cache keeps them and writes one file of deltas per unit, so nothing is copied
between the two.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import msgspec

from device_agent.blob_cache import BlobCache
from device_agent.limits import LIMITS
from device_agent.outbox import Outbox
from device_agent.protocol.events import (
    BuildFailed,
    BuildModel,
    CheckModel,
    Event,
    ExportModel,
    FailureKind,
    InstallFailed,
    ModelBuilt,
    ModelChecked,
    RoundTrained,
    TrainingFailed,
    TrainRound,
)
from device_agent.protocol.update import Update
from device_agent.update_parts import part_files
from fedlp_edge.core.planning.rules import TIME_SHARE
from fedlp_edge.core.seeds import head_seed, training_seed
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import DataError, PeerError, RejectedUpdateError, StorageError, WorkerError
from fedlp_edge.serving.live_inputs import HELD_OUT
from fedlp_edge.storage.device_values import DeviceValues
from fedlp_edge.system.directories import empty_directory, make_directory
from fedlp_edge.system.files import why_not_written
from fedlp_edge.wire.concat_buffer import ConcatBuffer, mapped
from fedlp_edge.wire.error_feedback import ErrorFeedback
from fedlp_edge.wire.messages import ModelProof, UnitPayload, UnitVersion
from fedlp_edge.wire.packed_scores import packed_scores
from fedlp_edge.wire.tensors import Array, pack, unpack
from fedlp_edge.worker.jobs import (
    AnyJob,
    AnyResult,
    Build,
    Built,
    CheckExport,
    DeviceMeasurement,
    EncodedUnit,
    Export,
    ExportChecked,
    Exported,
    Failed,
    Measure,
    Train,
    Trained,
)
from fedlp_edge.worker.process import WorkerDied, WorkerProcess, WorkerReply

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Measuring:
    again: bool = False


_Purpose = _Measuring | BuildModel | TrainRound | ExportModel | CheckModel


@dataclass(frozen=True)
class _Submitted:
    """A job that was given to the worker.

    Attributes:
        job: Job.
        purpose: Purpose of the job.
        at: Time when the job was submitted, in monotonic seconds.
    """

    job: AnyJob
    purpose: _Purpose
    at: float


@dataclass(frozen=True)
class PersonalModelMade:
    """The result that the worker has made an ONNX file of final units and this device's own head."""

    run: str
    depth: int
    path: Path
    proof: ModelProof | None = None


class Trainer:
    """The jobs of the worker process, in the terms of the agent.

    Args:
        worker: Worker process, running or not yet started.
        cache: Holds the units of a task's manifest.
        outbox: Outbox for the updates.
        directory: Directory of this device's state; ``work``, ``device_values`` and ``residuals`` are
            made below it.
        data: Specification of the training data.
        reports: Whether the coordinator is told how well models do on held-out samples.
    """

    def __init__(
        self,
        worker: WorkerProcess,
        cache: BlobCache,
        outbox: Outbox,
        directory: Path,
        data: str,
        reports: bool = True,
    ) -> None:
        self._worker = worker
        self._cache = cache
        self._outbox = outbox
        self._round_task = directory / "work"
        self._device_values = DeviceValues(make_directory(directory / "device_values"))
        self._residuals = DeviceValues(make_directory(directory / "residuals"))
        self._data = data
        self._held_out = directory / "models" / HELD_OUT
        self._reports = reports
        self._jobs: dict[int, _Submitted] = {}
        for left in (self._round_task, directory / "weights"):  # earlier versions made the second one
            shutil.rmtree(left, ignore_errors=True)
        make_directory(self._round_task)

    def measure(self, *, again: bool = False) -> None:
        """Has the data loaded and the benchmark run; ``DeviceMeasurement`` comes from ``finish``.

        Args:
            again: The data are loaded anew; if that fails, the device goes on with the facts that it had.
        """
        self._submit(Measure(data=self._data, reload=again), _Measuring(again))

    @property
    def busy(self) -> bool:
        """Whether the worker has something to do."""
        return bool(self._jobs)

    def build(self, effect: BuildModel) -> None:
        """Has the model built, and the samples brought to its size and compared with it."""
        self._submit(Build(model=effect.model, data=self._data), effect)

    def train(self, effect: TrainRound, model: ModelSettings, seconds_left: float = math.inf) -> None:
        """Has a round trained from the units in the cache.

        Args:
            effect: Training that the protocol asks for.
            model: Settings of the model that the device has.
            seconds_left: Seconds of the round. Training that would take nearly all of them ends early: what it has got
                to is sent in time, and counts by the samples that it has seen.

        Raises:
            OSError: The disk is full or fails.
        """
        task = effect.task
        deltas = empty_directory(self._deltas)
        self._cache.keep_only({version.digest for version in task.manifest})
        owner, values = _values_owner(task.run, task.depth), self._device_values
        before, start = None, None
        if effect.withheld or effect.reuse_since:
            values.forget_after(owner, task.round)
            values.prune(owner, task.round - 1)
            if (before := values.before(owner, task.round)) is not None:
                start = str(values.path(owner, before))
        reused = tuple(unit for unit, since in effect.reuse_since.items() if before is not None and before >= since)
        job = Train(
            model=model,
            depth=task.depth,
            state_paths=tuple(self._blob(version) for version in task.manifest if version.encoding == "none"),
            encoded=tuple(
                EncodedUnit(self._blob(version), version.encoding, effect.received[version.unit])
                for version in task.manifest
                if version.encoding != "none"
            ),
            withheld=effect.withheld,
            withheld_path=str(values.path(owner, task.round)) if effect.withheld else None,
            reused=reused,
            reused_path=start if reused else None,
            sent=effect.sent,
            freeze=task.prune == "train",
            training=task.training,
            seed=training_seed(task.seed, task.round, task.device),
            head_seed=head_seed(task.seed, task.device),
            data=self._data,
            delta_dir=str(deltas),
            seconds=max(0.0, TIME_SHARE * seconds_left) if math.isfinite(seconds_left) else None,
            holdout=task.holdout,
            judge=self._reports,
            answer=task.answer,
            fresh_statistics=task.fresh_statistics,
        )
        self._submit(job, effect)

    def export(self, effect: ExportModel, layers: list[Path], fleet: str) -> bool:
        """Has an ONNX file made of final layers and the head that this device trained last.

        Args:
            effect: Export that the protocol asks for.
            layers: Files that together hold the layers.
            fleet: Name of the fleet, for the file.

        Returns:
            Whether there is such a head.
        """
        owner = _values_owner(effect.run, effect.depth)
        head = self._device_values.before(owner, effect.rounds + 1)
        if head is None:
            return False
        job = Export(
            model=effect.model,
            state_paths=tuple(str(path) for path in layers),
            personal_path=str(self._device_values.path(owner, head)),
            depths=(effect.depth,),
            data=self._data,
            split="train",
            directory=str(make_directory(self._exports)),
            metadata={"run": effect.run, "round": str(effect.rounds), "fleet": fleet},
            holdout=effect.holdout,
            judge=self._reports,
        )
        self._submit(job, effect)
        return True

    def check(self, effect: CheckModel, file: Path, layers: list[Path]) -> None:
        """Has an ONNX file compared with the PyTorch model of the same weights.

        Args:
            effect: What to compare.
            file: The ONNX file.
            layers: Files that together hold the weights.
        """
        job = CheckExport(
            model=effect.model,
            depth=effect.depth,
            state_paths=tuple(str(path) for path in layers),
            file=str(file),
            data=self._data,
            holdout=effect.holdout,
            samples_directory=str(self._held_out),
            ranges=effect.ranges,
        )
        self._submit(job, effect)

    def finish(self, event: WorkerReply | WorkerDied) -> Event | PersonalModelMade | DeviceMeasurement | None:
        """Returns the event for a message of the worker; None if nobody asked for it.

        Raises:
            DataError: The training data are not usable.
            WorkerError: The worker cannot even be measured.
        """
        if isinstance(event, WorkerDied):
            return self._died(event)
        submitted = self._jobs.pop(event.id, None)
        if submitted is None:
            return None
        result = event.result
        if isinstance(result, Failed) and (again := self._second_try(submitted, result)) is not None:
            log.warning("%s; trying once more in a new worker process", result.reason)
            self._submit(again, submitted.purpose)
            return None
        return self._finished(submitted.purpose, result)

    def _second_try(self, submitted: _Submitted, failed: Failed) -> AnyJob | None:
        """Returns a job that failed, for a new worker process that may succeed; None if none may."""
        if failed.without_gpu and isinstance(submitted.job, Train):
            # No way of computing on the CPU is to blame, so the job is the same.
            self._worker.use_cpu()
            return self._from_the_start(submitted.job, submitted.at)
        return self._plainer(submitted, failed.reason) if failed.again else None

    def _encoded(self, effect: TrainRound) -> dict[str, Path]:
        """Returns the files of an update by unit; with error feedback, its residuals are on the disk before it is.

        The residuals that it starts from are those of the last update that is in the model, as the task says: those
        of an update that was lost or refused are never used, and what that one had added is added again.
        """
        task, stored = effect.task, self._residuals
        if task.feedback_from is None or task.encoding == "none":
            return part_files(effect, self._deltas)
        stored.forget_others(task.run)
        stored.prune(task.run, task.feedback_from)
        start: dict[str, Array] = {}
        if task.feedback_from and stored.before(task.run, task.feedback_from + 1) == task.feedback_from:
            with suppress(PeerError):  # a power cut may have halved the file: then it is as if there were none
                start = unpack(stored.read(task.run, task.feedback_from))
        feedback = ErrorFeedback(start)
        paths = part_files(effect, self._deltas, feedback)
        stored.write(task.run, task.round, pack(feedback.residuals))
        return paths

    def _blob(self, version: UnitVersion) -> str:
        return str(self._cache.path(version.digest))

    @property
    def _deltas(self) -> Path:
        return self._round_task / "deltas"

    @property
    def _exports(self) -> Path:
        return self._round_task / "onnx"

    def _submit(self, job: AnyJob, purpose: _Purpose) -> None:
        self._jobs[self._worker.submit(job)] = _Submitted(job, purpose, time.monotonic())

    def _died(self, event: WorkerDied) -> Event | None:
        submitted = self._jobs.pop(event.job_id, None) if event.job_id is not None else None
        if submitted is None:
            return None
        purpose = submitted.purpose
        if event.crashed and (again := self._plainer(submitted, f"the worker process {event.exit}")) is not None:
            log.warning("the worker process %s; trying once more in the plainest way", event.exit)
            self._submit(again, purpose)
            return None
        return self._failed(purpose, "memory" if event.memory else "worker", f"the worker process {event.exit}")

    def _plainer(self, submitted: _Submitted, why: str) -> AnyJob | None:
        """Returns a job that its worker process could not survive in a plainer form; None if there is none.

        A fast way that crashes native code must not cost the device its round, nor a broken GPU its place in the fleet.
        """
        job = submitted.job
        if isinstance(job, Measure) and self._worker.device == "auto":
            self._worker.use_cpu()
            return job
        if isinstance(job, Train) and not job.after_crash:
            return msgspec.structs.replace(self._from_the_start(job, submitted.at), after_crash=why)
        return None

    def _from_the_start(self, job: Train, began: float) -> Train:
        """Returns a round to be trained again in the time that is left of what began then."""
        empty_directory(self._deltas)
        left = None if job.seconds is None else max(0.0, job.seconds - (time.monotonic() - began))
        return msgspec.structs.replace(job, seconds=left)

    def _finished(  # noqa: PLR0911 - one return a kind of job
        self, purpose: _Purpose, result: AnyResult
    ) -> Event | PersonalModelMade | DeviceMeasurement | None:
        match purpose, result:
            case _Measuring(), DeviceMeasurement():
                if result.note:
                    log.warning("%s", result.note)
                return result
            case BuildModel(model), Built(blueprint=blueprint, data=data):
                return ModelBuilt(model, blueprint, data)
            case TrainRound(), Trained():
                return self._trained(purpose, result)
            case ExportModel(), Exported(models=(made,)):
                return _made(purpose, self._exports / made.file, result)
            case CheckModel(depth=depth), ExportChecked():
                return ModelChecked(_proof(depth, result), result.differs)
            case _, Failed(kind=kind, reason=reason):
                return self._failed(purpose, _kind(kind), reason)
        return self._failed(purpose, "worker", _refusal(result))

    def _failed(self, purpose: _Purpose, kind: FailureKind, reason: str) -> Event | None:
        match purpose:
            case BuildModel(model):
                return BuildFailed(model, kind, reason)
            case TrainRound():
                return TrainingFailed(purpose.fingerprint, kind, reason)
            case ExportModel():
                return InstallFailed(f"the final model could not be made: {reason}")
            case CheckModel(depth=depth):
                # A device that cannot compare the file may well be able to use it.
                return ModelChecked(ModelProof(depth, problem=reason[: LIMITS.messages.reason_characters]))
            case _Measuring(again=True):
                log.warning("the data cannot be used as they are now: %s", reason)
                return None
        raise DataError(reason) if kind == "data" else WorkerError(reason)

    def _trained(self, effect: TrainRound, result: Trained) -> Event:
        """Puts the deltas into the outbox."""
        task = effect.task
        for note in result.notes:
            log.warning("round %d: %s", task.round, note)
        if not result.finished:
            log.warning("round %d: time for %d samples an epoch; the update counts as much", task.round, result.samples)
        try:
            paths = self._encoded(effect)
            parts = {unit: mapped(path) for unit, path in paths.items()}
        except OSError as error:
            return TrainingFailed(effect.fingerprint, "worker", f"cannot encode the update: {why_not_written(error)}")
        except (RejectedUpdateError, StorageError) as error:
            return TrainingFailed(effect.fingerprint, "worker", f"the update cannot be encoded: {error}")
        blob = ConcatBuffer(parts.values())
        ends = accumulate(len(part) for part in parts.values())
        update = Update(
            run=task.run,
            round=task.round,
            device=task.device,
            fingerprint=effect.fingerprint,
            digest=blob.digest(),
            size=len(blob),
            units=tuple(UnitPayload(u, end - len(parts[u]), len(parts[u])) for u, end in zip(parts, ends, strict=True)),
            # Data that have grown since they were reported count from the next task on.
            samples=min(result.samples, task.samples or result.samples),
            loss=result.loss,
            seconds=result.seconds,
            bytes_down=effect.bytes_down,
            payload_down=effect.payload_down,
            peak_memory=result.peak_memory,
            compute=result.compute,
            chunk_bytes=task.chunk_bytes,
            # Nobody is believed to have judged a model on more samples than were reported.
            scores={} if _judged(result) > (task.samples or _judged(result)) else packed_scores(result.scores),
        )
        try:
            self._outbox.put(update, paths, blob)
        except OSError as error:
            return TrainingFailed(effect.fingerprint, "worker", f"cannot write the update: {why_not_written(error)}")
        return RoundTrained(update)


def _judged(result: Trained) -> int:
    """Returns the number of held-out samples."""
    return max((scores.samples for scores in result.scores.values()), default=0)


def _refusal(result: AnyResult) -> str:
    refused = result.refused if isinstance(result, Exported) else ()
    return refused[0].reason if refused else f"the worker answered with {type(result).__name__}"


def _made(purpose: ExportModel, path: Path, result: Exported) -> PersonalModelMade:
    checked = result.checks.get(purpose.depth)
    return PersonalModelMade(
        purpose.run, purpose.depth, path, None if checked is None else _proof(purpose.depth, checked)
    )


def _proof(depth: int, checked: ExportChecked) -> ModelProof:
    return ModelProof(
        depth,
        samples=checked.samples,
        max_abs_diff=checked.max_abs_diff,
        agreement=checked.agreement,
        problem=checked.problem,
        scores=packed_scores(checked.scores),
        ranges=checked.ranges,
    )


def _values_owner(run: str, depth: int) -> str:
    return f"{run}-depth-{depth}"


def _kind(kind: str) -> FailureKind:
    if kind in ("freeze", "start-weights"):
        return "model"
    return kind if kind in ("memory", "model", "data") else "worker"  # type: ignore[return-value]
