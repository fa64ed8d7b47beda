"""FedDyn: a device is pulled away from where its own data has drawn it before, and the server adds up what all did.

Acar et al., "Federated Learning Based on Dynamic Regularization", ICLR 2021 (arXiv 2111.04263), as the authors of
DepthFL have it on top of theirs. Device k of N keeps h_k, and minimises from the global weights w_0 on

    L_k(w) - <h_k, w> + alpha / 2 ||w - w_0||^2,    then    h_k <- h_k - alpha (w_k - w_0).

With D the mean change of the n devices that sent a tensor, the server keeps h and makes the next weights

    h <- h - alpha n / N D,    w <- w_0 + D - h / alpha.

So -h_k / alpha is the sum of what the device's own rounds have changed, and -h / alpha a sum of mean changes, which are
kept here instead. The device's term is a proximal one around w_0 less its own changes, which is all that a worker needs
to know, so `DynamicEngine` adds it to the jobs of any engine. Devices count by samples, as for all schemes. The
library's objective is a mean over exits where DepthFL's is a sum, so alpha is divided by the number of exits too. A
real device would keep a second set of weights; no byte more is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import numpy as np

from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean, SumArrays
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import SchemeSettings, ServerSettings, UpdateSettings
from fedlp_edge.simulation.engines.base import Engine, OpenedExperiment
from fedlp_edge.simulation.engines.jobs import DeviceTrained, Reply, SimulationJob, TrainDevice, WorkerSetup
from fedlp_edge.simulation.simulated_data import DataAssignment, SimulationData
from fedlp_edge.wire.tensors import pack, unpack

ALPHA = 0.1
"""As DepthFL has it."""


class DynamicModel(GlobalModel):
    """A global model that adds to every mean change those of the rounds before, by the share of the fleet behind them.

    Args:
        blueprint: As for `GlobalModel`, and so the others.
        population: Update weights of all devices of the fleet together: their samples, or their number.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        scheme: SchemeSettings,
        settings: ServerSettings,
        weights: Mapping[str, Array],
        state: ServerState | None = None,
        *,
        update: UpdateSettings,
        seed: int,
        population: int,
    ) -> None:
        super().__init__(blueprint, scheme, settings, weights, state, update=update, seed=seed)
        self._population = population

    def step(self, round: int, mean: LayerwiseMean) -> None:
        """Takes the model one round further, as `GlobalModel.step` does."""
        # No unit is recycled in these experiments, so this part of what a checkpoint keeps is free.
        drawn = dict(self.state.last_updates)
        for name, change in mean.means().items():
            if name not in self._blueprint.statistics:
                share = np.float32(mean.weight_of(name) / self._population)
                drawn[name] = drawn.get(name, np.zeros_like(change)) + share * change
        super().step(round, _Corrected(mean, drawn))
        self.state = replace(self.state, last_updates=drawn)


class _Corrected(LayerwiseMean):
    """The mean of a round, with something added to the change of every tensor that was sent.

    Args:
        mean: Mean, to which nothing is added any more.
        added: Values by tensor name.
    """

    def __init__(self, mean: LayerwiseMean, added: Mapping[str, Array]) -> None:
        super().__init__(1)
        self._mean_of_all = mean
        self._added = added

    def means(self) -> dict[str, Array]:
        """Returns the corrected means; statistics as they are."""
        found = self._mean_of_all.means()
        return {name: value + self._added[name] if name in self._added else value for name, value in found.items()}

    def unsent(self, name: str) -> None:
        """Returns None: no tensor is sent in part."""


class DynamicEngine:
    """An engine whose devices train with FedDyn's term; it keeps for each what its own rounds have changed.

    One such engine is for one run, however often that is stopped and continued.

    Args:
        engine: Engine that computes.
        alpha: Factor of the term, for a device with one exit.
    """

    def __init__(self, engine: Engine, alpha: float = ALPHA) -> None:
        self._engine = engine
        self._alpha = alpha
        self._blueprint: Blueprint | None = None
        self._published: dict[int, Mapping[str, Array]] = {}
        self._starts: dict[str, Mapping[str, Array]] = {}
        self._own: dict[str, dict[str, Array]] = {}

    @property
    def workers(self) -> int:
        """Number of workers."""
        return self._engine.workers

    def open(self, setup: WorkerSetup, simulation_data: SimulationData, assignment: DataAssignment) -> OpenedExperiment:
        """Begins an experiment, as ``Engine.open`` says."""
        opened = self._engine.open(setup, simulation_data, assignment)
        self._blueprint = opened.blueprint
        self._published.clear()
        return opened

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """Makes a version of the weights available."""
        self._published[version] = dict(weights)
        self._engine.publish(version, weights)

    def retire(self, version: int) -> None:
        """Frees a version of the weights."""
        self._published.pop(version, None)
        self._engine.retire(version)

    def submit(self, worker: int, job: SimulationJob) -> None:
        """Gives an idle worker a job."""
        self._engine.submit(worker, self._regularised(job) if isinstance(job, TrainDevice) else job)

    def next_reply(self, seconds: float) -> tuple[int, Reply] | None:
        """Waits for the next reply, as ``Engine.next_reply`` says."""
        answer = self._engine.next_reply(seconds)
        if answer is None or not isinstance(answer[1], DeviceTrained):
            return answer
        return answer[0], self._noted(answer[1])

    def sums(self, worker: int) -> SumArrays:
        """Returns the sums of a worker."""
        return self._engine.sums(worker)

    def close(self) -> None:
        """Ends the workers."""
        self._engine.close()

    def _regularised(self, job: TrainDevice) -> TrainDevice:
        if self._blueprint is None:
            raise ValueError("no experiment was begun")
        units = self._blueprint.exchanged_by(job.depth)
        exits = len(units) - job.depth
        weights, own = self._published[job.version], self._own.get(job.device, {})
        trained = [spec.name for unit in units for spec in unit.tensors if spec.trainable]
        self._starts[job.device] = {name: weights[name] for name in trained}
        anchor = {name: weights[name] - own[name] if name in own else weights[name] for name in trained}
        objective = msgspec.structs.replace(job.training.objective, proximal=self._alpha / exits)
        return msgspec.structs.replace(
            job,
            training=msgspec.structs.replace(job.training, objective=objective),
            anchor=pack(anchor),
            withheld=tuple(unit.id for unit in units),  # so that the reply has the trained weights
        )

    def _noted(self, reply: DeviceTrained) -> DeviceTrained:
        after, own = unpack(reply.withheld_values), self._own.setdefault(reply.device, {})
        for name, start in self._starts.pop(reply.device).items():
            own[name] = own.get(name, np.zeros_like(start)) + (after[name] - start)
        return msgspec.structs.replace(reply, withheld_values=b"")
