"""An engine whose workers are objects of this process: what a simulation computes, without processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from fedlp_edge.core.algorithm.aggregation import Array, SumArrays
from fedlp_edge.simulation.engines.base import OpenedExperiment
from fedlp_edge.simulation.engines.job_errors import result_or_failure
from fedlp_edge.simulation.engines.jobs import CollectSums, DescribeTask, Reply, SimulationJob, WorkerSetup
from fedlp_edge.simulation.engines.worker import SimulationWorker, describe_task
from fedlp_edge.simulation.shared_memory import AnyArray
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData
from tests.two_layers import ONE_STEP, SETTINGS

SAMPLES: dict[str, AnyArray] = {
    "train/x": np.ones((4, 1), np.float32),
    "train/y": np.zeros(4, np.int64),
    "test/x": np.array([[1.0], [-1.0]], np.float32),
    "test/y": np.array([0, 1]),
    "members": np.arange(4),
    "starts": np.array([0, 2, 4]),
}
"""Two equal samples of class 0 for each of two devices, and two test samples."""

SETUP = WorkerSetup(
    model=SETTINGS,
    seed=1,
    training=ONE_STEP,
    uniform=False,
    freeze=False,
    classes=2,
    scale=1.0,
    mean=(0.0,),
    std=(1.0,),
)


class InProcessEngine:
    """Workers that do their job when its reply is asked for, in the order in which jobs were given.

    Args:
        workers: Number of workers.

    Attributes:
        workers: Number of workers.
        published: Versions of the model that workers may use.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.published: dict[int, dict[str, Array]] = {}
        self._workers: list[SimulationWorker] = []
        self._waiting: deque[tuple[int, SimulationJob]] = deque()
        self._sums: dict[int, SumArrays] = {}

    def open(self, setup: WorkerSetup, simulation_data: SimulationData, assignment: DataAssignment) -> OpenedExperiment:
        samples = {**simulation_data.arrays, **assignment.arrays}
        self._workers = [SimulationWorker(setup, samples) for _ in range(self.workers)]
        first = self._workers[0]
        weights = {name: array.copy() for name, array in first.initial_weights().items()}
        return OpenedExperiment(first.blueprint, weights, first.start_weights)

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        self.published[version] = {name: array.copy() for name, array in weights.items()}
        for worker in self._workers:
            worker.publish(version, self.published[version])

    def retire(self, version: int) -> None:
        del self.published[version]
        for worker in self._workers:
            worker.retire(version)

    def submit(self, worker: int, job: SimulationJob) -> None:
        self._waiting.append((worker, job))

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        if not self._waiting:
            return None
        number, job = self._waiting.popleft()
        if isinstance(job, DescribeTask):
            return number, result_or_failure(lambda: describe_task(job))
        worker = self._workers[number]
        if isinstance(job, CollectSums):
            self._sums[number] = worker.collect()
        return number, result_or_failure(lambda: worker.do(job))

    def sums(self, worker: int) -> SumArrays:
        return self._sums[worker]

    def close(self) -> None:
        self._workers = []
