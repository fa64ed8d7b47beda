"""Translates the calls of a forward pass into nodes of a ``torch.fx`` graph, and finds calls that a graph cannot hold.

A `torch.overrides.TorchFunctionMode` sees functions and methods in several forms (wrappers, slots, properties); a
``torch.fx`` graph has calls of functions, methods and modules only.
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
"""Types of values that a graph can hold as constants."""

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


def depends_on_values(name: str, args: tuple[Any, ...]) -> bool:
    """Returns whether the result of a call, or its shape, depends on values of tensors as no graph can express."""
    if name == "__getitem__":
        return any(index.dtype == torch.bool for index in tensors_in(args[1]))
    return name in _DECISIONS or (name == "where" and len(args) == 1)


def is_in_place(name: str) -> bool:
    """Returns whether a call changes its first argument in place."""
    return name in _CHANGING or (name.endswith("_") and not name.endswith("__"))


def is_random(name: str) -> bool:
    """Returns whether a call draws random numbers."""
    return name in _RANDOM


def set_item(tensor: Tensor, index: Any, value: Any) -> Tensor:
    """Does ``tensor[index] = value`` as a function that returns the tensor, for use in a graph."""
    tensor[index] = value
    return tensor


def as_node(func: Callable[..., Any], name: str, args: Any) -> tuple[str, Any, Any]:
    """Returns operation, target and arguments of the graph node for a call."""
    if name == "__get__":  # Read access to a property, such as x.T.
        return "call_function", getattr, (args[0], func.__self__.__name__)  # type: ignore[attr-defined]
    if name == "__getitem__":
        return "call_function", operator.getitem, args
    if name == "__setitem__":
        return "call_function", set_item, args
    if func in _METHODS or getattr(Tensor, name, None) == func:
        return "call_method", _METHODS.get(func, name), args
    return "call_function", func, args


def is_basic(module: nn.Module) -> bool:
    """Returns whether a module is recorded as one call: the layers of torch, and classes derived from them."""
    if isinstance(module, _CONTAINERS):
        return False
    return isinstance(module, _LAYERS) or type(module).__module__.startswith(("torch.nn.", "torch.ao.nn."))
