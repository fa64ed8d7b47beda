"""This module runs exported files on held-out samples, to compare them with the PyTorch model and to measure them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlp_edge.core.targets import default_metric
from fedlp_edge.errors import ExportError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.evaluation import ExitSummation
from fedlp_edge.learning.export.family.file_check import FileDifference, compare_outputs
from fedlp_edge.learning.export.family.multi_exit_graph import exit_of
from fedlp_edge.learning.export.metadata import EXIT, INPUT, OUTPUT
from fedlp_edge.learning.export.onnx import AnsweringModel, open_session
from fedlp_edge.learning.export.parity import Logits, own_error
from fedlp_edge.learning.export.precision import Precision
from fedlp_edge.learning.export.runtime_errors import runtime_reason
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.tasks.anomaly import Anomaly
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.learning.tasks.multi_label import MultiLabel
from fedlp_edge.learning.tasks.regression import Regression

COMPARED = 256
"""Most samples on which a file is compared with PyTorch, spread over the held-out ones."""

SINGLES = 8
"""Compared samples that are also run in batches of one, which finds graphs with a fixed batch size."""

_BATCH = 256
_BATCH_VALUES = 1 << 22  # float32 values in a batch, so that large pictures fit into memory

_SURE = 0.02
"""Distance of a confidence from the threshold within which rounding may decide whether a file stops."""

_OTHER_EXITS = 0.01
"""Largest accepted share of samples that leave at another exit than the files of the depths say."""

_SAME_LOGITS = 0.05
"""Largest accepted difference of a file with early exits from the file of the depth, as a share of the logits' size."""

Outputs = dict[str, npt.NDArray[Any]]
"""Outputs of a model by name, [N, ...]."""


def compared_indices(data: Dataset) -> list[Tensor]:
    """Returns the numbers of the samples that are compared, in batches."""
    size = batch_size(data)
    compared = torch.linspace(0, len(data) - 1, min(COMPARED, len(data))).long()
    return [*torch.split(compared, size), *compared[:SINGLES, None]]


def batch_size(data: Dataset) -> int:
    """Returns the number of samples of a batch."""
    return min(_BATCH, max(2, _BATCH_VALUES // max(1, math.prod(data.input_shape))))


def as_the_graph_takes(data: Dataset, indices: Tensor | slice, *, raw: bool) -> npt.NDArray[Any]:
    """Returns samples as a graph takes them: stored bytes, or normalised numbers."""
    values = data.stored(indices) if raw else data.batch(indices)[0]
    array: npt.NDArray[Any] = values.numpy(force=True)
    return np.ascontiguousarray(array)


class ModelAnswers:
    """What the PyTorch model answers to the compared samples at every exit.

    Args:
        model: Submodel on the CPU in evaluation mode, with the heads of all depths.
        tasks: What the outputs of each exit mean, by depth.
        data: Held-out samples on the CPU.
    """

    def __init__(self, model: Submodel, tasks: Mapping[int, LearningTask], data: Dataset) -> None:
        self._model = model
        self._tasks = tasks
        self._batches = [data.batch(indices)[0] for indices in compared_indices(data)]
        found: dict[int, list[Outputs]] = {depth: [] for depth in tasks}
        with torch.no_grad():
            for x in self._batches:
                outputs = dict(zip(model.exit_depths, model.answers(x), strict=True))
                for depth, task in tasks.items():
                    answers = task.predict(outputs[depth], x)
                    found[depth].append({name: value.numpy() for name, value in answers.items()})
        self._expected = {depth: _joined(batches) for depth, batches in found.items()}

    def compare(self, depth: int, got: Outputs, precision: Precision) -> FileDifference:
        """Compares what a file answers to the compared samples with what the model does.

        Args:
            depth: Depth of the file.
            got: Outputs of the file by name.
            precision: Precision of the file.
        """
        differences = []
        for name, expected in self._expected[depth].items():
            if not np.issubdtype(expected.dtype, np.floating):
                continue  # such as whether a score is above the threshold, which is compared itself
            differences.append(self._compare_output(depth, _rows(expected), _rows(got[name]), precision))
        if not differences:
            return FileDifference(0.0, 1.0, None)
        return FileDifference(
            max(difference.max_abs_diff for difference in differences),
            min(difference.agreement for difference in differences),
            next((difference.problem for difference in differences if difference.problem is not None), None),
        )

    def compare_mixed(self, depths: npt.NDArray[np.int64], got: Logits, precision: Precision) -> FileDifference:
        """Compares logits that a file with early exits gave, each with the model's at the exit where the file stopped.

        A sample whose confidence is so near to the threshold that rounding decides may stop at either exit, and is
        compared with the model at the exit where it did (`check_early_exit` says where a file may stop).

        Args:
            depths: Depth at which the file stopped, by sample, [N].
            got: Logits of the file, float32 [N, classes].
            precision: Precision of the file.
        """
        rows = [_rows(self._expected[int(depth)][OUTPUT])[number] for number, depth in enumerate(depths)]
        same = np.stack(rows)
        found = compare_outputs(same, got, precision, classes=True)
        if found.problem is None or precision != "fp32":
            return found
        error = max(self._own_error(int(depth)) for depth in np.unique(depths))
        return compare_outputs(same, got, precision, classes=True, own_error=error)

    def _compare_output(self, depth: int, expected: Logits, got: Logits, precision: Precision) -> FileDifference:
        task = self._tasks[depth]
        classes = isinstance(task, Classification)
        found = compare_outputs(expected, got, precision, classes=classes)
        if found.problem is None or precision != "fp32" or not classes:
            return found
        return compare_outputs(expected, got, precision, classes=classes, own_error=self._own_error(depth))

    def _own_error(self, depth: int) -> float:
        model = AnsweringModel(exit_of(self._model, depth), self._tasks[depth])
        return own_error(model, self._batches, _rows(self._expected[depth][OUTPUT]))


class FileAnswers:
    """What a file answers to held-out samples in onnxruntime.

    Args:
        file: ONNX file.
        path: Path whose name stands in messages.
        data: Held-out samples on the CPU.
        task: What the outputs mean.
        outputs: Names of the outputs.
        raw: Whether the file takes samples as they are stored.

    Attributes:
        compared: Outputs for the compared samples, by name.
        confidence: Largest probability of each sample, [N], once `measure` has been called for a classification.
        answer: Most probable class of each sample, [N], likewise.

    Raises:
        ExportError: onnxruntime does not load or run the file.
    """

    def __init__(
        self, file: Path, path: Path, data: Dataset, task: LearningTask, outputs: Sequence[str], *, raw: bool
    ) -> None:
        self._path = path
        self._data = data
        self._task = task
        self._names = list(outputs)
        self._raw = raw
        self._value: float | None = None
        self.confidence: npt.NDArray[np.float64] = np.empty(0)
        self.answer: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        session = open_session(file, path)
        self.compared: Outputs = _joined([self._run(session, indices) for indices in compared_indices(data)])

    @property
    def value(self) -> float | None:
        """Metric by which models of the task are compared, once `measure` has been called; None for a user's task."""
        return self._value

    def measure(self, file: Path) -> None:
        """Runs the file on all samples.

        Args:
            file: ONNX file.

        Raises:
            ExportError: onnxruntime does not load or run the file.
        """
        session = open_session(file, self._path)
        summed = ExitSummation((1,), self._task)
        confidences, answers = [], []
        known = True
        for start in range(0, len(self._data), size := batch_size(self._data)):
            x, y = self._data.batch(slice(start, start + size))
            got = self._run(session, slice(start, start + size))
            outputs = _outputs_of(self._task, got)
            if outputs is None:
                known = False
                break
            summed.add([outputs], y, x)
            if isinstance(self._task, Classification):
                shares = probabilities(got[OUTPUT])
                confidences.append(shares.max(axis=1))
                answers.append(shares.argmax(axis=1))
        if known:
            metrics = self._task.metrics(summed.sums().exits[1])
            self._value = metrics.get(default_metric(self._task.name))
        if confidences:
            self.confidence, self.answer = np.concatenate(confidences), np.concatenate(answers)

    def _run(self, session: Any, indices: Tensor | slice) -> Outputs:
        try:
            found = session.run(self._names, {INPUT: as_the_graph_takes(self._data, indices, raw=self._raw)})
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ExportError(
                f"{self._path.name} is refused: onnxruntime does not run it: {runtime_reason(error)}"
            ) from None
        return {name: np.asarray(value) for name, value in zip(self._names, found, strict=True)}


@dataclass(frozen=True)
class EarlyExitAnswers:
    """What a file with early exits answers.

    Attributes:
        depths: Depth at which it stopped, by compared sample, [M].
        compared: Its logits for the compared samples, float32 [M, classes].
        value: Accuracy on all samples, 0 to 1; None without labels.
    """

    depths: npt.NDArray[np.int64]
    compared: Logits
    value: float | None


def check_early_exit(
    file: Path, path: Path, data: Dataset, answers: Mapping[int, FileAnswers], threshold: float, *, raw: bool
) -> EarlyExitAnswers:
    """Compares a file with early exits with the files of its depths, sample by sample.

    Args:
        file: ONNX file with early exits.
        path: Path whose name stands in messages.
        data: Held-out samples on the CPU.
        answers: What the file of each depth answers, shallowest first.
        threshold: Confidence from which on the file stops.
        raw: Whether the file takes samples as they are stored.

    Raises:
        ExportError: The file does not run, stops elsewhere, or gives other logits than the file of the depth.
    """
    session = open_session(file, path)
    depths, logits = [], []
    for index in torch.cat(compared_indices(data)):
        try:
            got, stopped = session.run([OUTPUT, EXIT], {INPUT: as_the_graph_takes(data, index[None], raw=raw)})
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ExportError(f"{path.name} is refused: onnxruntime does not run it: {runtime_reason(error)}") from None
        depths.append(int(stopped[0]))
        logits.append(np.asarray(got, dtype=np.float32)[0])
    found = EarlyExitAnswers(np.array(depths), np.stack(logits), _accuracy(answers, data, threshold))
    of_depths = {depth: _rows(of.compared[OUTPUT]) for depth, of in answers.items()}
    expected = stopping_depths(
        {depth: probabilities(rows).max(axis=1) for depth, rows in of_depths.items()}, threshold, margin=_SURE
    )
    other = sum(depth not in allowed for depth, allowed in zip(depths, expected, strict=True))
    if other > _OTHER_EXITS * len(depths):
        raise ExportError(f"{path.name} is refused: it stops elsewhere than its exits say for {other} samples")
    same = np.stack([of_depths[depth][number] for number, depth in enumerate(depths)])
    size = max(float(np.median(np.abs(same).max(axis=1))), 0.1)
    off = np.abs(same - found.compared).max(axis=1) > _SAME_LOGITS * size
    if off.sum() > _OTHER_EXITS * len(depths):
        raise ExportError(f"{path.name} is refused: its logits are not those of its exits for {int(off.sum())} samples")
    return found


def stopping_depths(
    confidence: Mapping[int, npt.NDArray[np.float64]], threshold: float, margin: float = 0.0
) -> list[set[int]]:
    """Returns the depths at which each sample may stop: one, or more where a confidence is near the threshold.

    Args:
        confidence: Confidence of every sample, [N], by depth, shallowest first.
        threshold: Confidence from which on a sample stops.
        margin: Distance from the threshold that counts as near.
    """
    depths = list(confidence)
    stops: list[set[int]] = []
    for number in range(len(confidence[depths[0]])):
        possible: set[int] = set()
        for depth in depths:
            lead = float(confidence[depth][number]) - threshold
            if depth == depths[-1] or lead >= -margin:
                possible.add(depth)
            if lead >= margin:
                break
        stops.append(possible)
    return stops


def probabilities(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Returns the softmax of logits, float64 [N, classes]."""
    values = logits.astype(np.float64)
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    shares: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return shares


def _accuracy(answers: Mapping[int, FileAnswers], data: Dataset, threshold: float) -> float | None:
    """Returns the accuracy of a file with early exits from what the files of its depths answer to all samples."""
    if any(not len(of.answer) for of in answers.values()):
        return None
    depths = list(answers)
    chosen = answers[depths[-1]].answer
    for depth in reversed(depths[:-1]):
        chosen = np.where(answers[depth].confidence >= threshold, answers[depth].answer, chosen)
    return float((chosen == data.y.numpy(force=True)).mean())


def _outputs_of(task: LearningTask, answers: Outputs) -> Tensor | None:
    """Returns the outputs of a model from what it answers; None for a task of the user's own."""
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in answers.items()}
    match task:
        case Classification():
            return tensors[OUTPUT]
        case MultiLabel():
            return tensors["probabilities"].logit()
        case Regression():
            return task.standardised(tensors["values"])
        case Anomaly():
            return tensors["reconstruction"].flatten(1)
    return None


def _joined(batches: Sequence[Outputs]) -> Outputs:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _rows(values: npt.NDArray[Any]) -> Logits:
    """Returns outputs as one row per sample, float32 [N, K]."""
    return values.astype(np.float32).reshape(len(values), -1)
