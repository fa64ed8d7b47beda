"""Orders the samples of an epoch, and splits them into batches.

Every order is a function of the seed of the round and the number of the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedlp_edge.core.settings import Balance
from fedlp_edge.errors import DataError

Indices = npt.NDArray[np.int64]


def epoch_order(labels: Indices, balance: Balance, seed: int, epoch: int) -> Indices:
    """Returns the samples of one epoch, as indices, int64 [N].

    Args:
        labels: Labels of all samples of the device, [N, ...].
        balance: With ``sampling``, all classes are equally frequent.
        seed: Seed of the round.
        epoch: Number of the epoch, from 0.
    """
    generator = np.random.default_rng([seed, epoch])
    if balance == "sampling":
        return balanced_order(labels, generator)
    return generator.permutation(len(labels))


def balanced_order(labels: Indices, generator: np.random.Generator) -> Indices:
    """Returns as many indices as there are samples, in random order, with every class equally often.

    Where the classes do not divide the number of samples, some classes of random choice get one more. The samples of a
    class are taken equally often as well, but for one: a rare class repeats them, a frequent one leaves some out.

    Args:
        labels: Class numbers of all samples, int64 [N].
        generator: Source of all random choices.

    Raises:
        DataError: The samples have no class numbers.
    """
    if labels.ndim != 1:
        raise DataError('[training] balance = "sampling" needs one class for each sample')
    classes = generator.permutation(np.unique(labels))
    share, left = divmod(len(labels), len(classes))
    chosen = []
    for number, name in enumerate(classes):
        members = np.flatnonzero(labels == name)
        wanted = share + (number < left)
        rounds = -(-wanted // len(members))
        chosen.append(np.concatenate([generator.permutation(members) for _ in range(rounds)])[:wanted])
    return generator.permutation(np.concatenate(chosen))


def batches(order: Indices, batch_size: int) -> Iterator[Tensor]:
    """Yields the batches of one epoch, as sample indices, int64 [at most ``batch_size``].

    The last batch may be smaller. If it would have a single sample, it is left out, since BatchNorm cannot train on one
    sample; the order differs between epochs, so no sample is left out every time.

    Args:
        order: Samples of the epoch.
        batch_size: Samples of all batches but the last one.
    """
    indices = torch.from_numpy(order)
    for start in range(0, len(order), batch_size):
        batch = indices[start : start + batch_size]
        if len(batch) > 1 or batch_size == 1:
            yield batch


def samples_in_batches(count: int, batch_size: int) -> int:
    """Returns how many samples the batches of an epoch have together."""
    return count - 1 if count % batch_size == 1 and batch_size > 1 else count
