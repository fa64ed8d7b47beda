"""This module makes samples for a model of which only the shape of its input is known.

Most models take random numbers. One that looks a column of its input up in an embedding, or makes it one-hot, fails on
negative numbers and on those beyond its table; zero and one are in every table.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def zeros_and_ones(shape: Sequence[int], seed: int = 0) -> Tensor:
    """Returns random zeros and ones, float32, that differ from sample to sample."""
    return torch.randint(0, 2, tuple(shape), generator=torch.Generator().manual_seed(seed)).float()


def token_sample(shape: Sequence[int]) -> Tensor:
    """Returns one sample of token ids, int64 [1, ...]: ones and zeros in turn, so that padding is not all there is."""
    sample = torch.zeros(1, *shape, dtype=torch.int64)
    sample.view(-1)[::2] = 1
    return sample


def first_that_runs(run: Callable[[Tensor], Result], batches: Iterable[Tensor]) -> Result | None:
    """Runs a user's code on one batch after the other, until it raises no error.

    Args:
        run: Function that may raise anything.
        batches: Batches to run it on, [B, ...]; each is a copy of its own if the code changes it.

    Returns:
        What the function returns for the first batch that it takes; None if it takes none of them.
    """
    for batch in batches:
        # Modules that torch.fx has made print their code to standard error where they fail.
        with contextlib.suppress(Exception), contextlib.redirect_stderr(io.StringIO()):
            return run(batch)
    return None
