"""This module finds the pictures and arrays that an exported model has to classify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.picture_folders import pictures_below
from fedlp_edge.learning.data.pictures import display_name
from fedlp_edge.learning.export.inference import Classifier, Prediction, takes_pictures
from fedlp_edge.learning.export.metadata import OnnxMetadata


@dataclass
class InferenceInputs:
    """Lists the files that a model has to classify.

    Attributes:
        files: Paths in the order in which the user named them; files of a folder are sorted by name.
        named: Paths that the user named; the other paths were found in folders.
        skipped: Reports on what else the folders hold, one line per folder.
    """

    files: list[Path] = field(default_factory=list)
    named: set[Path] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)


def find_inputs(given: Sequence[Path], onnx_metadata: OnnxMetadata) -> InferenceInputs:
    """Lists the given files and the files in the given folders.

    Args:
        given: Paths of pictures, of ``.npy`` files, and of folders of these.
        onnx_metadata: Metadata of the model, which says whether the model takes pictures.

    Raises:
        DataError: A folder cannot be read, or holds nothing that the model takes.
    """
    inputs = InferenceInputs()
    for path in given:
        if not path.is_dir():
            inputs.named.add(path)
            inputs.files.append(path)
            continue
        try:
            arrays = sorted(path.rglob("*.npy"))
            pictures, skipped = pictures_below(path, arrays_too=bool(arrays))
        except OSError as error:
            raise DataError(f"cannot read {display_name(str(error.filename or path))}: {error.strerror}") from None
        if not takes_pictures(onnx_metadata):
            pictures, skipped = [], ""
        if not pictures and not arrays:
            want = "pictures or .npy files" if takes_pictures(onnx_metadata) else ".npy files"
            raise DataError(f"{display_name(path)} holds no {want}" + (f"; {skipped}" if skipped else ""))
        inputs.files += [*pictures, *arrays]
        inputs.skipped += [f"{display_name(path)}: {skipped}"] if skipped else []
    return inputs


def infer(model: Path | str, *files: Path | str) -> tuple[Prediction, ...]:
    """Classifies pictures or arrays with an exported model, in onnxruntime.

    Args:
        model: Path of an ONNX file that FedLP Edge exported.
        files: Paths of pictures, of ``.npy`` files of one sample each, and of folders of these.

    Returns:
        Predictions, one per file in the order of ``files``; files of a folder are sorted by name.

    Raises:
        ExportError: The model is missing, was not exported by FedLP Edge, or cannot be run.
        DataError: A file cannot be read, or has another shape than the model takes.
        OperatorError: onnxruntime is not installed, or Pillow is not installed and there are pictures.
    """
    classifier = Classifier(Path(model))
    predictions = []
    for _, answer in classifier.predict_all(
        find_inputs([Path(file) for file in files], classifier.onnx_metadata).files
    ):
        if isinstance(answer, DataError):
            raise answer
        predictions.append(answer)
    return tuple(predictions)
