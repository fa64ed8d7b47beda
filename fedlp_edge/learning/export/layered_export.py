"""This module exports a layered model in memory to one ONNX file per depth."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.export.metadata import OUTPUT, OnnxMetadata, ScoreHistogram, names_of_outputs
from fedlp_edge.learning.export.onnx import Verified, output_names
from fedlp_edge.learning.export.onnx import export as export_onnx
from fedlp_edge.learning.export.score_histogram import score_histogram, scores_of
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.tasks.anomaly import Anomaly
from fedlp_edge.learning.tasks.base import LearningTask

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

    Returns:
        Path, accuracy and largest difference from PyTorch of each exported file, by ascending depth.

    Raises:
        DataError: The data cannot be read, or do not fit the model.
        ExportError: A depth does not exist, cannot be exported, or gives other results in onnxruntime.
    """
    samples = load_data(data, "test", model.input_shape) if isinstance(data, str) else data
    samples.check_fits(model.input_shape, model.classes)
    wanted = tuple(model.depths) if depths is None else tuple(sorted(set(depths)))
    if unknown := [depth for depth in wanted if depth not in model.depths]:
        raise ExportError(f"the model has depths 1 to {model.depths[-1]}, not {unknown[0]}")
    classes = names_of_outputs(class_names or samples.classes, model.classes)
    return tuple(
        export_depth(model.submodel(depth, exits="own"), directory, samples, name, classes, metadata or {})
        for depth in wanted
    )


def export_depth(
    submodel: Submodel,
    directory: Path | str,
    samples: Dataset,
    name: str,
    classes: tuple[str, ...],
    metadata: Mapping[str, str],
    *,
    labelled: bool = True,
    task: LearningTask | None = None,
    units: tuple[str, ...] = (),
    features: tuple[str, ...] = (),
) -> Verified:
    """Writes one depth of a model as an ONNX file, checked in onnxruntime before it gets its name.

    Args:
        submodel: Layers up to the depth with its head; it is left in evaluation mode.
        directory: Directory that the file goes to; it is made if it is missing.
        samples: Held-out samples that the file is checked on; their normalisation goes into it.
        name: Specification of the model.
        classes: Name of each output.
        metadata: Further string properties of the file.
        labelled: Whether the samples have labels; made inputs have none.
        task: What the outputs mean; None for classification.
        units: Unit of each target of a regression.
        features: Names of the columns of a table in the order in which the model gets them; by default those of the
            samples.

    Raises:
        ExportError: The depth cannot be exported, or computes something else in onnxruntime.
    """
    onnx_metadata = OnnxMetadata(
        model=name,
        depth=submodel.depth,
        input_shape=samples.input_shape,
        classes=classes,
        scale=samples.scale,
        mean=samples.mean,
        std=samples.std,
        task="classification" if task is None else task.name,
        outputs=output_names(submodel, samples, task),
        units=units,
        threshold=task.threshold if isinstance(task, Anomaly) else None,
        features=features or samples.features,
        confidence=confidence_of(submodel, samples, task) if labelled else None,
    )
    path = Path(directory) / file_name(name, submodel.depth)
    return export_onnx(submodel, onnx_metadata, samples, path, metadata, labelled=labelled, task=task)


@torch.no_grad()
def confidence_of(submodel: Submodel, samples: Dataset, task: LearningTask | None) -> ScoreHistogram | None:
    """Returns how the scores are distributed on samples from the whole split."""
    submodel.eval()
    scores = []
    chosen = torch.linspace(0, len(samples) - 1, min(_SCORED, len(samples))).long()
    for indices in torch.split(chosen, _SCORED_AT_ONCE):
        x, _ = samples.batch(indices)
        outputs = submodel(x)
        answers = {OUTPUT: outputs} if task is None else task.predict(outputs, x)
        name = "classification" if task is None else task.name
        scores.append(scores_of(name, {key: value.double().numpy() for key, value in answers.items()}))
    return score_histogram("classification" if task is None else task.name, np.concatenate(scores))
