"""This module seeds torch's random numbers for a block of code and restores them afterwards.

Building a model draws its weights from torch's global generator. Two processes must draw the same weights from the
same seed, and the random numbers of a user's own script must not change because it split a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's CPU generator with ``seed`` for the block, and restores its state afterwards.

    CUDA generators are not touched, because weights are always drawn on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def preserved(device: torch.device) -> Iterator[None]:
    """Restores the generators of the CPU and of ``device`` after the block, whatever it draws from them."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
