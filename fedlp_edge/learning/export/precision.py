"""This module makes smaller forms of an exported model: half precision, and 8-bit integers.

Both are made from the checked float32 file by onnxruntime's own tools. What a conversion costs in accuracy depends on
the model and the data, so it is measured on held-out samples and never assumed.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from fedlp_edge.core.metrics.tensor_ranges import MIN_DEVICES, TensorRanges
from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.activations.observed_tensors import fleet_ranges
from fedlp_edge.learning.export.external.detached_weights import DetachedWeights
from fedlp_edge.learning.export.family.node_order import sort_nodes
from fedlp_edge.learning.export.metadata import INPUT
from fedlp_edge.learning.foreign_code import error_line

if TYPE_CHECKING:
    import onnx

Samples = npt.NDArray[Any]
"""Samples as a graph takes them, [N, ...]."""

Precision = Literal["fp32", "fp16", "int8"]
"""How the numbers of a file are stored: 4, 2 or 1 byte each."""

PRECISION_PROPERTY = "fedlp.precision"
"""Name of the metadata property that says the precision; missing in float32 files of before."""

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

MAX_ACCURACY_DROP = 0.01
"""Loss of accuracy, 0 to 1, from which on an export advises another precision or depth."""

CALIBRATION_SAMPLES = 256
"""Samples from which the ranges of activations are taken; of more, the ranges hardly change."""

_CALIBRATION_BATCH = 32

_FLOAT_OPERATORS = ("BatchNormalization", "InstanceNormalization", "LayerNormalization")
"""Operators that onnxruntime computes in float32 whatever their weights are: 8-bit weights would make them less exact,
and a file of few weights larger by the nodes and scales that turn them back."""

_SINGLE_PRECISION_OPERATORS = ("GroupNormalization", "LayerNormalization", "LogSoftmax", "Softmax")
"""Operators that stay in float32 in a file of half precision, as in PyTorch's own mixed precision: without kernels for
float16, onnxruntime takes them apart, which 1.15 and 1.16 do wrongly (the file does not load), and of which 1.17 and
1.18 mix up the memory in a branch, such as one behind an early exit (all answers but the first are wrong)."""

_NOTHING_TOLD: Mapping[str, TensorRanges] = MappingProxyType({})


def file_of(path: Path, precision: Precision) -> Path:
    """Returns the path of a file of another precision beside a float32 file: ``NAME-depth-2-int8.onnx``."""
    return path if precision == "fp32" else path.with_name(f"{path.stem}-{precision}.onnx")


def convert(source: Path, target: Path, precision: Precision, calibration: Samples, *, tokens: bool = False) -> None:
    """Writes a float32 file in another precision; inputs and outputs keep their types and names.

    ``int8`` quantises weights by channel, and activations to ranges that the calibration samples give (static
    quantisation, with QuantizeLinear and DequantizeLinear nodes). A model of token ids is quantised dynamically, since
    its activations vary too much from text to text for fixed ranges.

    Args:
        source: ONNX file in float32.
        target: Path of the new file.
        precision: ``fp16`` or ``int8``.
        calibration: Samples for static quantisation, [N, ...].
        tokens: Whether the input are token ids.

    Raises:
        ExportError: onnxruntime's tools cannot convert the model.
    """
    import onnx  # noqa: PLC0415  # an extra of the coordinator

    try:
        model = onnx.load(source)
    except Exception as error:  # protobuf raises whatever it raises
        raise ExportError(f"{source.name} cannot be converted to {precision}: {error_line(error)}") from None
    made = converted(model, precision, calibration, source.name, tokens=tokens)
    try:
        target.write_bytes(made.SerializeToString())
    except OSError as error:
        raise ExportError(f"cannot write {target}: {error.strerror or error}") from None


def converted(
    model: onnx.ModelProto,
    precision: Precision,
    calibration: Samples,
    of: str,
    *,
    tokens: bool = False,
    told: Mapping[str, TensorRanges] = _NOTHING_TOLD,
    weights: DetachedWeights | None = None,
    directory: Path | None = None,
) -> onnx.ModelProto:
    """Returns a float32 model in another precision; inputs and outputs keep their types and names.

    Args:
        model: Model in float32.
        precision: ``fp16`` or ``int8``.
        calibration: Samples for static quantisation, [N, ...].
        of: What is converted, for messages.
        tokens: Whether the input are token ids.
        told: Ranges that devices have told, by device; where enough have, they take the place of those of the samples.
        weights: Weights that are kept outside the model; the new model holds all of its own.
        directory: Directory for temporary files, which take several times the bytes of the weights; that of the system
            by default.

    Raises:
        ExportError: onnxruntime's tools cannot convert the model.
    """
    weights = weights or DetachedWeights()
    properties = {entry.key: entry.value for entry in model.metadata_props}
    try:
        with _quiet():
            copy = type(model)()
            copy.CopyFrom(model)
            made = (
                _half(copy, weights)
                if precision == "fp16"
                else _quantized(copy, calibration, told, weights, directory, tokens=tokens)
            )
    except ExportError:
        raise
    except Exception as error:  # the tools raise whatever their many parts raise
        raise ExportError(f"{of} cannot be converted to {precision}: {error_line(error)}") from None
    from fedlp_edge.learning.export.onnx import with_properties  # noqa: PLC0415  # torch, which names alone do not need

    return with_properties(made, properties | {PRECISION_PROPERTY: precision})


def is_dynamic(model: onnx.ModelProto, *, tokens: bool) -> bool:
    """Returns whether a model is quantised dynamically: one of token ids, or a recurrent one.

    onnxruntime's static quantisation leaves recurrent operators in float32.
    """
    operators = {node.op_type for node in model.graph.node}
    return tokens or bool(operators & {"LSTM", "GRU", "RNN"})


def _half(model: onnx.ModelProto, weights: DetachedWeights) -> onnx.ModelProto:
    import onnx  # noqa: PLC0415
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16  # noqa: PLC0415

    if weights:  # shapes are inferred in a message of 2 GiB at most, so before the weights are in it
        model = onnx.shape_inference.infer_shapes(model)
        weights.attach(model)
    halved: onnx.ModelProto = convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=bool(weights),
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_SINGLE_PRECISION_OPERATORS],
    )
    sort_nodes(halved.graph)  # the tool appends its conversions at the end
    return halved


def _quantized(
    model: onnx.ModelProto,
    calibration: Samples,
    told: Mapping[str, TensorRanges],
    weights: DetachedWeights,
    temporary: Path | None,
    *,
    tokens: bool,
) -> onnx.ModelProto:
    import onnx  # noqa: PLC0415
    from onnxruntime import quantization  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    apart = weights.exceed_a_file(model)
    if apart and len(told) >= MIN_DEVICES:
        raise ExportError(
            "the ranges that devices have told are not used for more than 2 GiB of weights; name samples with --data"
        )
    # The tools work on files alone.
    with tempfile.TemporaryDirectory(prefix="fedlp-int8-", dir=temporary) as directory:
        source, prepared, made = (Path(directory) / f"{name}.onnx" for name in ("float32", "prepared", "int8"))
        weights.save(model, source)
        quant_pre_process(
            source, prepared, skip_symbolic_shape=True, save_as_external_data=apart, all_tensors_to_one_file=apart
        )
        # Processors without dot products of bytes add two products in 16 bits, which overflow with weights of 8 bits.
        # With weights of 7 bits a file computes the same on all of them.
        if is_dynamic(model, tokens=tokens):
            quantization.quantize_dynamic(
                prepared,
                made,
                reduce_range=True,
                weight_type=quantization.QuantType.QInt8,
                use_external_data_format=apart,
            )
        else:
            quantization.quantize_static(
                prepared,
                made,
                _reader(calibration),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                reduce_range=True,
                op_types_to_quantize=_quantized_operators(),
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                use_external_data_format=apart,
                extra_options={"TensorQuantOverrides": _overrides(prepared, told)},
            )
        return onnx.load(made)


def _quantized_operators() -> list[str]:
    """Returns the operators that are quantised: all that onnxruntime's tools can, but for the normalisations."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry  # noqa: PLC0415

    return sorted({*QLinearOpsRegistry, *QDQRegistry} - {*_FLOAT_OPERATORS})


def _overrides(prepared: Path, told: Mapping[str, TensorRanges]) -> dict[str, list[dict[str, Any]]]:
    """Returns the ranges that devices have told, as onnxruntime's quantisation takes them."""
    import numpy as np  # noqa: PLC0415
    import onnx  # noqa: PLC0415

    if len(told) < MIN_DEVICES:
        return {}
    found = fleet_ranges(prepared.read_bytes(), told)
    if not found:
        raise ExportError("the ranges that devices have told are of another model; name samples with --data")
    graph = onnx.load(prepared).graph
    known = {info.name for values in (graph.value_info, graph.input, graph.output) for info in values}
    return {
        name: [{"rmin": np.array(low, np.float32), "rmax": np.array(high, np.float32)}]
        for name, (low, high) in found.items()
        if name in known
    }


def _reader(calibration: Samples) -> Any:
    from onnxruntime.quantization import CalibrationDataReader  # noqa: PLC0415

    class Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._starts = iter(range(0, len(calibration), _CALIBRATION_BATCH))

        def get_next(self) -> dict[str, Samples] | None:
            start = next(self._starts, None)
            return None if start is None else {INPUT: calibration[start : start + _CALIBRATION_BATCH]}

    return Batches()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the advice that the tools log and warn of, which is for those who call them by hand.

    The tools put a directory with modules of common names on the module search path when they are first loaded, and
    need it there whenever they run; outside it must not stay, as it would hide others' modules.
    """
    import onnxruntime  # noqa: PLC0415  # an extra of the coordinator

    path = list(sys.path)
    sys.path.append(str(Path(onnxruntime.__file__).parent / "transformers"))
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        sys.path[:] = path
