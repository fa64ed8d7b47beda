"""This module exports a layered model in memory to one ONNX file per depth."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fedlp_edge.core.metrics.task_metrics import score_quantile
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.targets import BUILT_IN_TASKS
from fedlp_edge.errors import ExportError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.evaluation import evaluate
from fedlp_edge.learning.export.external.detached_weights import DetachedWeights, check_one_file
from fedlp_edge.learning.export.family.multi_exit_graph import cut_exit, exit_of, exits_of, multi_exit_graph
from fedlp_edge.learning.export.metadata import ANSWER, MEAN, PREFIX, OnnxMetadata, ScoreHistogram, names_of_outputs
from fedlp_edge.learning.export.onnx import Verified, example_of, output_names, write_checked
from fedlp_edge.learning.export.onnx import export as export_onnx
from fedlp_edge.learning.export.score_histogram import score_histogram, scores_of
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.tasks.anomaly import Anomaly
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.choose_task import make_task
from fedlp_edge.learning.tasks.classification import Classification

if TYPE_CHECKING:
    import onnx

_SCORED = 512  # samples from which the distribution of scores is computed
_SCORED_AT_ONCE = 32


def file_name(model: str, depth: int) -> str:
    """Returns the name of the ONNX file of a depth.

    Args:
        model: Specification of the model, such as ``torchvision:mobilenet_v2``.
        depth: Depth, from 1.
    """
    return f"{_slug(model)}-depth-{depth}.onnx"


def early_exit_file_name(model: str) -> str:
    """Returns the name of the ONNX file with early exits of a model."""
    return f"{_slug(model)}-early-exit.onnx"


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model)


def export(
    model: LayeredModel,
    directory: Path | str,
    data: Dataset | str,
    *,
    depths: Collection[int] | None = None,
    name: str = "model",
    class_names: tuple[str, ...] = (),
    metadata: Mapping[str, str] | None = None,
    task: str | LearningTask = "classification",
    units: tuple[str, ...] = (),
) -> tuple[Verified, ...]:
    """Exports depths of a model to ONNX files, and checks each in onnxruntime against PyTorch before it gets its name.

    Args:
        model: Layered model as ``partition`` returns it, trained or not; it is not changed.
        directory: Directory of the files ``NAME-depth-DEPTH.onnx``; created if missing.
        data: Held-out samples on which the files are checked, or their data specification, such as
            ``"imagefolder:test"``; their class names and their normalisation go into the files.
        depths: Depths to export; all depths by default.
        name: Name of the model in the files and in their names.
        class_names: Class names by class number; by default those of the data.
        metadata: Further string properties of every file.
        task: What the outputs mean: ``classification`` (of two classes with one output, too), ``multi-label``,
            ``regression`` of targets that are standardised already, ``anomaly`` with thresholds that
            99 % of the normal samples stay below, or a task of your own as ``module:callable``. Instead of a name, the
            task itself, such as ``Regression(mean, std)`` or ``Anomaly(threshold)``.
        units: Unit of each target of a regression.

    Returns:
        Path, accuracy and largest difference from PyTorch of each exported file, by ascending depth.

    Raises:
        DataError: The data cannot be read, or do not fit the model.
        ModelError: The task is code of your own that does not work.
        ExportError: There is no such task, or a depth does not exist, cannot be exported, or gives other results in
            onnxruntime.
    """
    learned = _task_of(task, name, model.classes) if isinstance(task, str) else task
    samples = load_data(data, "test", model.input_shape, learned.targets) if isinstance(data, str) else data
    samples.check_fits(model.input_shape, model.classes, own_task=learned.name not in BUILT_IN_TASKS)
    wanted = tuple(model.depths) if depths is None else tuple(sorted(set(depths)))
    if not wanted:
        return ()
    if unknown := [depth for depth in wanted if depth not in model.depths]:
        raise ExportError(f"the model has depths 1 to {model.depths[-1]}, not {unknown[0]}")
    copied = exits_of(model.submodel(max(wanted), exits="all"), wanted, model.answer).to("cpu")
    tasks = dict.fromkeys(wanted, learned)
    if task == "anomaly":
        tasks = {depth: _with_threshold(exit_of(copied, depth), samples) for depth in wanted}
    outputs = learned.classes if isinstance(learned, Classification) else model.classes
    names = () if isinstance(learned, Anomaly) else names_of_outputs(class_names or samples.classes, outputs)
    options = DepthFileOptions(name=name, classes=names, units=units, metadata=metadata or {})
    found = export_depths(copied, tasks, samples, directory, options)
    if refused := [result for result in found.values() if isinstance(result, ExportError)]:
        raise ExportError("; ".join(map(str, refused)))
    return tuple(result for result in found.values() if isinstance(result, Verified))


def _task_of(task: str, name: str, outputs: int) -> LearningTask:
    try:
        settings = ModelSettings(name=name, task=task)
    except ValueError as error:
        raise ExportError(str(error)) from None
    return make_task(settings, outputs, allow_models=None)


def _with_threshold(submodel: Submodel, samples: Dataset) -> Anomaly:
    threshold = measured_threshold(submodel, samples, ModelSettings(name="").anomaly_quantile)
    if threshold is None:
        raise ExportError("the threshold of an anomaly detector needs normal samples (label 0) among the data, "
                          "or a task with a threshold")  # fmt: skip
    return Anomaly(threshold)


def measured_threshold(submodel: Submodel, data: Dataset, quantile: float) -> float | None:
    """Returns the score that a share of the normal samples stays below; None if there are no normal samples.

    Args:
        submodel: Anomaly detector on the CPU.
        data: Samples on the CPU, the normal ones with the label 0.
        quantile: Share of the normal samples, 0 to 1.
    """
    sums = evaluate(submodel, lambda x: [submodel(x)], (submodel.depth,), data, task=Anomaly()).sums
    return score_quantile(sums.exits[submodel.depth], quantile)


@dataclass(frozen=True, kw_only=True)
class DepthFileOptions:
    """What stands in the files of a model, whatever their depth.

    Attributes:
        name: Specification of the model.
        classes: Name of each output.
        units: Unit of each target of a regression.
        features: Names of the columns of a table in the order in which the model gets them; by default those of the
            data.
        metadata: Further text properties of every file.
        labelled: Whether the samples have labels; made inputs have none.
    """

    name: str = "model"
    classes: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    labelled: bool = True


def export_depths(
    model: Submodel,
    tasks: Mapping[int, LearningTask],
    samples: Dataset,
    directory: Path | str,
    options: DepthFileOptions,
    *,
    one_file: bool = False,
) -> dict[int, Verified | ExportError]:
    """Writes depths of a model as ONNX files, each checked in onnxruntime before it gets its name.

    All depths are exported as one graph, from which each is cut, since most of the time goes into layers that they have
    in common. A depth for which that does not work is exported by itself.

    Args:
        model: Submodel on the CPU, with the heads of these depths; it is left in evaluation mode.
        tasks: What the outputs of each exit mean, by depth.
        samples: Held-out samples on the CPU on which files are checked; their normalisation goes into the files.
        directory: Directory that the files go to; it is made if it is missing.
        options: What stands in the files.
        one_file: Whether a depth whose weights do not fit in one file is refused; they get a file beside it otherwise.

    Returns:
        The file of each depth, or why there is none: it cannot be exported, or computes something else in onnxruntime.
    """
    model.eval()
    found: dict[int, Verified | ExportError] = {}
    if one_file:
        for depth in tasks:
            try:
                check_one_file(exit_of(model, depth), f"depth {depth} of {options.name}")
            except ExportError as error:
                found[depth] = error
        tasks = {depth: task for depth, task in tasks.items() if depth not in found}
    weights = DetachedWeights()
    joined = _joined_graph(model, tasks, samples, options.name, weights)
    for depth, task in tasks.items():
        exit_model = exit_of(model, depth)
        try:
            if joined is not None:
                with contextlib.suppress(ExportError):  # exported by itself, it may pass
                    found[depth] = _export_depth(exit_model, task, samples, directory, options, joined, weights)
                    continue
            found[depth] = _export_depth(exit_model, task, samples, directory, options)
        except ExportError as error:
            found[depth] = error
    return found


def _joined_graph(
    model: Submodel, tasks: Mapping[int, LearningTask], samples: Dataset, name: str, weights: DetachedWeights
) -> onnx.ModelProto | None:
    """Returns the graph with all exits; None if there is only one, or if it cannot be made."""
    if len(tasks) < 2:
        return None
    deepest = max(tasks)
    try:
        outputs = output_names(exit_of(model, deepest), samples, tasks[deepest])
        chosen = exits_of(model, tasks, model.answer)
        return multi_exit_graph(chosen, tasks, outputs, example_of(samples), name, weights=weights)
    except ExportError:
        return None


def _export_depth(
    submodel: Submodel,
    task: LearningTask,
    samples: Dataset,
    directory: Path | str,
    options: DepthFileOptions,
    joined: onnx.ModelProto | None = None,
    weights: DetachedWeights | None = None,
) -> Verified:
    """Writes the file of one depth, cut from a graph with all exits or, without one, exported by itself.

    Raises:
        ExportError: The depth cannot be exported, or computes something else in onnxruntime.
    """
    onnx_metadata = OnnxMetadata(
        model=options.name,
        depth=submodel.depth,
        input_shape=samples.input_shape,
        classes=options.classes,
        scale=samples.scale,
        mean=samples.mean,
        std=samples.std,
        task=task.name,
        outputs=output_names(submodel, samples, task),
        units=options.units,
        threshold=task.threshold if isinstance(task, Anomaly) else None,
        features=options.features or samples.features,
        confidence=confidence_of(submodel, samples, task) if options.labelled else None,
    )
    path = Path(directory) / file_name(options.name, submodel.depth)
    extra, labelled = {**options.metadata, **answer_properties(submodel)}, options.labelled
    if joined is None or weights is None:
        return export_onnx(submodel, onnx_metadata, samples, path, extra, labelled=labelled, task=task)
    graph = cut_exit(joined, submodel.depth, onnx_metadata.outputs)
    return write_checked(graph, weights, submodel, onnx_metadata, samples, path, extra, labelled=labelled, task=task)


def answer_properties(submodel: Submodel) -> dict[str, str]:
    """Returns what a file says of how it answers, if that is not by one exit."""
    mean = submodel.answer == "mean" and submodel.depth > 1
    return {ANSWER.removeprefix(PREFIX): f"{MEAN} of exits 1 to {submodel.depth}"} if mean else {}


@torch.no_grad()
def confidence_of(submodel: Submodel, samples: Dataset, task: LearningTask) -> ScoreHistogram | None:
    """Returns how the scores are distributed on samples from the whole split."""
    submodel.eval()
    scores = []
    chosen = torch.linspace(0, len(samples) - 1, min(_SCORED, len(samples))).long()
    for indices in torch.split(chosen, _SCORED_AT_ONCE):
        x, _ = samples.batch(indices)
        outputs = submodel(x)
        answers = task.predict(outputs, x)
        scores.append(scores_of(task.name, {key: value.double().numpy() for key, value in answers.items()}))
    return score_histogram(task.name, np.concatenate(scores))
