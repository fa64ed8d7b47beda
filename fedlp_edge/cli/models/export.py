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
from fedlp_edge.cli.models.export_report import report
from fedlp_edge.cli.models.exported_run import ExportedRun
from fedlp_edge.core.blueprint import answer_mode
from fedlp_edge.core.device_data import agreed_inputs
from fedlp_edge.core.metrics.answers import AnswerMode, WantedAnswer
from fedlp_edge.core.model_card import CardEntry, MeasuredCost, ModelCard
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError, ExportError, WorkerError
from fedlp_edge.learning.export.latency import measure
from fedlp_edge.learning.export.metadata import OPSET
from fedlp_edge.learning.export.precision import PRECISIONS, Precision
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.reporting.cards.model_card_page import write_card
from fedlp_edge.storage.journal import reported_data_facts, told_ranges
from fedlp_edge.system.processor_info import processor_name
from fedlp_edge.worker.jobs import Build, Built, ExportFamily, FamilyExported, WorkerOptions
from fedlp_edge.worker.process import WorkerProcess

_BUILD_SECONDS = 600.0


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
    source = ExportedRun.read(run)
    _check_opset(options.opset)
    if depth == "all" and not source.round:
        raise ExportError(
            f"no round of {run} has ended, so its model has learned nothing; --depth N makes a file of it all the same"
        )
    evaluate = data or source.config.data.evaluate
    make_writable(directory)
    with tempfile.TemporaryDirectory(prefix="fedlp-export-") as temporary:
        samples = Path(temporary) / "samples.npy"
        answer, exported = _exported(source, depth, directory, evaluate, samples, options)
        if not exported.files:
            raise ExportError("; ".join(dict.fromkeys(refused.reason for refused in exported.refused)))
        files = tuple(_with_cost(entry, directory, samples, options) for entry in exported.files)
    card = _card_of(source, exported, files, answer, options)
    write_card(card, directory)
    if exported.opset != options.opset != OPSET:
        print(
            f"warning: the files have opset {exported.opset}, not {options.opset}: PyTorch's exporter takes this model "
            "with no other",
            file=sys.stderr,
        )
    code = report(card, directory, source.trained)
    if options.profile is not None:
        print(choice_line(choose_from_card(card, options.profile), options.profile))
    return code


def _exported(
    source: ExportedRun, depth: str, directory: Path, evaluate: str, samples: Path, options: ExportOptions
) -> tuple[AnswerMode, FamilyExported]:
    """Has a worker process write the files; returns what they answer with, and what it has written."""
    model, wanted = source.model, source.config.export.answer if options.answer is None else options.answer
    # The owner of the run directory asks, so the model that it names may run.
    with WorkerProcess(WorkerOptions(threads=1, device="cpu", allow_models=(model.name, model.task))) as worker:
        built = worker.call(Build(model=model), timeout=_BUILD_SECONDS)
        if not isinstance(built, Built):
            raise WorkerError(f"the worker answered a build with {type(built).__name__}")
        # A personal head never reached the coordinator, so the depths that end in one are not there.
        held = {unit.depth for unit in built.blueprint.global_units if unit.kind == "head"}
        depths = parse_depths(depth, tuple(sorted(held)))
        answer = answer_mode(built.blueprint.exits, built.blueprint.head_mode, wanted)
        answering = _answering(options, depths, model, source.trained)
        exported = worker.call(
            ExportFamily(
                model=model,
                state_paths=(str(source.state.absolute()),),
                depths=_worth_a_file(depths, source.trained) if depth == "all" else depths,
                answer=wanted,
                data=evaluate,
                inputs=agreed_inputs(reported_data_facts(source.journal)),
                thresholds=source.thresholds(answer),
                directory=str(directory.absolute()),
                metadata=_metadata(source, options),
                precisions=options.precisions,
                early_exit=options.early_exit,
                answering=answering,
                opset=options.opset,
                raw_input=options.raw_input,
                samples_path=str(samples),
                told={} if evaluate else told_ranges(source.journal, source.digest),
            )
        )
    if not isinstance(exported, FamilyExported):
        raise WorkerError(f"the worker answered an export with {type(exported).__name__}")
    return answer, exported


def _metadata(source: ExportedRun, options: ExportOptions) -> dict[str, str]:
    """Returns what stands in each file about its origin; what is not known is left out."""
    told = {"model_digest": source.digest, "license": _licence(source, options)}
    return {
        "run": source.name,
        "round": str(source.round),
        "fleet": source.config.fleet_name,
        **{name: value for name, value in told.items() if value},
    }


def _licence(source: ExportedRun, options: ExportOptions) -> str:
    return source.config.export.license if options.license is None else options.license


def _card_of(
    source: ExportedRun,
    exported: FamilyExported,
    files: tuple[CardEntry, ...],
    answer: AnswerMode,
    options: ExportOptions,
) -> ModelCard:
    return ModelCard(
        model=source.model.name,
        task=source.model.task,
        classes=exported.classes,
        input_shape=exported.input_shape,
        input_type=exported.input_type,
        features=exported.features,
        scale=exported.scale,
        mean=exported.mean,
        std=exported.std,
        license=_licence(source, options),
        fleet=source.config.fleet_name,
        run=source.name,
        round=source.round,
        model_digest=source.digest,
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
