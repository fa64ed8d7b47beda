"""The engine for one machine: one process with one thread for each worker, and shared memory between them."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np

from fedlp_edge.core.aggregation import Array, Sums, sum_shape
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.errors import WorkerError
from fedlp_edge.simulation.channel import (
    Board,
    Channel,
    Closed,
    FromWorker,
    InitialWeights,
    OpenStudy,
    Publish,
    Samples,
    SumsWritten,
    ToWorker,
    WeightsWritten,
)
from fedlp_edge.simulation.channel import Sums as SumsMemory
from fedlp_edge.simulation.engine import expected
from fedlp_edge.simulation.orders import Collected, Opened, Order, Reply, Study
from fedlp_edge.simulation.samples import Deal, Pictures
from fedlp_edge.simulation.sharing import Layout, SharedArrays, layout_of

STOP_SECONDS = 5.0

_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalEngine:
    """Worker processes, started at once; a context manager that leaves none behind.

    Args:
        workers: how many; 0 for one a core.
    """

    def __init__(self, workers: int = 0) -> None:
        count = workers or usable_cores()
        pairs = [socket.socketpair() for _ in range(count)]
        theirs = [end.fileno() for _, end in pairs]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fedlp_edge.simulation.process", *map(str, theirs)],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # what a user's own model or data code prints
            env={**os.environ, **dict.fromkeys(_ONE_THREAD, "1")},
        )
        for _, end in pairs:
            end.close()
        self._channels: list[Channel[FromWorker]] = [Channel(end, FromWorker) for end, _ in pairs]  # type: ignore[arg-type]
        self._pictures: tuple[Pictures, SharedArrays] | None = None
        self._deal: SharedArrays | None = None
        self._layout: Layout = ()
        self._boards: list[SharedArrays] = []
        self._version_on: dict[int, int] = {}
        self._sums: list[SharedArrays] = []
        self._handed_over: dict[int, SumsWritten] = {}

    @property
    def workers(self) -> int:
        """How many there are."""
        return len(self._channels)

    def open(self, study: Study, pictures: Pictures, deal: Deal) -> tuple[Blueprint, dict[str, Array]]:
        """See ``Engine.open``."""
        self._forget()
        if self._pictures is None or self._pictures[0] is not pictures:
            self._pictures = (pictures, self._share("pictures", pictures.arrays))
        self._deal = self._share("deal", deal.arrays)
        self._tell(OpenStudy(study))
        answers = [self._receive(channel) for channel in self._channels]
        opened = [expected(answer, Opened) for answer in answers]
        blueprint = opened[0].blueprint
        tensors = {tensor.name: tensor for unit in blueprint.global_units for tensor in unit.tensors}
        constants = [tensor for unit in blueprint.global_units for tensor in unit.constants]
        self._layout = layout_of({tensor.name: ("<f4", tensor.shape) for tensor in (*tensors.values(), *constants)})
        of_sums = layout_of({name: ("<i8", sum_shape(tensor)) for name, tensor in tensors.items()})
        for channel in self._channels:
            memory = SharedArrays.create(of_sums)
            self._sums.append(memory)
            self._send(channel, SumsMemory(of_sums), memory.descriptor)
        board = self._new_board()
        self._send(self._channels[0], InitialWeights(board))
        expected(self._receive(self._channels[0]), WeightsWritten)
        return blueprint, {name: array.copy() for name, array in self._boards[board].arrays.items()}

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """See ``Engine.publish``."""
        free = [board for board in range(len(self._boards)) if board not in self._version_on.values()]
        board = free[0] if free else self._new_board()
        self._boards[board].write(weights)
        self._version_on[version] = board
        self._tell(Publish(version, board))

    def retire(self, version: int) -> None:
        """See ``Engine.retire``."""
        self._version_on.pop(version, None)

    def submit(self, worker: int, order: Order) -> None:
        """See ``Engine.submit``."""
        self._handed_over.pop(worker, None)
        self._send(self._channels[worker], order)

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        """See ``Engine.next_reply``."""
        readable, _, _ = select.select(self._channels, [], [], seconds)
        if not readable:
            return None
        channel = readable[0]
        worker, reply = self._channels.index(channel), self._receive(channel)
        if isinstance(reply, SumsWritten):
            self._handed_over[worker] = reply
            return worker, Collected()
        if isinstance(reply, Opened | WeightsWritten):
            raise WorkerError(f"a worker answered an order with {type(reply).__name__}")
        return worker, reply

    def sums(self, worker: int) -> dict[str, Sums]:
        """See ``Engine.sums``."""
        written, memory = self._handed_over[worker], self._sums[worker].arrays
        arrays: dict[str, Sums] = {f"sum/{name}": memory[name] for name in written.sent}
        arrays.update({f"weight/{name}": np.array(rows, np.int64) for name, rows in written.weights.items()})
        return arrays

    def close(self) -> None:
        """Ends the workers; they notice that nobody is there any more."""
        for channel in self._channels:
            channel.close()
        self._channels = []
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()
        for memory in (self._deal, self._pictures[1] if self._pictures else None):
            if memory is not None:
                memory.close()
        self._deal = self._pictures = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _forget(self) -> None:
        """Gives back the memory of the experiment before."""
        for memory in (*self._boards, *self._sums):
            memory.close()
        self._boards, self._sums, self._version_on, self._handed_over = [], [], {}, {}

    def _share(self, group: str, arrays: Mapping[str, Any]) -> SharedArrays:
        memory = SharedArrays.copy_of(arrays)
        self._tell(Samples(group, memory.layout), memory.descriptor)
        return memory

    def _new_board(self) -> int:
        memory = SharedArrays.create(self._layout)
        self._boards.append(memory)
        self._tell(Board(len(self._boards) - 1, self._layout), memory.descriptor)
        return len(self._boards) - 1

    def _tell(self, message: ToWorker, *descriptors: int) -> None:
        for channel in self._channels:
            self._send(channel, message, *descriptors)

    def _send(self, channel: Channel[FromWorker], message: ToWorker, *descriptors: int) -> None:
        try:
            channel.send(message, *descriptors)
        except Closed:
            raise self._ended() from None

    def _receive(self, channel: Channel[FromWorker]) -> FromWorker:
        try:
            message, _ = channel.receive()
        except Closed:
            raise self._ended() from None
        return message

    def _ended(self) -> WorkerError:
        """What to say when a worker is gone: killed, or ended by itself."""
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        if code < 0:
            return WorkerError("a worker process of the simulation was killed: out of memory? use fewer workers")
        return WorkerError(f"a worker process of the simulation ended with code {code}; its last words stand above")


def local_engine(workers: int = 0) -> LocalEngine:
    """Starts the worker processes of this machine, for any number of experiments one after the other.

    Args:
        workers: how many; 0 for one a core.
    """
    return LocalEngine(workers)
