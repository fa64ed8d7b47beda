"""What an exported model is asked about: pictures and arrays, named one by one or found in folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.picture_folders import pictures_below
from fedlp_edge.learning.data.pictures import shown
from fedlp_edge.learning.export.inference import Classifier, Prediction, takes_pictures
from fedlp_edge.learning.export.metadata import OnnxMetadata


@dataclass
class InferenceInputs:
    """The files that a model is to classify.

    Attributes:
        files: in the order named, those of a folder in the order of their names.
        named: which of them the user named; the others were found in folders.
        left_out: what lies in the folders beside them, one line each.
    """

    files: list[Path] = field(default_factory=list)
    named: set[Path] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)


def find_inputs(given: Sequence[Path], card: OnnxMetadata) -> InferenceInputs:
    """Lists the files that are named, and those in the folders that are named.

    Args:
        given: pictures, ``.npy`` files, and folders of these.
        card: of the model, which says whether it takes pictures.

    Raises:
        DataError: a folder cannot be read, or holds nothing that the model takes.
    """
    inputs = InferenceInputs()
    for path in given:
        if not path.is_dir():
            inputs.named.add(path)
            inputs.files.append(path)
            continue
        try:
            arrays = sorted(path.rglob("*.npy"))
            pictures, left_out = pictures_below(path, arrays_too=bool(arrays))
        except OSError as error:
            raise DataError(f"cannot read {shown(str(error.filename or path))}: {error.strerror}") from None
        if not takes_pictures(card):
            pictures, left_out = [], ""
        if not pictures and not arrays:
            want = "pictures or .npy files" if takes_pictures(card) else ".npy files"
            raise DataError(f"{shown(path)} holds no {want}" + (f"; {left_out}" if left_out else ""))
        inputs.files += [*pictures, *arrays]
        inputs.left_out += [f"{shown(path)}: {left_out}"] if left_out else []
    return inputs


def infer(model: Path | str, *files: Path | str) -> tuple[Prediction, ...]:
    """Classifies pictures or arrays with an exported model, in onnxruntime.

    Args:
        model: an ONNX file that FedLP Edge exported.
        files: pictures, ``.npy`` files of one sample each, and folders of these.

    Returns:
        A prediction for each file, in the order named, those of a folder in the order of their names.

    Raises:
        ExportError: the model is missing, or is none of ours.
        DataError: a file cannot be read, or has another shape than the model takes.
        OperatorError: onnxruntime is not installed.
    """
    classifier = Classifier(Path(model))
    predictions = []
    for _, answer in classifier.predict_all(find_inputs([Path(file) for file in files], classifier.card).files):
        if isinstance(answer, DataError):
            raise answer
        predictions.append(answer)
    return tuple(predictions)
