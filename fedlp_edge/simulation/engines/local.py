"""This module has the engine for one machine: one process with one thread per worker, and shared memory.

A worker process that dies is replaced at once by one that gets the experiment and the model weights (``recovery``).
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import numpy as np

from fedlp_edge.core.algorithm.aggregation import Array, SumArrays, sum_shape
from fedlp_edge.errors import WorkerError
from fedlp_edge.simulation.engines.base import OpenedExperiment, expected
from fedlp_edge.simulation.engines.channel import (
    Channel,
    ChannelClosedError,
    FromWorker,
    InitialWeights,
    PublishWeights,
    SampleArrays,
    SetUpWorker,
    SumsWritten,
    ToWorker,
    WeightsBuffer,
    WeightsWritten,
)
from fedlp_edge.simulation.engines.channel import Sums as SumsMemory
from fedlp_edge.simulation.engines.jobs import (
    Reply,
    SimulationJob,
    SimulationWorkerDied,
    SumsCollected,
    WorkerReady,
    WorkerSetup,
)
from fedlp_edge.simulation.engines.recovery import death, ended
from fedlp_edge.simulation.engines.worker_starters import worker_starter
from fedlp_edge.simulation.shared_memory import Layout, SharedArrays, layout_of
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData
from fedlp_edge.system.cores import usable_cores


class LocalEngine:
    """The worker processes of this machine; a context manager that ends all of them.

    Args:
        workers: Number of workers; 0 for one per core.
    """

    def __init__(self, workers: int = 0) -> None:
        self._starter = worker_starter()
        self._setup: WorkerSetup | None = None
        self._pictures: tuple[SimulationData, SharedArrays] | None = None
        self._assignment: SharedArrays | None = None
        self._layout: Layout = ()
        self._boards: list[SharedArrays] = []
        self._version_on: dict[int, int] = {}
        self._sums: list[SharedArrays] = []
        self._handed_over: dict[int, SumsWritten] = {}
        self._busy: set[int] = set()
        self._channels: list[Channel[FromWorker]] = []
        for worker in range(workers or usable_cores()):
            self._channels.append(self._start(worker))

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self._channels)

    def open(self, setup: WorkerSetup, simulation_data: SimulationData, assignment: DataAssignment) -> OpenedExperiment:
        """Begins an experiment, as ``Engine.open`` says."""
        self._forget()
        for worker in sorted(self._busy):  # what an experiment that failed has left under way
            self._replace(worker)
        self._setup = setup
        if self._pictures is None or self._pictures[0] is not simulation_data:
            self._pictures = (simulation_data, SharedArrays.copy_of(simulation_data.arrays))
        self._assignment = SharedArrays.copy_of(assignment.arrays)
        for worker in range(self.workers):
            self._send_study(worker)
        answers = [self._answer(worker) for worker in range(self.workers)]  # all, so that nothing is left under way
        opened = [expected(answer, WorkerReady) for answer in answers]
        blueprint = opened[0].blueprint
        tensors = {tensor.name: tensor for unit in blueprint.global_units for tensor in unit.tensors}
        constants = [tensor for unit in blueprint.global_units for tensor in unit.constants]
        self._layout = layout_of({tensor.name: ("<f4", tensor.shape) for tensor in (*tensors.values(), *constants)})
        of_sums = layout_of({name: ("<i8", sum_shape(tensor)) for name, tensor in tensors.items()})
        for worker in range(self.workers):
            self._sums.append(SharedArrays.create(of_sums))
            self._send_sums(worker)
        board = self._new_board()
        self._send(0, InitialWeights(board))
        try:
            expected(self._receive(0), WeightsWritten)
        except ChannelClosedError:
            self._revive(0)
            self._send(0, InitialWeights(board))
            expected(self._answer(0), WeightsWritten)
        weights = {name: array.copy() for name, array in self._boards[board].arrays.items()}
        return OpenedExperiment(blueprint, weights, opened[0].start_weights)

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """Makes a version of the global model weights available to all workers."""
        free = [board for board in range(len(self._boards)) if board not in self._version_on.values()]
        board = free[0] if free else self._new_board()
        self._boards[board].write(weights)
        self._version_on[version] = board
        for worker in range(self.workers):
            self._send(worker, PublishWeights(version, board))

    def retire(self, version: int) -> None:
        """Frees a version of the model weights that no further job uses."""
        self._version_on.pop(version, None)

    def submit(self, worker: int, job: SimulationJob) -> None:
        """Gives an idle worker a job."""
        self._handed_over.pop(worker, None)
        self._busy.add(worker)
        self._send(worker, job)

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        """Waits for the next reply of any worker, as ``Engine.next_reply`` says."""
        readable, _, _ = select.select(self._channels, [], [], seconds)
        if not readable:
            return None
        worker = self._channels.index(readable[0])
        self._busy.discard(worker)
        try:
            reply = self._receive(worker)
        except ChannelClosedError:
            return worker, self._revive(worker)
        if isinstance(reply, SumsWritten):
            self._handed_over[worker] = reply
            return worker, SumsCollected()
        if isinstance(reply, WorkerReady | WeightsWritten):
            raise WorkerError(f"a worker answered an order with {type(reply).__name__}")
        return worker, reply

    def sums(self, worker: int) -> SumArrays:
        """Returns the sums of the worker's last ``CollectSums``."""
        written, memory = self._handed_over[worker], self._sums[worker].arrays
        weights = {name: np.array(rows, np.int64) for name, rows in written.weights.items()}
        return SumArrays({name: memory[name] for name in written.sent}, weights)

    def close(self) -> None:
        """Ends the workers, by closing their sockets."""
        for channel in self._channels:
            channel.close()
        self._channels = []
        self._starter.close()
        self._forget()
        if self._pictures is not None:
            self._pictures[1].close()
        self._pictures = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _forget(self) -> None:
        """Frees the memory of the previous experiment."""
        for memory in (*self._boards, *self._sums, *([self._assignment] if self._assignment else [])):
            memory.close()
        self._setup = self._assignment = None
        self._boards, self._sums, self._version_on, self._handed_over = [], [], {}, {}

    def _start(self, worker: int) -> Channel[FromWorker]:
        """Starts a worker and returns the channel to it."""
        return Channel(self._starter.start(worker), FromWorker)  # type: ignore[arg-type]  # a union stands for its members

    def _replace(self, worker: int) -> int:
        """Replaces a worker process that has ended or is ending; returns its exit code."""
        self._busy.discard(worker)
        self._handed_over.pop(worker, None)
        self._channels[worker].close()
        code = self._starter.exit_code(worker)
        self._channels[worker] = self._start(worker)
        return code

    def _revive(self, worker: int) -> SimulationWorkerDied:
        """Replaces a worker process that has ended by one that gets the experiment and the model weights."""
        died = death(self._replace(worker))
        if self._setup is not None:
            self._send_study(worker)
            try:
                expected(self._receive(worker), WorkerReady)
            except ChannelClosedError:
                raise ended(death(self._replace(worker)), " while it began the experiment") from None
        if self._sums:
            self._send_sums(worker)
        for board in range(len(self._boards)):
            self._send_board(worker, board)
        for version, board in self._version_on.items():
            self._send(worker, PublishWeights(version, board))
        return died

    def _answer(self, worker: int) -> FromWorker:
        """Returns a worker's answer to the beginning of an experiment; a worker that died is replaced once."""
        try:
            return self._receive(worker)
        except ChannelClosedError:
            self._replace(worker)
        self._send_study(worker)
        try:
            return self._receive(worker)
        except ChannelClosedError:
            raise ended(death(self._replace(worker)), " while it began the experiment") from None

    def _new_board(self) -> int:
        self._boards.append(SharedArrays.create(self._layout))
        for worker in range(self.workers):
            self._send_board(worker, len(self._boards) - 1)
        return len(self._boards) - 1

    def _send_study(self, worker: int) -> None:
        if self._setup is None or self._pictures is None or self._assignment is None:
            raise ValueError("no experiment is open")
        for group, memory in (("pictures", self._pictures[1]), ("assignment", self._assignment)):
            self._send(worker, SampleArrays(group, memory.layout, memory.name), *memory.descriptors)
        self._send(worker, SetUpWorker(self._setup))

    def _send_sums(self, worker: int) -> None:
        memory = self._sums[worker]
        self._send(worker, SumsMemory(memory.layout, memory.name), *memory.descriptors)

    def _send_board(self, worker: int, board: int) -> None:
        memory = self._boards[board]
        self._send(worker, WeightsBuffer(board, memory.layout, memory.name), *memory.descriptors)

    def _send(self, worker: int, message: ToWorker, *descriptors: int) -> None:
        # Whoever waits for an answer notices a closed channel, and its successor is told everything.
        with contextlib.suppress(ChannelClosedError):
            self._channels[worker].send(message, *descriptors)

    def _receive(self, worker: int) -> FromWorker:
        return self._channels[worker].receive()[0]


def local_engine(workers: int = 0) -> LocalEngine:
    """Starts the worker processes of this machine, for any number of experiments one after the other.

    Args:
        workers: Number of workers; 0 for one per core.
    """
    return LocalEngine(workers)
