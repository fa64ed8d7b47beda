"""The parts of a run, from what earlier lives of the coordinator have left."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.errors import StorageError
from fedlp_edge.reporting.summary import DeviceRound, RoundSummary
from tests.coordinator.assembled import AssembledRun
from tests.coordinator.fleets import NAMES

PLACES = (CohortMember("a", 2, 1.0, 10, 10),)


def commit(run: AssembledRun, round: int, accuracy: float = 0.5) -> None:
    """Leaves a committed round on the disk."""
    device = DeviceRound(id="a", profile="pi", depth=2, lpr=1.0, status="contributed")
    summary = RoundSummary(round=round, seconds=1.0, accuracy={2: accuracy}, devices=(device,), coverage={})
    run.context.journal.open_round(round, 10, PLACES)
    run.context.journal.commit_round(round, msgspec.json.encode(summary))
    weights = {name: np.full(2, 1.0 + round, np.float32) for name in NAMES.values()}
    run.context.checkpoints.save(round, weights, ServerState())


def test_new_run_begins_with_round_one_and_the_initial_model(tmp_path: Path) -> None:
    parts = AssembledRun(tmp_path).parts
    assert (parts.rounds.round, parts.commit.history.committed, parts.rounds.all_committed) == (1, 0, False)
    assert {name: value.tolist() for name, value in parts.commit.model.weights.items()} == {
        name: [1.0, 1.0] for name in NAMES.values()
    }
    assert [version.unit for version in parts.model_server.versions(NAMES)] == list(NAMES)
    assert parts.membership.all() == []


def test_run_goes_on_after_its_last_committed_round(tmp_path: Path) -> None:
    commit(AssembledRun(tmp_path), 1)
    parts = AssembledRun(tmp_path).parts
    assert (parts.rounds.round, parts.commit.history.committed) == (2, 1)
    assert parts.commit.model.weights["heads.2.w"].tolist() == [2.0, 2.0]


def test_run_whose_file_wants_fewer_rounds_now_has_none_left(tmp_path: Path) -> None:
    first = AssembledRun(tmp_path, rounds=RoundSettings(count=5))
    commit(first, 1)
    commit(first, 2)
    assert AssembledRun(tmp_path, rounds=RoundSettings(count=2)).parts.rounds.all_committed


def test_lost_checkpoint_is_named(tmp_path: Path) -> None:
    run = AssembledRun(tmp_path)
    commit(run, 1)
    run.context.checkpoints.weights_path(1).unlink()
    with pytest.raises(StorageError, match=run.context.checkpoints.weights_path(1).name):
        AssembledRun(tmp_path)
