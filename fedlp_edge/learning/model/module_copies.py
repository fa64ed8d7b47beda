"""Copies of modules, also of such that hold what their last forward computed.

``nn.utils.weight_norm`` and ``spectral_norm`` keep the weight that they computed as an attribute, and users keep
attention maps and features. ``copy.deepcopy`` refuses tensors that are part of a computation; a copy needs their
values at most, since the next forward computes them anew.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
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
    for module in modules:
        for part in module.modules():
            for tensor in tensors_in(list(vars(part).values())):
                if not tensor.is_leaf:
                    replaced[id(tensor)] = tensor.detach()
    return copy.deepcopy(value, replaced)


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
