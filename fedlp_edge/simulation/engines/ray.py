"""This module has the engine for several machines: actors of a Ray cluster do the jobs.

An actor that dies, alone or with its node, is replaced by one that gets the experiment and the model weights
(``recovery``). Ray does not say whether native code crashed or the kernel killed it, so its job is repeated unchanged.

Ray is an extra (``pip install "fedlp-edge[ray]"``), and FedLP Edge must be installed on every node. A cluster that
``RAY_ADDRESS`` names, or that this process has joined already, is used; otherwise Ray is started on this machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from fedlp_edge.core.algorithm.aggregation import Array, SumArrays
from fedlp_edge.errors import OperatorError, WorkerError
from fedlp_edge.simulation.engines.base import OpenedExperiment, expected
from fedlp_edge.simulation.engines.jobs import (
    CollectSums,
    DescribeTask,
    JobFailed,
    Reply,
    SimulationJob,
    SimulationWorkerDied,
    WorkerReady,
    WorkerSetup,
)
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData
from fedlp_edge.system.directories import working_directory
from fedlp_edge.system.loading.install_command import install_command

# Ray would otherwise send usage statistics to its makers.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
if "RAY_ADDRESS" not in os.environ:
    # This keeps Ray on the loopback device, so that a cluster on this machine alone is not reachable from others.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

try:
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError, RayError
except ImportError as error:
    raise OperatorError(f'engine = "ray" needs Ray ({error}); {install_command("ray")}') from error

REPLACE_SECONDS = 120.0
"""Time for a new actor to start, load PyTorch and build the model; without a free processor it never does."""

_ATTEMPTS = 2
"""Times that Ray is started: a node has 30 seconds, which it may need to read its programs from a slow disk."""

_REMEDY = (
    "native code crashed, memory ran out, or the node is gone (Ray's logs on the node tell which): "
    "use fewer workers for each node, or a smaller model or batch size"
)


def _join_or_start() -> None:
    """Joins the cluster that ``RAY_ADDRESS`` names, or starts Ray on this machine.

    Raises:
        OperatorError: The cluster cannot be reached, or Ray cannot be started.
    """
    for attempt in range(_ATTEMPTS):
        try:
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
        except (RayError, ConnectionError, ValueError, RuntimeError) as error:
            raise OperatorError(f"Ray cannot be reached or started: {error}") from error
        except Exception as error:  # Ray has no name for a node that is not there in time
            ray.shutdown()
            if attempt == _ATTEMPTS - 1:
                raise OperatorError(f"Ray cannot be started: {error}; is this machine busy?") from error
        else:
            return


class RayEngine:
    """The actors of a Ray cluster, with one processor each; a context manager that ends all of them.

    Args:
        workers: Number of actors; 0 for as many as the cluster has processors.

    Raises:
        OperatorError: The cluster cannot be reached, or has fewer processors.
    """

    def __init__(self, workers: int = 0) -> None:
        self._started_ray = not ray.is_initialized()
        if self._started_ray:
            _join_or_start()
        free = int(ray.cluster_resources().get("CPU", 0))  # type: ignore[no-untyped-call]
        count = workers or max(1, free)
        if count > free:
            raise OperatorError(f"the Ray cluster has {free} processors, not {count}: use fewer workers")
        place = working_directory()  # the directory of the owner's own model and data functions
        self._start: Callable[[], Any] = lambda: ray.remote(num_cpus=1)(_Worker).remote(place)
        self._actors: list[Any] = [self._start() for _ in range(count)]
        self._opening: tuple[Any, ...] = ()
        self._pictures: tuple[SimulationData, Any] | None = None
        self._versions: dict[int, Any] = {}
        self._under_way: dict[Any, int] = {}
        self._sums: dict[int, SumArrays] = {}

    @property
    def workers(self) -> int:
        """Number of workers."""
        return len(self._actors)

    def open(self, setup: WorkerSetup, simulation_data: SimulationData, assignment: DataAssignment) -> OpenedExperiment:
        """Begins an experiment, as ``Engine.open`` says."""
        self._versions, self._sums = {}, {}
        if self._pictures is None or self._pictures[0] is not simulation_data:
            self._pictures = (simulation_data, ray.put(simulation_data.arrays))
        self._opening = msgspec.msgpack.encode(setup), self._pictures[1], ray.put(assignment.arrays)
        calls = [actor.open.remote(*self._opening) for actor in self._actors]
        opened = []
        for worker, call in enumerate(calls):
            try:
                opened.append(_ready(ray.get(call)))
            except RayActorError:  # it died since the experiment before
                opened.append(self._replace(worker))
        weights: dict[str, Array] = self._get(self._actors[0].initial_weights.remote())
        return OpenedExperiment(opened[0].blueprint, weights, opened[0].start_weights)

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """Makes a version of the global model weights available to all workers."""
        # ray.put copies the arrays, so the caller may change them afterwards.
        self._versions[version] = ray.put(dict(weights))
        for actor in self._actors:
            actor.publish.remote(version, self._versions[version])

    def retire(self, version: int) -> None:
        """Frees a version of the model weights that no further job uses."""
        self._versions.pop(version, None)
        for actor in self._actors:
            actor.retire.remote(version)

    def submit(self, worker: int, job: SimulationJob) -> None:
        """Gives an idle worker a job."""
        self._sums.pop(worker, None)
        self._under_way[self._actors[worker].do.remote(msgspec.msgpack.encode(job))] = worker

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        """Waits for the next reply of any worker, as ``Engine.next_reply`` says."""
        done, _ = ray.wait(list(self._under_way), num_returns=1, timeout=seconds)
        if not done:
            return None
        worker = self._under_way.pop(done[0])
        try:
            answer, sums = ray.get(done[0])
        except RayActorError:
            self._replace(worker)
            return worker, SimulationWorkerDied("on the Ray cluster ended", _REMEDY)
        except RayError as error:
            raise _ended(error) from error
        if sums is not None:
            self._sums[worker] = sums
        reply: Reply = msgspec.msgpack.decode(answer, type=Reply)
        return worker, reply

    def sums(self, worker: int) -> SumArrays:
        """Returns the sums of the worker's last ``CollectSums``."""
        return self._sums[worker]

    def close(self) -> None:
        """Ends the actors, and Ray if it was started here."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors, self._under_way, self._versions, self._pictures = [], {}, {}, None
        self._opening = ()
        if self._started_ray:
            ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _replace(self, worker: int) -> WorkerReady:
        """Starts an actor in the place of one that died, with the experiment and the weights.

        Raises:
            WorkerError: There is no processor for it, or it dies as well.
        """
        ray.kill(self._actors[worker])  # Ray also gives up actors that it only cannot reach
        actor = self._actors[worker] = self._start()
        try:
            ready = _ready(ray.get(actor.open.remote(*self._opening), timeout=REPLACE_SECONDS))
        except GetTimeoutError as error:
            raise WorkerError(
                f"a worker of the Ray cluster ended, and no other is ready after {REPLACE_SECONDS:.0f} s: "
                "the cluster has no free processor left; use fewer workers, or bring the node back"
            ) from error
        except RayError as error:
            raise _ended(error) from error
        for version, weights in self._versions.items():
            actor.publish.remote(version, weights)
        return ready

    def _get(self, references: Any) -> Any:
        try:
            return ray.get(references)
        except RayError as error:
            raise _ended(error) from error


def _ready(answer: bytes) -> WorkerReady:
    return expected(msgspec.msgpack.decode(answer, type=WorkerReady | JobFailed), WorkerReady)


def _ended(error: RayError) -> WorkerError:
    return WorkerError(f"a worker of the Ray cluster ended: {str(error).strip().splitlines()[0]}")


class _Worker:
    """One Ray actor, which passes jobs to its ``SimulationWorker``.

    Args:
        place: Working directory of the simulation.
    """

    def __init__(self, place: str) -> None:
        import torch  # noqa: PLC0415 - loaded on the cluster's nodes alone

        sys.path.append(place)
        torch.set_num_threads(1)
        self._worker: Any = None

    def open(self, setup: bytes, simulation_data: Mapping[str, Any], assignment: Mapping[str, Any]) -> bytes:
        from fedlp_edge.simulation.engines.job_errors import result_or_failure  # noqa: PLC0415
        from fedlp_edge.simulation.engines.worker import SimulationWorker  # noqa: PLC0415

        self._worker = None

        def begin() -> WorkerReady:
            self._worker = SimulationWorker(
                msgspec.msgpack.decode(setup, type=WorkerSetup), {**simulation_data, **assignment}
            )
            return WorkerReady(self._worker.blueprint, self._worker.start_weights)

        return msgspec.msgpack.encode(result_or_failure(begin))

    def initial_weights(self) -> dict[str, Array]:
        weights: dict[str, Array] = self._worker.initial_weights()
        return weights

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        self._worker.publish(version, weights)

    def retire(self, version: int) -> None:
        self._worker.retire(version)

    def do(self, encoded: bytes) -> tuple[bytes, SumArrays | None]:
        from fedlp_edge.simulation.engines.job_errors import result_or_failure  # noqa: PLC0415
        from fedlp_edge.simulation.engines.worker import describe_task  # noqa: PLC0415

        job: SimulationJob = msgspec.msgpack.decode(encoded, type=SimulationJob)
        reply = result_or_failure(lambda: describe_task(job) if isinstance(job, DescribeTask) else self._worker.do(job))
        sums = self._worker.collect() if isinstance(job, CollectSums) else None
        return msgspec.msgpack.encode(reply), sums
