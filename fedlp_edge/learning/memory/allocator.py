"""Training in less memory, at the price of time: what a device does before it is given fewer layers.

Three ways, from the cheapest to the dearest:

- *Exact allocation*: glibc keeps freed blocks to use them again, and fragments them; a training step then takes up to
  twice what its tensors need. Told to map every large block by itself, it returns each one at once, for the price of
  fresh pages. No bit of the result changes. A worker allocates like this unless it is told to be quick.
- *Gradient accumulation* (``stepping.py``): a batch is worked through in parts whose gradients are added before the
  step. Losses are means, so each part counts by its share of the batch; batch normalisation sees the parts, so
  networks that have it learn a little differently.
- *Activation checkpointing*: a layer keeps its input alone and is computed again in the backward pass
  (``checkpointing.py``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_EXACT = 128 << 10
"""Larger blocks are mapped one by one: glibc's own first threshold, which it raises by itself if it is let."""

_ROOMY = 32 << 20
"""The highest threshold that glibc accepts."""


def allocate_exactly() -> None:
    """Has glibc map large blocks one by one, from now on; with another C library nothing happens.

    A block that fits into free memory of the heap is put there all the same, and what lies there is not given back.
    So this is for the start of a process, before the heap has grown.
    """
    _set_thresholds(_EXACT, _EXACT)


def allocate_cached() -> None:
    """Has glibc keep what is freed, from now on: for processes that take and give back the same blocks all day."""
    _set_thresholds(_ROOMY, 32 * _ROOMY)


@contextmanager
def cached_allocation(budget: int | None = None) -> Iterator[None]:
    """Within the block, free memory stays with the process: quicker, and up to two times as much.

    Args:
        budget: bytes that are there; no more than a quarter of it is kept at the end of the heap.
    """
    _set_thresholds(_ROOMY, 32 * _ROOMY if budget is None else min(32 * _ROOMY, budget // 4))
    try:
        yield
    finally:
        _set_thresholds(_EXACT, _EXACT)


def aside(work: Callable[[], T]) -> T:
    """Does work in a thread, which glibc gives a heap of its own: what it leaves behind is in nobody's way."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work).result()


def _set_thresholds(mapped: int, trimmed: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, mapped)
        mallopt(_M_TRIM_THRESHOLD, trimmed)


def parts(count: int, micro_batch: int) -> list[tuple[int, int]]:
    """Half-open ranges of nearly equal length, no part of a single sample unless that is all there is.

    Batch normalisation cannot train on one sample, so a part may be one sample longer than asked for.
    """
    number = max(1, min(-(-count // micro_batch), count // 2)) if micro_batch else 1
    return [(count * part // number, count * (part + 1) // number) for part in range(number)]
