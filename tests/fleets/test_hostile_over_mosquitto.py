"""One device that lies among honest ones, over a real Mosquitto: the model is that of the honest ones."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedlp_edge.reporting.events import UpdateRejected
from fedlp_edge.reporting.log import read_events
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.worker.jobs import AnyJob, AnyResult, DeviceMeasurement, Failed, Train
from tests.fleets.fleet import Fleet
from tests.fleets.network import NetworkFleet
from tests.fleets.standin import StandIn
from tests.fleets.virtual import VirtualFleet

pytestmark = pytest.mark.system


def run(directory: Path, mosquitto: MosquittoBroker, attack: str) -> tuple[Fleet, Summary]:
    """Two rounds of two honest devices and one other, with a model that has batch norms."""
    with Fleet(directory, mosquitto.url, attack, rounds=2, model="tests.fleets.three_kinds:build") as fleet:
        fleet.start_coordinator()
        fleet.start_device(0)
        fleet.start_device(1)
        fleet.start_hostile(2, attack)
        return fleet, fleet.finish()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, mosquitto: MosquittoBroker) -> Summary:
    """The run in which the third place stays empty."""
    return run(tmp_path_factory.mktemp("quiet"), mosquitto, "quiet")[1]


def digest(summary: Summary) -> str:
    assert summary.final is not None
    return summary.final.model_digest


def statuses(summary: Summary) -> list[dict[str, str]]:
    return [{device.id: device.status for device in entry.devices} for entry in summary.rounds]


def test_one_absurd_statistic_of_one_sample_changes_no_bit_of_the_model(
    tmp_path: Path, mosquitto: MosquittoBroker, honest: Summary
) -> None:
    fleet, summary = run(tmp_path, mosquitto, "absurd")

    assert statuses(summary) == [{"dev-0": "contributed", "dev-1": "contributed", "dev-2": "rejected"}] * 2
    rejected = [event for event in read_events(fleet.run / "events.jsonl") if isinstance(event, UpdateRejected)]
    assert [(event.round, event.device, event.code) for event in rejected] == [
        (1, "dev-2", "implausible"),
        (2, "dev-2", "implausible"),
    ]
    assert digest(summary) == digest(honest)


class Failing(StandIn):
    """Takes no part, so that the others' model can be had."""

    def _do(self, job: AnyJob) -> AnyResult:
        return Failed(kind="data", reason="no data") if isinstance(job, Train) else super()._do(job)


class Boastful(Failing):
    """Says that it has 2^53 samples and a processor for them, and delivers nothing."""

    def _do(self, job: AnyJob) -> AnyResult:
        result = super()._do(job)
        if isinstance(result, DeviceMeasurement):
            return msgspec.structs.replace(result, samples=2**53, training_macs_per_second=1e30)
        return result


def test_samples_that_are_announced_and_never_delivered_change_no_bit_of_the_model(
    tmp_path: Path, mosquitto: MosquittoBroker
) -> None:
    """Without a limit they would make the steps of the sum so coarse that it rounds the others' changes to zero."""
    quiet = VirtualFleet(tmp_path / "quiet", devices=3, rounds=2, worker={"dev-2": Failing})
    quiet.start_all()
    expected = quiet.finish()

    worker = {"dev-2": Boastful}
    with NetworkFleet(tmp_path, quiet.config, {"": mosquitto.url}, width=600, worker=worker) as fleet:
        fleet.start_all(3)
        summary = fleet.finish()

    honest = {"dev-0": "contributed", "dev-1": "contributed"}
    assert statuses(summary) == [honest | {"dev-2": "failed"}, honest]
    assert digest(summary) == digest(expected)
