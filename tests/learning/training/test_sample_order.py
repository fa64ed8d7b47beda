from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.errors import DataError
from fedlp_edge.learning.training.sample_order import balanced_order, batches, epoch_order, samples_in_batches


@settings(deadline=None)
@given(count=st.integers(2, 200), batch_size=st.integers(1, 64), seed=st.integers(0, 2**62), epoch=st.integers(0, 9))
def test_batches_take_every_sample_once(count: int, batch_size: int, seed: int, epoch: int) -> None:
    labels = np.zeros(count, dtype=np.int64)
    made = list(batches(epoch_order(labels, "none", seed, epoch), batch_size))
    taken = torch.cat(made).tolist()
    assert len(taken) == len(set(taken)) == samples_in_batches(count, batch_size)
    assert len(taken) == count - (1 if batch_size > 1 and count % batch_size == 1 else 0)
    assert all(len(batch) > 1 or batch_size == 1 for batch in made)


def test_epoch_order_differs_between_epochs_and_repeats_for_the_same_one() -> None:
    labels = np.repeat([0, 1], 25)
    for balance in ("none", "sampling"):
        first, again, second = (epoch_order(labels, balance, 1, epoch).tolist() for epoch in (0, 0, 1))
        assert first == again
        assert first != second


def test_balanced_order_takes_every_class_equally_often() -> None:
    labels = np.array([7, 7, 7, 7, 7, 7, 3, 3, 5])
    order = balanced_order(labels, np.random.default_rng(0))
    assert sorted(labels[order].tolist()) == [3, 3, 3, 5, 5, 5, 7, 7, 7]
    # The one sample of class 5 is repeated, those of class 3 are there once or twice, and 3 of the 6 of class 7 are.
    assert order.tolist().count(8) == 3
    assert sorted(order.tolist().count(number) for number in (6, 7)) == [1, 2]
    assert all(order.tolist().count(number) <= 1 for number in range(6))


@settings(deadline=None)
@given(labels=st.lists(st.integers(0, 5), min_size=2, max_size=80), seed=st.integers(0, 2**62))
def test_balanced_order_has_as_many_samples_as_there_are(labels: list[int], seed: int) -> None:
    y = np.array(labels)
    order = balanced_order(y, np.random.default_rng(seed))
    assert len(order) == len(y)
    counts = np.unique(y[order], return_counts=True)[1]
    assert len(counts) == min(len(set(labels)), len(labels))
    assert counts.max() - counts.min() <= 1


def test_balanced_order_refuses_samples_without_one_class_each() -> None:
    with pytest.raises(DataError, match="needs one class for each sample"):
        balanced_order(np.zeros((3, 2), dtype=np.int64), np.random.default_rng(0))
