"""Compares two recordings of one model and finds where they differ.

A model is recorded in training and in evaluation, and with two batch sizes. Calls that differ in constants only are
paired. A submodule whose calls differ in number, kind or arguments cannot be split and must be called as a module.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
import torch.fx

from fedlp_edge.learning.partition.recorder import CONSTANT, ROOT, Recording


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison: pairs of nodes, or the modules that compute something else.

    Attributes:
        pairs: All relevant nodes of the first recording, each with its counterpart in the second one.
        differing: Those pairs whose constants differ.
        blamed: Names of the innermost modules that compute something else; if there are any, ``pairs`` is empty.
    """

    pairs: tuple[tuple[torch.fx.Node, torch.fx.Node], ...] = ()
    differing: tuple[tuple[torch.fx.Node, torch.fx.Node], ...] = ()
    blamed: frozenset[str] = frozenset()


def compare(one: Recording, other: Recording) -> Comparison:
    """Compares the relevant nodes of two recordings of one model.

    Args:
        one: First recording.
        other: Second recording, in the other mode or with another batch size.
    """
    nodes, twins = relevant(one), relevant(other)
    blamed = _blame(nodes, twins)
    if blamed:
        return Comparison(blamed=blamed)
    twin_of: dict[torch.fx.Node, torch.fx.Node] = {}
    differing = []
    for node, twin in zip(nodes, twins, strict=True):
        leaves = list(zip_longest(leaves_of((node.args, node.kwargs)), leaves_of((twin.args, twin.kwargs))))
        wired_alike = all(
            isinstance(left, torch.fx.Node) == isinstance(right, torch.fx.Node)
            and (not isinstance(left, torch.fx.Node) or twin_of[left] is right)
            for left, right in leaves
        )
        if not wired_alike or not _same_state(one, other, node, twin):
            return Comparison(blamed=frozenset([_innermost(node)]))
        if any(left != right for left, right in leaves if not isinstance(left, torch.fx.Node)):
            if node.op not in ("call_function", "call_method"):
                return Comparison(blamed=frozenset([_innermost(node)]))
            differing.append((node, twin))
        twin_of[node] = twin
    return Comparison(tuple(twin_of.items()), tuple(differing))


def relevant(recording: Recording) -> list[torch.fx.Node]:
    """Returns the nodes that the logits depend on and those that change a tensor in place, in order of execution."""
    pending = [recording.output, *(node for node in recording.graph.nodes if node.meta["changes"])]
    needed = set(pending)
    while pending:
        for source in pending.pop().all_input_nodes:
            if source not in needed:
                needed.add(source)
                pending.append(source)
    return [node for node in recording.graph.nodes if node in needed or node.op == "placeholder"]


def leaves_of(value: Any) -> Iterator[Any]:
    """Yields the nodes and constants in nested arguments, and a mark for each container."""
    if isinstance(value, Mapping):
        yield ("mapping", tuple(value))
        for part in value.values():
            yield from leaves_of(part)
    elif isinstance(value, (tuple, list)):
        yield ("sequence", len(value))
        for part in value:
            yield from leaves_of(part)
    elif isinstance(value, slice):
        yield ("slice",)
        yield from leaves_of((value.start, value.stop, value.step))
    else:
        yield value


def _blame(nodes: list[torch.fx.Node], twins: list[torch.fx.Node]) -> frozenset[str]:
    """Returns the names of the innermost modules whose calls differ between the two recordings."""
    one, other = _calls(nodes), _calls(twins)
    differing = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    outer = {key[:depth] for key in differing for depth in range(len(key))}
    return frozenset(key[-1].partition("@")[0] if key else ROOT for key in differing if key not in outer)


def _calls(nodes: list[torch.fx.Node]) -> dict[tuple[str, ...], list[tuple[str, Any]]]:
    """Returns what every module call does, by the keys of the calls around it and its own; () is the whole model."""
    made: dict[tuple[str, ...], list[tuple[str, Any]]] = defaultdict(list)
    for node in nodes:
        stack = [key for key, (name, _) in node.meta["nn_module_stack"].items() if name != ROOT]
        if node.op == "call_module":
            stack.pop()
        target = CONSTANT if str(node.target).startswith(CONSTANT) else node.target
        for depth in range(len(stack) + 1):
            made[tuple(stack[:depth])].append((node.op, target))
    return made


def _same_state(one: Recording, other: Recording, node: torch.fx.Node, twin: torch.fx.Node) -> bool:
    """Returns whether two accesses give equal tensors; constants may have another name in each recording."""
    constant, again = (r.constants.get(str(n.target)) for r, n in ((one, node), (other, twin)))
    if constant is None or again is None:
        return constant is again
    return constant.dtype == again.dtype and torch.equal(constant, again)


def _innermost(node: torch.fx.Node) -> str:
    names: list[str] = [name for name, _ in node.meta["nn_module_stack"].values()]
    if node.op == "call_module":
        names.pop()
    return names[-1] if names else ROOT
