"""This module implements ``fedlp export``, which writes ONNX files from the latest or the best checkpoint of a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from fedlp_edge.config.renamed_keys import RENAMED
from fedlp_edge.config.toml import load_toml
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError, ExportError, StorageError, WorkerError
from fedlp_edge.reporting.console import open_console
from fedlp_edge.reporting.formatting import format_share
from fedlp_edge.reporting.summary import load, trained_exits
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import agreed_columns
from fedlp_edge.system.lifecycle import EXIT_INCOMPLETE, print_error
from fedlp_edge.worker.jobs import Build, Built, Export, Exported, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

_BUILD_SECONDS = 600.0


class _Data(msgspec.Struct, frozen=True):
    evaluate: str = "digits"


class RunConfig(msgspec.Struct, frozen=True):
    """What an export needs of the fleet's file, or of an experiment's; who ran it has checked the rest.

    Attributes:
        fleet: Name of the fleet; of a simulated fleet, the table that describes it.
        name: Name of an experiment.
    """

    fleet: str | dict[str, object]
    name: str = ""
    model: ModelSettings = ModelSettings()
    data: _Data = _Data()

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
    found = sorted((run / "checkpoints").glob("round-?????.safetensors"))
    if not found:
        raise StorageError(f"{run} holds no checkpoint; is it the directory of a run?")
    number = int(found[-1].stem.removeprefix("round-"))
    final = load(run / "summary.json").final if (run / "summary.json").exists() else None
    if final is not None and final.metric and Checkpoints(run / "checkpoints").has(final.round):
        number = final.round
    return number, Checkpoints(run / "checkpoints").evaluated_path(number)


def parse_depths(text: str, depths: tuple[int, ...]) -> tuple[int, ...]:
    """``all`` or one number.

    Args:
        text: Text of the option.
        depths: Depths that the global model can compute.

    Raises:
        ConfigError: The text is neither, or the model has no such depth.
    """
    if text == "all":
        return depths
    if text.isdecimal() and int(text) in depths:
        return (int(text),)
    raise ConfigError(f"--depth {text}: use all, or one of {', '.join(map(str, depths))}")


def make_writable(directory: Path) -> None:
    """Makes the directory, before anything that takes minutes.

    Raises:
        ConfigError: The path is a file, or nothing can be written there.
    """
    if directory.suffix == ".onnx" and not directory.is_dir():
        raise ConfigError(f"--out {directory}: a directory is wanted, since every depth has a file of its own")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(directory, os.W_OK | os.X_OK) else "it may not be written to"
    except FileExistsError:
        reason = "it is a file, and a directory is wanted"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise ConfigError(f"--out {directory}: {reason}; name another directory")


def run_export(run: Path, depth: str, directory: Path, data: str | None) -> int:
    """Exports ONNX files, checks them against PyTorch, and prints what was written.

    Returns:
        0, or ``EXIT_INCOMPLETE`` if some depth has no file.

    Raises:
        ExportError: None has.
    """
    round_number, state = exported_checkpoint(run)
    config = load_toml(run / "config.toml", RunConfig, renamed=RENAMED)
    if config.model.scaling == "width":
        raise ConfigError(
            f"{run} scales its model by width, a baseline for comparisons that no device runs; "
            'export a run with scaling = "depth"'
        )
    evaluate = data or config.data.evaluate
    if not evaluate:
        raise ConfigError("the run names no data to check the export with; name some with --data")
    make_writable(directory)
    journal = run / "journal.sqlite"
    model = config.model.without_weights.scaled_by(agreed_columns(journal, "features"))
    model = model.with_targets(agreed_columns(journal, "targets"))
    # The owner of the run directory asks, so the model that it names may run.
    with WorkerProcess(
        WorkerOptions(threads=1, device="cpu", allow_models=(config.model.name, config.model.task))
    ) as worker:
        built = worker.call(Build(model=model), timeout=_BUILD_SECONDS)
        if not isinstance(built, Built):
            raise WorkerError(f"the worker answered a build with {type(built).__name__}")
        # A personal head never reached the coordinator, so the depths that end in one are not there.
        held = {unit.depth for unit in built.blueprint.global_units if unit.kind == "head"}
        depths = parse_depths(depth, tuple(sorted(held)))
        exported = worker.call(
            Export(
                model=model,
                state_paths=(str(state.absolute()),),
                depths=depths,
                data=evaluate,
                directory=str(directory.absolute()),
                metadata={"run": run.name, "round": str(round_number), "fleet": config.fleet_name},
            )
        )
    if not isinstance(exported, Exported):
        raise WorkerError(f"the worker answered an export with {type(exported).__name__}")
    if not exported.models:
        raise ExportError("; ".join(refused.reason for refused in exported.refused))
    console = open_console()
    for made in exported.models:
        accuracy = "" if made.accuracy is None else f"accuracy {format_share(made.accuracy)}, "
        console.print(
            f"{directory / made.file}: depth {made.depth}, round {round_number}, "
            f"{accuracy}differs from PyTorch by at most {made.max_abs_diff:.1e}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    for exit_depth in sorted({made.depth for made in exported.models} - _trained(run)):
        print(f"warning: no device trained exit {exit_depth}; it answers at random", file=sys.stderr)
    for refused in exported.refused:
        print_error(f"depth {refused.depth} has no ONNX file: {refused.reason}")
    return EXIT_INCOMPLETE if exported.refused else 0


def _trained(run: Path) -> set[int]:
    summary = run / "summary.json"
    return trained_exits(load(summary)) if summary.exists() else set()
