"""The worker processes of the local engine: torch is loaded once, then one process for each worker is split off.

Run as ``python -m fedlp_edge.simulation.process FD``, one end of a socket pair. This process, the starter, computes
nothing: it splits off a worker whenever it is told to, at the start and when a worker has died, and says how workers
ended. Splitting is safe because it never has a second thread (the environment keeps numerical libraries to one), and it
spares every worker the seconds and the memory of loading torch. Starter and workers end at once when the simulation
does, even in the middle of training.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import socket
import sys
import threading
from pathlib import Path

import torch

from fedlp_edge.learning.frugal import allocate_roomily
from fedlp_edge.lifecycle import be_killed_first
from fedlp_edge.simulation.bench import Bench
from fedlp_edge.simulation.channel import (
    AwaitWorker,
    Board,
    Channel,
    Closed,
    FromWorker,
    InitialWeights,
    OpenStudy,
    Publish,
    Samples,
    StartWorker,
    Sums,
    SumsWritten,
    ToStarter,
    ToWorker,
    WeightsWritten,
    WorkerExit,
)
from fedlp_edge.simulation.failing import told
from fedlp_edge.simulation.orders import Collect, Opened, Order
from fedlp_edge.simulation.sharing import AnyArray, SharedArrays


def main() -> None:
    """Starts workers until the simulation ends."""
    sys.path.append(str(Path.cwd()))  # where the owner's own model and data functions are; shadows nothing
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    allocate_roomily()  # every step works in the same few blocks; fresh pages would take a third of its time
    # What is loaded stays: collections need not touch, and so copy, the pages that the workers share.
    gc.collect()
    gc.freeze()
    control: Channel[ToStarter] = Channel(socket.socket(fileno=int(sys.argv[1])), ToStarter)  # type: ignore[arg-type]
    processes: dict[int, int] = {}
    with contextlib.suppress(Closed):
        while True:
            message, descriptors = control.receive()
            match message:
                case StartWorker(worker):
                    processes[worker] = os.fork()
                    if not processes[worker]:
                        control.close()
                        be_killed_first()
                        _serve(socket.socket(fileno=descriptors[0]))
                        os._exit(0)
                    os.close(descriptors[0])
                case AwaitWorker(worker):
                    _, status = os.waitpid(processes.pop(worker), 0)
                    control.send(WorkerExit(os.waitstatus_to_exitcode(status)))
    for process in processes.values():
        os.waitpid(process, 0)


def _serve(end: socket.socket) -> None:
    threading.Thread(target=_end_with, args=(end.fileno(),), name="simulation", daemon=True).start()
    channel: Channel[ToWorker] = Channel(end, ToWorker)  # type: ignore[arg-type]  # a union stands for its members
    worker = _Worker()
    while True:
        try:
            message, descriptors = channel.receive()
            reply = worker.take(message, descriptors)
            if reply is not None:
                channel.send(reply)
        except Closed:
            return


def _end_with(descriptor: int) -> None:
    """Ends this process when the simulation's end of the pair is closed."""
    watch = select.poll()
    watch.register(descriptor, 0)  # a hang-up is always reported
    watch.poll()
    os._exit(0)


class _Worker:
    """One worker: shared memory in, the bench's answers out."""

    def __init__(self) -> None:
        self._samples: dict[str, SharedArrays] = {}
        self._boards: dict[int, SharedArrays] = {}
        self._sums: SharedArrays | None = None
        self._bench: Bench | None = None

    def take(self, message: ToWorker, descriptors: list[int]) -> FromWorker | None:
        """Does what a message says; None if it asks for no answer."""
        if isinstance(message, Samples | Board | Sums):
            self._map(message, SharedArrays(descriptors[0], message.layout).keep_mapped())
            return None
        return told(lambda: self._open(message) if isinstance(message, OpenStudy) else self._do(message))

    def _map(self, message: Samples | Board | Sums, shared: SharedArrays) -> None:
        match message:
            case Samples(group):
                self._samples[group] = shared
            case Board(board):
                self._boards[board] = shared
            case Sums():
                self._sums = shared

    def _open(self, message: OpenStudy) -> Opened:
        self._bench, self._boards, self._sums = None, {}, None  # the memory of the experiment before, first
        arrays: dict[str, AnyArray] = {}
        for group in self._samples.values():
            arrays.update(group.arrays)
        self._bench = Bench(message.study, arrays)
        return Opened(self._bench.blueprint)

    def _do(self, message: Order | InitialWeights | Publish) -> FromWorker | None:
        bench = self._bench
        if bench is None:
            raise ValueError("no experiment is open")
        match message:
            case InitialWeights(board):
                self._boards[board].write(bench.initial_weights())
                return WeightsWritten()
            case Publish(version, board):
                bench.publish(version, self._boards[board].arrays)
                return None
            case Collect():
                return self._hand_over(bench)
        return bench.do(message)

    def _hand_over(self, bench: Bench) -> SumsWritten:
        sent, weights = [], {}
        for key, array in bench.collect().items():
            kind, _, name = key.partition("/")
            if kind == "weight":
                weights[name] = tuple(tuple(row) for row in array.tolist())
            elif self._sums is not None:
                self._sums.arrays[name][...] = array
                sent.append(name)
        return SumsWritten(tuple(sent), weights)


if __name__ == "__main__":
    main()
