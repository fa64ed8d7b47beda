"""Leaves a model as it was, whatever its forward changes while it is tried on made samples.

Some modules take their first values from the first batch that they see (ActNorm, learned step sizes of quantisers,
codebooks), and note down that they have. Zeros and random numbers are no such batch: a model that is split must come
out without a trace of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import NoneType
from typing import Any, cast

import torch
from torch import Tensor, nn


@contextmanager
def left_as_they_were(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Takes back what the code of modules changes in them within a block.

    Args:
        modules: The modules; their submodules need not be named.
    """
    state = OwnState(modules)
    try:
        yield
    finally:
        state.restore()


def modules_of(model: object) -> list[nn.Module]:
    """Returns a model, or the blocks of a list, whatever else a user has put in there left out."""
    parts = [model] if isinstance(model, nn.Module) else model if isinstance(model, (list, tuple)) else []
    return [part for part in parts if isinstance(part, nn.Module)]


class OwnState:
    """The weights, buffers and attributes of modules with code of their own, as they are when it is made.

    What the layers of torch hold is left out: it is most of the memory, and their code does not change it. So are
    sparse tensors, which no split model holds.

    Args:
        modules: The modules; their submodules need not be named.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        parts = [part for module in modules for part in module.modules() if has_own_code(part)]
        self._tensors: list[tuple[dict[str, Any], str, Tensor, Tensor]] = [
            (held, name, value, value.detach().clone())
            for part in parts
            for held in cast("tuple[dict[str, Tensor | None], ...]", (part._parameters, part._buffers))
            for name, value in held.items()
            if value is not None and not nn.parameter.is_lazy(value) and value.layout == torch.strided
        ]
        self._attributes = [(vars(part), _attributes(part)) for part in parts]

    @torch.no_grad()
    def restore(self) -> None:
        """Gives the modules what they held, but for tensors that got another size: the first input tells it."""
        for held, name, value, copy in self._tensors:
            now = held.get(name)
            if now is not None and now.shape != copy.shape:
                continue
            if not torch.equal(value, copy):
                value.copy_(copy)
            held[name] = value
        for held, attributes in self._attributes:
            held.update(attributes)


def has_own_code(module: nn.Module) -> bool:
    """Returns whether a module is not a layer of torch, which changes nothing of its own in evaluation.

    Bare modules and graphs hold what the code of split modules changes.
    """
    return type(module) is nn.Module or not type(module).__module__.startswith("torch.nn.")


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Returns the numbers, flags, tensors and Nones that a module holds in attributes, its mode apart, by name."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and isinstance(value, (float, int, Tensor, NoneType))
    }
