"""One call with the constants of two modes."""

from __future__ import annotations

import operator

import torch
import torch.fx
from torch import nn

from fedlp_edge.learning.partition.mode_switch import ModeConstant, ModeSwitch, Template, insert_switch


def test_function_gets_the_constants_of_the_mode() -> None:
    switch = ModeSwitch(
        operator.add, training=Template((ModeConstant(0), 10), {}), evaluation=Template((1, ModeConstant(0)), {})
    )
    assert switch(5) == 15
    assert switch.eval()(5) == 6


def test_method_of_the_first_value_is_called_by_its_name() -> None:
    templates = [Template((ModeConstant(0),), {"dim": dim, "keepdim": True}) for dim in (0, 1)]
    switch = ModeSwitch("sum", training=templates[0], evaluation=templates[1])
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert switch(x).tolist() == [[4.0, 6.0]]
    assert switch.eval()(x).tolist() == [[3.0], [7.0]]


def test_constants_inside_of_containers_are_filled_too() -> None:
    template = Template(([ModeConstant(1), ModeConstant(0)],), {})
    switch = ModeSwitch(torch.stack, training=template, evaluation=template)
    assert switch(torch.tensor(1), torch.tensor(2)).tolist() == [2, 1]


def test_inserted_switch_takes_the_place_of_the_call() -> None:
    def graph(factor: int) -> tuple[torch.fx.Graph, torch.fx.Node]:
        made = torch.fx.Graph()
        call = made.call_function(operator.mul, (made.placeholder("x"), factor))
        made.output(made.call_function(operator.neg, (call,)))
        return made, call

    evaluation, node = graph(2)
    _, twin = graph(3)
    holder = nn.Module()
    switch = insert_switch(holder, evaluation, node, twin, "switch")
    assert (switch.op, switch.target) == ("call_module", "switch")
    assert operator.mul not in [other.target for other in evaluation.nodes]
    module = torch.fx.GraphModule(holder, evaluation)
    assert module.train()(5) == -15
    assert module.eval()(5) == -10
