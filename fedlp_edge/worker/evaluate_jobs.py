"""The jobs after a round: evaluate the model, and export it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import msgspec
import torch
from torch import Tensor, nn

from fedlp_edge.core.blueprint import Blueprint, answer_mode
from fedlp_edge.core.device_data import InputFacts
from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.core.metrics.model_scores import ExitScores, ModelScores, model_scores
from fedlp_edge.core.metrics.tensor_ranges import TensorRanges
from fedlp_edge.core.targets import default_metric
from fedlp_edge.errors import ExportError, ModelError
from fedlp_edge.learning.chance_accuracy import explain_chance_accuracy
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.evaluation import JUDGED_AT_ONCE, held_out_scores, logits_of
from fedlp_edge.learning.evaluation import evaluate as evaluate_exits
from fedlp_edge.learning.export.activations.observed_tensors import OBSERVED, observed_ranges
from fedlp_edge.learning.export.device_check import answer_of_file, compare_file, write_samples
from fedlp_edge.learning.export.family.multi_exit_graph import exit_of, exits_of
from fedlp_edge.learning.export.layered_export import DepthFileOptions, export_depths, measured_threshold
from fedlp_edge.learning.export.made_inputs import made_inputs
from fedlp_edge.learning.export.metadata import names_of_outputs
from fedlp_edge.learning.model.fresh_statistics import measure_statistics
from fedlp_edge.learning.model.layered import LayeredModel, Submodel, answers_of
from fedlp_edge.learning.model.state_values import load_values
from fedlp_edge.learning.state_files import StateFiles
from fedlp_edge.learning.tasks.anomaly import Anomaly
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification, class_logits
from fedlp_edge.learning.zoo.prepared import state_names
from fedlp_edge.worker.jobs import (
    CheckExport,
    Evaluate,
    Evaluated,
    Export,
    ExportChecked,
    Exported,
    ExportedModel,
    RefusedModel,
    reason_line,
)
from fedlp_edge.worker.resources import WorkerResources


def evaluate(job: Evaluate, resources: WorkerResources) -> Evaluated:
    """Judges the models of some depths of a state on held-out samples."""
    model, blueprint = resources.models.full_model(job.model.without_names)
    device = resources.device
    data = resources.load_for(job.model, blueprint, job.data, "test").to(device)
    exits = blueprint.exits_for(job.depths)
    wanted = dict.fromkeys(name for depth in exits for name in _path_names(blueprint, depth))
    load_values(model, StateFiles(Path(job.state_path)), wanted)
    model.to(device)
    full = blueprint.full_depth
    measure_statistics(model, data, model if exits == (full,) else model.exits, lambda x: x)
    task = resources.task_of(job.model, blueprint)
    found = evaluate_exits(
        model, lambda x: logits_of(model, x, exits, full), job.depths, data, job.batch_size, task, exits
    )
    scores = model_scores(
        job.answer,
        default_metric(task.name),
        ExitScores(found.metrics, found.loss, found.sums.exits),
        ExitScores(found.ensemble_metrics, found.ensemble_loss, found.sums.ensembles),
    )
    return Evaluated(
        scores=scores,
        exit_loss=found.known_loss or found.loss,
        samples=len(data),
        warning="" if job.training_loss is None else _chance_warning(job.training_loss, model, data, scores, task),
    )


def export(job: Export, resources: WorkerResources) -> Exported:
    """Writes and checks an ONNX file for each depth; the statistics of batch norms are those of all these depths."""
    model, blueprint = resources.models.full_model(job.model.without_names)
    data, held_out = export_samples(job, model, blueprint, resources)
    model.to("cpu")
    task = resources.task_of(job.model, blueprint)
    submodel = loaded_exits(job, model, blueprint)
    if job.data:  # made inputs would give statistics of nothing
        measure_statistics(submodel, data, submodel.exits, lambda x: x)
    samples = held_out or data
    tasks, without = tasks_by_depth(job, submodel, samples, task)
    options = DepthFileOptions(
        name=job.model.name,
        classes=output_names_of(job, data, task, blueprint),
        units=job.model.target_units,
        features=job.model.input_names,
        metadata=job.metadata,
        labelled=bool(job.data),
    )
    results = without | export_depths(submodel, tasks, samples, job.directory, options, one_file=True)
    written: list[ExportedModel] = []
    refused: list[RefusedModel] = []
    checks: dict[int, ExportChecked] = {}
    for depth in job.depths:
        result = results[depth]
        if isinstance(result, ExportError):
            refused.append(RefusedModel(depth, reason_line(str(result))))
            continue
        written.append(
            ExportedModel(
                file=result.path.name,
                depth=depth,
                max_abs_diff=result.max_abs_diff,
                accuracy=result.accuracy,
                takes=_takes(blueprint.input_shape, job.model.input_names or data.features),
            )
        )
        if job.judge and held_out is not None:
            checks[depth] = _checked(exit_of(submodel, depth), result.path, held_out, tasks[depth])
    return Exported(models=tuple(written), refused=tuple(refused), checks=checks)


def loaded_exits(job: Export, model: LayeredModel, blueprint: Blueprint) -> Submodel:
    """Returns the exits of the wanted depths with the values of the job, as parts of the whole model.

    Raises:
        ModelError: There is no such depth, or its head is on devices alone.
    """
    for depth in job.depths:
        load_exit_path(job, model, blueprint, depth)
    return exits_of(model, job.depths, _answer_of(job, blueprint))


def _answer_of(job: Export, blueprint: Blueprint) -> AnswerMode:
    return answer_mode(blueprint.exits, blueprint.head_mode, job.answer)


def tasks_by_depth(
    job: Export, submodel: Submodel, samples: Dataset, task: LearningTask
) -> tuple[dict[int, LearningTask], dict[int, ExportError]]:
    """Returns what the outputs of each exit mean, and why the other depths have no task that can be exported."""
    tasks: dict[int, LearningTask] = {}
    without: dict[int, ExportError] = {}
    for depth in job.depths:
        try:
            tasks[depth] = with_threshold(job, exit_of(submodel, depth), samples) if isinstance(task, Anomaly) else task
        except ExportError as error:
            without[depth] = error
    return tasks, without


def _takes(input_shape: tuple[int, ...], features: tuple[str, ...]) -> str:
    """What a model takes, as a command line names it."""
    if features:
        return "TABLE.csv"
    return "IMAGE" if len(input_shape) == 3 and input_shape[0] in (1, 3) else "SAMPLE.npy"


def output_names_of(job: Export, data: Dataset, task: LearningTask, blueprint: Blueprint) -> tuple[str, ...]:
    """Returns the names of classes, labels or targets by number; none of an anomaly detector."""
    if isinstance(task, Anomaly):
        return ()
    outputs = task.classes if isinstance(task, Classification) else blueprint.classes
    return names_of_outputs(job.model.class_names or data.classes, outputs)


def with_threshold(job: Export, submodel: Submodel, data: Dataset) -> Anomaly:
    """The task with the threshold that a share of the normal samples stays below.

    Raises:
        ExportError: There are no normal samples, and no device has measured it.
    """
    threshold = job.thresholds.get(submodel.depth)
    if job.data:
        threshold = measured_threshold(submodel, data, job.model.anomaly_quantile)
    if threshold is None:
        raise ExportError("the threshold of an anomaly detector needs normal samples to be measured on: set [data] "
                          "evaluate, or have devices of this depth hold some out ([evaluation] holdout) and report "
                          "on them")  # fmt: skip
    return Anomaly(threshold)


def check_export(job: CheckExport, resources: WorkerResources) -> ExportChecked:
    """Compares an ONNX file with the device's own copy of the model, on the device's held-out samples."""
    prepared = resources.models.submodel(job.model.without_names, job.depth)
    blueprint, submodel = prepared.blueprint, cast("Submodel", prepared.model)
    data, held_out = resources.load_parts(job.model, blueprint, job.data, job.holdout)
    units = [unit for unit in blueprint.answer_path(job.depth) if blueprint.is_global(unit)]
    load_values(submodel, StateFiles(*map(Path, job.state_paths)), state_names(units))
    task = resources.task_of(job.model, blueprint)
    if job.samples_directory and held_out is not None:
        write_samples(held_out, Path(job.samples_directory))
    try:
        # Whoever exports may have asked for single exits, which the file alone says.
        answer = answer_of_file(Path(job.file)) if blueprint.answer == "mean" else "exit"
        answering = exits_of(submodel.to("cpu"), (job.depth,), answer)
        found = _checked(answering, Path(job.file), held_out or data, task, scored=held_out is not None)
    finally:
        submodel.to(resources.device)
    if not job.ranges or held_out is None or job.model.tokens or found.problem:
        return found
    return msgspec.structs.replace(found, ranges=_ranges(Path(job.file), held_out))


def _ranges(file: Path, held_out: Dataset) -> TensorRanges:
    """Returns the ranges of a file's activations on some held-out samples; none if they cannot be taken."""
    chosen = torch.linspace(0, len(held_out) - 1, min(OBSERVED, len(held_out))).long()
    try:
        return observed_ranges(file.read_bytes(), held_out.batch(chosen)[0].cpu().numpy())
    except (ExportError, OSError, ValueError):
        return ()


def export_samples(
    job: Export, model: LayeredModel, blueprint: Blueprint, resources: WorkerResources
) -> tuple[Dataset, Dataset | None]:
    """The samples that statistics are measured on, and the held-out ones; made inputs where there are no samples."""
    if not job.data:
        inputs = job.inputs
        if job.model.input_mean:  # the fleet has agreed on the normalisation of its tables
            inputs = InputFacts(mean=job.model.input_mean, std=job.model.input_std)
        return made_inputs(inputs, model, blueprint.input_shape, tokens=job.model.tokens), None
    if job.split == "train":
        return resources.load_parts(job.model, blueprint, job.data, job.holdout)
    return resources.load_for(job.model, blueprint, job.data, job.split), None


def _checked(
    submodel: Submodel, file: Path, data: Dataset, task: LearningTask, *, scored: bool = True
) -> ExportChecked:
    """What a device finds about a file; a model that it cannot run, it can still judge."""
    depth, cpu = submodel.depth, torch.device("cpu")
    scores: dict[int, HeldOutScores] = {}
    if scored:
        exits = submodel.exit_depths
        found = held_out_scores(submodel, exits, data, task, cpu, JUDGED_AT_ONCE, submodel.answer)
        scores = {depth: found[depth]} if depth in found else {}
    try:
        comparison = compare_file(file, submodel, data, task)
    except ExportError as error:
        return ExportChecked(problem=reason_line(str(error)), scores=scores)
    problem = "" if comparison.problem is None else reason_line(f"{file.name} {comparison.problem}")
    return ExportChecked(
        samples=comparison.samples,
        max_abs_diff=comparison.max_abs_diff if math.isfinite(comparison.max_abs_diff) else 0.0,
        agreement=comparison.agreement,
        problem=problem,
        differs=bool(problem),
        scores=scores,
    )


def _chance_warning(
    training_loss: float, model: LayeredModel, data: Dataset, scores: ModelScores, task: LearningTask
) -> str:
    if not isinstance(task, Classification):
        return ""
    best, accuracy = max(scores.accuracy.items(), key=lambda item: (item[1], item[0]))
    names = names_of_outputs(data.classes, task.classes)

    def logits(x: Tensor) -> Tensor:
        if scores.answer == "exit":
            return class_logits(model(x, depth=best))
        return class_logits(answers_of(model.exits(x)[:best], "mean")[-1])

    return explain_chance_accuracy(model, logits, data, accuracy, training_loss, names)


def _path_names(blueprint: Blueprint, depth: int) -> list[str]:
    _check_depth(blueprint, depth)
    return state_names(blueprint.exit_path(depth))


def _check_depth(blueprint: Blueprint, depth: int) -> None:
    if depth not in blueprint.depths:
        raise ModelError(f"{blueprint.model} has depths 1 to {blueprint.full_depth}, not {depth}")


def load_exit_path(job: Export, submodel: nn.Module, blueprint: Blueprint, depth: int) -> None:
    """Loads what a model of a depth answers with, its layers and its head or all its heads, into one that holds them.

    Raises:
        ModelError: There is no such depth, or its head is on devices alone.
    """
    _check_depth(blueprint, depth)
    path = blueprint.answer_path(depth) if _answer_of(job, blueprint) == "mean" else blueprint.exit_path(depth)
    exchanged = state_names(unit for unit in path if blueprint.is_global(unit))
    personal = state_names(unit for unit in path if not blueprint.is_global(unit))
    load_values(submodel, StateFiles(*map(Path, job.state_paths)), exchanged)
    if personal and job.personal_path is None:
        raise ModelError(f"the head of depth {depth} is personal: only the devices of that depth can export it")
    if personal and job.personal_path is not None:
        load_values(submodel, StateFiles(Path(job.personal_path)), personal)
