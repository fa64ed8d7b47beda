"""This module looks at all activations of an ONNX file: their ranges on samples, and which of another file they are.

It needs onnxruntime and numpy alone, as devices have them. A file is made to give all its activations by appending
their names to its outputs, which protobuf merges into the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.metrics.tensor_ranges import LARGEST, MAX_TENSORS, TensorRange, TensorRanges, merged_range
from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.runtime_errors import runtime_reason
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.system.protobuf_fields import LENGTH, fields, message_field

OBSERVED = 64
"""Most samples on which a device takes ranges."""

_BATCH = 8
_PROBES = 2
_TOLERANCE = 1e-3  # of the sums of one tensor in two files, which add the same numbers in another order
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_OUTPUT, _NODE_OUTPUT, _VALUE_NAME = 7, 1, 12, 2, 1

Array = npt.NDArray[Any]


class ObservedModel:
    """An ONNX file that gives all its activations.

    Args:
        content: Bytes of the file, which has one input.

    Raises:
        ExportError: onnxruntime is not installed or does not load the file.
    """

    def __init__(self, content: bytes) -> None:
        try:
            import onnxruntime  # noqa: PLC0415  # an extra
        except ModuleNotFoundError:
            raise ExportError(f"ranges need onnxruntime: {install_command('inference')}") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            plain: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            given = {output.name for output in plain.get_outputs()}
            added = b"".join(
                message_field(_GRAPH_OUTPUT, message_field(_VALUE_NAME, name.encode()))
                for name in dict.fromkeys(_node_outputs(content))
                if name not in given
            )
            self._session: Any = onnxruntime.InferenceSession(
                content + message_field(_MODEL_GRAPH, added), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ExportError(f"activations cannot be looked at: {runtime_reason(error)}") from None
        (self._input,) = self._session.get_inputs()

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self._input.shape[1:])

    def run(self, x: npt.NDArray[np.float32]) -> dict[str, Array]:
        """Returns all activations of some samples by name, the input included; those that are float32 [B, ...].

        Raises:
            ExportError: onnxruntime does not run the file.
        """
        names = [output.name for output in self._session.get_outputs()]
        try:
            found = dict(zip(names, self._session.run(names, {self._input.name: x}), strict=True))
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ExportError(f"activations cannot be looked at: {runtime_reason(error)}") from None
        return {
            name: values
            for name, values in ({self._input.name: x} | found).items()
            if isinstance(values, np.ndarray) and values.dtype == np.float32 and values.shape[:1] == (len(x),)
        }

    def marks(self) -> dict[str, tuple[int, float, float]]:
        """Returns by name by what a tensor is recognised in other files: its size, its sum and its magnitude.

        Tensors whose values are all equal are left out, since they say nothing.
        """
        found = {}
        for name, values in self.run(_probes(self.sample_shape)).items():
            if values.size and np.isfinite(values).all() and values.min() < values.max():
                exact = values.astype(np.float64)
                found[name] = (values.size // _PROBES, float(exact.sum()), float(np.abs(exact).sum()))
        return found


def observed_ranges(content: bytes, samples: npt.NDArray[np.float32]) -> TensorRanges:
    """Returns the range of each activation of a file on samples; none if there are more tensors than are told.

    Args:
        content: Bytes of the ONNX file.
        samples: Samples as the graph takes them, [N, ...].

    Raises:
        ExportError: onnxruntime does not run the file.
    """
    model = ObservedModel(content)
    marks = model.marks()
    if len(marks) > MAX_TENSORS:
        return ()
    low, high = dict.fromkeys(marks, np.inf), dict.fromkeys(marks, -np.inf)
    for start in range(0, len(samples), _BATCH):
        for name, values in model.run(samples[start : start + _BATCH]).items():
            if name in marks:
                # A value that is no number makes the bounds none either, and the tensor is left out.
                low[name] = np.minimum(low[name], values.min())
                high[name] = np.maximum(high[name], values.max())
    return tuple(
        TensorRange(*mark, float(low[name]), float(high[name]))
        for name, mark in marks.items()
        if all(abs(value) <= LARGEST for value in (*mark[1:], low[name], high[name]))
    )


def fleet_ranges(content: bytes, told: Mapping[str, TensorRanges]) -> dict[str, tuple[float, float]]:
    """Returns the range of each tensor of a file on the samples of a fleet, by name; tensors of too few are left out.

    Args:
        content: Bytes of the ONNX file.
        told: What devices have told of the same weights in files of other depths and names, by device.

    Raises:
        ExportError: onnxruntime does not run the file.
    """
    found = {}
    for name, mark in ObservedModel(content).marks().items():
        pairs = [pair for ranges in told.values() if (pair := _range_of(mark, ranges)) is not None]
        if (merged := merged_range(pairs)) is not None and merged[0] < merged[1]:
            found[name] = merged
    return found


def _range_of(mark: tuple[int, float, float], ranges: TensorRanges) -> tuple[float, float] | None:
    size, total, magnitude = mark
    close = _TOLERANCE * magnitude
    for told in ranges:
        if told.size == size and abs(told.total - total) <= close and abs(told.magnitude - magnitude) <= close:
            return told.low, told.high
    return None


def _probes(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Returns inputs that are the same on every machine and look like noise of deviation 1."""
    count = _PROBES * int(np.prod(shape))
    phases = np.arange(1, count + 1, dtype=np.float64) ** 2 * 0.618033988749895 % 1.0
    noise: npt.NDArray[np.float32] = (np.sqrt(2.0) * np.sin(2 * np.pi * phases)).astype(np.float32)
    return noise.reshape(_PROBES, *shape)


def _node_outputs(content: bytes) -> Iterator[str]:
    """Yields the names of what the nodes of the main graph compute."""
    view = memoryview(content)
    for number, wire, start, stop in fields(view, 0, len(view)):
        if number != _MODEL_GRAPH or wire != LENGTH:
            continue
        for inner, kind, first, last in fields(view, start, stop):
            if inner == _GRAPH_NODE and kind == LENGTH:
                for field, _, low, high in fields(view, first, last):
                    if field == _NODE_OUTPUT and high > low:
                        yield bytes(view[low:high]).decode()
