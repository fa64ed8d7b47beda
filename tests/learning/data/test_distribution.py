"""Counting who holds what."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.distribution import ClassDistribution, class_distribution, count_classes


def test_counts_samples_by_device_and_class() -> None:
    counts = count_classes(np.array([0, 2, 2, 1, 2]), [np.array([0, 1, 2]), np.array([3, 4, 4])], classes=4)

    assert counts.tolist() == [[1, 0, 2, 0], [0, 1, 2, 0]]


def test_says_how_many_classes_make_up_a_share() -> None:
    held = ClassDistribution(("a", "b", "c"), np.array([[90, 10, 0], [0, 89, 11], [1, 1, 1]]))

    assert held.samples.tolist() == [100, 100, 3]
    assert held.classes_for(0.9).tolist() == [1, 2, 3]


def test_deals_as_the_devices_of_a_fleet_do() -> None:
    held = class_distribution("digits", 3, "dirichlet:0.5", seed=2)
    as_option = class_distribution("digits#seed=2", 3, "dirichlet:0.5")

    assert held.counts.tolist() == as_option.counts.tolist()
    assert held.classes == tuple("0123456789")
    assert held.counts.sum() == 1438
    assert class_distribution("digits#limit=20", 3, "iid").samples.tolist() == [20, 20, 20]


@pytest.mark.parametrize(
    ("data", "devices", "reason"),
    [("digits#share=0/2", 2, "leave out share="), ("digits", 0, "0 devices"), ("digits", 5000, "cannot be shared")],
)
def test_refuses_what_cannot_be_partitioned(data: str, devices: int, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        class_distribution(data, devices, "iid")
