"""This module takes out of a graph what does not change its results.

onnxslim folds constants, and removes nodes that do nothing. It is left out where it is not installed, where it fails,
where its graph is not smaller, and where weights are kept outside the graph; whatever comes of it is compared with
PyTorch like any other graph.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING

from fedlp_edge.learning.export.early_exit import inputs_of
from fedlp_edge.learning.export.external.detached_weights import has_references

if TYPE_CHECKING:
    import onnx


def cleaned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model with a graph that has no more than it needs, and the same inputs, outputs and opset."""
    return without_dead_tensors(_slimmed(model))


def without_dead_tensors(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the model without constant tensors that no node takes."""
    graph = model.graph
    used = {name for node in graph.node for name in inputs_of(node)} | {output.name for output in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    if len(kept) == len(graph.initializer):
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    return copy


def _slimmed(model: onnx.ModelProto) -> onnx.ModelProto:
    if has_references(model):
        return model
    try:
        import onnxslim  # noqa: PLC0415  # an extra of the coordinator
    except ImportError:
        return model
    copy = type(model)()
    copy.CopyFrom(model)
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.suppress(Exception):  # its many parts raise many errors
            warnings.simplefilter("ignore")
            slim: onnx.ModelProto | None = onnxslim.slim(copy)
            if slim is not None and _is_better(slim, model):
                return slim
    finally:
        logging.disable(level)
    return model


def _is_better(slim: onnx.ModelProto, model: onnx.ModelProto) -> bool:
    """Returns whether a slimmed model is smaller and can stand in for the original."""

    def interface(of: onnx.ModelProto) -> object:
        return (
            [(entry.name, entry.type.SerializeToString()) for entry in of.graph.input],
            [entry.name for entry in of.graph.output],
            [(entry.domain, entry.version) for entry in of.opset_import if not entry.domain],
        )

    return (
        interface(slim) == interface(model)
        and len(slim.graph.node) <= len(model.graph.node)
        and slim.ByteSize() <= model.ByteSize()
    )
