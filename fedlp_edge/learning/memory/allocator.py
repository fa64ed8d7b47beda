"""Saves memory in training at the price of time, before a device is given fewer layers.

There are three techniques, from the cheapest to the most expensive one:

- *Exact allocation*: glibc keeps freed blocks for later use and fragments them, so that a train step takes up to twice
  the memory of its tensors. If glibc maps every large block separately, it returns each one to the kernel when it is
  freed, at the cost of new page faults. The result does not change by a bit. Workers allocate like this by default.
- *Gradient accumulation* (``training/step.py``): a batch is split into micro-batches whose gradients are added before
  the update. Losses are means, so each micro-batch counts by its share of the batch; batch normalisation normalises
  each micro-batch, so models that have it learn slightly differently.
- *Activation checkpointing* (``model/activation_checkpointing.py``): only the input of a layer is stored, and its
  activations are computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from fedlp_edge.system.portable.c_library import c_function

T = TypeVar("T")

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_EXACT = 128 << 10
"""Bytes above which blocks are mapped separately: glibc's initial threshold, which it otherwise raises over time."""

_CACHED = 32 << 20
"""Bytes of the highest threshold that glibc accepts."""


def allocate_exactly() -> None:
    """Makes glibc map large blocks separately from now on; does nothing with another C library.

    glibc still puts a block into free memory of the heap if it fits there, and does not return that memory. This
    function must therefore be called at the start of a process, before its heap has grown.
    """
    _set_thresholds(_EXACT, _EXACT)


def allocate_cached() -> None:
    """Makes glibc keep freed memory from now on, for processes that allocate blocks of the same sizes repeatedly."""
    _set_thresholds(_CACHED, 32 * _CACHED)


@contextmanager
def cached_allocation(budget: int | None = None) -> Iterator[None]:
    """Keeps freed memory in the process within a block: training is faster and takes up to twice the memory.

    Args:
        budget: Bytes that training may take, None for no limit; at most a quarter of it stays free at the end of the
            heap.
    """
    _set_thresholds(_CACHED, 32 * _CACHED if budget is None else min(32 * _CACHED, budget // 4))
    try:
        yield
    finally:
        _set_thresholds(_EXACT, _EXACT)


def in_new_thread(work: Callable[[], T]) -> T:
    """Runs a function in a new thread, so that its allocations fragment the heap of that thread and not the main one.

    Args:
        work: Function to run.

    Returns:
        The result of ``work``.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work).result()


def _set_thresholds(mapped: int, trimmed: int) -> None:
    mallopt = c_function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, mapped)
        mallopt(_M_TRIM_THRESHOLD, trimmed)


def parts(count: int, micro_batch: int) -> list[tuple[int, int]]:
    """Splits a batch into micro-batches of nearly equal size.

    Batch normalisation cannot train on one sample, so no micro-batch has a single sample unless the batch has; one may
    therefore be one sample larger than ``micro_batch``.

    Args:
        count: Samples of the batch.
        micro_batch: Most samples of a micro-batch; 0 for one micro-batch.

    Returns:
        Half-open ranges of sample indices, in order; none for an empty batch.
    """
    if not count:
        return []
    number = max(1, min(-(-count // micro_batch), count // 2)) if micro_batch else 1
    return [(count * part // number, count * (part + 1) // number) for part in range(number)]
