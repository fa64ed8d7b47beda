"""The same experiment, simulated and as a fleet of processes, ends with the same bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import (
    EvaluationSettings,
    ModelSettings,
    SchemeSettings,
    ServerSettings,
    TrainingSettings,
    UpdateSettings,
)
from fedlp_edge.reporting.events import RoundFinished
from fedlp_edge.simulation import Experiment, LocalEngine, local_engine, simulate
from fedlp_edge.simulation.experiment import ExportChoice, FleetSettings, SimulatedData
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.fleet import NO_EXPORT, Fleet
from tests.fleets.three_kinds import WIDE

pytestmark = pytest.mark.system

SCHEME = """
[scheme]
depth = 2
lpr = 0.7
[update]
encoding = "int2+zstd"
broadcast = "int4"
[server]
optimizer = "momentum"
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with local_engine(1) as started:
        yield started


def test_ends_with_the_model_of_the_simulated_fleet(
    tmp_path: Path, mosquitto: MosquittoBroker, engine: LocalEngine
) -> None:
    with Fleet(tmp_path, mosquitto.url, "simulated", devices=2, rounds=2, more=SCHEME + NO_EXPORT) as fleet:
        config = tmp_path / "fleet.toml"
        # Personal heads go on from round to round; the fastest way to compute may differ between processes.
        text = config.read_text().replace("[model]\n", '[model]\nhead_mode = "personal"\n')
        config.write_text(text.replace("[training]\n", '[training]\ncompute = "float32"\n'))
        fleet.start_all()
        real = fleet.finish()
    run = Experiment(
        seed=7,
        model=ModelSettings(name="mlp", input=(1, 8, 8), classes=10, head_mode="personal"),
        data=SimulatedData(train="digits", evaluate="digits", partition="iid", seed=1, limit=200),
        training=TrainingSettings(batch_size=16, compute="float32"),
        scheme=SchemeSettings(depth=2, lpr=0.7),
        update=UpdateSettings(encoding="int2+zstd", broadcast="int4"),
        server=ServerSettings(optimizer="momentum"),
        rounds=RoundSettings(count=2),
        fleet=FleetSettings(devices=2),
    )
    simulated = simulate(run, tmp_path / "simulated", engine=engine)
    for one, other in zip(real.rounds, simulated.rounds, strict=True):
        assert one.coverage == other.coverage
        assert [(d.id, d.layers_sent, d.loss, d.samples) for d in one.devices] == [
            (d.id, d.layers_sent, d.loss, d.samples) for d in other.devices
        ]
    assert real.final is not None
    assert simulated.final is not None
    assert real.final.model_digest == simulated.final.model_digest


THREE_KINDS = "tests.fleets.three_kinds:build"


def test_statistics_and_constants_end_as_in_the_simulated_fleet(
    tmp_path: Path, mosquitto: MosquittoBroker, engine: LocalEngine
) -> None:
    more = '[scheme]\ndepth = "full"\n[server]\nema = 0.5\n'
    with Fleet(tmp_path, mosquitto.url, "kinds", devices=2, rounds=3, model=THREE_KINDS, more=more) as fleet:
        config = tmp_path / "fleet.toml"
        config.write_text(config.read_text().replace("[training]\n", '[training]\ncompute = "float32"\n'))
        fleet.start_all()
        real = fleet.finish()
    run = Experiment(
        seed=7,
        model=ModelSettings(name=THREE_KINDS, input=(1, 8, 8), classes=10),
        data=SimulatedData(train="digits", evaluate="digits", partition="iid", seed=1, limit=200),
        training=TrainingSettings(batch_size=16, compute="float32"),
        scheme=SchemeSettings(depth="full"),
        server=ServerSettings(ema=0.5),
        rounds=RoundSettings(count=3),
        fleet=FleetSettings(devices=2),
    )
    simulated = simulate(run, tmp_path / "simulated", engine=engine)
    assert real.final is not None
    assert simulated.final is not None
    assert real.final.model_digest == simulated.final.model_digest
    assert real.final.accuracy == simulated.final.accuracy
    # What is frozen comes once and never goes back, and an export finds it in the checkpoint.
    frozen = 4 * (64 * WIDE + 5 * WIDE)
    first, *later = ([device.bytes_down for device in round.devices] for round in real.rounds)
    trained = 4 * (WIDE * 64 + 64 * 10)
    assert all(frozen + trained < down < 1.3 * (frozen + trained) for down in first)
    assert all(trained < down < 1.3 * trained for downs in later for down in downs)
    assert all(device.bytes_up < 1.3 * trained for round in real.rounds for device in round.devices)
    assert [model.depth for model in real.onnx] == [3]


def assert_alike(real: Mapping[int, DeviceScores], simulated: Mapping[int, DeviceScores]) -> None:
    """Checks scores of devices; a processor may compute the last bits of a loss otherwise in other batches."""
    assert real.keys() == simulated.keys()
    for depth, scores in real.items():
        other = simulated[depth]
        assert (scores.devices, scores.samples) == (other.devices, other.samples)
        for one, another in ((scores.mean, other.mean), (scores.spread, other.spread), (scores.worst, other.worst)):
            assert one == pytest.approx(another, rel=1e-5, abs=1e-6)


TAUGHT_BY_ALL = """
[scheme]
depth = 2
[evaluation]
holdout = 0.1
[export]
model = "best"
depths = [2]
"""


def test_models_that_answer_with_the_mean_of_exits_are_judged_and_chosen_by_it_as_in_the_simulated_fleet(
    tmp_path: Path, mosquitto: MosquittoBroker, engine: LocalEngine
) -> None:
    with Fleet(tmp_path, mosquitto.url, "means", devices=2, rounds=3, more=TAUGHT_BY_ALL) as fleet:
        config = tmp_path / "fleet.toml"
        text = config.read_text().replace("[model]\n", '[model]\nexits = "all"\n')
        config.write_text(text.replace("[training]\n", '[training]\ncompute = "float32"\n'))
        fleet.start_all()
        real = fleet.finish()
        finished = [event for event in fleet.wait_for(bool) if isinstance(event, RoundFinished)]
    run = Experiment(
        seed=7,
        model=ModelSettings(name="mlp", input=(1, 8, 8), classes=10, exits="all"),
        data=SimulatedData(train="digits", evaluate="digits", partition="iid", seed=1, limit=200),
        training=TrainingSettings(batch_size=16, compute="float32"),
        scheme=SchemeSettings(depth=2),
        evaluation=EvaluationSettings(holdout=0.1),
        export=ExportChoice(model="best"),
        rounds=RoundSettings(count=3),
        fleet=FleetSettings(devices=2),
    )
    simulated = simulate(run, tmp_path / "simulated", engine=engine)
    for one, other in zip(real.rounds, simulated.rounds, strict=True):
        assert one.answer == other.answer == "mean"
        assert (one.accuracy, one.exits, one.ensemble) == (other.accuracy, other.exits, other.ensemble)
        assert one.accuracy == one.ensemble
        assert one.accuracy != one.exits
        assert_alike(one.on_devices, other.on_devices)
        assert one.loss == pytest.approx(other.loss)
    assert [event.accuracy for event in finished] == [entry.accuracy for entry in real.rounds]
    assert real.final is not None
    assert simulated.final is not None
    assert real.final.value == max(entry.accuracy[2] for entry in real.rounds)
    assert (real.final.round, real.final.value) == (simulated.final.round, simulated.final.value)
    assert (real.final.accuracy, real.final.model_digest) == (simulated.final.accuracy, simulated.final.model_digest)
    # The file and the devices, which compare it with their own samples, say the same.
    assert [(model.depth, model.accuracy) for model in real.onnx] == [(2, real.final.accuracy[2])]
    assert_alike({2: real.final.on_devices[2]}, {2: simulated.final.on_devices[2]})
    assert [(proof.asked, proof.proved) for proof in real.proofs] == [(2, 2)]
