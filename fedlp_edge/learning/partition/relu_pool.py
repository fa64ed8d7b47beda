"""Pools before it rectifies, wherever a model does it the other way round: the same bits for less work.

``MaxPool(ReLU(x))`` and ``ReLU(MaxPool(x))`` are the same function, and so are their gradients: a window whose greatest
value is positive passes its gradient to the first place that holds it either way, and any other window passes on zeros.
The second form rectifies a quarter of the values, which on a small processor saves up to a third of a step, and
keeps one full-sized tensor less alive.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_RELU_FUNCTIONS = {functional.relu, functional.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
_RELU_METHODS = {"relu", "relu_"}


def pool_first(block: nn.Module) -> nn.Module:
    """A block in which no ReLU stands right before a max pool.

    Args:
        block: is not changed; what is no plain ``nn.Sequential`` is not looked into, since its code is its own.

    Returns:
        The block itself, or a new sequence of the same modules under the same names.
    """
    if type(block) is not nn.Sequential or block._forward_hooks or block._forward_pre_hooks:
        return block
    before = list(block.named_children())
    parts = [(name, pool_first(part)) for name, part in before]
    for i in range(len(parts) - 1):
        if type(parts[i][1]) is nn.ReLU and _is_pool(parts[i + 1][1]):
            parts[i], parts[i + 1] = parts[i + 1], parts[i]
    if parts == before:
        return block
    result = nn.Sequential(OrderedDict(parts))
    result.training = block.training
    return result


def pool_first_in(graph: torch.fx.Graph, root: nn.Module) -> None:
    """The same in a graph, in place.

    Args:
        graph: with its output.
        root: has the modules that the graph calls.
    """
    for pool in list(graph.nodes):
        if pool.op != "call_module" or not _is_pool(root.get_submodule(str(pool.target))):
            continue
        while _is_relu(relu := pool.args[0], root) and _is_only_use(relu.args[0], relu) and _is_only_use(relu, pool):
            pool.replace_all_uses_with(relu)
            pool.args = (relu.args[0], *pool.args[1:])
            relu.args = (pool, *relu.args[1:])
            pool.append(relu)


def _is_pool(module: nn.Module) -> bool:
    return isinstance(module, _POOLS) and not module.return_indices


def _is_relu(node: object, root: nn.Module) -> bool:
    if not isinstance(node, torch.fx.Node) or not node.args or not isinstance(node.args[0], torch.fx.Node):
        return False
    if node.op == "call_module":
        return type(root.get_submodule(str(node.target))) is nn.ReLU
    return node.target in (_RELU_FUNCTIONS if node.op == "call_function" else _RELU_METHODS)


def _is_only_use(value: object, user: torch.fx.Node) -> bool:
    """Whether nobody else reads a value, who might want it as it is, or rectified in place."""
    return isinstance(value, torch.fx.Node) and set(value.users) == {user}
