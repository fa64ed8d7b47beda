"""This module puts the nodes of a graph into an order in which they can be computed, as the ONNX standard wants it.

Tools that convert a graph may append nodes at its end whose results earlier ones take. onnxruntime sorts nodes itself,
but onnx's checker, OpenCV, TensorRT and others refuse such a file.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from fedlp_edge.learning.export.early_exit import inputs_of

if TYPE_CHECKING:
    import onnx


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Sorts the nodes of a graph in place, and those of its branches; nodes that may stay where they are do.

    Args:
        graph: Graph without cycles.
    """
    nodes = [type(node).FromString(node.SerializeToString()) for node in graph.node]
    for node in nodes:
        for attribute in node.attribute:
            for branch in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                sort_nodes(branch)
    producers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{producers[name] for name in inputs_of(node) if name in producers} for node in nodes]
    takers: list[list[int]] = [[] for _ in nodes]
    for index, before in enumerate(needs):
        for producer in before:
            takers[producer].append(index)
    waiting = [len(before) for before in needs]
    ready = [index for index, count in enumerate(waiting) if not count]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for taker in takers[order[-1]]:
            waiting[taker] -= 1
            if not waiting[taker]:
                heapq.heappush(ready, taker)
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order)
