"""Simulated runs that end early, with the model of their best round."""

from __future__ import annotations

from pathlib import Path

import msgspec
from safetensors.numpy import load_file

from fedlp_edge.cli.models.exported_run import exported_checkpoint
from fedlp_edge.core.model_digest import model_digest
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import EvaluationSettings, TrainingSettings
from fedlp_edge.reporting.events import AnyEvent, RoundFinished
from fedlp_edge.simulation import LocalEngine, simulate
from fedlp_edge.simulation.engines.base import SimulationStoppedError
from fedlp_edge.simulation.experiment import Experiment, ExportChoice
from tests.simulation.conftest import experiment

SCHEDULE = TrainingSettings(
    batch_size=16, optimizer="adamw", lr=0.01, schedule="cosine", warmup_rounds=1, clip_norm=1.0, balance="sampling"
)


def impatient(patience: int) -> Experiment:
    """The accuracy never gets better by 0.9, so a run ends this many rounds after its first."""
    return experiment(
        training=SCHEDULE,
        rounds=RoundSettings(count=6, devices_per_round=4, keep_checkpoints=1),
        evaluation=EvaluationSettings(patience=patience, min_delta=0.9, metric="accuracy"),
        export=ExportChoice(model="best"),
    )


def test_run_ends_on_a_plateau_with_its_best_model_however_often_it_is_interrupted(
    tmp_path: Path, engine: LocalEngine
) -> None:
    whole = simulate(impatient(2), tmp_path / "whole", engine=engine)
    assert whole.final is not None
    assert (len(whole.rounds), whole.final.metric) == (3, "accuracy")
    assert "has not got better by more than 0.9 than" in whole.final.enough
    by_depth = [entry.accuracy[max(entry.accuracy)] for entry in whole.rounds]
    assert whole.final.value == max(by_depth)
    assert whole.final.round == 1 + by_depth.index(max(by_depth))
    number, path = exported_checkpoint(tmp_path / "whole")
    assert (number, path.name) == (whole.final.round, f"round-{whole.final.round:05d}.safetensors")
    assert model_digest(load_file(path)) == whole.final.model_digest

    done: list[int] = []

    def watch(event: AnyEvent) -> None:
        if isinstance(event, RoundFinished):
            done.append(event.round)

    for stop in (1, 2):
        try:
            simulate(
                impatient(2),
                tmp_path / "cut",
                engine=engine,
                on_event=watch,
                stopped=lambda stop=stop: len(done) >= stop,  # type: ignore[misc]
            )
        except SimulationStoppedError:
            continue
    cut = simulate(impatient(2), tmp_path / "cut", engine=engine, on_event=watch)
    assert done == [1, 2, 3]
    assert cut.final == whole.final


def test_finished_run_goes_on_with_more_patience(tmp_path: Path, engine: LocalEngine) -> None:
    unbroken = simulate(impatient(3), tmp_path / "unbroken", engine=engine)
    assert len(simulate(impatient(2), tmp_path / "resumed", engine=engine).rounds) == 3
    resumed = simulate(impatient(3), tmp_path / "resumed", engine=engine)
    assert len(resumed.rounds) == 4
    assert resumed.final == unbroken.final
    longer = msgspec.structs.replace(impatient(3), evaluation=EvaluationSettings())
    assert len(simulate(longer, tmp_path / "resumed", engine=engine).rounds) == 6
