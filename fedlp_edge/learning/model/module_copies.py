"""Copies of modules, also of such that hold what their last forward computed.

``nn.utils.weight_norm`` and ``spectral_norm`` keep the weight that they computed as an attribute, and users keep
attention maps and features. ``copy.deepcopy`` refuses tensors that are part of a computation; a copy needs their
values at most, since the next forward computes them anew.

It also leaves functions as they are. A hook or an attribute such as ``lambda x: self.scale * x`` holds its module in
its closure; in a copy it would go on with the original, whose weights nobody trains. Such functions are bound anew.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar

from torch import Tensor, nn

_T = TypeVar("_T")


def copied(value: _T, modules: Iterable[nn.Module], memo: Mapping[int, Any] | None = None) -> _T:
    """A deep copy of something that consists of modules.

    Args:
        value: A module, or a nest of them.
        modules: The modules in it; their submodules need not be named.
        memo: Replacements in the copy, by the ``id`` of the replaced object.
    """
    replaced = dict(memo or {})
    parts = [part for module in modules for part in module.modules()]
    for part in parts:
        for tensor in tensors_in(list(vars(part).values())):
            if not tensor.is_leaf:
                replaced[id(tensor)] = tensor.detach()
    result = copy.deepcopy(value, replaced)
    binding = _Binding(replaced)
    for part in parts:
        if id(part) in replaced:
            attributes = vars(replaced[id(part)])
            for name in attributes.keys() - {"_parameters", "_buffers", "_modules"}:
                attributes[name] = binding.of(attributes[name])
    return result


class _Binding:
    """Replaces functions that refer to copied objects in their closures and defaults by such that refer to the copies.

    Args:
        copies: Copies of objects, by the ``id`` of the original.
    """

    def __init__(self, copies: Mapping[int, Any]) -> None:
        self._copies = copies
        self._bound: dict[int, Any] = {}

    def of(self, held: Any) -> Any:
        """Returns what a copied module holds with its functions bound anew; lists and dicts are changed in place."""
        if id(held) in self._bound:
            return self._bound[id(held)]
        if isinstance(held, FunctionType):
            return self._function(held)
        if isinstance(held, MethodType):
            return MethodType(self.of(held.__func__), self._copies.get(id(held.__self__), held.__self__))
        if type(held) is partial:
            given = {name: self._referred(value) for name, value in held.keywords.items()}
            return partial(self.of(held.func), *map(self._referred, held.args), **given)
        if type(held) is tuple:
            return tuple(map(self.of, held))
        if isinstance(held, (list, dict)):
            self._bound[id(held)] = held
            for key, value in list(held.items() if isinstance(held, dict) else enumerate(held)):
                if (bound := self.of(value)) is not value:
                    held[key] = bound
        return held

    def _function(self, function: FunctionType) -> FunctionType:
        cells, defaults = function.__closure__ or (), function.__defaults__ or ()
        if not cells and not defaults:
            return function
        closure = tuple(CellType() for _ in cells) or None
        bound = FunctionType(function.__code__, function.__globals__, function.__name__, None, closure)
        self._bound[id(function)] = bound  # before its closure is looked at, which may hold the function itself
        for cell, other in zip(cells, closure or (), strict=True):
            with suppress(ValueError):  # nothing was assigned to it yet
                other.cell_contents = self._referred(cell.cell_contents)
        bound.__defaults__ = tuple(map(self._referred, defaults)) or None
        bound.__kwdefaults__, bound.__qualname__ = function.__kwdefaults__, function.__qualname__
        bound.__dict__.update(function.__dict__)
        return bound

    def _referred(self, value: Any) -> Any:
        """Returns what takes the place of a value that a function refers to."""
        if id(value) in self._copies:
            return self._copies[id(value)]
        return self.of(value) if isinstance(value, (FunctionType, MethodType, partial)) else value


def without_sparse_gradients(modules: Iterable[nn.Module]) -> None:
    """Has embeddings give dense gradients, which optimizers, deltas and exports are made for; in place."""
    for module in modules:
        for part in module.modules():
            if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
                part.sparse = False


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in a nest of tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors_in(part)
