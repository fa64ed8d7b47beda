"""This module joins all exits of a model in one ONNX file that stops at the first exit that is sure enough.

An ONNX graph whose outputs are the logits of several exits is cut into nested ``If`` nodes: what only the next exit
needs stands in the branch that is taken when the exit before it was not sure. The nodes are moved as they are, so a
quantised graph is cut like any other. A branch is computed only if it is taken, which saves time; as one decision is
taken for the whole batch, the file takes one sample at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.metadata import EXIT, OUTPUT

if TYPE_CHECKING:
    import onnx

EXITS_PROPERTY = "fedlp.exits"
"""Name of the metadata property with the depths of a file's exits."""

THRESHOLD_PROPERTY = "fedlp.early_exit"
"""Name of the metadata property with the confidence from which on a file stops."""


def logits_name(depth: int) -> str:
    """Returns the name of an exit's logits in a graph with several exits."""
    return f"{OUTPUT}_{depth}"


def with_early_exits(model: onnx.ModelProto, depths: Sequence[int], threshold: float) -> onnx.ModelProto:
    """Returns a model that computes exits from the shallowest on, and stops at the first that is sure enough.

    An exit is sure enough if the largest softmax of its logits is at least the threshold; the deepest always answers.

    Args:
        model: Model with the outputs ``logits_name(depth)``, float32 [batch, classes], for every depth.
        depths: Depths of the exits, shallowest first; two at least.
        threshold: Confidence, 0 to 1.

    Returns:
        Model with the same input, for a batch of one, and the outputs ``logits`` [1, classes] and ``exit`` [1].

    Raises:
        ExportError: There are fewer than two exits, or the graph has none of their names.
    """
    if len(depths) < 2:
        raise ExportError("an early exit needs two depths at least")
    graph = model.graph
    types = {output.name: output.type for output in graph.output}
    if missing := [depth for depth in depths if logits_name(depth) not in types]:
        raise ExportError(f"the graph has no exit of depth {missing[0]}")
    builder = _Builder(depths, threshold, _parts(graph, depths), types[logits_name(depths[0])])
    joined = type(model)()
    joined.CopyFrom(model)
    joined.graph.CopyFrom(builder.branch(0, graph.name))
    joined.graph.input.append(graph.input[0])
    joined.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for key, value in ((THRESHOLD_PROPERTY, repr(threshold)), (EXITS_PROPERTY, str(list(depths)))):
        entry = joined.metadata_props.add()
        entry.key, entry.value = key, value
    return joined


@dataclass(frozen=True, slots=True)
class _Part:
    """What an exit needs and no exit before it.

    Attributes:
        nodes: Nodes, in an order in which they can be computed.
        initializers: Constant tensors of these nodes.
    """

    nodes: tuple[onnx.NodeProto, ...]
    initializers: tuple[onnx.TensorProto, ...]


def _parts(graph: onnx.GraphProto, depths: Sequence[int]) -> list[_Part]:
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    computed: set[int] = set()
    placed: set[str] = set()
    parts = []
    for depth in depths:
        needed: set[int] = set()
        names: set[str] = set()
        waiting = [logits_name(depth)]
        while waiting:
            name = waiting.pop()
            if name in constants and name not in placed:
                names.add(name)
            index = producers.get(name)
            if index is not None and index not in computed | needed:
                needed.add(index)
                waiting += inputs_of(graph.node[index])
        # A constant stands in the branch that uses it first, where onnxruntime can fuse it with its operator.
        initializers = tuple(tensor for tensor in graph.initializer if tensor.name in names)
        parts.append(_Part(tuple(graph.node[index] for index in sorted(needed)), initializers))
        computed |= needed
        placed |= names
    return parts


def inputs_of(node: onnx.NodeProto) -> list[str]:
    """Returns the names that a node takes, those that the bodies of its own branches and loops use included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            names += [name for inner in body.node for name in inputs_of(inner)]
            names += [output.name for output in body.output]
    return names


@dataclass(frozen=True, slots=True)
class _Builder:
    """Builds the nested branches.

    Attributes:
        depths: Depths of the exits.
        threshold: Confidence, 0 to 1.
        parts: Part of the graph of each exit.
        logits_type: Type of an exit's logits.
    """

    depths: Sequence[int]
    threshold: float
    parts: Sequence[_Part]
    logits_type: onnx.TypeProto

    def branch(self, number: int, name: str) -> onnx.GraphProto:
        """Returns a graph that computes an exit, and decides whether the exits after it are needed."""
        from onnx import TensorProto, helper  # noqa: PLC0415  # an extra of the coordinator

        depth, part = self.depths[number], self.parts[number]
        logits = logits_name(depth)
        nodes = list(part.nodes)
        # Names are unique in the whole file, since branches see the names around them.
        ends = (f"{OUTPUT}_of_{depth}", f"{EXIT}_of_{depth}") if number else (OUTPUT, EXIT)
        if number == len(self.depths) - 1:
            nodes += self._answer(depth, ends)
        else:
            score, most, sure, limit = (
                f"exit_{depth}_{word}" for word in ("scores", "confidence", "sure", "threshold")
            )
            nodes += [
                helper.make_node("Softmax", [logits], [score], axis=1),
                helper.make_node("ReduceMax", [score], [most], keepdims=0),
                helper.make_node(
                    "Constant", [], [limit], value=helper.make_tensor("", TensorProto.FLOAT, [], [self.threshold])
                ),
                helper.make_node("GreaterOrEqual", [most, limit], [sure]),
                helper.make_node(
                    "If",
                    [sure],
                    list(ends),
                    then_branch=self._stop(depth),
                    else_branch=self.branch(number + 1, f"after_exit_{depth}"),
                ),
            ]
        return helper.make_graph(nodes, name, [], self._outputs(ends), initializer=list(part.initializers))

    def _stop(self, depth: int) -> onnx.GraphProto:
        from onnx import helper  # noqa: PLC0415

        ends = (f"{OUTPUT}_at_{depth}", f"{EXIT}_at_{depth}")
        return helper.make_graph(self._answer(depth, ends), f"stop_at_{depth}", [], self._outputs(ends))

    def _answer(self, depth: int, ends: tuple[str, str]) -> list[onnx.NodeProto]:
        from onnx import TensorProto, helper  # noqa: PLC0415

        # A tensor, since older runtimes (onnxruntime 1.10) take a list of numbers for a single one.
        stopped = helper.make_tensor("", TensorProto.INT64, [1], [depth])
        return [
            helper.make_node("Identity", [logits_name(depth)], [ends[0]]),
            helper.make_node("Constant", [], [ends[1]], value=stopped),
        ]

    def _outputs(self, ends: tuple[str, str]) -> list[onnx.ValueInfoProto]:
        from onnx import TensorProto, helper  # noqa: PLC0415

        logits = helper.make_value_info(ends[0], self.logits_type)
        logits.type.tensor_type.shape.dim[0].dim_value = 1
        return [logits, helper.make_tensor_value_info(ends[1], TensorProto.INT64, [1])]
