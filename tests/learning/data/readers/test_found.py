"""What a source is said to hold."""

from __future__ import annotations

import numpy as np

from fedlp_edge.learning.data.partitioners import Indices
from fedlp_edge.learning.data.readers.found import describe, found_in
from fedlp_edge.learning.data.readers.listing import SampleListing, Samples


def test_classes_are_counted_by_name_or_number() -> None:
    assert describe(np.array([0, 2, 2]), ("a", "b", "c"), "class", (4,)).classes == {"a": 1, "b": 0, "c": 2}
    assert describe(np.array([0, 1, 1]), (), "class", (4,)).classes == {"0": 1, "1": 2}


def test_labels_are_counted_and_values_have_their_range() -> None:
    assert describe(np.array([[1, 0], [1, 1.0]]), ("a", "b"), "labels", (4,)).classes == {"a": 2, "b": 1}
    (found,) = describe(np.array([[1.0], [3.0]]), ("t",), "values", (4,)).ranges
    assert (found.name, found.least, found.mean, found.most) == ("t", 1.0, 2.0, 3.0)


def test_one_line_says_the_most_important_and_how_many_more() -> None:
    found = describe(np.arange(8), tuple("abcdefgh"), "class", (1, 28, 28))
    assert str(found) == "8 samples of 1x28x28, 8 classes (a 1, b 1, c 1, d 1, e 1, f 1, 2 more)"


def test_groups_of_chosen_samples_are_counted() -> None:
    y = np.array([0, 1, 0])

    def samples(keep: Indices | None) -> Samples:
        index = np.arange(3) if keep is None else keep
        return Samples(np.zeros((len(index), 2), np.float32), y[index], ("a", "b"), index=index)

    listing = SampleListing(y, ("a", "b"), samples, np.array([1, 0, 1]), ("north", "south"))
    assert found_in(listing).groups == {"north": 1, "south": 2}
    assert found_in(listing, np.array([0, 2])).groups == {"south": 2}


def test_features_have_their_range_over_samples_and_time() -> None:
    x = np.array([[[1, 2], [5, 5]], [[3, 4], [5, 5]]], np.float32)
    samples = Samples(x, np.array([0, 1]), ("a", "b"), index=np.arange(2), features=("speed", "heat"))
    found = found_in(SampleListing(samples.y, ("a", "b"), lambda keep: samples))
    assert [(r.name, r.least, r.mean, r.most) for r in found.feature_ranges] == [
        ("speed", 1, 2.5, 4),
        ("heat", 5, 5, 5),
    ]


def test_labels_of_minus_one_are_told_from_numbers() -> None:
    odd = describe(np.array([[1, -1], [0, 1.0]]), ("rust", "dent"), "values", (4,))
    assert odd.remarks == ("the targets are -1, 0 and 1 and count as numbers: several labels are told by 0 and 1 alone")
    for y in ([[1.0], [-1.0]], [[1.0, -0.5], [0.0, 1.0]], [[1.0, -2.0], [0.0, 1.0]]):
        assert not describe(np.array(y), (), "values", (4,)).remarks
