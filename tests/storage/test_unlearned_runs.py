"""Tests of giving the directory of a run that has learned nothing to another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.storage.unlearned_runs import clear, has_learned, has_model


@pytest.mark.parametrize(("rounds", "model", "learned"), [([], False, False), ([0], True, False), ([0, 1], True, True)])
def test_a_run_has_learned_once_there_is_a_checkpoint_of_a_round(
    tmp_path: Path, rounds: list[int], model: bool, learned: bool
) -> None:
    run = RunDirectory.open(tmp_path / "run")
    for round in rounds:
        Checkpoints(run.checkpoints).save(round, {"w": np.zeros(2, np.float32)}, ServerState())
    assert (has_model(run), has_learned(run)) == (model, learned)


def test_a_run_has_learned_once_its_journal_knows_a_round(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run")
    journal = Journal.open(run.journal)
    assert not has_learned(run)
    journal.open_round(1, 1, ())
    assert has_learned(run)
    journal.close()
    assert has_learned(run)


def test_clear_leaves_what_a_new_run_begins_with(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run")
    run.lock()
    Journal.open(run.journal).close()
    for path in (run.config, run.events, run.summary, run.start_weights, run.update(1, "pi"), run.onnx / "a.onnx"):
        path.touch()
    Checkpoints(run.checkpoints).save(0, {"w": np.zeros(2, np.float32)}, ServerState())
    clear(run)
    found = sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("*"))
    assert found == ["checkpoints", "lock", "onnx", "spool"]
    run.unlock()
