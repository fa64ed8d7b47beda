"""This module runs an exported model on pictures or arrays with onnxruntime.

It needs neither PyTorch nor a coordinator, because the ONNX file itself says how to prepare the input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError, ExportError, OperatorError
from fedlp_edge.learning.data.pictures import display_name, read_picture, require_pillow
from fedlp_edge.learning.export.metadata import EXIT, INPUT, OUTPUT, OnnxMetadata, from_properties
from fedlp_edge.learning.export.runtime_errors import runtime_reason
from fedlp_edge.learning.foreign_code import error_line

_INSTALL = 'pip install "fedlp-edge[inference]"'
_ASPECT_TOLERANCE = 0.02  # relative change of the aspect ratio from which a warning is given
_BATCH = 64
_MOST_VALUES = 16  # numbers of an output that are printed
_BATCH_VALUES = 1 << 22  # float32 values in a batch: 16 MB


@dataclass(frozen=True, slots=True)
class Prediction:
    """Holds the model's prediction for one input.

    Attributes:
        file: Name of the input file.
        label: What the model says: the most probable class, the labels that the sample probably has, the predicted
            numbers with their units, or ``normal`` or ``anomalous``.
        probability: Probability of the most probable class or label, 0 to 1; None for a task without probabilities.
        top: Names and probabilities of the three most probable classes or labels, most probable first.
        values: Names and values of predicted numbers, such as the targets of a regression or the score of a sample.
        warning: One line if the input was changed in a way that may affect the prediction; None otherwise.
    """

    file: str
    label: str
    probability: float | None
    top: tuple[tuple[str, float], ...]
    warning: str | None = None
    values: tuple[tuple[str, float], ...] = ()


class Classifier:
    """Runs one exported model in onnxruntime.

    Args:
        path: Path of the ONNX file.
        threads: Number of threads of onnxruntime; 0 for its default.

    Attributes:
        onnx_metadata: Metadata of the model.

    Raises:
        ExportError: The file is missing, not an ONNX model, or not exported by FedLP Edge.
        OperatorError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        try:
            import onnxruntime  # noqa: PLC0415  # an extra
        except ImportError:
            raise OperatorError(f"inference needs onnxruntime: {_INSTALL}") from None
        if path.is_dir():
            raise ExportError(f"{display_name(path)} is a directory; name an ONNX file first, then the pictures")
        if not path.is_file():
            raise ExportError(f"there is no file {display_name(path)}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        try:
            self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            reason = runtime_reason(error)
            raise ExportError(
                f"{display_name(path)} is not an ONNX model that onnxruntime can load: {reason}"
            ) from None
        self.onnx_metadata: OnnxMetadata = from_properties(
            self._session.get_modelmeta().custom_metadata_map, display_name(path)
        )
        given, made = (
            [entry.name for entry in entries] for entries in (self._session.get_inputs(), self._session.get_outputs())
        )
        outputs = list(self.onnx_metadata.outputs)
        if given != [INPUT] or made not in (outputs, [OUTPUT, EXIT]):
            raise ExportError(f"{display_name(path)} was changed after its export: it takes {given} and gives {made}")

    def predict(self, file: Path) -> Prediction:
        """Classifies one picture, or one sample in a ``.npy`` file.

        Raises:
            DataError: The file cannot be read, or has the wrong shape.
            ExportError: onnxruntime cannot run the model.
        """
        sample, warning = load_sample(file, self.onnx_metadata)
        return self._prediction(file, self._answers(sample[None])[0], warning)

    def predict_all(self, files: Sequence[Path]) -> Iterator[tuple[Path, Prediction | DataError]]:
        """Classifies many inputs in batches.

        Args:
            files: Pictures, or ``.npy`` files of one sample each.

        Yields:
            Each file, in order, with its prediction or with the error if the file cannot be used.

        Raises:
            ExportError: onnxruntime cannot run the model.
        """
        size = max(1, min(_BATCH, _BATCH_VALUES // math.prod(self.onnx_metadata.input_shape)))
        for start in range(0, len(files), size):
            loaded: list[tuple[Path, tuple[npt.NDArray[np.float32], str | None] | DataError]] = []
            for file in files[start : start + size]:
                try:
                    loaded.append((file, load_sample(file, self.onnx_metadata)))
                except DataError as error:
                    loaded.append((file, error))
            samples = [entry[0] for _, entry in loaded if not isinstance(entry, DataError)]
            rows = iter(self._answers(np.stack(samples)) if samples else ())
            for file, entry in loaded:
                yield file, entry if isinstance(entry, DataError) else self._prediction(file, next(rows), entry[1])

    def probabilities(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Computes class probabilities, the softmax of the model's logits.

        Args:
            x: Normalised samples, float32 [B, ...].

        Returns:
            Probabilities, float64 [B, classes]; each row adds up to 1.

        Raises:
            ExportError: onnxruntime cannot run the model.
        """
        try:
            (logits,) = self._session.run([OUTPUT], {INPUT: x})
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ExportError(f"the model does not run in onnxruntime: {error_line(error)}") from None
        shifted = np.asarray(logits, dtype=np.float64)
        exponentials = np.exp(shifted - shifted.max(axis=1, keepdims=True))
        result: npt.NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return result

    def _answers(self, x: npt.NDArray[np.float32]) -> list[dict[str, npt.NDArray[Any]]]:
        """Returns what the model answers to each sample, by name of the output."""
        if self.onnx_metadata.task == "classification":
            return [{"probabilities": row} for row in self.probabilities(x)]
        names = list(self.onnx_metadata.outputs)
        try:
            found = self._session.run(names, {INPUT: x})
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ExportError(f"the model does not run in onnxruntime: {error_line(error)}") from None
        return [dict(zip(names, row, strict=True)) for row in zip(*found, strict=True)]

    def _prediction(self, file: Path, answers: dict[str, npt.NDArray[Any]], warning: str | None) -> Prediction:
        name, task = display_name(file), self.onnx_metadata.task
        if task in ("classification", "multi-label"):
            probabilities = answers["probabilities"]
            order = np.argsort(-probabilities, kind="stable")[:3]
            top = tuple((self._name(int(index)), float(probabilities[index])) for index in order)
            given = [self._name(int(index)) for index in np.flatnonzero(probabilities >= 0.5)]
            label = top[0][0] if task == "classification" else ", ".join(given) or "none"
            return Prediction(file=name, label=label, probability=top[0][1], top=top, warning=warning)
        if task == "anomaly":
            score = float(answers["score"])
            label = "anomalous" if bool(answers["anomalous"]) else "normal"
            return Prediction(name, label, None, (), warning, (("score", score),))
        values = [
            (self._name(index) if task == "regression" else output, float(value), self._unit(index))
            for output, row in answers.items()
            for index, value in enumerate(np.atleast_1d(row).reshape(-1)[:_MOST_VALUES])
        ]
        label = ", ".join(" ".join(filter(None, (one, f"{value:.6g}", unit))) for one, value, unit in values)
        return Prediction(name, label, None, (), warning, tuple((one, value) for one, value, _ in values))

    def _unit(self, index: int) -> str:
        return self.onnx_metadata.units[index] if index < len(self.onnx_metadata.units) else ""

    def _name(self, index: int) -> str:
        return self.onnx_metadata.classes[index] if index < len(self.onnx_metadata.classes) else str(index)


def takes_pictures(onnx_metadata: OnnxMetadata) -> bool:
    """Tells whether the input of a model is a grey or RGB picture."""
    return len(onnx_metadata.input_shape) == 3 and onnx_metadata.input_shape[0] in (1, 3)


def load_sample(file: Path, onnx_metadata: OnnxMetadata) -> tuple[npt.NDArray[np.float32], str | None]:
    """Reads one input and normalises it for the model.

    Args:
        file: Picture, or ``.npy`` array of one sample. Bytes are scaled like pixels; other numbers must be in the unit
            of the metadata's mean and standard deviation.
        onnx_metadata: Metadata of the model.

    Returns:
        Normalised sample, float32 of the model's input shape; and a warning in one line, or None.

    Raises:
        DataError: The file cannot be read, or has the wrong shape.
        OperatorError: The file is a picture and Pillow is not installed.
    """
    warning = None
    if file.suffix.lower() == ".npy":
        values, scale = _load_array(file, onnx_metadata)
    else:
        values, warning = _load_picture(file, onnx_metadata)
        scale = 1 / 255
    shape = (-1,) + (1,) * (len(onnx_metadata.input_shape) - 1)
    mean = np.asarray(onnx_metadata.mean, dtype=np.float32).reshape(shape)
    std = np.asarray(onnx_metadata.std, dtype=np.float32).reshape(shape)
    return (values.astype(np.float32) * np.float32(scale) - mean) / std, warning


def _load_array(file: Path, onnx_metadata: OnnxMetadata) -> tuple[npt.NDArray[Any], float]:
    try:
        values: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    except Exception as error:  # damaged headers fail in ast, struct, tokenize ...
        raise DataError(f"cannot read {display_name(file)}: {error_line(error)}") from None
    if not isinstance(values, np.ndarray):
        raise DataError(f"{display_name(file)} is an archive of arrays: save one sample with numpy.save")
    if values.dtype.kind not in "uif" or tuple(values.shape) != onnx_metadata.input_shape:
        want = "x".join(map(str, onnx_metadata.input_shape))
        raise DataError(
            f"{display_name(file)} holds {values.dtype} {list(values.shape)}; the model takes one sample of {want}"
        )
    if not np.isfinite(values).all():
        raise DataError(f"{display_name(file)} holds values that are not finite (NaN or infinite)")
    return values, onnx_metadata.scale if values.dtype == np.uint8 else 1.0


def _load_picture(file: Path, onnx_metadata: OnnxMetadata) -> tuple[npt.NDArray[np.uint8], str | None]:
    require_pillow()
    if not takes_pictures(onnx_metadata):
        want = "x".join(map(str, onnx_metadata.input_shape))
        raise DataError(f"the model takes {want} arrays, not pictures: give it a .npy file")
    channels, height, width = onnx_metadata.input_shape
    picture = read_picture(file, channels, (height, width))
    before = picture.stored_size
    stretched = abs(before[0] * height / (before[1] * width) - 1) > _ASPECT_TOLERANCE
    changes = [f"stretched from {before[0]}x{before[1]} to {width}x{height}"] if stretched else []
    changes += ["only the first of its frames is used"] if picture.several_frames else []
    return picture.pixels, f"{display_name(file)}: {', '.join(changes)}" if changes else None
