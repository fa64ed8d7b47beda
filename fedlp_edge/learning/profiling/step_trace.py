"""Traces one train step without computing it: which bytes are live at each moment, and which operations run.

The step runs on PyTorch's *meta* device, where tensors have shapes and no data: a network of a gigabyte is traced in
one or two seconds and hardly any memory. A dispatch mode registers the storages that every operation allocates, and a
weak reference to each tells when it is freed, so the trace has the lifetimes of real training, with gradients that
replace activations. A model that computes with values (``.item()``, tensors that its code makes on the CPU) cannot run
there; a copy of it then runs on real values, with batches of two and four samples.

A process that only trains must not import this module, since the dispatch mode loads large parts of PyTorch.
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
from fedlp_edge.core.step_cost import Kind, MemoryPoint, StepCost, Work, upper_envelope
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.model.module_copies import copied
from fedlp_edge.learning.model.tensor_kinds import keep_frozen
from fedlp_edge.learning.rng import preserved

_BATCHES = (2, 4)
"""Two batch sizes, which determine a line; batch normalisation needs at least two samples."""

_META_DEVICE_FROM = 500_000_000
"""Multiply-accumulates of all depths from which on the meta device is used: a smaller model runs on real values, which
takes less time and memory than what the meta device loads at its first use."""

_aten = torch.ops.aten


def with_step_costs(model: LayeredModel, blueprint: Blueprint) -> Blueprint:
    """Returns the blueprint of a model with the step table of every depth in its costs."""
    steps = trace_steps(model, model.sample, blueprint.costs[-1].forward_macs)
    costs = tuple(msgspec.structs.replace(cost, step=step) for cost, step in zip(blueprint.costs, steps, strict=True))
    return msgspec.structs.replace(blueprint, costs=costs)


def trace_steps(model: LayeredModel, sample: Tensor, macs: int) -> tuple[StepCost, ...]:
    """Returns the step table of every depth, shallowest first.

    Args:
        model: Model to trace; not changed.
        sample: One input, [1, ...].
        macs: Multiply-accumulates of a forward pass of one sample at full depth; they decide whether the model is
            traced on the meta device.
    """
    if macs * len(model.depths) < _META_DEVICE_FROM:
        return _trace_all(copied(model, [model]), sample)
    try:
        return _trace_all(_on_meta(model), sample.to("meta"))
    except (NotImplementedError, RuntimeError, ValueError, TypeError):  # The model needs values of tensors.
        return _trace_all(copied(model, [model]), sample)


def _trace_all(model: LayeredModel, sample: Tensor) -> tuple[StepCost, ...]:
    with preserved(sample.device), torch.enable_grad():
        return tuple(_trace(model.submodel(depth), sample) for depth in model.depths)


def _trace(model: Submodel, sample: Tensor) -> StepCost:
    keep_frozen(model.train())
    few, many = (_watch(model, sample, batch) for batch in _BATCHES)
    model.checkpointing = True
    _watch(model, sample, _BATCHES[0])  # The first checkpointed pass finds the layers that change their input.
    few_again, many_again = (_watch(model, sample, batch) for batch in _BATCHES)
    parameters = [p.numel() * p.element_size() for p in model.parameters() if p.requires_grad]
    update = MemoryPoint(float(sum(parameters)), 0.0)  # In the update all gradients are live, and it works in place.
    once = sum(work.macs for work in _work(few, many).values())
    again = sum(work.macs for work in _work(few_again, many_again).values())
    return StepCost(
        memory_points=upper_envelope([*_lines(few.live, many.live), update]),
        checkpointed=upper_envelope([*_lines(few_again.live, many_again.live), update]),
        largest_parameter=max(parameters, default=0),
        work=_work(few, many),
        state_bytes=sum(value.nbytes for value in model.state_dict().values()),
        recomputed_macs=max(0, again - once),
    )


def _lines(few: list[int], many: list[int]) -> list[MemoryPoint]:
    small, large = _BATCHES
    if len(few) != len(many):  # The code runs other operations for other batch sizes: scale the larger batch.
        return [MemoryPoint(0.0, live / large) for live in many]
    lines = []
    for low, high in zip(few, many, strict=True):
        slope = (high - low) / (large - small)
        lines.append(MemoryPoint(max(0.0, low - slope * small), max(0.0, slope)))
    return lines


def trace_work(do: Callable[[int], object]) -> dict[Kind, Work]:
    """Returns the work of some code by kind of operation.

    Args:
        do: Function that runs the code, forward and backward, for the batch size that it is given.
    """
    few, many = (_Watcher(set()) for _ in _BATCHES)
    for batch, watcher in zip(_BATCHES, (few, many), strict=True):
        with watcher:
            do(batch)
    return _work(few.watched, many.watched)


def _work(few: _Watched, many: _Watched) -> dict[Kind, Work]:
    """Splits the work of two train steps with different batch sizes into work per sample and work per train step."""
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
    """The sums over all operations of one kind in a train step.

    Attributes:
        macs: Multiply-accumulates, for the whole batch.
        moved: Bytes read and written.
        operations: Number of operations.
    """

    macs: int = 0
    moved: int = 0
    operations: int = 0


@dataclass
class _Watched:
    """The trace of one train step.

    Attributes:
        live: Bytes of live tensors after every operation.
        sums: Sums over all operations of each kind.
    """

    live: list[int]
    sums: dict[Kind, _Sum] = field(default_factory=dict)


def _watch(model: Submodel, sample: Tensor, batch: int) -> _Watched:
    held = {_key(value) for value in [*model.parameters(), *model.buffers()]}
    x = sample[:1].expand(batch, *sample.shape[1:]).contiguous()
    watcher = _Watcher(held)
    with watcher:
        # The copy is made inside, so that the trace counts the batch as well.
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
    """Follows each storage from the operation that allocates it until nothing refers to it.

    Args:
        held: Keys of storages that exist before the train step, such as parameters; they are not counted.
    """

    def __init__(self, held: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, object] = dict.fromkeys(held)
        self._live = 0
        self.watched = _Watched([])

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # Without a compiler there is nothing to skip, and the default would load the compiler.

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
        if macs or any(fresh) or str(func).endswith("_.default"):  # A view reads and writes nothing.
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
    """Copies a model to the meta device: its code and shapes, without its values."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copied(model, [model], memo)


def _classified(func: Any, result: Any, args: tuple[Any, ...]) -> tuple[Kind, int]:
    """Returns the kind of an operation, and its multiply-accumulates."""
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
    """Returns kind and multiply-accumulates of a convolution.

    Args:
        many: Output of the convolution, or input of a transposed one.
        weight: Filters, [filters, channels per group, *kernel].
        groups: Groups of the convolution.
        times: Convolutions of this size that the operation computes; a backward pass computes up to two.
    """
    macs = times * many.numel() * math.prod(weight.shape[1:])
    if groups == 1:
        return "convolution", macs
    if weight.shape[1] > 1:
        return "grouped", macs
    return ("depthwise" if math.prod(weight.shape[2:]) <= _NARROW else "wide-depthwise"), macs


_NARROW = 9
"""Elements of a 3x3 filter: libraries have fast depthwise code up to this size."""

_PRODUCTS = {_aten.mm.default: 0, _aten.bmm.default: 0, _aten.addmm.default: 1, _aten.baddbmm.default: 1}
"""Index of the left factor among the arguments of each matrix product; the right factor follows it."""
