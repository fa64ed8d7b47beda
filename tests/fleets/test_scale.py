"""A hundred devices on one coordinator: the protocol whole, the training left out."""

from __future__ import annotations

import pytest

from benchmarks.fleets.models import MODELS
from benchmarks.scale import measure

pytestmark = pytest.mark.system

MODEL = MODELS["small"]
FULL_MB = 4 * MODEL.parameters / 1e6
DEVICES = 100


@pytest.mark.parametrize(("max_queued", "rounds"), [(None, 2), (100, 1)], ids=["default queue", "queue of 100"])
def test_sends_one_model_a_round_to_a_hundred_devices(max_queued: int | None, rounds: int) -> None:
    # A round of a hundred devices takes seconds, but longer than a minute beside other work; a hang ends the test.
    line = measure(DEVICES, rounds=rounds, max_queued=max_queued, deadline=240.0)
    assert line.contributors == [DEVICES] * rounds
    assert line.exact
    # One broadcast, however many listen. A busy machine may lose patience with a few chunks; a storm is a thousand.
    assert line.coordinator_uplink_mb - line.repeats_mb <= 1.03 * FULL_MB
    assert line.repeats_mb <= 0.1 * DEVICES * FULL_MB
    # Updates wait on the disk: the memory that they take does not depend on how many there are.
    assert line.coordinator_growth_mb < 0.3 * DEVICES * FULL_MB
    assert line.losses == 0
