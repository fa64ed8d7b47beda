"""Samples before and after they are read."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.learning.data.readers.listing import SampleListing, Samples
from fedlp_edge.learning.data.readers.row_files import ArrayRows
from fedlp_edge.learning.data.readers.selected import ArrayReader

ARRAY = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.mark.parametrize("x", [ARRAY, ArrayReader(ArrayRows(ARRAY), "x")])
def test_samples_have_shape_and_values_wherever_they_are(x: np.ndarray | ArrayReader) -> None:
    samples = Samples(x, np.zeros(3, np.int64), ())
    assert samples.shape == (2,)
    assert samples.array.tolist() == ARRAY.tolist()


@pytest.mark.parametrize(
    ("labels", "classes", "names"), [([0, 2], (), ("0", "1", "2")), ([], (), ()), ([0], ("a", "b"), ("a", "b"))]
)
def test_classes_without_names_are_called_by_their_numbers(
    labels: list[int], classes: tuple[str, ...], names: tuple[str, ...]
) -> None:
    listing = SampleListing(np.array(labels, np.int64), classes, lambda _: Samples(ARRAY, np.zeros(3), ()))
    assert listing.names == names
