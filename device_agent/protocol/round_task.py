"""Carries out one round on the device: units are downloaded and trained, and the update is handed over.

A newer task takes the place of an older one. A worker cannot be interrupted without losing its loaded data, so a
training that is no longer wanted runs to its end and its result is dropped.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import msgspec

from device_agent.limits import LIMITS
from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.downloads import Downloads
from device_agent.protocol.events import (
    Effects,
    FailureKind,
    ForgetUpdate,
    Identity,
    Log,
    Publish,
    RoundTrained,
    TrainingFailed,
    TrainRound,
)
from device_agent.protocol.link.delivery_check import DeliveryCheck
from device_agent.protocol.link.link_estimate import LinkState
from device_agent.protocol.uploads import Uploads
from fedlp_edge.core.accounting import upload_bytes
from fedlp_edge.core.algorithm.periods import reuse_since, withheld_units
from fedlp_edge.core.algorithm.selection import draw_sent_tensors
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.errors import PeerError
from fedlp_edge.wire.admission import max_unit_bytes
from fedlp_edge.wire.messages import Failure, Task

Stage = Literal["fetching", "queued", "training"]


@dataclass
class _Job:
    task: Task
    fingerprint: str
    blueprint: Blueprint
    session: str | None
    expires_at: float
    stage: Stage = "fetching"
    expired: bool = False
    bytes_down: int = 0
    payload_down: int = 0


class RoundTask:
    """The current task of the device, if there is one.

    Args:
        identity: Identity of the agent.
        coordinator: Presence of the coordinator and its run.
        downloads: Downloads of the model's units.
        uploads: Uploads that take the finished updates.
        link: State of the link.
        deliveries: Check of the ways by which layers come.
    """

    def __init__(
        self,
        identity: Identity,
        coordinator: CoordinatorPresence,
        downloads: Downloads,
        uploads: Uploads,
        link: LinkState,
        deliveries: DeliveryCheck,
    ) -> None:
        self._link = link
        self._deliveries = deliveries
        self._identity = identity
        self._coordinator = coordinator
        self._downloads = downloads
        self._uploads = uploads
        self._job: _Job | None = None
        self._training: _Job | None = None

    def coordinator_online(self, now: float) -> None:
        """Goes on, since a coordinator is online (again); a task of another run is dropped."""
        if self._job is not None and self._job.task.run != self._coordinator.run:
            self.end(now)
        self._downloads.ask_soon(now)

    @property
    def idle(self) -> bool:
        """Whether there is no task that can still be done in time."""
        return self._job is None or self._job.expired

    @property
    def training(self) -> bool:
        """Whether the worker trains for a task."""
        return self._training is not None

    def next_wakeup(self) -> float | None:
        """Returns when ``poll`` has something to do unless an event comes first, in seconds; None if never."""
        if self._job is None or self._job.stage != "fetching":
            return None
        times = [] if self._job.expired else [self._job.expires_at]
        overdue = self._downloads.next_wakeup()
        if self._coordinator.online and overdue is not None:
            times.append(overdue)
        return min(times, default=None)

    def assign(self, task: Task, blueprint: Blueprint, now: float) -> Effects:
        """Takes a task, new or repeated."""
        # A coordinator that was restarted may repeat a round that this device is past; the same one never does.
        session = self._coordinator.session
        task_fingerprint = fingerprint(task)
        job = self._job
        if job is not None and job.fingerprint == task_fingerprint:
            if job.expired:
                self._downloads.resume(now)
            job.expires_at, job.expired = now + task.deadline_seconds, False
            return []
        if job is not None and job.task.run == task.run and job.session == session and task.round < job.task.round:
            return [Log(f"task of round {task.round} came too late and is ignored")]
        finished = self._uploads.find(task_fingerprint)
        if finished is not None:
            self.end(now)
            again = Log(f"round {task.round} is already trained; offering it again")
            return [again, *self._uploads.add(finished, now)]
        if problem := _problem(task, blueprint):
            return self._fail(task, "model", problem)
        self._job = _Job(task, task_fingerprint, blueprint, session, now + task.deadline_seconds)
        lpr = f", LPR {task.lpr:g}" if task.lpr < 1 else ""
        notes = [Log(f"round {task.round}: depth {task.depth}{lpr}"), *self._deliveries.begin_round(task.round)]
        try:
            self._downloads.start(task.manifest, now, task.patience_seconds)
        except PeerError as error:
            return [*notes, *self.rejected(error)]
        return [*notes, *self.progress()]

    def progress(self) -> Effects:
        """Begins the training once the downloads allow it."""
        job = self._job
        if job is None or job.stage == "training" or not self._downloads.complete:
            return []
        job.stage = "queued"
        if self._training is not None:
            return []
        job.stage, self._training = "training", job
        job.bytes_down, job.payload_down = self._take_bytes_down()
        self._link.carried_down = self._downloads.take_carried_rate()
        return [self._training_of(job)]

    def _training_of(self, job: _Job) -> TrainRound:
        """Returns the training of a task whose model is here."""
        task = msgspec.structs.replace(job.task, chunk_bytes=self._link.estimate.chunk_bytes(job.task.chunk_bytes))
        units = job.blueprint.exchanged_by(task.depth)
        exchanged = [unit.id for unit in units]
        personal = [unit.id for unit in job.blueprint.personal_of(task.depth)]
        persistent = personal if task.personal_heads == "persist" else []
        sent = draw_sent_tensors(
            units,
            lpr=task.lpr,
            lpr_of=task.lpr_of,
            seed=task.seed,
            round=task.round,
            device=task.device,
            granularity=task.granularity,
        )
        upload = sum(upload_bytes(unit, task.encoding) for unit in units if unit.id in sent)
        return TrainRound(
            task=task,
            fingerprint=job.fingerprint,
            order=tuple(exchanged),
            sent=sent,
            withheld=(*personal, *withheld_units(task.exchange_every, exchanged, task.round)),
            reuse_since=dict.fromkeys(persistent, 1) | reuse_since(task.exchange_every, exchanged, task.round),
            bytes_down=job.bytes_down,
            payload_down=job.payload_down,
            tensors={
                unit.id: tuple(tensor for tensor in unit.tensors if tensor.name in sent[unit.id])
                for unit in units
                if unit.id in sent
            },
            until=job.expires_at - self._link.estimate.seconds(upload),
            received={unit.id: unit.tensors for unit in units},
        )

    def trained(self, event: RoundTrained, now: float) -> Effects:
        """Notes that the worker has trained the round; the update is in the outbox."""
        self._training = None
        update = event.update
        if self._job is None or self._job.fingerprint != update.fingerprint:
            self._uploads.uncounted_bytes_down += update.bytes_down
            self._uploads.uncounted_payload_down += update.payload_down
            note = Log(f"round {update.round}: trained, but a newer task has come; the update is dropped")
            return [note, ForgetUpdate(update.id), *self.progress()]
        self._job = None
        how = f" in {update.compute}" if update.compute else ""
        note = Log(f"round {update.round}: trained{how} in {update.seconds:.1f} s, loss {update.loss:.4f}")
        return [note, *self._uploads.add(update, now)]

    def failed(self, event: TrainingFailed) -> Effects:
        """Reports that the worker could not train."""
        training, self._training = self._training, None
        job = self._job
        if job is None or job.fingerprint != event.fingerprint:
            if training is not None:
                self._uploads.uncounted_bytes_down += training.bytes_down
                self._uploads.uncounted_payload_down += training.payload_down
            return self.progress()
        self._job = None
        return self._fail(job.task, event.kind, event.reason, (job.bytes_down, job.payload_down))

    def rejected(self, error: PeerError) -> Effects:
        """Reports that a downloaded unit is not acceptable."""
        if self._job is None:
            return [Log(str(error), warning=True)]
        task, self._job = self._job.task, None
        return self._fail(task, "model", str(error), self._take_bytes_down())

    def end(self, now: float) -> None:
        """Drops the current task, which is no longer wanted."""
        self._job = None
        self._downloads.start((), now)

    def poll(self, now: float) -> Effects:
        """Requests what is missing, or stops requesting once the round is over."""
        job = self._job
        if job is None or job.stage != "fetching":
            return []
        if not job.expired and now >= job.expires_at:
            job.expired = True
            self._link.missed(self._downloads.observed_rate(now))
            self._downloads.pause()
            return [Log(f"round {job.task.round} ended before the model had arrived", warning=True)]
        if not self._coordinator.online:
            return []
        requests = self._downloads.requests(job.task.run, self._identity.device, now)
        if requests:
            self._deliveries.asked()
        return [Publish(self._up, request) for request in requests]

    def _take_bytes_down(self) -> tuple[int, int]:
        """Model bytes that no message to the coordinator has named yet, those of rounds that were lost included: as
        received, and those of complete blobs alone.
        """
        received = self._downloads.take_received_bytes() + self._uploads.take_uncounted_bytes_down()
        return received, self._downloads.take_completed_bytes() + self._uploads.take_uncounted_payload_down()

    @property
    def _up(self) -> str:
        return self._identity.topics.of("up", self._identity.device)

    def _fail(self, task: Task, kind: FailureKind, reason: str, down: tuple[int, int] = (0, 0)) -> Effects:
        message = Failure(
            run=task.run,
            device=self._identity.device,
            session=self._identity.session,
            round=task.round,
            kind=kind,
            reason=reason[: LIMITS.messages.reason_characters],
            bytes_down=down[0],
            payload_down=down[1],
        )
        return [
            Log(f"round {task.round} failed: {reason}", warning=True),
            Publish(self._up, message),
            *self.progress(),
        ]


def fingerprint(task: Task) -> str:
    """Returns a digest of everything in a task that its update depends on: not of deadlines, not of chunk sizes."""
    same = msgspec.structs.replace(task, manifest=(), deadline_seconds=0.0, chunk_bytes=1, patience_seconds=0.0)
    versions = [(version.unit, version.digest) for version in task.manifest]
    return hashlib.sha256(msgspec.json.encode((same, versions), order="sorted")).hexdigest()


def _problem(task: Task, blueprint: Blueprint) -> str:
    """Returns why a task does not fit the model; empty if it does."""
    if task.depth not in blueprint.depths:
        return f"the task asks for depth {task.depth}, the model has {blueprint.full_depth}"
    wanted = [unit.id for unit in blueprint.downloads_of(task.depth)]
    if sorted(version.unit for version in task.manifest) != sorted(wanted):
        return f"the task's manifest does not name exactly the units of depth {task.depth}"
    for version in task.manifest:
        most = max_unit_bytes(blueprint.downloads[version.unit])
        if not 0 < version.size <= most:
            return f"unit {version.unit} is said to have {version.size} bytes, it can have 1 to {most}"
    return ""
