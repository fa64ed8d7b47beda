"""What an export reads from the directory of a run."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from fedlp_edge.cli.models.exported_run import ExportedRun, exported_checkpoint
from fedlp_edge.errors import ConfigError, StorageError
from fedlp_edge.reporting.summary import FinalModel, RoundSummary, Summary, save
from fedlp_edge.storage.journal import Journal


def a_run(directory: Path, config: str = 'fleet = "shop"\n', rounds: tuple[int, ...] = (1,)) -> Path:
    run = directory / "run"
    (run / "checkpoints").mkdir(parents=True)
    for round in rounds:
        save_file({"w": np.zeros(2, np.float32)}, run / "checkpoints" / f"round-{round:05d}.safetensors")
    (run / "config.toml").write_text(config)
    Journal.open(run / "journal.sqlite").open_round(1, 1, ())
    return run


def summarise(run: Path, *rounds: RoundSummary, round: int = 0, metric: str = "") -> None:
    final = FinalModel(accuracy={}, metrics={}, model_digest="d1", round=round, metric=metric)
    save(Summary(run="shop-3f2a91", fleet="shop", model="m", rounds=rounds, final=final), run / "summary.json")


def measured(round: int, answer: str, thresholds: dict[int, float]) -> RoundSummary:
    return RoundSummary(
        round=round, seconds=1.0, accuracy={}, devices=(), coverage={}, answer=answer, thresholds=thresholds
    )


def test_newest_checkpoint_is_exported_unless_a_finished_run_chose_another(tmp_path: Path) -> None:
    run = a_run(tmp_path, rounds=(1, 2, 3))
    assert exported_checkpoint(run) == (3, run / "checkpoints" / "round-00003.safetensors")

    summarise(run, round=2, metric="accuracy")
    assert exported_checkpoint(run)[0] == 2

    summarise(run, round=7, metric="accuracy")  # its checkpoint is gone
    assert exported_checkpoint(run)[0] == 3


def test_digest_is_that_of_the_exported_round_alone(tmp_path: Path) -> None:
    run = a_run(tmp_path, rounds=(1, 2))
    assert ExportedRun.read(run).digest == ""
    summarise(run, round=2)
    assert ExportedRun.read(run).digest == "d1"
    summarise(run, round=1)
    assert ExportedRun.read(run).digest == ""


def test_thresholds_are_the_latest_up_to_the_round_and_of_the_answer(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    entries = (measured(1, "exit", {1: 2.0}), measured(2, "mean", {1: 3.0}), measured(3, "exit", {1: 4.0}))
    summarise(run, *entries)
    source = ExportedRun.read(run)

    assert source.round == 1
    assert source.thresholds("exit") == {1: 2.0}
    assert source.thresholds("mean") == {1: 3.0}  # the round after measures the model of this one
    assert msgspec.json.encode(ExportedRun.read(a_run(tmp_path / "bare")).thresholds("exit")) == b"{}"


def test_model_has_the_names_that_the_fleet_agreed_on(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    Journal.open(run / "journal.sqlite").put_class_names(("nut", "bolt"))
    assert ExportedRun.read(run).model.class_names == ("nut", "bolt")


def test_a_run_scaled_by_width_is_not_for_devices(tmp_path: Path) -> None:
    run = a_run(tmp_path, 'name = "wide"\n[fleet]\ndevices = 5\n[model]\nscaling = "width"\n')
    with pytest.raises(ConfigError, match="baseline for comparisons"):
        ExportedRun.read(run)


def test_a_checkpoint_that_is_cut_short_is_named(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    checkpoint = run / "checkpoints" / "round-00001.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"round-00001\.safetensors is damaged.*: copy it again, or move it away"):
        ExportedRun.read(run)


def test_a_run_without_its_journal_is_not_exported_with_other_answers(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    (run / "journal.sqlite").unlink()
    with pytest.raises(StorageError, match=r"holds checkpoints and not their journal \(journal\.sqlite, with"):
        ExportedRun.read(run)
