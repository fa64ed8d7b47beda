from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from fedlp_edge.cli.models import export as command
from fedlp_edge.cli.models.export import ExportOptions, make_writable, parse_precisions, run_export
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.metrics.answers import WantedAnswer
from fedlp_edge.core.model_card import CardEntry, RefusedFile, decode_card
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError, ExportError
from fedlp_edge.learning.export.metadata import OPSET
from fedlp_edge.reporting.summary import RoundSummary, Summary, save
from fedlp_edge.storage.journal import Journal
from fedlp_edge.system.lifecycle import EXIT_INCOMPLETE
from fedlp_edge.worker.jobs import AnyJob, AnyResult, Build, Built, ExportFamily, FamilyExported, WorkerOptions
from tests.fleets.standin import blueprint


def a_run(directory: Path) -> Path:
    run = directory / "run"
    (run / "checkpoints").mkdir(parents=True)
    save_file({"w": np.zeros(2, np.float32)}, run / "checkpoints" / "round-00001.safetensors")
    (run / "config.toml").write_text('fleet = "shop"\n')
    Journal.open(run / "journal.sqlite").open_round(1, 1, ())
    return run


class Worker:
    """Answers as it is told; trains and loads nothing."""

    exported = FamilyExported(files=())
    asked: ClassVar[list[ExportFamily]] = []

    def __init__(self, options: WorkerOptions) -> None:
        pass

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, job: AnyJob, timeout: float | None = None) -> AnyResult:
        if isinstance(job, Build):
            return Built(blueprint=self.model)
        assert isinstance(job, ExportFamily)
        self.asked.append(job)
        return self.exported

    @property
    def model(self) -> Blueprint:
        return blueprint()


def entry(file: str = "net-depth-1.onnx", value: float | None = 0.5, warning: str = "") -> CardEntry:
    return CardEntry(
        file=file,
        depth=1,
        precision="int8" if "int8" in file else "fp32",
        sha256="a" * 64,
        blake3="b" * 64,
        bytes=2048,
        value=value,
        max_abs_diff=1e-6,
        agreement=1.0,
        warning=warning,
    )


def exporting(
    monkeypatch: pytest.MonkeyPatch, *files: CardEntry, refused: tuple[RefusedFile, ...] = (), opset: int = OPSET
) -> list[ExportFamily]:
    class Answering(Worker):
        exported = FamilyExported(
            files=files,
            refused=refused,
            input_shape=(1, 2, 2),
            features=("heat",),
            scale=0.5,
            mean=(2.0,),
            std=(3.0,),
            metric="accuracy",
            samples=10,
            opset=opset,
        )
        asked: ClassVar[list[ExportFamily]] = []

    monkeypatch.setattr(command, "WorkerProcess", Answering)
    return Answering.asked


QUICK = ExportOptions(seconds=0)


def test_names_the_depth_that_was_refused_and_writes_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    exporting(monkeypatch, entry(), refused=(RefusedFile(depth=2, precision="fp32", reason="no operator for [this]"),))
    assert run_export(a_run(tmp_path), "all", tmp_path / "onnx", None, QUICK) == EXIT_INCOMPLETE
    printed = capsys.readouterr()
    assert "net-depth-1.onnx: depth 1, round 1, accuracy 50.0 %, 2.0 kB" in printed.out
    assert "error: depth 2 has no ONNX file: no operator for [this]" in printed.err


def test_fails_where_no_depth_can_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporting(monkeypatch, refused=(RefusedFile(depth=1, precision="fp32", reason="no operator"),))
    with pytest.raises(ExportError, match="no operator"):
        run_export(a_run(tmp_path), "1", tmp_path / "onnx", None)


def test_an_opset_that_nobody_knows_is_refused_and_one_that_was_not_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"--opset 99: the installed onnx \S+ knows none above \d+"):
        run_export(a_run(tmp_path / "unknown"), "1", tmp_path / "onnx", None, ExportOptions(seconds=0, opset=99))
    exporting(monkeypatch, entry(), opset=17)
    for opset in (21, OPSET):
        run_export(a_run(tmp_path / str(opset)), "1", tmp_path / "onnx", None, ExportOptions(seconds=0, opset=opset))
        assert ("warning: the files have opset 17, not 21" in capsys.readouterr().err) == (opset == 21)


def test_out_that_is_a_file_is_said_before_anything_is_built(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    with pytest.raises(ConfigError, match=r"results: it is a file, and a directory is wanted; name another directory"):
        run_export(a_run(tmp_path), "all", tmp_path / "results", None)
    assert (tmp_path / "results").read_text() == "mine"


def test_out_below_a_file_or_named_like_a_model_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="Not a directory"):
        make_writable(tmp_path / "file" / "onnx")
    with pytest.raises(ConfigError, match="every depth has a file of its own"):
        make_writable(tmp_path / "model.onnx")


def test_out_where_nothing_can_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # the test may be run by somebody who may write anywhere
    with pytest.raises(ConfigError, match="it may not be written to"):
        make_writable(tmp_path)


def test_a_file_that_is_worth_clearly_less_is_said_in_the_exit_code_and_on_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = entry("net-depth-1-int8.onnx", 0.4, "int8 costs depth 1 10.0 points of accuracy: try --precision fp16")
    exporting(monkeypatch, entry(), worse)
    assert run_export(a_run(tmp_path), "1", tmp_path / "onnx", None, QUICK) == EXIT_INCOMPLETE
    assert "warning: net-depth-1-int8.onnx: int8 costs depth 1 10.0 points" in capsys.readouterr().err
    card = decode_card((tmp_path / "onnx" / "card.json").read_bytes())
    assert [file.warning for file in card.files] == ["", worse.warning]
    assert (card.features, card.scale, card.mean, card.std) == (("heat",), 0.5, (2.0,), (3.0,))
    assert "try --precision fp16" in (tmp_path / "onnx" / "card.md").read_text()


def test_the_names_that_a_run_has_agreed_on_and_its_licence_reach_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = exporting(monkeypatch, entry())
    run = a_run(tmp_path)
    (run / "config.toml").write_text('fleet = "shop"\n[data]\nevaluate = ""\n[export]\nlicense = "CC-BY-4.0"\n')
    Journal.open(run / "journal.sqlite").put_class_names(("nut", "bolt"))
    assert run_export(run, "1", tmp_path / "onnx", None, QUICK) == 0
    (job,) = asked
    assert (job.data, job.model.class_names, job.metadata["license"]) == ("", ("nut", "bolt"), "CC-BY-4.0")


def test_the_card_names_the_run_as_its_devices_know_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def named(run: Path) -> tuple[str, str]:
        asked = exporting(monkeypatch, entry())
        assert run_export(run, "1", tmp_path / "onnx", None, QUICK) == 0
        card = decode_card((tmp_path / "onnx" / "card.json").read_bytes())
        assert f"fleet shop, run {card.run}, round 1" in (tmp_path / "onnx" / "card.md").read_text()
        return card.run, asked[0].metadata["run"]

    run = a_run(tmp_path)
    assert named(run) == ("run", "run"), "nothing else says what it is called"
    monkeypatch.chdir(run)
    assert named(Path()) == ("run", "run"), "its directory may be named in any way"
    (run / "config.toml").write_text('fleet = "shop"\nrun = "spring"\n')
    assert named(run) == ("spring", "spring")
    summary = Summary(run="shop-3f2a91", fleet="shop", model="small-cnn", rounds=())
    (run / "summary.json").write_bytes(msgspec.json.encode(summary))
    assert named(run) == ("shop-3f2a91", "shop-3f2a91")


def test_precisions_are_named_with_commas_or_one_by_one() -> None:
    assert parse_precisions([]) == ("fp32",)
    assert parse_precisions(["int8, fp32"]) == ("fp32", "int8")
    assert parse_precisions(["fp16", "int8"]) == ("fp16", "int8")
    with pytest.raises(ConfigError, match=r"^--precision int4: use fp32, fp16, int8, or several of these$"):
        parse_precisions(["int4"])


def test_all_depths_are_those_that_devices_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert command._worth_a_file((1, 2, 3, 4), {2, 4}) == (2, 4)
    assert capsys.readouterr().err.startswith("no device trained exits 1, 3, so there is no file of that; --depth N")
    assert command._worth_a_file((1, 2), set()) == (1, 2)
    assert capsys.readouterr().err == ""


def test_early_exit_with_one_depth_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporting(monkeypatch, entry())
    with pytest.raises(ConfigError, match="--early-exit needs two depths at least: use --depth all"):
        run_export(a_run(tmp_path), "1", tmp_path / "onnx", None, ExportOptions(early_exit=0.9))


def test_early_exits_are_those_that_devices_trained() -> None:
    options, model = ExportOptions(early_exit=0.9), ModelSettings()
    assert command._answering(options, (1, 2, 3), model, {2, 3}) == (2, 3)
    assert command._answering(options, (1, 2, 3), model, set()) == ()  # nothing is known of them, so all may answer
    with pytest.raises(ConfigError, match="they trained exit 3 alone"):
        command._answering(options, (1, 2, 3), model, {3})


@pytest.mark.parametrize(("answer", "thresholds"), [(None, {1: 3.0}), ("exit", {1: 2.0})])
def test_thresholds_are_those_of_the_scores_that_files_give(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: WantedAnswer | None,
    thresholds: dict[int, float],
) -> None:
    asked = exporting(monkeypatch, entry())
    monkeypatch.setattr(Worker, "model", msgspec.structs.replace(blueprint(), exits="all"))
    run = a_run(tmp_path)
    entries = tuple(
        RoundSummary(
            round=round, seconds=1.0, accuracy={}, devices=(), coverage={"H1": {}}, answer=of, thresholds=measured
        )
        for round, of, measured in ((1, "exit", {1: 2.0}), (2, "mean", {1: 3.0}))
    )  # fmt: skip
    save(Summary(run="r", fleet="shop", model="m", rounds=entries), run / "summary.json")
    run_export(run, "1", tmp_path / "onnx", None, ExportOptions(seconds=0, answer=answer))
    (job,) = asked
    assert job.thresholds == thresholds
    assert decode_card((tmp_path / "onnx" / "card.json").read_bytes()).answer == ("exit" if answer else "mean")
    said = "it answers at random" if answer else "it is one of those whose mean the file answers with"
    assert f"warning: no device trained exit 1; {said}\n" in capsys.readouterr().err


def test_a_run_that_has_ended_no_round_is_refused_unless_a_depth_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporting(monkeypatch, entry())
    run = a_run(tmp_path)
    (run / "checkpoints" / "round-00001.safetensors").rename(run / "checkpoints" / "round-00000.safetensors")
    with pytest.raises(ExportError, match="has ended, so its model has learned nothing; --depth N makes a file"):
        run_export(run, "all", tmp_path / "onnx", None, QUICK)
    assert run_export(run, "1", tmp_path / "onnx", None, QUICK) == 0


def test_a_run_with_a_recipe_is_exported_with_what_the_recipe_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = exporting(monkeypatch, entry())
    run = a_run(tmp_path)
    (run / "config.toml").write_text('fleet = "shop"\nrecipe = "fedlp-exits"\n[model]\nclasses = 4\n')
    assert run_export(run, "all", tmp_path / "onnx", None, QUICK) == 0
    model = asked[0].model
    assert (model.exits, model.exit_heads, model.classes) == ("all", "max-pooled", 4)


def test_a_run_without_central_data_is_exported_without_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = exporting(monkeypatch, entry())
    assert run_export(a_run(tmp_path), "all", tmp_path / "onnx", None, QUICK) == 0
    assert asked[0].data == ""
