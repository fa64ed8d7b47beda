"""One call that has other constants in training than in evaluation.

``functional.dropout(x, training=self.training)`` is noted down with the constant that the flag had. A `ModeSwitch`
in its place has both, and asks its own mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.fx
from torch import nn
from torch.fx.node import map_aggregate, map_arg


class ModeSwitch(nn.Module):
    """Calls one function with the constants of training or with those of evaluation.

    Args:
        call: the function, or the name of a method of the first value.
        training: positional and named arguments, with a `Slot` for each value from the graph.
        evaluation: likewise.
    """

    def __init__(self, call: Callable[..., Any] | str, training: Template, evaluation: Template) -> None:
        super().__init__()
        self._call = call
        self._templates = {True: training, False: evaluation}

    def forward(self, *values: Any) -> Any:
        """Fills the template of the present mode with ``values`` and calls."""

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
    """Where the value of this index goes."""

    index: int


@dataclass(frozen=True)
class Template:
    """The arguments of a call."""

    args: Any
    kwargs: Any


def insert_switch(
    holder: nn.Module, graph: torch.fx.Graph, node: torch.fx.Node, twin: torch.fx.Node, name: str
) -> torch.fx.Node:
    """Puts a switch in the place of a call.

    Args:
        holder: gets the switch as a submodule.
        graph: of evaluation.
        node: the call in it.
        twin: the same call in the graph of training; its sources correspond to those of ``node``, in order.
        name: for the switch.

    Returns:
        The node that calls the switch.
    """

    def template(of: torch.fx.Node) -> Template:
        order = of.all_input_nodes

        def slot(source: torch.fx.Node) -> Any:
            return ModeConstant(order.index(source))

        return Template(map_arg(of.args, slot), map_arg(of.kwargs, slot))

    assert isinstance(node.target, str) or callable(node.target)
    holder.add_module(name, ModeSwitch(node.target, training=template(twin), evaluation=template(node)))
    with graph.inserting_before(node):
        switch = graph.call_module(name, tuple(node.all_input_nodes))
    switch.meta = dict(node.meta)
    node.replace_all_uses_with(switch)
    graph.erase_node(node)
    return switch
