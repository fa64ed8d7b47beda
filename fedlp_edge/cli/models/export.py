"""This module implements ``fedlp export``, which writes ONNX files from the latest or the best checkpoint of a run."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from fedlp_edge.cli.models.choose import choice_line, choose_from_card
from fedlp_edge.config.recipes import with_recipe
from fedlp_edge.config.renamed_keys import RENAMED
from fedlp_edge.config.toml import load_toml
from fedlp_edge.core.blueprint import answer_mode
from fedlp_edge.core.device_data import agreed_inputs
from fedlp_edge.core.metrics.answers import AnswerMode, WantedAnswer
from fedlp_edge.core.model_card import CardEntry, MeasuredCost, ModelCard
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError, ExportError, StorageError, WorkerError
from fedlp_edge.learning.export.latency import measure
from fedlp_edge.learning.export.metadata import OPSET
from fedlp_edge.learning.export.precision import PRECISIONS, Precision
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.reporting.cards.model_card_page import write_card
from fedlp_edge.reporting.console import open_console
from fedlp_edge.reporting.formatting import format_bytes, format_metric, format_share, metric_label
from fedlp_edge.reporting.summary import Summary, load, trained_exits
from fedlp_edge.storage.checkpoints import Checkpoints, is_whole
from fedlp_edge.storage.incomplete_copies import check_exportable
from fedlp_edge.storage.journal import agreed_class_names, agreed_columns, reported_data_facts, told_ranges
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.system.lifecycle import EXIT_INCOMPLETE, print_error
from fedlp_edge.system.path_hints import run_hint
from fedlp_edge.system.processor_info import processor_name
from fedlp_edge.worker.jobs import Build, Built, ExportFamily, FamilyExported, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

INT8_SHARE = 0.3
"""Share of the bytes of the float32 file that an int8 file may have before the export says why it is not less."""

_BUILD_SECONDS = 600.0


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


def parse_precisions(given: Sequence[str]) -> tuple[Precision, ...]:
    """Precisions by name; an option may be repeated, and may list several with commas.

    Args:
        given: Texts of the options; without any, the files are in float32.

    Raises:
        ConfigError: A name is unknown.
    """
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PRECISIONS:
            raise ConfigError(f"--precision {name}: use {', '.join(PRECISIONS)}, or several of these")
    return tuple(precision for precision in PRECISIONS if precision in names) or ("fp32",)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported, and how.

    Attributes:
        precisions: Precisions of the files.
        early_exit: Confidence, 0 to 1, from which on a file with early exits stops; None for no such file.
        opset: ONNX opset of the files.
        raw_input: Whether files take pictures as bytes, and normalise them in the graph.
        answer: What the files answer with; None for what the configuration says.
        license: Licence of the weights; None for that of the configuration.
        threads: Threads with which the cost of files is measured; 0 for one per core.
        seconds: Time to measure each file for; 0 to measure none.
        profile: Profile of the device class for which one of the files is chosen; None to choose none.
    """

    precisions: tuple[Precision, ...] = ("fp32",)
    early_exit: float | None = None
    opset: int = OPSET
    raw_input: bool = True
    answer: WantedAnswer | None = None
    license: str | None = None
    threads: int = 0
    seconds: float = 1.0
    profile: DeviceProfile | None = None


def run_export(
    run: Path, depth: str, directory: Path, data: str | None, options: ExportOptions = ExportOptions()
) -> int:
    """Exports ONNX files, checks them against PyTorch, measures what they cost, and prints what was written.

    Returns:
        0, or ``EXIT_INCOMPLETE`` if some file was not made, or is worth clearly less than that in float32.

    Raises:
        ExportError: No file was made.
    """
    round_number, state = exported_checkpoint(run)
    config = load_toml(run / "config.toml", RunConfig, with_recipe, RENAMED)
    if config.model.scaling == "width":
        raise ConfigError(
            f"{run} scales its model by width, a baseline for comparisons that no device runs; "
            'export a run with scaling = "depth"'
        )
    check_exportable(RunDirectory(run))
    _check_opset(options.opset)
    evaluate = data or config.data.evaluate
    make_writable(directory)
    model = _agreed_model(config.model, run / "journal.sqlite")
    summary = load(run / "summary.json") if (run / "summary.json").exists() else None
    licence = config.export.license if options.license is None else options.license
    run_name = _run_name(run, config, summary)
    with tempfile.TemporaryDirectory(prefix="fedlp-export-") as temporary:
        samples_path = Path(temporary) / "samples.npy"
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
            trained = _trained(run)
            wanted = config.export.answer if options.answer is None else options.answer
            answer = answer_mode(built.blueprint.exits, built.blueprint.head_mode, wanted)
            answering = _answering(options, depths, model, trained)
            if depth == "all":
                depths = _worth_a_file(depths, trained)
            exported = worker.call(
                ExportFamily(
                    model=model,
                    state_paths=(str(state.absolute()),),
                    depths=depths,
                    answer=wanted,
                    data=evaluate,
                    inputs=agreed_inputs(reported_data_facts(run / "journal.sqlite")),
                    thresholds=_thresholds(summary, round_number, answer),
                    directory=str(directory.absolute()),
                    metadata={
                        "run": run_name,
                        "round": str(round_number),
                        "fleet": config.fleet_name,
                        **({"model_digest": digest} if (digest := _digest(summary, round_number)) else {}),
                        **({"license": licence} if licence else {}),
                    },
                    precisions=options.precisions,
                    early_exit=options.early_exit,
                    answering=answering,
                    opset=options.opset,
                    raw_input=options.raw_input,
                    samples_path=str(samples_path),
                    told={} if evaluate else told_ranges(run / "journal.sqlite", _digest(summary, round_number)),
                )
            )
        if not isinstance(exported, FamilyExported):
            raise WorkerError(f"the worker answered an export with {type(exported).__name__}")
        if not exported.files:
            raise ExportError("; ".join(dict.fromkeys(refused.reason for refused in exported.refused)))
        files = tuple(_with_cost(entry, directory, samples_path, options) for entry in exported.files)
    card = ModelCard(
        model=model.name,
        task=model.task,
        classes=exported.classes,
        input_shape=exported.input_shape,
        input_type=exported.input_type,
        license=licence,
        fleet=config.fleet_name,
        run=run_name,
        round=round_number,
        model_digest=_digest(summary, round_number),
        metric=exported.metric,
        samples=exported.samples,
        calibration=exported.calibration,
        opset=exported.opset,
        processor=processor_name() if options.seconds else "",
        threads=options.threads,
        answer=answer,
        files=files,
        refused=exported.refused,
    )
    write_card(card, directory)
    if exported.opset != options.opset != OPSET:
        print(
            f"warning: the files have opset {exported.opset}, not {options.opset}: PyTorch's exporter takes this model "
            "with no other",
            file=sys.stderr,
        )
    code = _report(card, directory, trained)
    if options.profile is not None:
        print(choice_line(choose_from_card(card, options.profile), options.profile))
    return code


def _check_opset(opset: int) -> None:
    """Checks that the installed onnx knows an opset; the exporter would write another one without a word.

    Raises:
        ConfigError: It does not.
    """
    try:
        import onnx  # noqa: PLC0415  # an extra of the coordinator, whose absence the export names
    except ImportError:
        return
    if opset > (newest := onnx.defs.onnx_opset_version()):
        raise ConfigError(f"--opset {opset}: the installed onnx {onnx.__version__} knows none above {newest}")


def _run_name(directory: Path, config: RunConfig, summary: Summary | None) -> str:
    """Returns the name of a run as its devices know it; a directory may be called anything, and moved."""
    return (summary.run if summary is not None else "") or config.run or directory.resolve().name


def _agreed_model(model: ModelSettings, journal: Path) -> ModelSettings:
    """The settings of the model with what the fleet has agreed on."""
    model = model.without_weights.scaled_by(agreed_columns(journal, "features"))
    model = model.with_targets(agreed_columns(journal, "targets"))
    names = model.class_names or agreed_class_names(journal)
    return msgspec.structs.replace(model, class_names=names)


def _worth_a_file(depths: tuple[int, ...], trained: set[int]) -> tuple[int, ...]:
    """Returns the depths whose exits devices trained, and says which are left out; all where that is not known."""
    chosen = tuple(depth for depth in depths if depth in trained) or depths
    if left_out := [str(depth) for depth in depths if depth not in chosen]:
        many = "exits" if len(left_out) > 1 else "exit"
        print(
            f"no device trained {many} {', '.join(left_out)}, so there is no file of that; --depth N makes one all the "
            "same",
            file=sys.stderr,
        )
    return chosen


def _answering(
    options: ExportOptions, depths: tuple[int, ...], model: ModelSettings, trained: set[int]
) -> tuple[int, ...]:
    """Returns the depths at which a file with early exits may stop: those that some device trained."""
    if options.early_exit is None:
        return ()
    if model.task != "classification":
        raise ConfigError(f"--early-exit needs a confidence, which the task {model.task} does not give")
    if len(depths) < 2:
        raise ConfigError("--early-exit needs two depths at least: use --depth all")
    answering = tuple(depth for depth in depths if depth in trained)
    if len(answering) == 1:
        raise ConfigError(
            f"--early-exit needs two exits that devices trained, and they trained exit {answering[0]} alone; "
            'with [model] exits = "all" devices train those below theirs, too'
        )
    return answering


def _thresholds(summary: Summary | None, round_number: int, answer: AnswerMode) -> dict[int, float]:
    """Thresholds of an anomaly detector that devices have measured of the latest model up to a round.

    Those of other answers than the files are to give are left out.
    """
    found = [entry for entry in summary.rounds if entry.thresholds] if summary is not None else []
    usable = [entry for entry in found if entry.round - 1 <= round_number and entry.answer == answer]
    return usable[-1].thresholds if usable else {}


def _digest(summary: Summary | None, round_number: int) -> str:
    final = None if summary is None else summary.final
    return final.model_digest if final is not None and final.round in (0, round_number) else ""


def _with_cost(entry: CardEntry, directory: Path, samples: Path, options: ExportOptions) -> CardEntry:
    if not options.seconds:
        return entry
    try:
        latency = measure(
            directory / entry.file, threads=options.threads, seconds=options.seconds, samples=np.load(samples)
        )
    except ExportError as error:
        print(f"warning: {error}", file=sys.stderr)
        return entry
    cost = MeasuredCost(
        milliseconds=latency.milliseconds,
        mean_milliseconds=latency.mean_milliseconds,
        memory=latency.memory,
        exits=latency.exits,
    )
    return msgspec.structs.replace(entry, cost=cost)


def _large_for_int8(card: ModelCard) -> tuple[CardEntry, ...]:
    """Returns the int8 files that have more than ``INT8_SHARE`` of the bytes of their float32 file."""
    floats = {(entry.depth, entry.exits): entry.bytes for entry in card.files if entry.precision == "fp32"}
    return tuple(
        entry
        for entry in card.files
        if entry.precision == "int8"
        and entry.bytes > INT8_SHARE * floats.get((entry.depth, entry.exits), entry.bytes * 9)
    )


def _report(card: ModelCard, directory: Path, trained: set[int]) -> int:
    console = open_console()
    for entry in card.files:
        value = (
            "" if entry.value is None else f"{metric_label(card.metric)} {format_metric(card.metric, entry.value)}, "
        )
        cost = "" if entry.cost is None else f"{entry.cost.mean_milliseconds:.2f} ms, "
        beside = f" with {entry.weights_file}" if entry.weights_file else ""
        what = f"exits {', '.join(map(str, entry.exits))}" if entry.exits else f"depth {entry.depth}"
        console.print(
            f"{directory / entry.file}{beside}: {what}, round {card.round}, {value}{format_bytes(entry.bytes)}, {cost}"
            f"differs from PyTorch by at most {entry.max_abs_diff:.1e}, "
            f"same answer for {format_share(entry.agreement)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if not card.samples:
        print(
            "warning: the files were compared with PyTorch on made inputs, and nothing says what they are worth; "
            "name samples with --data",
            file=sys.stderr,
        )
    for entry in _large_for_int8(card):
        print(
            f"note: {entry.file} is small, and its graph, scales and metadata take as many bytes as in a large one: "
            f"8 bits do not save it to {INT8_SHARE:g} times the size",
            file=sys.stderr,
        )
    if card.calibration.startswith("made inputs"):
        print(f"warning: the ranges of int8 files come from {card.calibration}", file=sys.stderr)
    worth = "it answers at random" if card.answer == "exit" else "it is one of those whose mean the file answers with"
    for exit_depth in sorted({entry.depth for entry in card.files if not entry.exits} - trained):
        print(f"warning: no device trained exit {exit_depth}; {worth}", file=sys.stderr)
    for entry in card.files:
        if entry.warning:
            print(f"warning: {entry.file}: {entry.warning}", file=sys.stderr)
    for refused in card.refused:
        what = "early-exit" if refused.early_exit else f"depth {refused.depth}"
        kind = "ONNX" if refused.precision == "fp32" else refused.precision
        print_error(f"{what} has no {kind} file: {refused.reason}")
    return EXIT_INCOMPLETE if card.refused or any(entry.warning for entry in card.files) else 0


def _trained(run: Path) -> set[int]:
    summary = run / "summary.json"
    return trained_exits(load(summary)) if summary.exists() else set()
