"""This module finds the pictures, arrays and tables that an exported model has to answer, and reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.pictures.picture_decoding import display_name
from fedlp_edge.learning.data.pictures.picture_folders import pictures_below
from fedlp_edge.learning.export.inference import Classifier, Prediction, Sample, load_sample, takes_pictures
from fedlp_edge.learning.export.inputs.table_samples import is_table, table_samples, takes_tables
from fedlp_edge.learning.export.metadata import OnnxMetadata


@dataclass
class InferenceInputs:
    """Lists the files that a model has to answer.

    Attributes:
        files: Paths in the order in which the user named them; files of a folder are sorted by name.
        skipped: Reports on what else the folders hold, one line per folder.
    """

    files: list[Path] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def find_inputs(given: Sequence[Path], onnx_metadata: OnnxMetadata) -> InferenceInputs:
    """Lists the given files and the files in the given folders.

    Args:
        given: Paths of pictures, of ``.npy`` files, of tables, and of folders of these.
        onnx_metadata: Metadata of the model, which says whether the model takes pictures or tables.

    Raises:
        DataError: A folder cannot be read, or holds nothing that the model takes.
    """
    inputs = InferenceInputs()
    for path in given:
        if not path.is_dir():
            inputs.files.append(path)
            continue
        try:
            arrays = sorted(path.rglob("*.npy"))
            pictures, skipped = pictures_below(path, arrays_too=bool(arrays))
            if takes_tables(onnx_metadata):
                arrays += sorted(file for file in path.rglob("*") if is_table(file) and not _is_hidden(file, path))
        except OSError as error:
            raise DataError(f"cannot read {display_name(str(error.filename or path))}: {error.strerror}") from None
        if not takes_pictures(onnx_metadata):
            pictures, skipped = [], ""
        if not pictures and not arrays:
            want = kinds_of_input(onnx_metadata)
            raise DataError(f"{display_name(path)} holds no {want}" + (f"; {skipped}" if skipped else ""))
        inputs.files += [*pictures, *arrays]
        inputs.skipped += [f"{display_name(path)}: {skipped}"] if skipped else []
    return inputs


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def kinds_of_input(onnx_metadata: OnnxMetadata) -> str:
    """Returns the files that a model takes, in words."""
    if takes_pictures(onnx_metadata):
        return "pictures or .npy files"
    return "tables or .npy files" if takes_tables(onnx_metadata) else ".npy files"


def samples_of(file: Path, onnx_metadata: OnnxMetadata) -> Iterator[Sample | DataError]:
    """Reads the samples of a file: one of a picture or of a ``.npy`` file, those of all rows of a table.

    Yields:
        Each sample, or the error why there is none.
    """
    if is_table(file):
        yield from table_samples(file, onnx_metadata)
        return
    try:
        yield Sample(display_name(file), *load_sample(file, onnx_metadata))
    except DataError as error:
        yield error


def infer(model: Path | str, *files: Path | str) -> tuple[Prediction, ...]:
    """Answers pictures, arrays or rows of tables with an exported model, in onnxruntime.

    Args:
        model: Path of an ONNX file that FedLP Edge exported.
        files: Paths of pictures, of ``.npy`` files of one sample each, of tables, and of folders of these.

    Returns:
        Predictions, one per sample in the order of ``files``; files of a folder are sorted by name.

    Raises:
        ExportError: The model is missing, was not exported by FedLP Edge, or cannot be run.
        DataError: A file cannot be read, or has another shape than the model takes.
        OperatorError: onnxruntime is not installed, or Pillow is not installed and there are pictures.
    """
    classifier = Classifier(Path(model))
    metadata = classifier.onnx_metadata
    found = find_inputs([Path(file) for file in files], metadata).files
    predictions = []
    for answer in classifier.answer_all(sample for file in found for sample in samples_of(file, metadata)):
        if isinstance(answer, DataError):
            raise answer
        predictions.append(answer)
    return tuple(predictions)
