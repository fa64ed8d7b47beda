"""This module runs the worker processes of the local engine: torch is loaded once, then a process per worker forked.

Run as ``python -m fedlp_edge.simulation.engines.local_worker FD``, where FD is one end of a socket pair. This process,
the starter, computes nothing: it forks a worker on request, at the start and when a worker has died, and reports the
exit codes of workers. Forking is safe because the starter never has a second thread (the environment limits numerical
libraries to one), and it saves every worker the seconds and the memory of loading torch. Starter and workers end at
once when the simulation does, even in the middle of training.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import sys
import threading

import torch

from fedlp_edge.learning.memory.allocator import allocate_cached
from fedlp_edge.simulation.engines.channel import (
    AwaitWorker,
    Channel,
    ChannelClosedError,
    FromWorker,
    InitialWeights,
    PublishWeights,
    SampleArrays,
    SetUpWorker,
    StartWorker,
    Sums,
    SumsWritten,
    ToStarter,
    ToWorker,
    WeightsBuffer,
    WeightsWritten,
    WorkerExit,
)
from fedlp_edge.simulation.engines.job_errors import result_or_failure
from fedlp_edge.simulation.engines.jobs import CollectSums, DescribeTask, SimulationJob, WorkerReady
from fedlp_edge.simulation.engines.worker import SimulationWorker, describe_task
from fedlp_edge.simulation.shared_memory import AnyArray, SharedArrays
from fedlp_edge.system.directories import working_directory
from fedlp_edge.system.lifecycle import raise_oom_score


def prepare() -> None:
    """Prepares a process that simulates devices, before it computes anything."""
    # The owner's own model and data functions are there; it comes last, so that they shadow no module.
    sys.path.append(working_directory())
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    allocate_cached()  # every train step reuses the same few blocks; fresh memory pages would take a third of its time


def main() -> None:
    """Starts workers until the simulation ends."""
    prepare()
    # Loaded objects stay, so garbage collection need not write to, and so copy, the memory that the workers share.
    gc.collect()
    gc.freeze()
    control: Channel[ToStarter] = Channel(socket.socket(fileno=int(sys.argv[1])), ToStarter)  # type: ignore[arg-type]
    processes: dict[int, int] = {}
    with contextlib.closing(control), contextlib.suppress(ChannelClosedError):
        while True:
            message, descriptors = control.receive()
            match message:
                case StartWorker(worker):
                    processes[worker] = os.fork()
                    if not processes[worker]:
                        control.close()
                        raise_oom_score()
                        end = socket.socket(fileno=descriptors[0])
                        threading.Thread(target=_end_with, args=(end.fileno(),), name="simulation", daemon=True).start()
                        serve(end)
                        os._exit(0)
                    os.close(descriptors[0])
                case AwaitWorker(worker):
                    _, status = os.waitpid(processes.pop(worker), 0)
                    control.send(WorkerExit(os.waitstatus_to_exitcode(status)))
    for process in processes.values():
        os.waitpid(process, 0)


def serve(end: socket.socket) -> None:
    """Does what the simulation at the other end of a socket pair asks for, until that end is closed."""
    channel: Channel[ToWorker] = Channel(end, ToWorker)  # type: ignore[arg-type]  # a union stands for its members
    worker = _Worker()
    while True:
        try:
            message, descriptors = channel.receive()
            reply = worker.take(message, descriptors)
            if reply is not None:
                channel.send(reply)
        except ChannelClosedError:
            return


def _end_with(descriptor: int) -> None:
    """Ends this process when the simulation's end of the socket pair is closed."""
    watch = select.poll()
    watch.register(descriptor, 0)  # poll always reports a hang-up
    watch.poll()
    os._exit(0)


class _Worker:
    """One worker: it maps shared memory and passes jobs to its ``SimulationWorker``."""

    def __init__(self) -> None:
        self._samples: dict[str, SharedArrays] = {}
        self._boards: dict[int, SharedArrays] = {}
        self._sums: SharedArrays | None = None
        self._worker: SimulationWorker | None = None

    def take(self, message: ToWorker, descriptors: list[int]) -> FromWorker | None:
        """Handles a message; returns the answer, None if the message needs none."""
        if isinstance(message, SampleArrays | WeightsBuffer | Sums):
            self._map(message, SharedArrays.received(message.layout, message.name, descriptors))
            return None
        return result_or_failure(lambda: self._open(message) if isinstance(message, SetUpWorker) else self._do(message))

    def _map(self, message: SampleArrays | WeightsBuffer | Sums, shared: SharedArrays) -> None:
        match message:
            case SampleArrays(group):
                self._samples[group] = shared
            case WeightsBuffer(board):
                self._boards[board] = shared
            case Sums():
                self._sums = shared

    def _open(self, message: SetUpWorker) -> WorkerReady:
        self._worker, self._boards, self._sums = None, {}, None  # free the memory of the previous experiment first
        arrays: dict[str, AnyArray] = {}
        for group in self._samples.values():
            arrays.update(group.arrays)
        self._worker = SimulationWorker(message.setup, arrays)
        return WorkerReady(self._worker.blueprint, self._worker.start_weights)

    def _do(self, message: SimulationJob | InitialWeights | PublishWeights) -> FromWorker | None:
        if isinstance(message, DescribeTask):
            return describe_task(message)
        simulation_worker = self._worker
        if simulation_worker is None:
            raise ValueError("no experiment is open")
        match message:
            case InitialWeights(board):
                self._boards[board].write(simulation_worker.initial_weights())
                return WeightsWritten()
            case PublishWeights(version, board):
                simulation_worker.publish(version, self._boards[board].arrays)
                return None
            case CollectSums():
                return self._hand_over(simulation_worker)
        return simulation_worker.do(message)

    def _hand_over(self, simulation_worker: SimulationWorker) -> SumsWritten:
        collected = simulation_worker.collect()
        if self._sums is not None:
            for name, total in collected.sums.items():
                self._sums.arrays[name][...] = total
        weights = {name: tuple(tuple(row) for row in rows.tolist()) for name, rows in collected.weights.items()}
        return SumsWritten(tuple(collected.sums), weights)


if __name__ == "__main__":
    main()
