"""This module runs an exported model on pictures or arrays with onnxruntime.

It needs neither PyTorch nor a coordinator, because the ONNX file itself says how to prepare the input.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError, ExportError, OperatorError
from fedlp_edge.learning.data.pictures.picture_decoding import display_name, read_picture, require_pillow
from fedlp_edge.learning.export.external.weights_file import check_weights
from fedlp_edge.learning.export.metadata import EXIT, INPUT, OUTPUT, OnnxMetadata, from_properties
from fedlp_edge.learning.export.runtime_errors import runtime_reason
from fedlp_edge.learning.export.score_histogram import softmax
from fedlp_edge.learning.foreign_code import error_line
from fedlp_edge.system.cores import usable_cores
from fedlp_edge.system.loading.install_command import install_command

_INSTALL = install_command("inference")
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

    @property
    def score(self) -> float | None:
        """Number by which answers are compared with those on the samples that the model was checked with."""
        return self.probability if self.probability is not None else next((value for _, value in self.values), None)


@dataclass(frozen=True, slots=True)
class Sample:
    """Holds one sample as a model takes it.

    Attributes:
        name: Name of its file, or where it is from.
        values: Values as the graph takes them, of the model's input shape.
        warning: One line if the input was changed in a way that may affect the prediction; None otherwise.
    """

    name: str
    values: npt.NDArray[Any]
    warning: str | None = None


def require_onnxruntime() -> None:
    """Refuses to go on without onnxruntime.

    Raises:
        OperatorError: It is not installed; the message says how to install it.
    """
    try:
        import onnxruntime  # noqa: F401, PLC0415  # an extra
    except ModuleNotFoundError:
        raise OperatorError(f"inference needs onnxruntime: {_INSTALL}") from None


class Classifier:
    """Runs one exported model in onnxruntime, whatever its task.

    Args:
        path: Path of the ONNX file.
        threads: Number of threads of onnxruntime; 0 for one per core that this process may use.

    Attributes:
        onnx_metadata: Metadata of the model.

    Raises:
        ExportError: The file or its weights are missing, or it is no ONNX model, or not exported by FedLP Edge.
        OperatorError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        require_onnxruntime()
        import onnxruntime  # noqa: PLC0415  # an extra

        if path.is_dir():
            files = sorted([*path.glob("*.onnx"), *path.glob("onnx/*.onnx")])
            there = f", such as {display_name(files[-1])}" if files else ""
            raise ExportError(f"{display_name(path)} is a directory: name an ONNX file first{there}")
        if not path.is_file():
            raise ExportError(f"there is no file {display_name(path)}")
        check_weights(path)
        options = onnxruntime.SessionOptions()
        # Left to itself, onnxruntime binds threads to cores of the whole machine, which a container may not use: older
        # ones do not load the model then, newer ones fill the log.
        options.intra_op_num_threads = threads or usable_cores()
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
        inputs, made = self._session.get_inputs(), [entry.name for entry in self._session.get_outputs()]
        given = [entry.name for entry in inputs]
        outputs = list(self.onnx_metadata.outputs)
        if given != [INPUT] or made not in (outputs, [OUTPUT, EXIT]):
            raise ExportError(f"{display_name(path)} was changed after its export: it takes {given} and gives {made}")
        fixed = inputs[0].shape[0]
        self._most = fixed if isinstance(fixed, int) else _BATCH  # a file with early exits takes one sample

    def predict(self, file: Path) -> Prediction:
        """Answers one picture, or one sample in a ``.npy`` file.

        Raises:
            DataError: The file cannot be read, or has the wrong shape, or the model gives no numbers for it.
        """
        return self.answer(self.sample(file))

    def answer(self, sample: Sample) -> Prediction:
        """Answers one sample.

        Raises:
            DataError: The model does not run on the sample, or gives no numbers for it.
        """
        answer = self._answered([sample])[0]
        if isinstance(answer, DataError):
            raise answer
        return answer

    def sample(self, file: Path) -> Sample:
        """Reads one picture, or one sample in a ``.npy`` file.

        Raises:
            DataError: The file cannot be read, or has the wrong shape.
        """
        values, warning = load_sample(file, self.onnx_metadata)
        return Sample(display_name(file), values, warning)

    def predict_all(self, files: Iterable[Path]) -> Iterator[tuple[Path, Prediction | DataError]]:
        """Answers many files in batches.

        Args:
            files: Pictures, or ``.npy`` files of one sample each.

        Yields:
            Each file, in order, with its prediction or with the error if the file cannot be used.
        """
        waiting: deque[Path] = deque()

        def samples() -> Iterator[Sample | DataError]:
            for file in files:
                waiting.append(file)
                try:
                    yield self.sample(file)
                except DataError as error:
                    yield error

        for answer in self.answer_all(samples()):
            yield waiting.popleft(), answer

    def answer_all(
        self, samples: Iterable[Sample | DataError], batch: int = _BATCH
    ) -> Iterator[Prediction | DataError]:
        """Answers many samples in batches; a sample that cannot be answered does not cost the others their answer.

        Args:
            samples: Samples, or the errors why there are none.
            batch: Most samples that are run together; a file that takes one at a time gets one at a time.

        Yields:
            The prediction for each sample, in order, or the error why there is none.
        """
        size = max(1, min(batch, self._most, _BATCH_VALUES // math.prod(self.onnx_metadata.input_shape)))
        for taken in _batches(samples, size):
            good = iter(self._answered([entry for entry in taken if isinstance(entry, Sample)]))
            for entry in taken:
                yield next(good) if isinstance(entry, Sample) else entry

    def try_zeros(self) -> None:
        """Runs the model once on zeros, which allocates what it needs.

        Raises:
            ExportError: The model does not run in onnxruntime.
        """
        kind = np.uint8 if self.onnx_metadata.input_type == "uint8" else np.float32
        self._run(np.zeros((1, *self.onnx_metadata.input_shape), dtype=kind))

    def probabilities(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Computes class probabilities, the softmax of the model's logits.

        Args:
            x: Samples as the graph takes them, [B, ...].

        Returns:
            Probabilities, float64 [B, classes]; each row adds up to 1.

        Raises:
            ExportError: onnxruntime cannot run the model.
        """
        return softmax(self._run(x)[OUTPUT])

    def _run(self, x: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Returns the outputs for a batch by name."""
        names = list(self.onnx_metadata.outputs)
        try:
            found = self._session.run(names, {INPUT: x})
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ExportError(f"the model does not run in onnxruntime: {runtime_reason(error)}") from None
        return dict(zip(names, found, strict=True))

    def _answered(self, samples: Sequence[Sample]) -> list[Prediction | DataError]:
        if not samples:
            return []
        try:
            outputs = self._run(np.stack([sample.values for sample in samples]))
        except ExportError as error:
            if len(samples) == 1:
                return [DataError(f"{samples[0].name}: {error}")]
            # One value, such as a token that the model does not know, fails all that are run together with it.
            return [answer for sample in samples for answer in self._answered([sample])]
        task = self.onnx_metadata.task
        if task == "classification":
            outputs = {"probabilities": softmax(outputs[OUTPUT])}
        rows = ({name: values[row] for name, values in outputs.items()} for row in range(len(samples)))
        return [self._checked(sample, row) for sample, row in zip(samples, rows, strict=True)]

    def _checked(self, sample: Sample, answers: dict[str, npt.NDArray[Any]]) -> Prediction | DataError:
        if not all(np.isfinite(row).all() for row in answers.values()):
            return DataError(f"{sample.name}: the model computes numbers for it that are not finite")
        return self._prediction(sample.name, answers, sample.warning)

    def _prediction(self, name: str, answers: dict[str, npt.NDArray[Any]], warning: str | None) -> Prediction:
        task = self.onnx_metadata.task
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


def load_sample(file: Path, onnx_metadata: OnnxMetadata) -> tuple[npt.NDArray[Any], str | None]:
    """Reads one input and makes of it what the model's graph takes.

    Args:
        file: Picture, or ``.npy`` array of one sample, see `as_input`.
        onnx_metadata: Metadata of the model.

    Returns:
        Sample of the model's input shape and type; and a warning in one line, or None.

    Raises:
        DataError: The file cannot be read, or has the wrong shape.
        OperatorError: The file is a picture and Pillow is not installed.
    """
    if file.suffix.lower() == ".npy":
        return as_input(_load_array(file), onnx_metadata, display_name(file)), None
    pixels, warning = _load_picture(file, onnx_metadata)
    if onnx_metadata.input_type == "uint8":
        return pixels, warning
    return _normalised(pixels, 1 / 255, onnx_metadata), warning


def as_input(values: npt.NDArray[Any], onnx_metadata: OnnxMetadata, name: str) -> npt.NDArray[Any]:
    """Makes of the numbers of one sample what the model's graph takes.

    Args:
        values: Numbers of one sample. For a graph that takes uint8 they are pixels from 0 to 255. For another one,
            bytes are scaled like pixels, and other numbers must be in the unit of the metadata's mean and deviation.
        onnx_metadata: Metadata of the model.
        name: Where the numbers are from, in messages.

    Raises:
        DataError: They are no numbers, or not those of one sample.
    """
    if values.dtype.kind not in "uif" or tuple(values.shape) != onnx_metadata.input_shape:
        want = "x".join(map(str, onnx_metadata.input_shape))
        hint = _shape_hint(tuple(values.shape), onnx_metadata.input_shape)
        raise DataError(f"{name} holds {values.dtype} {list(values.shape)}; the model takes one sample of {want}{hint}")
    if not np.isfinite(values).all():
        raise DataError(f"{name} holds values that are not finite (NaN or infinite)")
    if onnx_metadata.input_type == "uint8":
        pixels = values.astype(np.uint8) if values.size and values.min() >= 0 and values.max() <= 255 else values
        if not np.array_equal(pixels, values) or pixels.dtype != np.uint8:
            raise DataError(f"{name} holds other numbers than the model takes: pixels are whole, from 0 to 255")
        return pixels
    return _normalised(values, onnx_metadata.scale if values.dtype == np.uint8 else 1.0, onnx_metadata)


def _shape_hint(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Returns what to do about numbers of a common other shape; empty if it is none."""
    if shape[1:] == wanted:
        return ": save each sample in a file of its own"
    if len(wanted) > 1 and shape == (*wanted[1:], wanted[0]):
        return ": channels come first, use numpy.moveaxis(sample, -1, 0)"
    if wanted[:1] == (1,) and shape == wanted[1:]:
        return ": add the channel with sample[None]"
    return ""


def _normalised(values: npt.NDArray[Any], scale: float, onnx_metadata: OnnxMetadata) -> npt.NDArray[np.float32]:
    shape = (-1,) + (1,) * (len(onnx_metadata.input_shape) - 1)
    mean = np.asarray(onnx_metadata.mean, dtype=np.float32).reshape(shape)
    std = np.asarray(onnx_metadata.std, dtype=np.float32).reshape(shape)
    normalised: npt.NDArray[np.float32] = (values.astype(np.float32) * np.float32(scale) - mean) / std
    return normalised


def _load_array(file: Path) -> npt.NDArray[Any]:
    try:
        values: npt.NDArray[Any] = np.load(file, allow_pickle=False)
    except Exception as error:  # damaged headers fail in ast, struct, tokenize ...
        if "allow_pickle" in str(error):
            raise DataError(
                f"{display_name(file)} holds Python objects, which are never loaded: save the numbers of one sample"
            ) from None
        raise DataError(f"cannot read {display_name(file)}: {error_line(error)}") from None
    if not isinstance(values, np.ndarray):
        raise DataError(f"{display_name(file)} is an archive of arrays: save one sample with numpy.save")
    return values


def _load_picture(file: Path, onnx_metadata: OnnxMetadata) -> tuple[npt.NDArray[np.uint8], str | None]:
    require_pillow()
    if not takes_pictures(onnx_metadata):
        want = "x".join(map(str, onnx_metadata.input_shape))
        table = " or a table (.csv, .parquet)" if onnx_metadata.features or len(onnx_metadata.input_shape) == 1 else ""
        raise DataError(f"the model takes samples of shape {want}, not pictures: give it a .npy file{table}")
    channels, height, width = onnx_metadata.input_shape
    picture = read_picture(file, channels, (height, width))
    before = picture.stored_size
    stretched = abs(before[0] * height / (before[1] * width) - 1) > _ASPECT_TOLERANCE
    changes = [f"stretched from {before[0]}x{before[1]} to {width}x{height}"] if stretched else []
    changes += ["only the first of its frames is used"] if picture.several_frames else []
    return picture.pixels, f"{display_name(file)}: {', '.join(changes)}" if changes else None


def _batches(samples: Iterable[Sample | DataError], size: int) -> Iterator[list[Sample | DataError]]:
    iterator = iter(samples)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
