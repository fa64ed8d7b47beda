"""What the calls of a forward are called in a graph, and which of them cannot stand there.

Functions and methods reach a `torch.overrides.TorchFunctionMode` under several guises (wrappers, slots, properties); a
``torch.fx`` graph knows calls of functions, methods and modules.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import EllipsisType, NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from fedlp_edge.learning.model.module_copies import tensors_in

LITERALS = (
    *(str, int, float, complex, NoneType, EllipsisType),
    *(torch.dtype, torch.device, torch.memory_format, torch.layout),
)
"""What may stand in a graph as it is."""

_CONTAINERS = (nn.Sequential, nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder)
_LAYERS = (
    *(nn.Linear, _ConvNd, _NormBase, nn.LayerNorm, nn.GroupNorm, nn.Embedding, nn.RNNBase, nn.MultiheadAttention),
    torch.jit.ScriptModule,
)
_VALUES = "item tolist numpy equal allclose is_nonzero __bool__ __int__ __float__ __complex__ __index__ __contains__"
_SHAPED_BY_VALUES = "nonzero argwhere unique unique_consecutive masked_select bincount __array__"
_DECISIONS = frozenset(f"{_VALUES} {_SHAPED_BY_VALUES}".split())
_CHANGING = frozenset(
    ["__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__imod__", "__ipow__"]
)
_RANDOM = frozenset(["rand", "randn", "randint", "randperm", "bernoulli", "normal", "multinomial", "dropout"])
_METHODS = {method: name for name, method in vars(Tensor).items() if callable(method)}  # x ** 2 calls one named "pow"


def looks_at_values(name: str, args: tuple[Any, ...]) -> bool:
    """Whether what a call gives, or its shape, depends on values of tensors in a way that no graph can follow."""
    if name == "__getitem__":
        return any(index.dtype == torch.bool for index in tensors_in(args[1]))
    return name in _DECISIONS or (name == "where" and len(args) == 1)


def changes_in_place(name: str) -> bool:
    """Whether a call changes its first argument."""
    return name in _CHANGING or (name.endswith("_") and not name.endswith("__"))


def draws(name: str) -> bool:
    """Whether a call gives something else each time."""
    return name in _RANDOM


def set_item(tensor: Tensor, index: Any, value: Any) -> Tensor:
    """``tensor[index] = value`` as a call that gives the tensor."""
    tensor[index] = value
    return tensor


def as_node(func: Callable[..., Any], name: str, args: Any) -> tuple[str, Any, Any]:
    """Operation, target and arguments of the node for a call."""
    if name == "__get__":  # of a property, such as x.T
        return "call_function", getattr, (args[0], func.__self__.__name__)  # type: ignore[attr-defined]
    if name == "__getitem__":
        return "call_function", operator.getitem, args
    if name == "__setitem__":
        return "call_function", set_item, args
    if func in _METHODS or getattr(Tensor, name, None) == func:
        return "call_method", _METHODS.get(func, name), args
    return "call_function", func, args


def is_basic(module: nn.Module) -> bool:
    """Whether a module is noted as one call: torch's own layers, and what others derive from them."""
    if isinstance(module, _CONTAINERS):
        return False
    return isinstance(module, _LAYERS) or type(module).__module__.startswith(("torch.nn.", "torch.ao.nn."))
