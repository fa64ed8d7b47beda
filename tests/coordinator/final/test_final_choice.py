"""The model that a run ends with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.config import DataSettings, ExportSettings
from coordinator.final.final_choice import choose_final
from coordinator.rounds.run_history import RunHistory
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.errors import StorageError
from fedlp_edge.reporting.summary import DeviceRound, RoundSummary
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from tests.coordinator.fleets import NAMES, run_context


class Ended:
    """A run of rounds with these accuracies; all weights after a round have its number as their value."""

    def __init__(self, directory: Path, *accuracies: float, choice: str = "last") -> None:
        place = RunDirectory.open(directory)
        settings = {"export": ExportSettings(model=choice), "data": DataSettings(evaluate="digits")}  # type: ignore[arg-type]
        self.context = run_context(place, Journal.open(place.journal), **settings)
        blueprint, config = self.context.blueprint, self.context.config
        self.history = RunHistory(blueprint, {"a": "pi"}, config.judging)
        device = DeviceRound(id="a", profile="pi", depth=2, lpr=1.0, status="contributed")
        weights: dict[str, np.ndarray] = {}
        for round, accuracy in enumerate(accuracies, start=1):
            metrics = {2: {"accuracy": accuracy}}
            self.history.add(
                RoundSummary(
                    round=round, seconds=1.0, accuracy={2: accuracy}, metrics=metrics, devices=(device,), coverage={}
                )
            )
            weights = {name: np.full(2, round, np.float32) for name in NAMES.values()}
            self.context.checkpoints.save(round, weights, ServerState())
        self.model = GlobalModel(blueprint, config.scheme, config.server, weights, update=config.update, seed=1)


def test_last_model_is_taken_unless_the_best_is_wanted(tmp_path: Path) -> None:
    run = Ended(tmp_path, 0.9, 0.5)
    choice = choose_final(run.context, run.history, run.model)
    assert (choice.rounds, choice.final.round, choice.final.accuracy, choice.final.metric) == (2, 2, {2: 0.5}, "")
    assert choice.path == run.context.checkpoints.weights_path(2)
    assert choice.weights["heads.2.w"].tolist() == [2.0, 2.0]
    assert choice.metadata == {"round": "2", "model_digest": run.model.digest}


def test_best_model_has_its_weights_and_its_value_in_the_metadata(tmp_path: Path) -> None:
    run = Ended(tmp_path, 0.9, 0.5, choice="best")
    choice = choose_final(run.context, run.history, run.model)
    assert (choice.rounds, choice.final.round, choice.final.value) == (2, 1, 0.9)
    assert choice.path == run.context.checkpoints.weights_path(1)
    assert choice.weights["heads.2.w"].tolist() == [1.0, 1.0]
    assert choice.final.model_digest != run.model.digest
    assert choice.metadata == {
        "round": "1",
        "model_digest": choice.final.model_digest,
        "metric": "accuracy",
        "metric_value": "0.9",
    }


def test_best_model_whose_checkpoint_is_gone_gives_way_to_the_next(tmp_path: Path) -> None:
    run = Ended(tmp_path, 0.9, 0.7, 0.5, choice="best")
    run.context.checkpoints.weights_path(1).unlink()
    assert choose_final(run.context, run.history, run.model).final.round == 2


def test_best_model_whose_checkpoint_is_damaged_cannot_be_chosen(tmp_path: Path) -> None:
    run = Ended(tmp_path, 0.9, 0.5, choice="best")
    run.context.checkpoints.weights_path(1).write_bytes(b"?")
    with pytest.raises(StorageError):
        choose_final(run.context, run.history, run.model)
