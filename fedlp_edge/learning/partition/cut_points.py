"""Finds the places where a forward computation may be cut, and the segments between them.

A cut point is a place in the graph where later nodes need exactly one tensor that gradients flow through, the
*feature*. Tensors without gradients, such as a padding mask, are passed on beside the feature. State that is used on
both sides (tied weights, a module that is called twice) forbids a cut, because the two sides would not be separate
units.

The code between two neighbouring cut points is a `Segment`, the smallest part that a layer can be made of.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import torch.fx
from torch import nn

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.partition.recorder import ROOT
from fedlp_edge.learning.partition.tracing import WAY_OUT, Traced, batch_size, device_of


@dataclass(frozen=True)
class Segment:
    """The code between two neighbouring cut points.

    Attributes:
        nodes: Nodes of the segment, in order of execution.
        source: Nodes whose values the segment starts from: the feature, then the tensors beside it.
        result: Nodes whose values later segments use: the feature, then the tensors beside it.
        divided: Numbers of modules with a forward of their own, and of plain ``nn.Sequential``, that the cut before the
            segment divides: smaller for a cut between two residual blocks than for one inside a block.
        has_weights: Whether the segment multiplies with weights, so that a layer may start with it; normalisation,
            biases and embeddings join the code beside them.
    """

    nodes: tuple[torch.fx.Node, ...]
    source: tuple[torch.fx.Node, ...]
    result: tuple[torch.fx.Node, ...]
    divided: tuple[int, int]
    has_weights: bool


def undivided(traced: Traced) -> Segment:
    """Returns the graph as a single segment."""
    nodes = list(traced.graph.nodes)
    return Segment(tuple(nodes[1:]), source=(nodes[0],), result=(traced.output,), divided=(0, 0), has_weights=True)


def segments(traced: Traced) -> list[Segment]:
    """Cuts a graph at all of its cut points and returns the segments, in order of execution.

    Args:
        traced: Forward computation of a model.

    Raises:
        PartitionError: The graph has no cut point.
    """
    nodes = list(traced.graph.nodes)
    alive = _alive_after(nodes, traced.output)
    shared = _shared_after(nodes, traced.holder)
    # The first segment starts right after the input, which need not be a cut point.
    passed: dict[int, tuple[torch.fx.Node, ...]] = {0: (nodes[0],), len(nodes) - 1: (traced.output,)}
    for place, values in enumerate(alive[1:-1], start=1):
        if not shared[place] and (passing := _passing(values)):
            passed[place] = passing
    places = sorted(passed)
    if len(places) == 2:
        raise PartitionError(_why_no_cut(traced, alive, shared))
    has_weights = {node for node in nodes if node.meta["macs"]}
    if len(has_weights) < 2:  # The model has only embeddings, or products that are not counted.
        has_weights = {node for node in nodes if state_of(node, traced.holder)}
    found = []
    for start, stop in pairwise(places):
        inside = tuple(nodes[start + 1 : stop + 1])
        found.append(
            Segment(
                nodes=inside,
                source=passed[start],
                result=passed[stop],
                divided=_divided_modules(nodes[start], nodes[start + 1]),
                has_weights=not has_weights.isdisjoint(inside),
            )
        )
    return found


def is_derived(node: torch.fx.Node) -> bool:
    """Returns whether a node gives the batch size or the device, which it can read from any tensor of the batch."""
    return node.op == "call_function" and node.target in (batch_size, device_of)


def state_of(node: torch.fx.Node, holder: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the parameters and buffers that a node uses, by their name below ``holder``."""
    if node.op == "get_attr":
        path, _, leaf = str(node.target).rpartition(".")
        value = getattr(holder.get_submodule(path), leaf)
        return {str(node.target): value} if isinstance(value, torch.Tensor) else {}
    if node.op == "call_module":
        module = holder.get_submodule(str(node.target))
        named = [*module.named_parameters(), *module.named_buffers()]
        return {f"{node.target}.{name}": value for name, value in named}
    return {}


def _passing(alive: list[torch.fx.Node]) -> tuple[torch.fx.Node, ...]:
    """Returns the nodes that a cut would pass on: the feature, then tensors beside it; empty if no cut is possible."""
    features = [value for value in alive if value.meta["learns"]]
    carried = [value for value in alive if not value.meta["learns"]]
    if len(features) != 1 or any(value.meta["shape"] is None for value in alive) or features[0].meta["batch"] is None:
        return ()
    return (features[0], *carried)


def _alive_after(nodes: list[torch.fx.Node], output: torch.fx.Node) -> list[list[torch.fx.Node]]:
    """Returns for the place after each node the computed values that later nodes need."""
    last_use = {node: index for index, node in enumerate(nodes)}
    for index, node in enumerate(nodes):
        for source in [] if is_derived(node) else node.all_input_nodes:
            last_use[source] = index
    last_use[output] = len(nodes)
    alive: list[list[torch.fx.Node]] = []
    current: list[torch.fx.Node] = []
    for index, node in enumerate(nodes):
        current = [value for value in [*current, node] if last_use[value] > index]
        alive.append(current)
    return alive


def _shared_after(nodes: list[torch.fx.Node], holder: nn.Module) -> list[str]:
    """Returns for the place after each node the name of a tensor of the state used on both sides, or ""."""
    lasting = holder.state_dict(keep_vars=True).keys()
    first: dict[int, int] = {}
    last: dict[int, tuple[int, str]] = {}
    for index, node in enumerate(nodes):
        for name, value in state_of(node, holder).items():
            if not (isinstance(value, nn.Parameter) or (name in lasting and value.is_floating_point())):
                continue  # Such a tensor is not exchanged, so both sides may hold it.
            first.setdefault(id(value), index)
            last[id(value)] = (index, name)
    shared = [""] * len(nodes)
    for identity, (stop, name) in last.items():
        for index in range(first[identity], stop):
            shared[index] = shared[index] or name.removeprefix("model.")
    return shared


def _divided_modules(before: torch.fx.Node, after: torch.fx.Node) -> tuple[int, int]:
    """Counts the modules whose forward runs on both sides of a cut: other modules, and plain sequences."""
    running = before.meta.get("nn_module_stack", {})
    also = after.meta.get("nn_module_stack", {})
    kinds = [kind for key, (name, kind) in running.items() if key in also and name != "model"]
    plain = sum(issubclass(kind, nn.Sequential) and kind.forward is nn.Sequential.forward for kind in kinds)
    return len(kinds) - plain, plain


def _why_no_cut(traced: Traced, alive: list[list[torch.fx.Node]], shared: list[str]) -> str:
    model = type(traced.holder.get_submodule(ROOT)).__name__
    inner = range(1, len(alive) - 1)
    tied = [shared[i] for i in inner if shared[i] and _passing(alive[i])]
    if tied:
        return (
            f"{model} uses the same weights at both ends ({Counter(tied).most_common(1)[0][0]}), so no cut separates "
            "them; untie the weights, or pass a list of blocks in which one block holds both uses; a list of the model "
            "alone is learned whole, with one depth"
        )
    if not any(node.meta["learns"] for node in traced.graph.nodes if node.op != "placeholder"):
        return (
            f"no gradient flows through {model}, so nothing in it can be trained; leave out detach(), torch.no_grad, "
            "numpy, and weights that are quantised"
        )
    crossing = Counter(value for i in inner for value in alive[i] if value.meta["learns"])
    longest = [_what(value) for value, _ in crossing.most_common(2)]
    return (
        f"{model} has no place where a single feature is all that is passed on: {' and '.join(longest)} stay in "
        f"use side by side, which one block must hold; {WAY_OUT}"
    )


def _what(value: torch.fx.Node) -> str:
    names: list[str] = [name for name, _ in value.meta["nn_module_stack"].values()]
    place = names[-1].removeprefix(ROOT).removeprefix(".") if names else ""
    return f"{value.name} (in {place})" if place else value.name
