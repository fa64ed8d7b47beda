"""This module keeps the weights of large models out of their graphs until these are written.

A protobuf message ends at 2 GiB, and every step that changes a graph copies it. The graph of a model with more weights
than that refers to them instead: its tensors are external, as ONNX calls it, and named by a key. What is cut out of
such a graph is written as one file if its own weights fit, and otherwise as an ONNX file with a file of weights beside.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.external.weights_file import SUFFIX, WeightsFile
from fedlp_edge.system.files import PARTIAL, move_into_place, replacing

if TYPE_CHECKING:
    import onnx
    import onnx_ir
    from torch import nn

MAX_BYTES = 2**31 - 2**24
"""Most bytes of weights in an ONNX file: a protobuf message ends at 2 GiB, and there is a graph beside the weights."""

LEAST_BYTES = 1024
"""Bytes of the smallest tensor that is taken out of a graph; tools want to see smaller ones, such as shapes, in it."""

_ALIGNMENT = 4096  # of tensors in a file of weights, so that pages of it can be mapped
_EXTERNAL = 1  # TensorProto.EXTERNAL


def exceeds_a_file(model: nn.Module) -> bool:
    """Returns whether the weights of a PyTorch model do not fit in one ONNX file."""
    return _bytes_of(model) > MAX_BYTES


def check_one_file(model: nn.Module, of: str) -> None:
    """Checks that the weights of a model fit in one file, before an exporter copies them several times.

    Raises:
        ExportError: They do not; it says so of what ``of`` names.
    """
    if exceeds_a_file(model):
        raise ExportError(
            f"{of} has {_bytes_of(model) / 2**30:.1f} GiB of weights, and devices get one ONNX file, which holds 2 GiB "
            "at most: fedlp export writes it with its weights in a second file, or smaller with --precision fp16,int8"
        )


def _bytes_of(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


class DetachedWeights:
    """Weights that graphs refer to, by key; none as long as nothing was detached."""

    def __init__(self) -> None:
        self._tensors: dict[str, Any] = {}

    def __bool__(self) -> bool:
        return bool(self._tensors)

    def detach(self, model: onnx_ir.Model) -> None:
        """Takes the large tensors out of what an exporter has made, without a copy, if one file is too small."""
        import onnx_ir  # noqa: PLC0415  # the exporter needs it

        values = [entry for entry in model.graph.initializers.values() if entry.const_value is not None]
        if sum(entry.const_value.nbytes for entry in values if entry.const_value is not None) <= MAX_BYTES:
            return
        for value in values:
            tensor = value.const_value
            if tensor is None or tensor.nbytes < LEAST_BYTES:
                continue
            key = self._keep(tensor)
            value.const_value = onnx_ir.ExternalTensor(
                key, 0, tensor.nbytes, tensor.dtype, shape=onnx_ir.Shape(tensor.shape.numpy()), name=value.name or key
            )

    @classmethod
    def of(cls, model: onnx.ModelProto) -> DetachedWeights:
        """Takes the large tensors out of a model that was converted, if one file is too small for them."""
        detached = cls()
        tensors = [tensor for graph in graphs_of(model.graph) for tensor in graph.initializer]
        if sum(len(tensor.raw_data) for tensor in tensors) <= MAX_BYTES:
            return detached
        for tensor in tensors:
            if (size := len(tensor.raw_data)) >= LEAST_BYTES:
                key = detached._keep(np.frombuffer(tensor.raw_data, np.uint8))
                tensor.ClearField("raw_data")
                _refer(tensor, key, 0, size)
        return detached

    def exceed_a_file(self, model: onnx.ModelProto) -> bool:
        """Returns whether a model refers to more weights than fit in one file."""
        sizes = {_key(tensor): _size(tensor) for tensor in _references(model)}
        return sum(sizes.values()) > MAX_BYTES

    def attach(self, model: onnx.ModelProto) -> None:
        """Puts the weights that a model refers to into it."""
        for tensor in _references(model):
            values = self._values(_key(tensor)).tobytes()
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
            tensor.raw_data = values

    def save(self, model: onnx.ModelProto, path: Path) -> None:
        """Writes a model as an ONNX file, with a file of weights beside it if its weights are too many for one.

        Args:
            model: Model, which is left as it is.
            path: Path of the ONNX file.

        Raises:
            OSError: The disk is full or failed.
        """
        if not self:
            path.write_bytes(model.SerializeToString())
            return
        copy = type(model)()
        copy.CopyFrom(model)
        if self.exceed_a_file(model):
            for key, value in self._write_weights(copy, path.with_name(path.name + SUFFIX)).properties.items():
                entry = copy.metadata_props.add()
                entry.key, entry.value = key, value
        else:
            self.attach(copy)
        path.write_bytes(copy.SerializeToString())

    @contextmanager
    def replacing(self, path: Path, model: onnx.ModelProto) -> Iterator[Path]:
        """Yields a temporary path for a model, which gets its name on success and is removed otherwise.

        Two files cannot be renamed in one step. So an older file is removed before the weights get their name, and the
        new one is named last: whoever comes in between finds no file, and never one with weights of another.

        Args:
            path: Final path, whose directory exists.
            model: Model that is written, which says whether there are two files.

        Raises:
            OSError: The disk is full or failed.
        """
        if not self.exceed_a_file(model):
            with replacing(path, durable=False) as partial:
                yield partial
            return
        folder = path.with_name(path.name + SUFFIX + PARTIAL)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            partial = folder / path.name  # the graph names its file of weights, so both have their names already
            yield partial
            path.unlink(missing_ok=True)
            for written in (folder / (path.name + SUFFIX), partial):
                move_into_place(written, path.with_name(written.name), durable=False)
        finally:
            with contextlib.suppress(OSError):
                shutil.rmtree(folder)

    def _keep(self, tensor: Any) -> str:
        key = f"weights-{len(self._tensors)}"
        self._tensors[key] = tensor
        return key

    def _values(self, key: str) -> npt.NDArray[Any]:
        """Returns the values of a tensor, little-endian and row by row."""
        tensor = self._tensors[key]
        array = tensor if isinstance(tensor, np.ndarray) else tensor.numpy()
        return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))

    def _write_weights(self, model: onnx.ModelProto, path: Path) -> WeightsFile:
        """Writes the weights that a model refers to, one tensor at a time, and has it refer to their places."""
        digest, end = blake3(), 0
        places: dict[str, int] = {}
        with path.open("wb") as file:
            for tensor in _references(model):
                if (key := _key(tensor)) not in places:
                    gap = bytes(-end % _ALIGNMENT)
                    values = self._values(key).reshape(-1).view(np.uint8).data
                    places[key] = end + len(gap)
                    for part in (gap, values):
                        file.write(part)
                        digest.update(part)
                    end = places[key] + len(values)
                _refer(tensor, path.name, places[key], _size(tensor))
        return WeightsFile(path.name, end, digest.hexdigest())


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yields a graph and those of its branches and loops, at any depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs_of(body)


def has_references(model: onnx.ModelProto) -> bool:
    """Returns whether weights of a model are kept outside it."""
    return any(True for _ in _references(model))


def _references(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in graphs_of(model.graph):
        yield from (tensor for tensor in graph.initializer if tensor.data_location == _EXTERNAL)


def _entries(tensor: onnx.TensorProto) -> Mapping[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _key(tensor: onnx.TensorProto) -> str:
    return _entries(tensor)["location"]


def _size(tensor: onnx.TensorProto) -> int:
    return int(_entries(tensor)["length"])


def _refer(tensor: onnx.TensorProto, location: str, offset: int, size: int) -> None:
    tensor.data_location = _EXTERNAL  # type: ignore[assignment]  # an enum's value
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(size))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
