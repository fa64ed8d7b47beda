"""Replaces a call whose constants differ between training and evaluation by a module that knows both.

A recording of ``functional.dropout(x, training=self.training)`` holds the value that the flag had. The `ModeSwitch`
that takes its place holds the constants of both modes and chooses by its own ``training`` flag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.fx
from torch import nn
from torch.fx.node import map_aggregate, map_arg


class ModeSwitch(nn.Module):
    """Calls a function with the constants of training or with those of evaluation.

    Args:
        call: Function, or name of a method of the first value.
        training: Arguments in training, with a `ModeConstant` for each value from the graph.
        evaluation: Arguments in evaluation, with a `ModeConstant` for each value from the graph.
    """

    def __init__(self, call: Callable[..., Any] | str, training: Template, evaluation: Template) -> None:
        super().__init__()
        self._call = call
        self._templates = {True: training, False: evaluation}

    def forward(self, *values: Any) -> Any:
        """Calls the function with ``values`` and the constants of the present mode."""

        def fill(leaf: Any) -> Any:
            return values[leaf.index] if isinstance(leaf, ModeConstant) else leaf

        template = self._templates[self.training]
        args = map_aggregate(template.args, fill)
        kwargs = map_aggregate(template.kwargs, fill)
        if isinstance(self._call, str):
            return getattr(args[0], self._call)(*args[1:], **kwargs)
        return self._call(*args, **kwargs)


@dataclass(frozen=True)
class ModeConstant:
    """A place in the arguments of a call that a value from the graph fills.

    Attributes:
        index: Index of the value among the arguments of `ModeSwitch.forward`.
    """

    index: int


@dataclass(frozen=True)
class Template:
    """The arguments of a call in one mode.

    Attributes:
        args: Positional arguments, with a `ModeConstant` for each value from the graph.
        kwargs: Named arguments, with a `ModeConstant` for each value from the graph.
    """

    args: Any
    kwargs: Any


def insert_switch(
    holder: nn.Module, graph: torch.fx.Graph, node: torch.fx.Node, twin: torch.fx.Node, name: str
) -> torch.fx.Node:
    """Replaces a call in a graph by a call of a new `ModeSwitch`.

    Args:
        holder: Module that gets the switch as a submodule.
        graph: Graph of the forward pass in evaluation.
        node: Node of the call in ``graph``.
        twin: Node of the call in the graph of training; its input nodes correspond to those of ``node``, in order.
        name: Name of the switch below ``holder``.

    Returns:
        The node that calls the switch.
    """

    def template(of: torch.fx.Node) -> Template:
        order = of.all_input_nodes

        def placeholder(source: torch.fx.Node) -> Any:
            return ModeConstant(order.index(source))

        return Template(map_arg(of.args, placeholder), map_arg(of.kwargs, placeholder))

    assert isinstance(node.target, str) or callable(node.target)
    holder.add_module(name, ModeSwitch(node.target, training=template(twin), evaluation=template(node)))
    with graph.inserting_before(node):
        switch = graph.call_module(name, tuple(node.all_input_nodes))
    switch.meta = dict(node.meta)
    node.replace_all_uses_with(switch)
    graph.erase_node(node)
    return switch
