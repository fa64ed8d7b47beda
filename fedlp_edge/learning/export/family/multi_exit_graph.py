"""This module exports all exits of a model as one graph, and cuts the graph of each exit out of it.

An export costs seconds of processor time for every depth, most of it for the layers that all depths have in common.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor, nn

from fedlp_edge.core.metrics.answers import AnswerMode
from fedlp_edge.learning.export.early_exit import inputs_of
from fedlp_edge.learning.export.external.detached_weights import DetachedWeights
from fedlp_edge.learning.export.metadata import OPSET
from fedlp_edge.learning.export.onnx import graph_of
from fedlp_edge.learning.export.onnx_rewrites import RewrittenCalls
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.tasks.base import LearningTask

if TYPE_CHECKING:
    import onnx


def output_name(name: str, depth: int) -> str:
    """Returns the name of an exit's output in a graph with several exits."""
    return f"{name}_{depth}"


def exit_of(model: Submodel, depth: int) -> Submodel:
    """Returns the model of one depth, of a submodel that holds several: its parts, which are shared and not copied."""
    return exits_of(model, (depth,), model.answer)


def exits_of(model: nn.Module, depths: Collection[int], answer: AnswerMode = "exit") -> Submodel:
    """Returns what some depths of a model with parts ``L1`` .. and ``H1`` .. need, shared and not copied.

    Args:
        model: Model with these parts.
        depths: Depths.
        answer: What each answers with: its exit, or the mean of all exits up to it, which are then all needed.
    """
    deepest = max(depths)
    numbers = range(1, deepest + 1)
    heads = numbers if answer == "mean" else sorted(depths)
    names = [f"L{number}" for number in numbers] + [f"H{depth}" for depth in heads]
    return Submodel({name: model.get_submodule(name) for name in names}, deepest, answer).eval()


class _Exits(nn.Module):
    """Returns what the exits answer, one after the other, from one pass through the layers."""

    def __init__(self, model: Submodel, tasks: Mapping[int, LearningTask]) -> None:
        super().__init__()
        self.model = model
        self.tasks = tasks

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        with RewrittenCalls():
            outputs = dict(zip(self.model.exit_depths, self.model.answers(input), strict=True))
            return tuple(
                answer for depth, task in self.tasks.items() for answer in task.predict(outputs[depth], input).values()
            )


def multi_exit_graph(
    model: Submodel,
    tasks: Mapping[int, LearningTask],
    outputs: Sequence[str],
    example: Tensor,
    of: str,
    opset: int = OPSET,
    *,
    weights: DetachedWeights,
) -> onnx.ModelProto:
    """Exports several exits of a model as one graph.

    Args:
        model: Submodel on the CPU that holds the heads of these exits.
        tasks: What the outputs of each exit mean, by depth.
        outputs: Names of the outputs of an exit; in the graph, each has the depth behind it (`output_name`).
        example: Two samples, [2, ...].
        of: What is exported, for messages.
        opset: ONNX opset of the graph.
        weights: Takes the weights where they are too many for one file; the graph then refers to them.

    Raises:
        ExportError: PyTorch cannot export the model.
    """
    names = [output_name(name, depth) for depth in tasks for name in outputs]
    return graph_of(_Exits(model, tasks).eval(), example, names, of, opset, weights=weights)


def cut_exit(model: onnx.ModelProto, depth: int, outputs: Sequence[str]) -> onnx.ModelProto:
    """Returns the part of a graph with several exits that one exit needs, with outputs of their plain names.

    Args:
        model: Model with the outputs ``output_name(name, depth)``.
        depth: Depth of the exit.
        outputs: Names of the outputs of an exit.
    """
    named = {output_name(name, depth): name for name in outputs}
    needed = needed_nodes(model.graph, list(named))
    cut = type(model)()
    cut.CopyFrom(model)
    graph = cut.graph
    for field in (graph.node, graph.output, graph.initializer, graph.value_info):
        del field[:]
    used = set(named)
    for index in sorted(needed):
        node = graph.node.add()
        node.CopyFrom(model.graph.node[index])
        used.update(inputs_of(node), node.output)
        for names in (node.input, node.output):
            names[:] = [named.get(name, name) for name in names]
    graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    graph.value_info.extend(info for info in model.graph.value_info if info.name in used - set(named))
    for output in model.graph.output:
        if output.name in named:
            graph.output.add().CopyFrom(output)
            graph.output[-1].name = named[output.name]
    graph.output.sort(key=lambda output: outputs.index(output.name))
    return cut


def needed_nodes(graph: onnx.GraphProto, names: Sequence[str]) -> set[int]:
    """Returns the numbers of the nodes from which some tensors of a graph are computed."""
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needed: set[int] = set()
    waiting = list(names)
    while waiting:
        index = producers.get(waiting.pop())
        if index is not None and index not in needed:
            needed.add(index)
            waiting += inputs_of(graph.node[index])
    return needed
