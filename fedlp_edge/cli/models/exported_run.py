"""This module reads from a run's directory what an export needs: the model, its settings, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import msgspec

from fedlp_edge.config.recipes import with_recipe
from fedlp_edge.config.renamed_keys import RENAMED
from fedlp_edge.config.toml import load_toml
from fedlp_edge.core.metrics.answers import AnswerMode, WantedAnswer
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError, StorageError
from fedlp_edge.reporting.summary import Summary, load, trained_exits
from fedlp_edge.storage.checkpoints import Checkpoints, is_whole
from fedlp_edge.storage.incomplete_copies import check_exportable
from fedlp_edge.storage.journal import agreed_class_names, agreed_columns
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.system.path_hints import run_hint


class _Data(msgspec.Struct, frozen=True):
    evaluate: str = ""


class _Export(msgspec.Struct, frozen=True):
    answer: WantedAnswer = "auto"
    license: str = ""


class RunConfig(msgspec.Struct, frozen=True):
    """What an export needs of the fleet's file, or of an experiment's; who ran it has checked the rest.

    Attributes:
        fleet: Name of the fleet; of a simulated fleet, the table that describes it.
        name: Name of an experiment.
        run: Name of the run, if it was stated.
    """

    fleet: str | dict[str, object]
    name: str = ""
    run: str = ""
    model: ModelSettings = ModelSettings()
    data: _Data = _Data()
    export: _Export = _Export()

    @property
    def fleet_name(self) -> str:
        """What stands in the ONNX files."""
        return self.fleet if isinstance(self.fleet, str) else self.name


def exported_checkpoint(run: Path) -> tuple[int, Path]:
    """Number of the round that made the model to export, and that model: the running average, if the run keeps one.

    It is the round that the finished run has chosen, or the last committed one.

    Raises:
        StorageError: There is none.
    """
    checkpoints = Checkpoints(run / "checkpoints")
    number = checkpoints.newest()
    if number is None:
        raise StorageError(f"{run} holds no checkpoint{run_hint(run)}")
    final = load(run / "summary.json").final if (run / "summary.json").exists() else None
    if final is not None and final.metric and checkpoints.has(final.round):
        number = final.round
    path = checkpoints.evaluated_path(number)
    if not is_whole(path):
        raise StorageError(f"{path} is damaged, or only a part of it was copied: copy it again, or move it away to "
                           "export the round before")  # fmt: skip
    return number, path


@dataclass(frozen=True)
class ExportedRun:
    """A run whose model is to be exported.

    Attributes:
        path: Directory of the run.
        config: Configuration that the run was started with.
        round: Round that made the model.
        state: Checkpoint of the model.
        summary: Summary of the run; None if there is none yet.
    """

    path: Path
    config: RunConfig
    round: int
    state: Path
    summary: Summary | None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a run's directory.

        Raises:
            ConfigError: Its configuration cannot be read, or its model is none that devices run.
            StorageError: It holds no whole checkpoint, or lacks what the files need.
        """
        number, state = exported_checkpoint(path)
        config = load_toml(path / "config.toml", RunConfig, with_recipe, RENAMED)
        if config.model.scaling == "width":
            raise ConfigError(
                f"{path} scales its model by width, a baseline for comparisons that no device runs; "
                'export a run with scaling = "depth"'
            )
        check_exportable(RunDirectory(path))
        return cls(path, config, number, state, _summary_of(path))

    @property
    def journal(self) -> Path:
        """The SQLite file of the journal."""
        return self.path / "journal.sqlite"

    @property
    def name(self) -> str:
        """Name of the run as its devices know it; a directory may be called anything, and moved."""
        return (self.summary.run if self.summary is not None else "") or self.config.run or self.path.resolve().name

    @cached_property
    def model(self) -> ModelSettings:
        """Settings of the model, with what the fleet has agreed on."""
        model = self.config.model.without_weights.scaled_by(agreed_columns(self.journal, "features"))
        model = model.with_targets(agreed_columns(self.journal, "targets"))
        names = model.class_names or agreed_class_names(self.journal)
        return msgspec.structs.replace(model, class_names=names)

    @cached_property
    def trained(self) -> set[int]:
        """Depths whose exits some device trained; empty if that is not known."""
        return trained_exits(self.summary) if self.summary is not None else set()

    @property
    def digest(self) -> str:
        """Digest of the model; empty if the summary does not name that of this round."""
        final = None if self.summary is None else self.summary.final
        return final.model_digest if final is not None and final.round in (0, self.round) else ""

    def thresholds(self, answer: AnswerMode) -> dict[int, float]:
        """Returns the thresholds of an anomaly detector that devices have measured of the latest model up to the round.

        Args:
            answer: What the files answer with; thresholds of other answers are left out.
        """
        found = [entry for entry in self.summary.rounds if entry.thresholds] if self.summary is not None else []
        usable = [entry for entry in found if entry.round - 1 <= self.round and entry.answer == answer]
        return usable[-1].thresholds if usable else {}


def _summary_of(run: Path) -> Summary | None:
    path = run / "summary.json"
    return load(path) if path.exists() else None
