"""The job of a round: a local round between files, within the device's memory and time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import msgspec
from torch import Tensor

from fedlp_edge.core.blueprint import Unit
from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.core.settings import MemorySaving
from fedlp_edge.errors import ModelError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.evaluation import JUDGED_AT_ONCE
from fedlp_edge.learning.memory import limits
from fedlp_edge.learning.memory.allocator import cached_allocation
from fedlp_edge.learning.state_files import StateFiles, save_tensors
from fedlp_edge.learning.training.fallback import Execution, FailedAttempt, reason_of
from fedlp_edge.learning.training.local_round import LocalRound, LocalTask, SendUnit
from fedlp_edge.learning.zoo.prepared import PreparedModel
from fedlp_edge.system.portable.memory_use import resident_bytes
from fedlp_edge.worker.jobs import Train, Trained
from fedlp_edge.worker.received_state import ReceivedState
from fedlp_edge.worker.resources import WorkerResources


def train(job: Train, resources: WorkerResources) -> Trained:
    """Trains one round; what is sent and what stays on the device is in files afterwards."""
    if job.after_crash:
        resources.choose_cpu()
    prepared = resources.models.submodel(job.model.without_names, job.depth)
    data, held_out = resources.load_parts(job.model, prepared.blueprint, job.data, job.holdout)
    local_round = _local_round(job, prepared, data, resources)
    memory = TrainingMemory(prepared, resources)
    until = math.inf if job.seconds is None else time.perf_counter() + job.seconds
    scores, unjudged = _judged(job, local_round, held_out, memory)

    execution, suspects = _execution(job, prepared, local_round, memory, resources)
    result = local_round.run(
        execution, _writer(job), within=memory.attempt, until=until, limited=memory.budget is not None
    )
    if job.withheld_path is not None:
        save_tensors(local_round.withheld_values(), Path(job.withheld_path))

    failed_attempts = (*suspects, *result.failed_attempts)
    resources.needs_new_process |= any(failed.requires_new_process for failed in result.failed_attempts)
    outcome = result.outcome
    return Trained(
        samples=max(1, outcome.seen // job.training.epochs),
        loss=outcome.loss,
        seconds=outcome.seconds,
        peak_memory=memory.peak,
        compute=outcome.compute,
        finished=outcome.finished,
        notes=(*unjudged, *_notes(job, failed_attempts, result.used, memory, resources), *_data_note(local_round)),
        scores=scores,
    )


class TrainingMemory:
    """Holds training to the memory that it may take, and measures what it takes.

    Args:
        prepared: The submodel that is trained. It is resident already, but it is part of what training takes.
        resources: Resources of the worker, which knows the limits.

    Attributes:
        budget: Bytes that training may take on top of what this process has by now; None for no limit.
        peak: Bytes that the last attempt took on top of the idle worker; 0 before the first has ended.

    Raises:
        MemoryError: The model's values alone take more than is allowed.
    """

    def __init__(self, prepared: PreparedModel, resources: WorkerResources) -> None:
        self.budget = _budget(prepared, resources)
        self.peak = 0
        self._prepared = prepared
        self._device = resources.device
        self._group = resources.group

    def limit(self) -> AbstractContextManager[None]:
        """The block in which no more than the budget can be taken."""
        slack = limits.SLACK_BYTES + limits.kernel_space(self._prepared.model)
        return limits.limited(self.budget, self._device, slack, self._group)

    def allocating(self, memory_saving: MemorySaving) -> AbstractContextManager[None]:
        """The block in which training allocates; a heap that keeps what is free stays in the budget."""
        return cached_allocation(self.budget) if memory_saving.allocator == "cached" else nullcontext()

    @contextmanager
    def attempt(self, execution: Execution) -> Iterator[None]:
        """The block of one way of training, limited and measured."""
        meter = limits.PeakMeter(self._device)
        # What an earlier attempt left, such as its kernels, is not this one's: each has the whole budget.
        with self.allocating(execution.memory_saving), self.limit():
            meter.start()
            yield
            self.peak = meter.stop() + self._prepared.nbytes


def _judged(
    job: Train, local_round: LocalRound, held_out: Dataset | None, memory: TrainingMemory
) -> tuple[dict[int, HeldOutScores], tuple[str, ...]]:
    """What the model is worth that training starts from; a device that cannot judge it trains all the same.

    Returns:
        Scores by depth of the exit, and a note for the owner of the device if there should have been some.
    """
    if held_out is None or not job.judge or job.after_crash:
        return {}, ()
    batch_size = min(JUDGED_AT_ONCE, job.training.memory.micro_batch or job.training.batch_size)
    try:
        with memory.allocating(job.training.memory), memory.limit():
            return local_round.judge(held_out, batch_size), ()
    except Exception as error:  # users' layers and tasks may raise any type
        return {}, (f"the held-out samples could not be judged: {reason_of(error)}",)


def _local_round(job: Train, prepared: PreparedModel, data: Dataset, resources: WorkerResources) -> LocalRound:
    blueprint = prepared.blueprint
    if job.withheld_path is None:
        if personal := blueprint.personal_of(job.depth):
            raise ModelError(f"the head of depth {personal[-1].depth} is personal, but no file to keep it in is named")
        if job.withheld:
            raise ModelError(f"{job.withheld[0]} stays on the device, but no file to keep it in is named")
    settings = job.model.without_names
    return LocalRound(
        LocalTask(
            depth=job.depth,
            training=job.training,
            sent=job.sent,
            withheld=job.withheld,
            reused=job.reused,
            freeze=job.freeze,
            seed=job.seed,
            head_seed=job.head_seed,
            fresh_statistics=job.fresh_statistics,
            answer=job.answer,
            learning_task=resources.task_of(job.model, blueprint),
        ),
        prepared,
        data,
        resources.device,
        global_state=ReceivedState([*map(Path, job.state_paths)], job.encoded),
        device_state=None if job.reused_path is None else StateFiles(Path(job.reused_path)),
        build=lambda seed: resources.models.build(settings, seed),
    )


def _execution(
    job: Train, prepared: PreparedModel, local_round: LocalRound, memory: TrainingMemory, resources: WorkerResources
) -> tuple[Execution, tuple[FailedAttempt, ...]]:
    """The first way to try, and the ways that the process before this one may have died in."""
    place = (job.training, job.model.without_names, job.depth)
    if job.after_crash:
        suspects = resources.compute.suspects(job.after_crash, *place, budget=memory.budget)
        return Execution(memory_saving=msgspec.structs.replace(job.training.memory, allocator="exact")), suspects
    with memory.allocating(job.training.memory):
        execution = resources.compute.execution(
            prepared.model,
            local_round.data,
            *place,
            start=local_round.put_start_values,
            limit=None if memory.budget is None else memory.limit,
            budget=memory.budget,
            task=resources.task_of(job.model, prepared.blueprint),
        )
    return execution, ()


def _writer(job: Train) -> SendUnit:
    directory = Path(job.delta_dir)

    def write(unit: Unit, update: dict[str, Tensor]) -> None:
        # A power cut may cost them: the same task then gives the same values again.
        save_tensors(update, directory / f"{unit.id}.safetensors", durable=False)

    return write


def _notes(
    job: Train,
    failed_attempts: tuple[FailedAttempt, ...],
    used: Execution,
    memory: TrainingMemory,
    resources: WorkerResources,
) -> tuple[str, ...]:
    """Has what failed remembered; what the owner of the device should know of it."""
    place = (job.training, job.model.without_names, job.depth)
    notes = resources.compute.learn(failed_attempts, used, *place, budget=memory.budget)
    if job.after_crash:
        notes = (f"trained in a new worker process in {used.compute}, and so from now on",)
    if note := resources.take_note():
        notes = (*notes, note)
    return notes


def _data_note(local_round: LocalRound) -> tuple[str, ...]:
    note = local_round.data.store.take_note()
    return (f"data: {note}",) if note else ()


def _budget(prepared: PreparedModel, resources: WorkerResources) -> int | None:
    """Bytes that training may take on top of what this process has by now, the model included."""
    options, bounds = resources.options, []
    if (budget := options.memory_bytes) is not None:
        if prepared.nbytes > budget:
            raise MemoryError(f"the model's values alone take {prepared.nbytes} bytes of the {budget} allowed")
        bounds.append(budget - prepared.nbytes)
    if (whole := options.process_bytes) is not None and resources.device.type == "cpu":
        bounds.append(max(0, whole - resident_bytes()))
    return min(bounds, default=None)
