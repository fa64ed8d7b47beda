"""The training split of a data set, divided again: what is tuned for a comparison is chosen on the part held out here.

Each function is a data source, ``benchmarks.comparison.validation_split:NAME``: its ``test`` samples are the last ones
of the data set's training split, its ``train`` samples are the others. The test split of the data set is never read.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedlp_edge.learning.data import sources
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.spec.parsing import parse_spec

HELD_OUT = 1 / 6
"""Share of the training samples that is held out, which leaves 50,000 of Fashion-MNIST."""

Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def fashion_mnist(split: Split) -> Arrays:
    """Fashion-MNIST: 50,000 pictures to train, the last 10,000 of the training split to judge."""
    return divided("fashion-mnist", split)


def digits(split: Split) -> Arrays:
    """The digits of scikit-learn."""
    return divided("digits", split)


def divided(name: str, split: Split) -> Arrays:
    """One part of the training split of a public data set.

    Args:
        name: Name of the data set.
        split: ``train`` for what comes first, ``test`` for what is held out.

    Returns:
        Samples, normalised as those of the data set, and their labels.
    """
    samples = sources.read(parse_spec(name), "train")
    count = len(samples.y) - round(HELD_OUT * len(samples.y))
    part = slice(None, count) if split == "train" else slice(count, None)
    shape = (1, -1, *(1 for _ in samples.shape[1:]))
    mean, std = (np.array(figures, np.float32).reshape(shape) for figures in (samples.mean, samples.std))
    return (samples.array[part] * np.float32(samples.scale) - mean) / std, samples.y[part].astype(np.int64)
