from __future__ import annotations

import torch

from fedlp_edge.learning.data.sample_store import SamplesInMemory

STORE = SamplesInMemory(torch.tensor([[1, 2], [3, 4], [1, 2]], dtype=torch.uint8))


def test_read_takes_indices_and_slices():
    assert STORE.read(torch.tensor([1, 0])).tolist() == [[3, 4], [1, 2]]
    assert STORE.read(slice(1, None)).tolist() == [[3, 4], [1, 2]]


def test_a_store_knows_its_size():
    assert (len(STORE), STORE.shape, STORE.nbytes, STORE.device.type) == (3, (2,), 6, "cpu")


def test_a_subset_has_the_samples_at_its_indices():
    assert STORE.subset(torch.tensor([2, 1])).read(slice(None)).tolist() == [[1, 2], [3, 4]]


def test_equal_samples_have_equal_keys():
    first, second, third = STORE.keys().tolist()
    assert first == third != second
