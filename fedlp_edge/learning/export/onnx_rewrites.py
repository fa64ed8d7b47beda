"""This module rewrites torch functions that the ONNX exporters support badly or not at all in terms of others.

The rewritten functions give the same results for fixed input shapes. They are active only while an exporter runs the
model; the exported file is compared with the original model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class RewrittenCalls(TorchFunctionMode):
    """Replaces such torch functions by their rewritten forms within a ``with`` block."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Calls the rewritten form of a torch function, or the function itself if it has none."""
        if getattr(func, "__self__", None) is Tensor.data:  # whose own memory crashes the exporter (SIGSEGV)
            return args[0].detach() if len(args) == 1 or args[1] is None else _set_data(*args)
        rewritten = _REWRITTEN.get(getattr(func, "__name__", ""))
        result = rewritten(*args, **(kwargs or {})) if rewritten is not None else None
        return func(*args, **(kwargs or {})) if result is None else result


def _adaptive_pool(dimensions: int, reduce: Callable[..., Tensor]) -> Callable[..., Tensor | None]:
    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor | None:
        if return_indices:
            return None
        sizes = (output_size,) * dimensions if isinstance(output_size, int) else tuple(output_size)
        for offset, size in enumerate(sizes, start=-dimensions):
            if size is not None:
                input = _reduced(input, offset, int(size), reduce)
        return input

    return pool


def _reduced(x: Tensor, dimension: int, count: int, reduce: Callable[..., Tensor]) -> Tensor:
    """Reduces one dimension to ``count`` windows of almost equal length, as adaptive pooling defines them."""
    length = int(x.shape[dimension])
    windows = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
    parts = [reduce(x.narrow(dimension, start, stop - start), dimension, keepdim=True) for start, stop in windows]
    return torch.cat(parts, dimension)


def _embedding_bag(input: Tensor, weight: Tensor, **options: Any) -> Tensor | None:
    """Reduces bags of equal length by one operator; exporters write a loop, of which there is no file in float16."""
    if input.dim() != 2 or input.is_floating_point():
        return None
    if options.get("offsets") is not None or options.get("max_norm") is not None:
        return None
    mode, padding, weights = (options.get(name) for name in ("mode", "padding_idx", "per_sample_weights"))
    found = functional.embedding(input, weight)
    if weights is not None:
        found = found * weights.unsqueeze(-1)
    wanted = torch.ones_like(input, dtype=torch.bool) if padding is None else input != padding % len(weight)
    wanted = wanted.unsqueeze(-1)
    number = wanted.sum(1)
    if mode == "max":
        lowest = torch.amin(found, (1, 2), keepdim=True)  # so that padding is never the greatest
        return torch.amax(torch.where(wanted, found, lowest), 1) * (number > 0)
    total = (found * wanted).sum(1)
    return total if mode == "sum" else total / number.clamp(min=1)


@torch.no_grad()
def _set_data(tensor: Tensor, data: Tensor) -> None:
    tensor.copy_(data)


_REWRITTEN: dict[str, Callable[..., Tensor | None]] = {
    **{f"adaptive_max_pool{dimensions}d": _adaptive_pool(dimensions, torch.amax) for dimensions in (1, 2, 3)},
    "adaptive_avg_pool3d": _adaptive_pool(3, torch.mean),  # the exporters support the others
    "embedding_bag": _embedding_bag,
}
