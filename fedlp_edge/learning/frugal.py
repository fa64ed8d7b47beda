"""Training in less memory, at the price of time: what a device does before it is given fewer layers.

Three ways, from the cheapest to the dearest:

- *Exact allocation*: glibc keeps freed blocks to use them again, and fragments them; a training step then takes up to
  twice what its tensors need. Told to map every large block by itself, it returns each one at once, for the price of
  fresh pages. No bit of the result changes.
- *Gradient accumulation* (``stepping.py``): a batch is worked through in parts whose gradients are added before the
  step. Losses are means, so each part counts by its share of the batch; batch normalisation sees the parts, so
  networks that have it learn a little differently.
- *Activation checkpointing*: a layer keeps its input alone and is computed again in the backward pass
  (``checkpointing.py``).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_EXACT_BYTES = 128 << 10
"""Larger blocks are mapped one by one: glibc's own first threshold, which it raises by itself if it is let."""

_ROOMY_BYTES = 32 << 20
"""The highest that glibc raises it to."""


@contextmanager
def exact_allocation() -> Iterator[None]:
    """Has glibc give every large block back as soon as it is free; with another C library nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _EXACT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _EXACT_BYTES)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _ROOMY_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 2 * _ROOMY_BYTES)


def parts(count: int, micro_batch: int) -> list[tuple[int, int]]:
    """Half-open ranges of nearly equal length, no part of a single sample unless that is all there is.

    Batch normalisation cannot train on one sample, so a part may be one sample longer than asked for.
    """
    number = max(1, min(-(-count // micro_batch), count // 2)) if micro_batch else 1
    return [(count * part // number, count * (part + 1) // number) for part in range(number)]
