"""A module's forward computation as a graph that still behaves differently in training.

``torch.fx`` records what a forward call does, but it bakes ``self.training`` into the record: a functional
dropout traced in evaluation never drops anything again. The forward is therefore traced twice, once in
each mode, and the two records are compared:

- constants that differ (``F.dropout(x, training=False)``) become a `ModeSwitch`, which asks its own mode;
- a submodule whose two records differ in structure, or which cannot be traced at all, is kept whole and
  called as a module, with whatever it does inside;
- auxiliary outputs that exist in training only (GoogLeNet, Inception) are left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch.fx
from torch import nn
from torch.fx.node import map_aggregate, map_arg

from fedlp_edge.errors import PartitionError

WAY_OUT = "pass the model as a list of blocks or an nn.Sequential, which are not traced"

_ROOT = "model"


@dataclass(frozen=True)
class Traced:
    """A forward computation.

    Attributes:
        holder: owns every attribute that the graph names.
        graph: one placeholder, one output node.
        output: the node that gives the logits.
    """

    holder: nn.Module
    graph: torch.fx.Graph
    output: torch.fx.Node


class ModeSwitch(nn.Module):
    """Calls one function with the constants of training or with those of evaluation.

    Args:
        call: the function, or the name of a method of the first value.
        training: positional and named arguments, with a `_Slot` for each value from the graph.
        evaluation: likewise.
    """

    def __init__(self, call: Callable[..., Any] | str, training: _Template, evaluation: _Template) -> None:
        super().__init__()
        self._call = call
        self._templates = {True: training, False: evaluation}

    def forward(self, *values: Any) -> Any:
        """Fills the template of the present mode with ``values`` and calls."""

        def fill(leaf: Any) -> Any:
            return values[leaf.index] if isinstance(leaf, _Slot) else leaf

        template = self._templates[self.training]
        args = map_aggregate(template.args, fill)
        kwargs = map_aggregate(template.kwargs, fill)
        if isinstance(self._call, str):
            return getattr(args[0], self._call)(*args[1:], **kwargs)
        return self._call(*args, **kwargs)


def trace(model: nn.Module) -> Traced:
    """Records the forward of a module that takes one tensor and gives one.

    The module is left as it was: modes are restored, nothing is computed.

    Raises:
        PartitionError: it takes several inputs, cannot be traced, gives something other than one tensor, or
            its outermost forward depends on the mode.
    """
    _check_signature(model)
    holder = _Holder(model)
    whole: set[str] = set()  # submodules that are not looked into
    while True:
        try:
            evaluation = _record(holder, training=False, whole=whole)
            training = _record(holder, training=True, whole=whole)
        except _Untraceable as failure:
            if failure.module == _ROOT:
                cause = str(failure.__cause__).splitlines()[0] if str(failure.__cause__) else "no reason given"
                raise PartitionError(
                    f"{_name(model)} cannot be traced ({type(failure.__cause__).__name__}: {cause}), usually because "
                    f"its forward decides by the values of tensors; {WAY_OUT}"
                ) from failure
            whole.add(failure.module)
            continue
        comparison = _compare(holder, _logits(evaluation, model), _logits(training, model, auxiliary=True))
        if comparison.switches is not None:
            for number, (node, twin) in enumerate(comparison.switches):
                _insert_switch(holder, evaluation, node, twin, f"mode_switch_{number}")
            return Traced(holder, evaluation, _logits(evaluation, model))
        if comparison.module is None:
            raise PartitionError(
                f"the forward of {_name(model)} itself computes something else in training than in evaluation; "
                f"move that part into a submodule, or {WAY_OUT}"
            )
        whole.add(comparison.module)


@contextmanager
def mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Within the block every submodule is in training (or evaluation); afterwards each is as it was."""
    flags = [(child, child.training) for child in module.modules()]
    try:
        for child, _ in flags:
            child.training = training
        yield
    finally:
        for child, flag in flags:
            child.training = flag


@dataclass(frozen=True)
class _Slot:
    index: int


@dataclass(frozen=True)
class _Template:
    args: Any
    kwargs: Any


class _Holder(nn.Module):
    """Calls the model with one input, so that optional arguments keep their defaults.

    fx also hangs constants on the root that it traces; they end up here and not on the user's module.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> Any:
        return self.model(x)


class _Untraceable(Exception):
    """Tracing failed inside this submodule (and in none of its children)."""

    def __init__(self, module: str) -> None:
        super().__init__(module)
        self.module = module


class _Tracer(torch.fx.Tracer):
    def __init__(self, whole: set[str]) -> None:
        super().__init__()
        self._whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self._whole or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except _Untraceable:
            raise
        except Exception as error:  # a user's forward may fail on a symbolic value in any way
            raise _Untraceable(self.path_of_module(m)) from error


def _record(holder: nn.Module, *, training: bool, whole: set[str]) -> torch.fx.Graph:
    with mode(holder, training):
        return _Tracer(whole).trace(holder)


def _check_signature(model: nn.Module) -> None:
    required = [
        p.name
        for p in inspect.signature(model.forward).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if len(required) > 1:
        raise PartitionError(
            f"{_name(model)} takes several inputs ({', '.join(required)}), and layers pass on a single tensor; "
            "wrap it in a module whose forward takes one tensor"
        )


def _logits(graph: torch.fx.Graph, model: nn.Module, *, auxiliary: bool = False) -> torch.fx.Node:
    """The node of the only output, or with ``auxiliary`` of the first of several."""
    value: Any = next(iter(reversed(graph.nodes))).args[0]
    if isinstance(value, torch.fx.Node) and hasattr(value.target, "_fields"):
        value = value.args  # fx records the making of a named tuple as a call
    if auxiliary and isinstance(value, tuple) and value:
        value = value[0]
    if isinstance(value, torch.fx.Node):
        return value
    raise PartitionError(
        f"{_name(model)} returns a {type(value).__name__} and not one tensor of logits [batch, classes]; "
        "wrap it in a module that returns the logits alone"
    )


@dataclass(frozen=True)
class _Comparison:
    """Either the pairs of nodes that differ in constants only, or the innermost module that differs more."""

    switches: list[tuple[torch.fx.Node, torch.fx.Node]] | None
    module: str | None = None


def _compare(holder: nn.Module, evaluation: torch.fx.Node, training: torch.fx.Node) -> _Comparison:
    twin_of: dict[torch.fx.Node, torch.fx.Node] = {}
    switches = []
    for node, twin in zip_longest(_ancestry(evaluation), _ancestry(training)):
        if node is None or twin is None or not _calls_alike(holder, node, twin):
            return _Comparison(None, _innermost(node, twin))
        leaves = list(zip_longest(_leaves((node.args, node.kwargs)), _leaves((twin.args, twin.kwargs))))
        wired_alike = all(
            isinstance(left, torch.fx.Node) == isinstance(right, torch.fx.Node)
            and (not isinstance(left, torch.fx.Node) or twin_of[left] is right)
            for left, right in leaves
        )
        same_constants = all(left == right for left, right in leaves if not isinstance(left, torch.fx.Node))
        if not wired_alike or (not same_constants and node.op not in ("call_function", "call_method")):
            return _Comparison(None, _innermost(node, twin))
        if not same_constants:
            switches.append((node, twin))
        twin_of[node] = twin
    return _Comparison(switches)


def _calls_alike(holder: nn.Module, node: torch.fx.Node, twin: torch.fx.Node) -> bool:
    """Whether both nodes call the same thing; constants made in the forward have a new name in each record."""
    if (node.op, node.target) == (twin.op, twin.target):
        return True
    if node.op == twin.op == "get_attr":
        made, again = (getattr(holder, str(of.target), None) for of in (node, twin))
        if isinstance(made, torch.Tensor) and isinstance(again, torch.Tensor):
            return made.dtype == again.dtype and torch.equal(made, again)
    return False


def _ancestry(output: torch.fx.Node) -> list[torch.fx.Node]:
    """The nodes that ``output`` is computed from, and itself, in graph order."""
    needed = {output}
    pending = [output]
    while pending:
        for source in pending.pop().all_input_nodes:
            if source not in needed:
                needed.add(source)
                pending.append(source)
    return [node for node in output.graph.nodes if node in needed]


def _leaves(value: Any) -> Iterator[Any]:
    """Nodes and constants in a nest of arguments, with a mark for each container."""
    if isinstance(value, Mapping):
        yield ("mapping", tuple(value))
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, (tuple, list)):
        yield ("sequence", len(value))
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, slice):
        yield from _leaves((value.start, value.stop, value.step))
    else:
        yield value


def _innermost(*nodes: torch.fx.Node | None) -> str | None:
    """The innermost submodule that was running at any of the nodes, not counting one called as a whole."""
    best: str | None = None
    depth = 0
    for node in nodes:
        if node is None:
            continue
        running = [name for name, _ in node.meta.get("nn_module_stack", {}).values() if name != _ROOT]
        if node.op == "call_module" and running and running[-1] == node.target:
            running.pop()
        if len(running) > depth:
            best, depth = running[-1], len(running)
    return best


def _insert_switch(
    holder: nn.Module, graph: torch.fx.Graph, node: torch.fx.Node, twin: torch.fx.Node, name: str
) -> None:
    def template(of: torch.fx.Node) -> _Template:
        order = of.all_input_nodes

        def slot(source: torch.fx.Node) -> Any:
            return _Slot(order.index(source))

        return _Template(map_arg(of.args, slot), map_arg(of.kwargs, slot))

    assert isinstance(node.target, str) or callable(node.target)
    holder.add_module(name, ModeSwitch(node.target, training=template(twin), evaluation=template(node)))
    with graph.inserting_before(node):
        switch = graph.call_module(name, tuple(node.all_input_nodes))
    switch.meta = dict(node.meta)
    node.replace_all_uses_with(switch)
    graph.erase_node(node)


def _name(model: nn.Module) -> str:
    return type(model).__name__
