"""Federated averaging written plainly in PyTorch: the yardstick for what a simulation may cost.

Some processes with one thread each, each with its part of the devices; samples are normalised once and stay in memory;
a process sends one sum of weights a round. Nothing is checked, journaled, drawn, encoded or kept.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Plain:
    """What came out of it.

    Attributes:
        rounds: seconds of each.
        cpu: processor seconds of each, all processes together.
        startup: seconds from the start of the processes to the first round.
        accuracy: of the model at the end.
    """

    rounds: list[float]
    cpu: list[float]
    startup: float
    accuracy: float


def run_plain(
    shares: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]],
    test: tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]],
    *,
    processes: int,
    rounds: int,
    lr: float,
    momentum: float,
    batch_size: int,
    mean: float,
    std: float,
) -> Plain:
    """Trains ``benchmarks.fleets.models.cnn`` on these devices' pictures [N, 1, 28, 28]."""
    start = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    parts = [shares[number::processes] for number in range(processes)]
    pipes = []
    workers = []
    for number, part in enumerate(parts):
        ours, theirs = context.Pipe()
        data = test if number == 0 else None
        settings = (lr, momentum, batch_size, mean, std, number)
        worker = context.Process(target=_work, args=(theirs, part, data, settings))
        worker.start()
        pipes.append(ours)
        workers.append(worker)
    weights, *_ = [pipe.recv() for pipe in pipes]
    startup = time.perf_counter() - start
    seconds, cpu = [], []
    before = 0.0
    for _ in range(rounds):
        begin = time.perf_counter()
        for pipe in pipes:
            pipe.send(weights)
        sums = [pipe.recv() for pipe in pipes]
        weights = [sum(parts) / len(shares) for parts in zip(*(total for total, _ in sums), strict=True)]
        seconds.append(time.perf_counter() - begin)
        used = sum(spent for _, spent in sums)
        cpu.append(used - before)
        before = used
    pipes[0].send(("evaluate", weights))
    accuracy = pipes[0].recv()
    for pipe in pipes:
        pipe.send(None)
    for worker in workers:
        worker.join()
    return Plain(seconds, cpu, startup, accuracy)


def _work(
    pipe: Connection, shares: list[Any], test: Any, settings: tuple[float, float, int, float, float, int]
) -> None:
    """One process: trains its devices one after the other in every round."""
    import torch  # noqa: PLC0415 - in the processes alone
    from torch.nn import functional  # noqa: PLC0415

    from benchmarks.fleets.models import cnn  # noqa: PLC0415

    lr, momentum, batch_size, mean, std, number = settings
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = cnn()
    data = [((torch.from_numpy(x).float() / 255 - mean) / std, torch.from_numpy(y)) for x, y in shares]
    pipe.send([value.detach().numpy() for value in model.state_dict().values()])
    began = time.process_time()
    while (message := pipe.recv()) is not None:
        weights = message[1] if isinstance(message, tuple) else message
        state = dict(zip(model.state_dict(), map(torch.from_numpy, weights), strict=True))
        if isinstance(message, tuple):
            model.load_state_dict(state)
            model.eval()
            x, y = torch.from_numpy(test[0]), torch.from_numpy(test[1])
            with torch.no_grad():
                right = 0
                for start in range(0, len(y), 256):
                    part, labels = x[start : start + 256], y[start : start + 256]
                    right += int((model((part.float() / 255 - mean) / std).argmax(dim=1) == labels).sum())
            pipe.send(right / len(y))
            continue
        sums = [np.zeros_like(value) for value in weights]
        for index, (x, y) in enumerate(data):
            model.load_state_dict(state)
            model.train()
            optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
            torch.manual_seed(number * 1000 + index)
            order = torch.randperm(len(y))
            for start in range(0, len(y), batch_size):
                chosen = order[start : start + batch_size]
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(x[chosen]), y[chosen])
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimizer.step()
            sums = [total + value.numpy() for total, value in zip(sums, model.state_dict().values(), strict=True)]
        pipe.send((sums, time.process_time() - began))
