"""Seeded initial weights that leave the caller's random numbers alone.

Building a model draws from torch's global generator. Two processes must draw the same weights from the
same seed, and a user's own script must not see its random numbers move because it split a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block, torch's CPU generator starts from ``seed``; afterwards it is as it was.

    CUDA generators are not touched: weights are always drawn on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def preserved(device: torch.device) -> Iterator[None]:
    """Within the block anything may draw on the CPU or on ``device``; afterwards both are as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
