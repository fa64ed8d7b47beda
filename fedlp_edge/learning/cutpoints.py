"""Where a forward computation may be cut, and what lies between the cuts.

A cut point is a place in the graph where exactly one value is still needed, and that value is a tensor:
everything after it is a function of that tensor alone. State that is used on both sides (tied weights, a
module called twice) forbids a cut, because the two sides would no longer be separate units.

The code between two neighbouring cut points is a `Segment`, the smallest piece that a layer can be made of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch.fx
from torch import nn

from fedlp_edge.errors import PartitionError
from fedlp_edge.learning.tracing import WAY_OUT, Traced


@dataclass(frozen=True)
class Segment:
    """The code between two neighbouring cut points.

    Attributes:
        nodes: in order of execution.
        source: the node whose value it starts from.
        result: the node whose value is all that later segments see of it.
        torn: how many modules with a forward of their own, and how many plain sequences, the cut before it tears
            apart; less for a cut between two residual blocks than for one in the middle of a block.
        weighty: it holds weights worth starting a layer for; normalisation, biases and bare parameters
            (a position embedding) rather belong to the code before them.
    """

    nodes: tuple[torch.fx.Node, ...]
    source: torch.fx.Node
    result: torch.fx.Node
    torn: tuple[int, int]
    weighty: bool


def segments(traced: Traced, tensors: frozenset[torch.fx.Node]) -> list[Segment]:
    """Cuts the graph wherever it may be cut.

    Args:
        traced: the computation; its parameter accesses are moved to just before their first use.
        tensors: the nodes whose values are tensors.

    Raises:
        PartitionError: there is no cut point at all.
    """
    _sink_accesses(traced.graph)
    nodes = [node for node in traced.graph.nodes if node.op != "output"]
    alive = _alive_after(nodes, traced.output)
    shared = _shared_after(nodes, traced.holder)
    cuts = [i for i, values in enumerate(alive[:-1]) if len(values) == 1 and values[0] in tensors and not shared[i]]
    # The place right after the input is where the first segment starts, whether or not it counts as a cut.
    starts = [0, *(cut for cut in cuts if cut > 0)]
    if len(starts) == 1:
        raise PartitionError(_why_no_cut(traced, alive, shared, tensors))
    weighty = {node for node in nodes if _is_weighty(node, traced.holder)}
    if not weighty:  # written with bare parameters throughout
        weighty = {node for node in nodes if state_of(node, traced.holder)}
    found = []
    for start, stop in zip(starts, [*starts[1:], len(nodes) - 1], strict=True):
        inside = tuple(nodes[start + 1 : stop + 1])
        found.append(
            Segment(
                nodes=inside,
                source=alive[start][0] if start else nodes[0],
                result=alive[stop][0] if stop < len(nodes) - 1 else traced.output,
                torn=_torn(nodes[start], nodes[start + 1]),
                weighty=not weighty.isdisjoint(inside),
            )
        )
    return found


def state_of(node: torch.fx.Node, holder: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers that a node uses, by their name below ``holder``."""
    if node.op == "get_attr":
        path, _, leaf = str(node.target).rpartition(".")
        value = getattr(holder.get_submodule(path), leaf)
        return {str(node.target): value} if isinstance(value, torch.Tensor) else {}
    if node.op == "call_module":
        module = holder.get_submodule(str(node.target))
        named = [*module.named_parameters(), *module.named_buffers()]
        return {f"{node.target}.{name}": value for name, value in named}
    return {}


def _sink_accesses(graph: torch.fx.Graph) -> None:
    """Moves every attribute access to just before its first user, so that it is not alive across a cut."""
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in [node for node in graph.nodes if node.op == "get_attr"]:
        if node.users:
            min(node.users, key=order.__getitem__).prepend(node)
        else:
            graph.erase_node(node)


def _alive_after(nodes: list[torch.fx.Node], output: torch.fx.Node) -> list[list[torch.fx.Node]]:
    """For each place after a node, the values computed so far that are still needed."""
    last_use = {node: index for index, node in enumerate(nodes)}
    for index, node in enumerate(nodes):
        for source in node.all_input_nodes:
            last_use[source] = index
    last_use[output] = len(nodes)
    alive: list[list[torch.fx.Node]] = []
    current: list[torch.fx.Node] = []
    for index, node in enumerate(nodes):
        current = [value for value in [*current, node] if last_use[value] > index]
        alive.append(current)
    return alive


def _shared_after(nodes: list[torch.fx.Node], holder: nn.Module) -> list[str]:
    """For each place after a node, the name of a state used on both sides, or an empty string."""
    first: dict[int, int] = {}
    last: dict[int, tuple[int, str]] = {}
    for index, node in enumerate(nodes):
        for name, value in state_of(node, holder).items():
            first.setdefault(id(value), index)
            last[id(value)] = (index, name)
    shared = [""] * len(nodes)
    for identity, (stop, name) in last.items():
        for index in range(first[identity], stop):
            shared[index] = shared[index] or name.removeprefix("model.")
    return shared


def _torn(before: torch.fx.Node, after: torch.fx.Node) -> tuple[int, int]:
    """Counts the modules that are running on both sides of a cut."""
    running = before.meta.get("nn_module_stack", {})
    also = after.meta.get("nn_module_stack", {})
    kinds = [kind for key, (name, kind) in running.items() if key in also and name != "model"]
    plain = sum(issubclass(kind, nn.Sequential) and kind.forward is nn.Sequential.forward for kind in kinds)
    return len(kinds) - plain, plain


def _is_weighty(node: torch.fx.Node, holder: nn.Module) -> bool:
    """Whether a called module, or the owner of an accessed weight, holds a matrix or a filter."""
    if node.op == "call_module":
        owners = holder.get_submodule(str(node.target)).modules()
        return any(
            parameter.dim() >= 2
            for owner in owners
            if not isinstance(owner, nn.LayerNorm)
            for parameter in owner.parameters(recurse=False)
        )
    if node.op == "get_attr":
        # ``F.linear(x, self.proj.weight)``: the owner is a module that exists to hold a weight.
        owner = holder.get_submodule(str(node.target).rpartition(".")[0])
        return isinstance(owner, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))
    return False


def _why_no_cut(
    traced: Traced, alive: list[list[torch.fx.Node]], shared: list[str], tensors: frozenset[torch.fx.Node]
) -> str:
    model = type(traced.holder.get_submodule("model")).__name__
    inner = range(1, len(alive) - 1)
    if not inner:
        return f"{model} is a single operation, so there is nothing to split; {WAY_OUT}"
    tied = [shared[i] for i in inner if len(alive[i]) == 1 and alive[i][0] in tensors and shared[i]]
    if tied:
        return (
            f"{model} uses the same weights at both ends ({Counter(tied).most_common(1)[0][0]}), so no cut separates "
            "them; untie the weights, or pass a list of blocks in which one block holds both uses"
        )
    crossing: Mapping[torch.fx.Node, int] = Counter(value for i in inner for value in alive[i])
    longest = sorted(crossing, key=lambda value: -crossing[value])[:2]
    what = " and ".join(f"{value.name} ({'a tensor' if value in tensors else 'not a tensor'})" for value in longest)
    return (
        f"{model} has no place where a single tensor is all that is passed on: {what} stay in use throughout; "
        f"compute sizes where they are needed (x.flatten(1) instead of x.view(batch, -1)), or {WAY_OUT}"
    )
