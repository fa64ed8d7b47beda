"""A real device agent with a worker that trains nothing: what a round costs beside the training.

Everything but the worker is the product: connection, state machine, cache, outbox. The worker answers in this
process, without torch; its delta is the constant of its device, laid out in files once, as a worker would write them.

``python -m benchmarks.fleets.stand_in URL FLEET NUMBER BLUEPRINT STATE``; ends when the run is over.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from device_agent.config import new_session
from device_agent.protocol.events import Identity
from device_agent.protocol.presence import status
from device_agent.service import Agent, AgentSettings
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.system.lifecycle import StopSignal, freeze_gc
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.base import LastWill
from fedlp_edge.transport.mqtt.transport import MqttTransport
from fedlp_edge.wire.messages import encode
from fedlp_edge.wire.tensors import pack_file
from fedlp_edge.wire.topics import Topics
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Build, Built, DeviceMeasurement, Failed, Measure, Train, Trained
from fedlp_edge.worker.process import WorkerEvent, WorkerProcess, WorkerReply

SAMPLES = 100
LINK_MBIT_PER_SECOND = 10_000.0
"""A stated link, since none is measured here: chunks for a link of which nothing is known are a quarter as long."""
_IDLE_MEMORY = 300_000_000


class StandInWorker:
    """Answers jobs as a worker process would, at once.

    Args:
        blueprint: of the model that it will be asked to build.
        constant: every element of every delta.
        directory: for the files of deltas.
        sink: gets the replies.
    """

    def __init__(
        self, blueprint: Blueprint, constant: float, directory: Path, sink: Callable[[WorkerEvent], None]
    ) -> None:
        self._blueprint = blueprint
        self._directory = directory
        self._sink = sink
        self._numbers = itertools.count(1)
        directory.mkdir(parents=True, exist_ok=True)
        for unit in blueprint.global_units:
            deltas = {tensor.name: np.full(tensor.shape, constant, np.float32) for tensor in unit.tensors}
            pack_file(deltas, directory / f"{unit.id}.safetensors")

    def submit(self, job: AnyJob) -> int:
        """See ``WorkerProcess.submit``."""
        number = next(self._numbers)
        self._sink(WorkerReply(number, self._do(job)))
        return number

    def stop(self) -> None:
        """See ``WorkerProcess.stop``."""

    def _do(self, job: AnyJob) -> AnyResult:
        match job:
            case Measure():
                return DeviceMeasurement(
                    samples=SAMPLES,
                    data=DataFacts(sample_shape=self._blueprint.input_shape, labels=10, highest=9),
                    training_macs_per_second=1e12,
                    processor="cpu",
                    idle_memory=_IDLE_MEMORY,
                )
            case Build():
                return Built(blueprint=self._blueprint)
            case Train():
                for unit in job.sent:
                    name = f"{unit}.safetensors"
                    os.link(self._directory / name, Path(job.delta_dir) / name)
                return Trained(samples=SAMPLES, loss=0.0, seconds=0.0, peak_memory=0)
        return Failed(kind="worker", reason=f"a stand-in does no {type(job).__name__}")


def main(url: str, fleet: str, number: int, blueprint: Path, state: Path) -> None:
    """Takes part in one run."""
    identity = Identity(Topics(fleet), f"device-{number}", new_session())
    will = LastWill(identity.topics.of("device", identity.device), encode(status(identity, None)))
    model = msgspec.json.decode(blueprint.read_bytes(), type=Blueprint)
    settings = AgentSettings(
        identity=identity,
        data="digits",
        state=state,
        profile=DeviceProfile(link_mbit_per_second=LINK_MBIT_PER_SECOND),
        allow_models=frozenset({model.model}),
        once=True,
        measure_link=False,  # whoever shares a machine with hundreds of others learns nothing of a link
    )

    def make_worker(sink: Callable[[WorkerEvent], None]) -> WorkerProcess:
        return cast(WorkerProcess, StandInWorker(model, float(number), state / "stand-in", sink))

    transport = MqttTransport(BrokerAddress.parse(url), f"{fleet}-{identity.device}-{identity.session}", will)
    agent = Agent.open(settings, transport, make_worker)
    freeze_gc()
    with StopSignal(on_stop=agent.stop):
        agent.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
