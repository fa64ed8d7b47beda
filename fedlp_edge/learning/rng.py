"""This module seeds random numbers for a block of code and restores them afterwards.

Building a model draws its weights from torch's global generator, and the code of users also from those of Python and
numpy. Two processes must draw the same weights from the same seed, and the random numbers of a user's own script must
not change because it split a model.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_NUMPY_SEEDS = 2**32
"""Number of seeds that numpy's global generator takes."""


def seed_everything(seed: int) -> None:
    """Seeds the global generators of torch, Python and numpy, for a process that does nothing else."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds the generators of torch (CPU), Python and numpy with ``seed`` for the block, and restores their states.

    CUDA generators are not touched, because weights are always drawn on the CPU.
    """
    with torch.random.fork_rng(devices=[]), _others_preserved():
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % _NUMPY_SEEDS)
        yield


@contextmanager
def preserved(device: torch.device) -> Iterator[None]:
    """Restores the generators of the CPU, of ``device``, of Python and of numpy after the block."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _others_preserved():
        yield


def drawn_elsewhere() -> object:
    """Returns what differs once somebody has drawn from the global generators of Python or numpy."""
    _, keys, position, *_ = np.random.get_state(legacy=True)
    return random.getstate(), np.asarray(keys).tobytes(), position


@contextmanager
def _others_preserved() -> Iterator[None]:
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
