"""Counts what each depth costs to train: multiply-accumulates, and memory for the backward pass.

Both are counted in one forward pass of a copy of the model in training mode. Counting at the level of torch
functions needs no formula per module, and not ``torch.utils.flop_counter``, whose dispatch mode loads the whole
compiler (over a second and 70 MB, too much for a training process on a small board).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fedlp_edge.learning.model.module_copies import copied
from fedlp_edge.learning.model.tensor_kinds import keep_frozen
from fedlp_edge.learning.rng import preserved

_BATCH = 2
"""Samples in the forward pass: batch normalisation in training needs at least two."""


@dataclass(frozen=True)
class RunCost:
    """The cost of one forward pass at one depth, per sample.

    Attributes:
        forward_macs: Multiply-accumulates of one sample.
        activation_bytes: Bytes that autograd stores for the backward pass, per sample.
    """

    forward_macs: int
    activation_bytes: int


class MacCounter(TorchFunctionMode):
    """Counts the multiply-accumulates of convolutions, linear and recurrent layers while it is active.

    The projections of ``nn.MultiheadAttention`` are linear layers and count; products between tokens, biases,
    normalisation and activations do not count (the convention of the FedLP paper, arXiv 2303.06360).

    Attributes:
        macs: Multiply-accumulates counted so far, for whole batches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = _COUNTS.get(func)
        if count is not None:
            self.macs += count(result, args, kwargs)
        return result


def measure_costs(
    layers: Sequence[nn.Module], heads: Sequence[nn.Module], sample: torch.Tensor, *, all_exits: bool = False
) -> list[RunCost]:
    """Runs a copy of all layers and heads once and returns the cost of every depth, shallowest first.

    Args:
        layers: Modules of layers 1 to D; not changed.
        heads: Exit heads of depths 1 to D; not changed.
        sample: One input, [1, ...].
        all_exits: Whether a depth also runs the heads of all shallower depths.
    """
    layers, heads = copied((list(layers), list(heads)), [*layers, *heads])
    modules = nn.ModuleList([*layers, *heads]).train()
    keep_frozen(modules)
    state = {_storage(t).data_ptr() for t in [*modules.parameters(), *modules.buffers()]}
    prefix_macs, prefix_saved = 0, dict[int, int]()
    costs = []
    # A storage is identified by its address, so none may be freed before the end and its address used again.
    keep_alive: list[torch.Tensor] = []
    feature = sample.expand(_BATCH, *sample.shape[1:]).contiguous()
    with preserved(sample.device), torch.enable_grad():
        for layer, head in zip(layers, heads, strict=True):
            with _counting(keep_alive, state) as in_layer:
                feature = layer(feature)
            prefix_macs += in_layer.macs
            prefix_saved |= in_layer.saved
            with _counting(keep_alive, state) as in_head:
                keep_alive.append(head(feature))
            macs, saved = prefix_macs + in_head.macs, prefix_saved | in_head.saved
            costs.append(RunCost(macs // _BATCH, math.ceil(sum(saved.values()) / _BATCH)))
            if all_exits:
                prefix_macs, prefix_saved = macs, saved
    return costs


@dataclass
class _Counted:
    """Counts of one part of the forward pass.

    Attributes:
        macs: Multiply-accumulates, for the whole batch.
        saved: Bytes of each storage that autograd stores, by its address.
    """

    macs: int
    saved: dict[int, int]


@contextmanager
def _counting(keep_alive: list[torch.Tensor], ignored: set[int]) -> Iterator[_Counted]:
    counted = _Counted(0, {})

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = _storage(tensor)
        if storage.data_ptr() not in ignored:
            counted.saved[storage.data_ptr()] = storage.nbytes()
        detached = tensor.detach()  # The tensor itself would keep its graph alive, which refers to the tensor.
        keep_alive.append(detached)
        return detached

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), MacCounter() as counter:
        yield counted
    counted.macs = counter.macs


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], position: int, name: str) -> Any:
    return args[position] if len(args) > position else kwargs[name]


def _filter(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Returns the number of scalars of one filter; the weight is [filters, channels, *kernel]."""
    weight: torch.Tensor = _argument(args, kwargs, 1, "weight")
    return math.prod(weight.shape[1:])


def _product(result: torch.Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    # Linear layers and convolutions: every value of the result is the product with one filter.
    return result.numel() * _filter(args, kwargs)


def _transposed(_result: torch.Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    # Every value of the input is multiplied once with every filter of its channel.
    given: torch.Tensor = _argument(args, kwargs, 0, "input")
    return given.numel() * _filter(args, kwargs)


def _attention(result: tuple[torch.Tensor, Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    # query, key, value: [tokens, batch, width]; their projections and the one of the result map to embed_dim.
    given: list[torch.Tensor] = [_argument(args, kwargs, i, name) for i, name in enumerate(("query", "key", "value"))]
    width = int(_argument(args, kwargs, 3, "embed_dim_to_check"))
    return width * (sum(tensor.numel() for tensor in given) + result[0].numel())


def _recurrent(_result: Any, args: tuple[Any, ...], _kwargs: Mapping[str, Any]) -> int:
    # Every weight matrix of every layer and direction is applied once per time step and sample.
    given: torch.Tensor = args[0]
    weights = next((arg for arg in args if isinstance(arg, list)), args[2:])  # A cell takes its weights one by one.
    matrices = [w.numel() for w in weights if isinstance(w, torch.Tensor) and w.dim() == 2]
    return given.numel() // given.shape[-1] * sum(matrices)


def _matrix(result: torch.Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    # Some libraries write a linear layer as addmm(bias, rows, weight).
    rows: torch.Tensor = _argument(args, kwargs, 1, "mat1")
    return result.numel() * rows.shape[-1]


_COUNTS: dict[Callable[..., Any], Callable[..., int]] = {
    functional.linear: _product,
    functional.conv1d: _product,
    functional.conv2d: _product,
    functional.conv3d: _product,
    functional.conv_transpose1d: _transposed,
    functional.conv_transpose2d: _transposed,
    functional.conv_transpose3d: _transposed,
    functional.multi_head_attention_forward: _attention,
    torch.addmm: _matrix,
    **dict.fromkeys((torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu), _recurrent),
    **dict.fromkeys((torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell), _recurrent),
}
