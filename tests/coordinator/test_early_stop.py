"""A fleet in virtual time whose model gets better, then worse: the run ends early, with its best model."""

from __future__ import annotations

from pathlib import Path

import msgspec
from safetensors.numpy import load_file

from coordinator.config import ExportSettings
from fedlp_edge.core.metrics.model_scores import ModelScores
from fedlp_edge.core.model_digest import model_digest
from fedlp_edge.core.settings import EvaluationSettings
from fedlp_edge.reporting.events import RunFinished, RunStarted
from fedlp_edge.reporting.progress import where_to_go_on
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Evaluate, Evaluated, Export
from tests.fleets.standin import StandIn
from tests.fleets.virtual import VirtualFleet

SCORES = {1: 0.5, 2: 0.8, 3: 0.7, 4: 0.6, 5: 0.9}


class Scripted(StandIn):
    """Finds the accuracies of ``SCORES``, and keeps what it was asked to export."""

    exports: list[Export]

    def _do(self, job: AnyJob) -> AnyResult:
        if isinstance(job, Evaluate):
            score = SCORES[int(Path(job.state_path).name[len("round-") :][:5])]
            metrics = {depth: {"accuracy": score} for depth in job.depths}
            return Evaluated(scores=ModelScores(metrics), exit_loss=dict.fromkeys(job.depths, 1.0), samples=1)
        if isinstance(job, Export):
            self.exports.append(job)
        return super()._do(job)


def fleet(directory: Path, patience: int = 2) -> VirtualFleet:
    Scripted.exports = []
    made = VirtualFleet(directory, rounds=5, keep_checkpoints=1, worker={"coordinator": Scripted})
    made.config = msgspec.structs.replace(
        made.config, evaluation=EvaluationSettings(patience=patience), export=ExportSettings(model="best")
    )
    return made


def run(made: VirtualFleet) -> Summary:
    made.start_all()
    return made.finish()


def test_run_ends_on_a_plateau_and_exports_its_best_model(tmp_path: Path) -> None:
    made = fleet(tmp_path)
    summary = run(made)
    final = summary.final
    assert final is not None
    assert (len(summary.rounds), final.round, final.metric, final.value) == (4, 2, "accuracy", 0.8)
    assert final.enough == "accuracy has not got better than 0.8 of round 2 in 2 measured rounds"
    assert set(final.accuracy.values()) == {0.8}

    [finished] = [event for event in made.events if isinstance(event, RunFinished)]
    assert (finished.rounds, finished.best, finished.enough) == (4, 2, final.enough)
    kept = sorted(path.name for path in (made.run / "checkpoints").glob("round-?????.safetensors"))
    assert kept == ["round-00002.safetensors", "round-00004.safetensors"]
    for job in Scripted.exports:
        assert [Path(path).name for path in job.state_paths] == ["round-00002.safetensors"]
        assert job.metadata["round"] == "2"
        assert job.metadata["model_digest"] == final.model_digest
        assert (job.metadata["metric"], job.metadata["metric_value"]) == ("accuracy", "0.8")
    assert summary.delivered == {"dev-0": "installed", "dev-1": "installed"}


def test_coordinator_that_is_killed_ends_the_run_with_the_same_model(tmp_path: Path) -> None:
    expected = run(fleet(tmp_path / "undisturbed"))
    made = fleet(tmp_path / "killed")
    made.dies = lambda name: 90 if name == "coordinator" else None
    made.start_all({"coordinator": 60})
    summary = made.finish()
    assert summary.final == expected.final
    assert [entry.coverage for entry in summary.rounds] == [entry.coverage for entry in expected.rounds]


def test_finished_run_goes_on_with_more_patience(tmp_path: Path) -> None:
    unbroken = run(fleet(tmp_path / "unbroken", patience=3))
    made = fleet(tmp_path / "resumed")
    assert len(run(made).rounds) == 4
    made.config = msgspec.structs.replace(made.config, evaluation=EvaluationSettings(patience=3))
    summary = run(made)
    assert summary.final is not None
    assert (len(summary.rounds), summary.final.round, summary.final.value, summary.final.enough) == (5, 5, 0.9, "")
    assert summary.final == unbroken.final
    stored = made.run / "checkpoints" / "round-00005.safetensors"
    assert summary.final.model_digest == model_digest(load_file(stored))


def test_run_that_had_enough_goes_on_after_its_last_round(tmp_path: Path) -> None:
    made = fleet(tmp_path)
    run(made)
    made.hand_out = True
    run(made)
    began = [event for event in made.events if isinstance(event, RunStarted)]
    assert [(event.rounds, event.resumed_at) for event in began] == [(5, None), (4, 5)]
    assert where_to_go_on(began[1]) == "after round 4, the last"
