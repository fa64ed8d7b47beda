"""One pool of workers for all tests, since loading torch takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import ModelSettings, SchemeSettings, TrainingSettings
from fedlp_edge.simulation import Experiment, LocalEngine
from fedlp_edge.simulation.experiment import FleetSettings, SimulatedData
from tests.conftest import SERVER


@contextmanager
def started_engine() -> Iterator[LocalEngine]:
    """Two workers whose starter is a child of this process and loads torch itself, for tests that look at processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(SERVER, raising=False)
        started = LocalEngine(2)
    with started:
        yield started


@pytest.fixture(scope="session")
def engine() -> Iterator[LocalEngine]:
    """Two workers."""
    with started_engine() as started:
        yield started


def experiment(**changes: object) -> Experiment:
    """Six small devices of three depths that learn digits for two rounds."""
    base = Experiment(
        name="digits",
        model=ModelSettings(name="mlp", input=(1, 8, 8), classes=10),
        data=SimulatedData(train="digits", evaluate="digits", partition="dirichlet:0.5", limit=60),
        training=TrainingSettings(batch_size=16),
        scheme=SchemeSettings(lpr=0.7),
        rounds=RoundSettings(count=2, devices_per_round=5),
        fleet=FleetSettings(devices=6, depth_mix=(0.5, 1 / 6, 1 / 3)),
    )
    return msgspec.structs.replace(base, **changes)
