"""Watches one training step without doing it: which bytes are alive when, and what is computed.

The step runs on PyTorch's *meta* device, where tensors have shapes and no data: a network of a gigabyte is watched
in a second or two, in the memory of its shapes. Every operation passes a dispatch mode that notes the storages it
makes, and a weak reference to each says when it is let go; so what is seen are the lifetimes that training really
has, gradients that replace activations included. A model that computes with values (``.item()``, tensors made on the
CPU in its code) cannot run there; its copy is then run for real, with batches of two and four samples.

Whoever only trains needs none of this: the mode loads parts of PyTorch that a small device should not pay for.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.step_cost import Kind, Moment, StepCost, Work, envelope
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.model.module_copies import copied
from fedlp_edge.learning.rng import preserved

_BATCHES = (2, 4)
"""Two sizes make a line; batch normalisation accepts no fewer than two samples."""

_WORTH_THE_DETOUR = 500_000_000
"""Up to here a small network is run for real: that takes less than what the meta device loads at its first use."""

_aten = torch.ops.aten


def with_steps(model: LayeredModel, blueprint: Blueprint) -> Blueprint:
    """The blueprint of a model with the step of every depth in its costs."""
    steps = trace_steps(model, model.sample, blueprint.costs[-1].forward_macs)
    costs = tuple(msgspec.structs.replace(cost, step=step) for cost, step in zip(blueprint.costs, steps, strict=True))
    return msgspec.structs.replace(blueprint, costs=costs)


def trace_steps(model: LayeredModel, sample: Tensor, macs: int) -> tuple[StepCost, ...]:
    """The table of every depth, shallowest first.

    Args:
        model: left untouched.
        sample: one input with a batch dimension of 1.
        macs: multiply-accumulates of one sample, forward, at full depth: what decides how the step is watched.
    """
    if macs * len(model.depths) < _WORTH_THE_DETOUR:
        return _trace_all(copied(model, [model]), sample)
    try:
        return _trace_all(_on_meta(model), sample.to("meta"))
    except (NotImplementedError, RuntimeError, ValueError, TypeError):  # what values are asked for where there are none
        return _trace_all(copied(model, [model]), sample)


def _trace_all(model: LayeredModel, sample: Tensor) -> tuple[StepCost, ...]:
    with preserved(sample.device), torch.enable_grad():
        return tuple(_trace(model.submodel(depth).train(), sample) for depth in model.depths)


def _trace(model: Submodel, sample: Tensor) -> StepCost:
    few, many = (_watch(model, sample, batch) for batch in _BATCHES)
    model.checkpointing = True
    _watch(model, sample, _BATCHES[0])  # the first pass finds out which layers work in place
    few_again, many_again = (_watch(model, sample, batch) for batch in _BATCHES)
    parameters = [p.numel() * p.element_size() for p in model.parameters() if p.requires_grad]
    update = Moment(float(sum(parameters)), 0.0)  # the optimizer's turn: all gradients, and it works in place
    once = sum(work.macs for work in _work(few, many).values())
    again = sum(work.macs for work in _work(few_again, many_again).values())
    return StepCost(
        moments=envelope([*_lines(few.live, many.live), update]),
        checkpointed=envelope([*_lines(few_again.live, many_again.live), update]),
        largest_parameter=max(parameters, default=0),
        work=_work(few, many),
        state_bytes=sum(value.nbytes for value in model.state_dict().values()),
        recomputed_macs=max(0, again - once),
    )


def _lines(few: list[int], many: list[int]) -> list[Moment]:
    small, large = _BATCHES
    if len(few) != len(many):  # code that does other things with other batches: the larger one, in proportion
        return [Moment(0.0, live / large) for live in many]
    lines = []
    for low, high in zip(few, many, strict=True):
        slope = (high - low) / (large - small)
        lines.append(Moment(max(0.0, low - slope * small), max(0.0, slope)))
    return lines


def trace_work(do: Callable[[int], object]) -> dict[Kind, Work]:
    """What some code does, by kind of operation.

    Args:
        do: does it for a batch of so many samples, forward and backward.
    """
    few, many = (_Watcher(set()) for _ in _BATCHES)
    for batch, watcher in zip(_BATCHES, (few, many), strict=True):
        with watcher:
            do(batch)
    return _work(few.watched, many.watched)


def _work(few: _Watched, many: _Watched) -> dict[Kind, Work]:
    """What goes with samples, and what does not, from steps with two sizes of batch."""
    small, large = _BATCHES
    result: dict[Kind, Work] = {}
    for kind, one in few.sums.items():
        two = many.sums.get(kind, one)
        moved = max(0, (two.moved - one.moved) // (large - small))
        macs = max(0, (two.macs - one.macs) // (large - small))
        result[kind] = Work(macs, moved, max(0, one.moved - small * moved), one.operations)
    return result


@dataclass
class _Sum:
    macs: int = 0
    moved: int = 0
    operations: int = 0


@dataclass
class _Watched:
    """One step: bytes alive after every operation, and sums over all of them by kind."""

    live: list[int]
    sums: dict[Kind, _Sum] = field(default_factory=dict)


def _watch(model: Submodel, sample: Tensor, batch: int) -> _Watched:
    held = {_key(value) for value in [*model.parameters(), *model.buffers()]}
    x = torch.zeros((batch, *sample.shape[1:]), dtype=sample.dtype, device=sample.device)
    watcher = _Watcher(held)
    with watcher:
        # Inside, so that the batch counts as well.
        x = x.clone()
        exits = model.exits(x)
        labels = torch.zeros(batch, dtype=torch.long, device=sample.device)
        loss = sum(
            (functional.cross_entropy(logits, labels) for logits in exits), start=torch.zeros((), device=x.device)
        )
        del exits
        loss.backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        parameter.grad = None
    return watcher.watched


class _Watcher(TorchDispatchMode):
    """Follows storages from the operation that makes them until nothing refers to them."""

    def __init__(self, held: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, object] = dict.fromkeys(held)
        self._live = 0
        self.watched = _Watched([])

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # there is no compiler to hide from, and asking for it would load it

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [value for value in args if isinstance(value, Tensor)]
        made = [
            value for value in (result if isinstance(result, tuple | list) else (result,)) if isinstance(value, Tensor)
        ]
        fresh = [self._note(value) for value in made]
        seen = self.watched
        kind, macs = _classified(func, result, args)
        if macs or any(fresh) or str(func).endswith("_.default"):  # a view moves nothing
            total = seen.sums.setdefault(kind, _Sum())
            total.macs += macs
            total.operations += 1
            total.moved += sum(value.nbytes for value in (*given, *made))
        seen.live.append(self._live)
        return result

    def _note(self, value: Tensor) -> bool:
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return False
        nbytes = storage.nbytes()
        self._live += nbytes
        self._known[key] = weakref.finalize(storage, self._forget, key, nbytes)
        return True

    def _forget(self, key: int, nbytes: int) -> None:
        self._known.pop(key, None)
        self._live -= nbytes


def _key(value: Tensor) -> int:
    return int(value.untyped_storage()._cdata)


def _on_meta(model: LayeredModel) -> LayeredModel:
    """A copy with the same code and shapes and no values; the model's own are never copied."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copied(model, [model], memo)


def _classified(func: Any, result: Any, args: tuple[Any, ...]) -> tuple[Kind, int]:
    """The kind of an operation, and its multiply-accumulates."""
    if func is _aten.convolution.default:
        return _convolution(args[0] if args[6] else result, args[1], int(args[8]), 1)
    if func is _aten.convolution_backward.default:
        given, weight, wanted = args[1] if args[7] else args[0], args[2], args[10]
        return _convolution(given, weight, int(args[9]), bool(wanted[0]) + bool(wanted[1]))
    if func in _PRODUCTS:
        left, right = args[_PRODUCTS[func]], args[_PRODUCTS[func] + 1]
        return "product", left.numel() * right.shape[-1]
    name = func.name()
    return ("normalization" if "norm" in name else "pooling" if "pool" in name else "elementwise"), 0


def _convolution(many: Tensor, weight: Tensor, groups: int, times: int) -> tuple[Kind, int]:
    """Of a convolution whose larger side (its output, or the input of a transposed one) is ``many``."""
    macs = times * many.numel() * math.prod(weight.shape[1:])
    if groups == 1:
        return "convolution", macs
    if weight.shape[1] > 1:
        return "grouped", macs
    return ("depthwise" if math.prod(weight.shape[2:]) <= _NARROW else "wide-depthwise"), macs


_NARROW = 9
"""Places of a 3x3 filter: for those, and no larger ones, libraries have quick depthwise code."""

_PRODUCTS = {_aten.mm.default: 0, _aten.bmm.default: 0, _aten.addmm.default: 1, _aten.baddbmm.default: 1}
"""Which argument is the left factor; the right one follows."""
