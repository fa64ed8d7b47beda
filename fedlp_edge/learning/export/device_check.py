"""This module compares an ONNX file with the PyTorch model of the same weights, on a device's own samples.

The coordinator may have no data, and so has checked the file on made inputs at best. A device has real ones, and
weights that it has downloaded apart from the file.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.errors import ExportError, StorageError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.metadata import ANSWER, INPUT, MEAN
from fedlp_edge.learning.export.onnx import open_session
from fedlp_edge.learning.export.parity import RELATIVE_TOLERANCE, Logits, Parity, compare_logits, own_error
from fedlp_edge.learning.export.runtime_errors import runtime_reason
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.system.directories import empty_directory, make_directory

COMPARED = 256
"""Most samples that are compared, spread over the held-out ones."""

WRITTEN = 64
"""Most samples that are written for the exam of the next model, spread over the held-out ones."""

_BATCH = 32
_LARGEST_SAMPLE = 1 << 20
_FILE_LABEL = re.compile(r"[A-Za-z0-9 ,._+-]{1,80}\Z")


@dataclass(frozen=True, slots=True)
class FileComparison:
    """What the comparison of a file came to.

    Attributes:
        samples: Number of samples that were compared.
        max_abs_diff: Largest absolute difference of an output.
        agreement: Share of the samples for which both give the same answer: the same class, or equal outputs up to
            rounding.
        problem: Why the file must not be used, as the end of a sentence that begins with its name; None if it passes.
    """

    samples: int
    max_abs_diff: float
    agreement: float
    problem: str | None


def answer_of_file(path: Path) -> AnswerMode:
    """Returns what an ONNX file says that it answers with; its exit if it says nothing or cannot be loaded."""
    try:
        properties = open_session(path, path).get_modelmeta().custom_metadata_map
    except ExportError:
        return "exit"
    return "mean" if properties.get(ANSWER, "").startswith(MEAN) else "exit"


def compare_file(path: Path, model: nn.Module, data: Dataset, task: LearningTask) -> FileComparison:
    """Compares an ONNX file in onnxruntime with a PyTorch model.

    Args:
        path: ONNX file.
        model: PyTorch model on the CPU in evaluation mode, with the same weights.
        data: Samples on the CPU.
        task: What the outputs of the model mean.

    Raises:
        ExportError: onnxruntime is not installed, or does not load or run the file.
    """
    session = open_session(path, path)
    chosen = torch.linspace(0, len(data) - 1, min(COMPARED, len(data))).long()
    batches = [data.batch(indices)[0] for indices in torch.split(chosen, _BATCH)]
    named = {output.name for output in session.get_outputs()}
    expected: dict[str, list[Logits]] = {}
    got: dict[str, list[Logits]] = {}
    for x in batches:
        with torch.no_grad():
            answers = {name: value for name, value in task.predict(model(x), x).items() if name in named}
        floating = {name: value for name, value in answers.items() if value.is_floating_point()}
        # Whole numbers that follow from others, such as a threshold's, need no comparison.
        answers = floating or answers
        if not answers:
            return FileComparison(0, 0.0, 0.0, f"has other outputs than the model: {', '.join(sorted(named))}")
        try:
            found = session.run(list(answers), {INPUT: x.numpy()})
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ExportError(f"{path.name} is refused: onnxruntime does not run it: {runtime_reason(error)}") from None
        for (name, ours), theirs in zip(answers.items(), found, strict=True):
            expected.setdefault(name, []).append(_rows(ours.numpy()))
            got.setdefault(name, []).append(_rows(np.asarray(theirs)))
    classes = isinstance(task, Classification)
    parities, agreements = [], []
    for name, of_model in expected.items():
        here, there = np.concatenate(of_model), np.concatenate(got[name])
        if here.shape != there.shape:
            return FileComparison(len(chosen), 0.0, 0.0, f"gives {there.shape} where PyTorch gives {here.shape}")
        parities.append(_compare(here, there, model, batches, classes=classes))
        agreements.append(_agreement(here, there, classes=classes))
    return FileComparison(
        samples=len(chosen),
        max_abs_diff=max(parity.max_abs_diff for parity in parities),
        agreement=min(agreements),
        problem=next((parity.problem for parity in parities if parity.problem is not None), None),
    )


def write_samples(data: Dataset, directory: Path) -> None:
    """Writes some samples as ``NUMBER=LABEL.npy``, as ``fedlp infer`` reads them; what cannot be written is left out.

    On these the model that comes after this one is tried beside it, when nobody trains any more.

    Args:
        data: Held-out samples of the device.
        directory: Directory of the files, which is made or emptied.
    """
    chosen = torch.linspace(0, len(data) - 1, min(WRITTEN, len(data))).long()
    with suppress(OSError, StorageError):
        empty_directory(make_directory(directory.parent) / directory.name)
        for number, index in enumerate(chosen.tolist()):
            sample = data.stored(torch.tensor([index]))[0].cpu().numpy()
            if sample.nbytes > _LARGEST_SAMPLE:
                return
            np.save(directory / f"{number:03d}={_label(data, index)}.npy", sample)


def _label(data: Dataset, index: int) -> str:
    """Returns the name of a sample's class as a model tells it; empty if it has none that a file name can hold."""
    if data.targets != "class" or data.y.ndim != 1 or data.y.is_floating_point():
        return ""
    number = int(data.y[index])
    name = data.classes[number] if 0 <= number < len(data.classes) else str(number)
    return name if _FILE_LABEL.match(name) else ""


def _compare(here: Logits, there: Logits, model: nn.Module, batches: list[Tensor], *, classes: bool) -> Parity:
    if not classes:  # the largest of several numbers is no answer
        return compare_logits(here.reshape(-1, 1), there.reshape(-1, 1))
    parity = compare_logits(here, there)
    return parity if parity.problem is None else compare_logits(here, there, own_error(model, batches, here))


def _agreement(here: Logits, there: Logits, *, classes: bool) -> float:
    if classes:
        return float((here.argmax(axis=1) == there.argmax(axis=1)).mean())
    size = np.maximum(np.abs(here).max(axis=1, keepdims=True), 1e-30)
    return float((np.abs(here - there) <= RELATIVE_TOLERANCE * size).all(axis=1).mean())


def _rows(values: Logits) -> Logits:
    """Returns outputs as one row per sample, float32 [B, K]."""
    return values.astype(np.float32).reshape(len(values), -1)
