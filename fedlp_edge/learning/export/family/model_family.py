"""This module writes all files of one model: each depth in each precision, and one file with early exits.

The model is exported once, as one graph with all exits. Other precisions are made from this graph, and the graph of
each depth is cut out of it. A file gets its name only after it was compared with PyTorch.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
from blake3 import blake3

from fedlp_edge.core.metric_names import BETTER
from fedlp_edge.core.metrics.tensor_ranges import TensorRanges
from fedlp_edge.core.model_card import CardEntry, RefusedFile
from fedlp_edge.core.targets import default_metric
from fedlp_edge.errors import ExportError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.early_exit import with_early_exits
from fedlp_edge.learning.export.external.detached_weights import DetachedWeights
from fedlp_edge.learning.export.external.weights_file import weights_file_of
from fedlp_edge.learning.export.family.file_answers import FileAnswers, ModelAnswers, check_early_exit
from fedlp_edge.learning.export.family.file_check import FileDifference
from fedlp_edge.learning.export.family.graph_cleaning import cleaned, without_dead_tensors
from fedlp_edge.learning.export.family.graph_shortening import shortened
from fedlp_edge.learning.export.family.multi_exit_graph import cut_exit, exit_of, multi_exit_graph
from fedlp_edge.learning.export.family.raw_input import with_raw_input
from fedlp_edge.learning.export.layered_export import (
    DepthFileOptions,
    answer_properties,
    confidence_of,
    early_exit_file_name,
    file_name,
)
from fedlp_edge.learning.export.metadata import OPSET, OnnxMetadata, ScoreHistogram, to_properties
from fedlp_edge.learning.export.onnx import (
    check_loads,
    example_of,
    opset_of,
    output_names,
    with_decision,
    with_properties,
)
from fedlp_edge.learning.export.precision import (
    CALIBRATION_SAMPLES,
    MAX_ACCURACY_DROP,
    PRECISION_PROPERTY,
    Precision,
    Samples,
    converted,
    file_of,
)
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.tasks.anomaly import Anomaly
from fedlp_edge.learning.tasks.base import LearningTask

if TYPE_CHECKING:
    import onnx

MAX_ERROR_RISE = 0.05
"""Rise of a metric of which less is better, as a share of it, from which on an export advises another precision."""

SAMPLES_FOR_COST = 256
"""Most samples with which the cost of files is measured."""


@dataclass(frozen=True, kw_only=True)
class FamilyOptions(DepthFileOptions):
    """What files are wanted, and what stands in them.

    Attributes:
        precisions: Precisions of the files.
        early_exit: Confidence, 0 to 1, from which on a file with early exits stops; None for no such file.
        answering: Depths at which a file with early exits may stop; empty for all.
        opset: ONNX opset of the files.
        raw_input: Whether files take pictures as bytes where the data are pictures.
        tokens: Whether inputs are token ids.
        told: Ranges of activations that devices have told, by device, for int8 files.
    """

    precisions: tuple[Precision, ...] = ("fp32",)
    early_exit: float | None = None
    answering: tuple[int, ...] = ()
    opset: int = OPSET
    raw_input: bool = True
    tokens: bool = False
    told: Mapping[str, TensorRanges] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FamilyResult:
    """What was written.

    Attributes:
        entries: Files, by ascending depth and in the order of the precisions, those with early exits last.
        refused: Files that were asked for and not written.
        opset: ONNX opset of the files.
        raw_input: Whether the files take pictures as bytes.
    """

    entries: tuple[CardEntry, ...]
    refused: tuple[RefusedFile, ...]
    opset: int
    raw_input: bool


def takes_raw_input(data: Dataset) -> bool:
    """Returns whether samples are pictures of bytes: [channels, height, width] with one or three channels.

    Bytes of another range than 0 to 255, such as the 0 to 16 of ``digits``, are not what a picture's file holds: who
    gave such a graph a picture would get answers to another one.
    """
    shape = data.input_shape
    return (
        len(shape) == 3
        and shape[0] in (1, 3)
        and abs(data.scale * 255 - 1) < 1e-6
        and data.stored(slice(0, 1)).numpy(force=True).dtype == "uint8"
    )


@dataclass(frozen=True)
class _Graphs:
    """Graphs of one precision.

    Attributes:
        outputs: Names of the outputs of an exit.
        by_depth: Graph of each depth.
        joined: Graph with all exits; None if it could not be made.
        weights: Weights that these graphs refer to.
    """

    outputs: tuple[str, ...]
    by_depth: Mapping[int, onnx.ModelProto]
    joined: onnx.ModelProto | None
    weights: DetachedWeights


class ModelFamily:
    """Writes the files of one model.

    Args:
        model: Submodel on the CPU, with the heads of all depths that are exported; it is left in evaluation mode.
        tasks: What the outputs of each exit mean, by depth, shallowest first.
        data: Held-out samples on the CPU, on which files are compared and measured.
        calibration: Samples for the ranges of int8 files.
        directory: Directory of the files.
        options: What files are wanted.
    """

    def __init__(
        self,
        model: Submodel,
        tasks: Mapping[int, LearningTask],
        data: Dataset,
        calibration: Dataset,
        directory: Path,
        options: FamilyOptions,
    ) -> None:
        self._model = model.eval()
        self._tasks = dict(tasks)
        self._data = data
        self._calibration = calibration
        self._directory = directory
        self._options = options
        self._raw = options.raw_input and takes_raw_input(data)
        self._entries: list[CardEntry] = []
        self._refused: list[RefusedFile] = []
        self._opset = options.opset
        self._confidences: dict[int, ScoreHistogram | None] = {}

    def write(self) -> FamilyResult:
        """Writes the files.

        Raises:
            ExportError: Nothing can be exported at all, or the directory cannot be written.
        """
        deepest = max(self._tasks)
        outputs = output_names(exit_of(self._model, deepest), self._data, self._tasks[deepest])
        graphs = self._graphs(outputs)
        expected = ModelAnswers(self._model, {depth: self._tasks[depth] for depth in graphs.by_depth}, self._data)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                # Other precisions are compared with float32 files, whether these are wanted or not.
                beside = self._directory if graphs.weights else None  # more than a system's /tmp may hold
                elsewhere = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlp-export-", dir=beside)))
                wanted = "fp32" in self._options.precisions
                floats = self._write_depths(graphs, "fp32", expected, self._directory if wanted else elsewhere)
                for precision in self._options.precisions:
                    answers = floats
                    made: _Graphs | None = graphs
                    if precision != "fp32":
                        made = self._converted(graphs, precision, floats, beside)
                        answers = (
                            {}
                            if made is None
                            else self._write_depths(made, precision, expected, self._directory, floats)
                        )
                    if self._options.early_exit is not None and made is not None:
                        self._write_early_exit(made, precision, answers, expected)
        except OSError as error:
            raise ExportError(f"cannot write {self._directory}: {error.strerror or error}") from None
        order = {precision: number for number, precision in enumerate(self._options.precisions)}
        kept = [entry for entry in self._entries if entry.precision in order]
        return FamilyResult(
            entries=tuple(sorted(kept, key=lambda entry: (bool(entry.exits), entry.depth, order[entry.precision]))),
            refused=tuple(self._refused),
            opset=self._opset,
            raw_input=self._raw,
        )

    def _graphs(self, outputs: tuple[str, ...]) -> _Graphs:
        example = example_of(self._data)
        of = self._options.name
        weights = DetachedWeights()
        try:
            joined = cleaned(
                multi_exit_graph(self._model, self._tasks, outputs, example, of, self._options.opset, weights=weights)
            )
            self._opset = opset_of(joined)
            by_depth = {depth: cut_exit(joined, depth, outputs) for depth in self._tasks}
            return _Graphs(outputs, by_depth, joined, weights)
        except ExportError:
            if len(self._tasks) == 1:
                raise
        # One exit may be what no exporter takes.
        single: dict[int, onnx.ModelProto] = {}
        for depth, task in self._tasks.items():
            of = f"depth {depth} of {self._options.name}"
            try:
                graph = multi_exit_graph(
                    exit_of(self._model, depth),
                    {depth: task},
                    outputs,
                    example,
                    of,
                    self._options.opset,
                    weights=weights,
                )
                single[depth] = cut_exit(cleaned(graph), depth, outputs)
                self._opset = opset_of(single[depth])
            except ExportError as error:
                self._refuse(depth, "fp32", str(error))
        if not single:
            raise ExportError("; ".join(refused.reason for refused in self._refused))
        return _Graphs(outputs, single, None, weights)

    def _converted(
        self, graphs: _Graphs, precision: Precision, checked: Mapping[int, FileAnswers], temporary: Path | None
    ) -> _Graphs | None:
        """Returns graphs in another precision of the depths whose float32 graph has passed; None if there are none."""
        samples = self._calibration_samples()
        options = self._options
        try:
            if graphs.joined is not None:
                made = converted(
                    graphs.joined,
                    precision,
                    samples,
                    options.name,
                    tokens=options.tokens,
                    told=options.told,
                    weights=graphs.weights,
                    directory=temporary,
                )
                weights = DetachedWeights.of(made)
                by_depth = {depth: cut_exit(made, depth, graphs.outputs) for depth in checked}
                return _Graphs(graphs.outputs, {d: without_dead_tensors(g) for d, g in by_depth.items()}, made, weights)
        except ExportError as error:
            for depth in checked:
                self._refuse(depth, precision, str(error))
            return None
        by_depth = {}
        for depth in checked:
            of = f"depth {depth} of {options.name}"
            try:
                by_depth[depth] = converted(
                    graphs.by_depth[depth],
                    precision,
                    samples,
                    of,
                    tokens=options.tokens,
                    told=options.told,
                    weights=graphs.weights,
                    directory=temporary,
                )
            except ExportError as error:
                self._refuse(depth, precision, str(error))
        return _Graphs(graphs.outputs, by_depth, None, DetachedWeights())

    def _calibration_samples(self) -> Samples:
        """Returns normalised samples, spread over the data, from which the ranges of activations are taken."""
        count = len(self._calibration)
        spread = torch.linspace(0, count - 1, min(CALIBRATION_SAMPLES, count)).long()
        samples: Samples = self._calibration.batch(spread)[0].numpy()
        return samples

    def _write_depths(
        self,
        graphs: _Graphs,
        precision: Precision,
        expected: ModelAnswers,
        directory: Path,
        floats: Mapping[int, FileAnswers] | None = None,
    ) -> dict[int, FileAnswers]:
        """Writes one file per depth; returns what those answer that have passed."""
        passed: dict[int, FileAnswers] = {}
        for depth, graph in graphs.by_depth.items():
            path = file_of(directory / file_name(self._options.name, depth), precision)
            try:
                with graphs.weights.replacing(path, graph) as partial:
                    self._write_file(graph, depth, precision, graphs, partial)
                    if precision == "fp16":
                        check_loads(partial, path)
                    answers = FileAnswers(partial, path, self._data, self._tasks[depth], graphs.outputs, raw=self._raw)
                    difference = expected.compare(depth, answers.compared, precision)
                    if difference.problem is not None:
                        raise ExportError(f"{path.name} {difference.problem}")
                    if self._options.labelled:
                        answers.measure(partial)
                    value = answers.value
                    entry = _entry_of(partial, path.name, depth, precision, value, difference)
            except ExportError as error:
                if precision == "fp32":
                    error = with_decision(error, exit_of(self._model, depth), example_of(self._data))
                self._refuse(depth, precision, str(error))
                continue
            reference = floats.get(depth) if floats is not None else None
            passed[depth] = answers
            warning = "" if reference is None else self._drop(depth, precision, value, reference)
            self._entries.append(msgspec.structs.replace(entry, warning=warning))
        return passed

    def _write_file(
        self,
        graph: onnx.ModelProto,
        depth: int,
        precision: Precision,
        graphs: _Graphs,
        path: Path,
    ) -> None:
        options, task = self._options, self._tasks[depth]
        metadata = OnnxMetadata(
            model=options.name,
            depth=depth,
            input_shape=self._data.input_shape,
            classes=options.classes,
            scale=self._data.scale,
            mean=self._data.mean,
            std=self._data.std,
            task=task.name,
            outputs=graphs.outputs,
            units=options.units,
            threshold=task.threshold if isinstance(task, Anomaly) else None,
            input_type="uint8" if self._raw else "float32",
            features=options.features or self._data.features,
            confidence=self._confidence_of(depth),
        )
        model = with_raw_input(graph, metadata) if self._raw else graph
        if precision == "int8":  # its graph is large beside its weights
            model = shortened(model)
        own = {entry.key: entry.value for entry in graph.metadata_props}
        extra = dict(options.metadata) | {PRECISION_PROPERTY.removeprefix("fedlp."): precision}
        extra |= answer_properties(exit_of(self._model, depth))
        graphs.weights.save(with_properties(model, own | to_properties(metadata, extra)), path)

    def _confidence_of(self, depth: int) -> ScoreHistogram | None:
        if depth not in self._confidences:
            self._confidences[depth] = (
                confidence_of(exit_of(self._model, depth), self._data, self._tasks[depth])
                if self._options.labelled
                else None
            )
        return self._confidences[depth]

    def _write_early_exit(
        self, graphs: _Graphs, precision: Precision, answers: Mapping[int, FileAnswers], expected: ModelAnswers
    ) -> None:
        answers = {depth: found for depth, found in answers.items() if depth in (self._options.answering or answers)}
        depths = tuple(answers)
        threshold = self._options.early_exit or 0.0
        deepest = max(self._tasks)
        path = file_of(self._directory / early_exit_file_name(self._options.name), precision)
        try:
            if graphs.joined is None:
                raise ExportError("the exits cannot be exported as one graph, so there is no file with early exits")
            joined = with_early_exits(graphs.joined, depths, threshold)
            with graphs.weights.replacing(path, joined) as partial:
                self._write_file(joined, depths[-1], precision, graphs, partial)
                if precision == "fp16":
                    check_loads(partial, path)
                found = check_early_exit(partial, path, self._data, answers, threshold, raw=self._raw)
                difference = expected.compare_mixed(found.depths, found.compared, precision)
                if difference.problem is not None:
                    raise ExportError(f"{path.name} {difference.problem}")
                value = found.value if self._options.labelled else None
                entry = _entry_of(partial, path.name, depths[-1], precision, value, difference)
        except ExportError as error:
            self._refuse(depths[-1] if depths else deepest, precision, str(error), early_exit=True)
            return
        warning = self._early_exit_drop(depths[-1], value, answers)
        self._entries.append(msgspec.structs.replace(entry, exits=depths, threshold=threshold, warning=warning))

    def _early_exit_drop(self, deepest: int, value: float | None, answers: Mapping[int, FileAnswers]) -> str:
        full = answers[deepest].value
        if value is None or full is None or full - value <= MAX_ACCURACY_DROP:
            return ""
        return (
            f"early exits cost {100 * (full - value):.1f} points of accuracy against depth {deepest}: "
            "raise --early-exit"
        )

    def _drop(self, depth: int, precision: Precision, value: float | None, floats: FileAnswers) -> str:
        """Returns advice if a file is worth clearly less than that in float32."""
        metric, before = default_metric(self._tasks[depth].name), floats.value
        if value is None or before is None:
            return ""
        if BETTER.get(metric) == "lower":
            lost = (value - before) / abs(before) if before else 0.0
            if lost <= MAX_ERROR_RISE:
                return ""
            said = f"{precision} raises the {metric} of depth {depth} by {100 * lost:.0f} %"
        else:
            if before - value <= MAX_ACCURACY_DROP:
                return ""
            said = f"{precision} costs depth {depth} {100 * (before - value):.1f} points of {metric}"
        deeper = min((other for other in self._tasks if other > depth), default=None)
        others = ["--precision fp16"] if precision == "int8" else ["--precision fp32"]
        others += [f"depth {deeper}"] if deeper is not None else []
        return f"{said}: try {' or '.join(others)}"

    def _refuse(self, depth: int, precision: Precision, reason: str, *, early_exit: bool = False) -> None:
        self._refused.append(RefusedFile(depth=depth, precision=precision, early_exit=early_exit, reason=reason))


def _entry_of(
    written: Path, name: str, depth: int, precision: Precision, value: float | None, difference: FileDifference
) -> CardEntry:
    """Returns what the card says of a file, which has a temporary name yet, that was compared with PyTorch."""
    content, weights = written.read_bytes(), weights_file_of(written)
    return CardEntry(
        file=name,
        weights_file="" if weights is None else weights.name,
        depth=depth,
        precision=precision,
        sha256=hashlib.sha256(content).hexdigest(),
        blake3=blake3(content).hexdigest(),
        bytes=len(content) + (0 if weights is None else weights.size),
        value=value,
        max_abs_diff=difference.max_abs_diff,
        agreement=difference.agreement,
    )
