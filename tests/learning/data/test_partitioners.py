"""How a data set is partitioned among the devices of a simulated fleet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.partitioners import MIN_SAMPLES, Partitioner, assign_samples, parse_partitioner

PARTITIONS = st.sampled_from(["iid", "dirichlet:0.05", "dirichlet:1", "shards:1", "shards:3", "mixed:0.95", "mixed:0"])


def ten_classes(count: int) -> np.ndarray:
    return np.arange(count) % 10


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=60, max_size=200),
    devices=st.integers(1, 10),
    partition=PARTITIONS,
    seed=st.integers(0, 2**40),
)
def test_deal_gives_every_sample_to_exactly_one_device(
    labels: list[int], devices: int, partition: str, seed: int
) -> None:
    parts = assign_samples(np.array(labels), devices, parse_partitioner(partition), seed)
    assert len(parts) == devices
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert min(len(part) for part in parts) >= min(MIN_SAMPLES, len(labels) // devices)
    assert all((np.diff(part) > 0).all() for part in parts)


@settings(deadline=None)
@given(partition=PARTITIONS, seed=st.integers(0, 2**40))
def test_deal_repeats_itself_for_the_same_seed(partition: str, seed: int) -> None:
    first, second = (assign_samples(ten_classes(100), 4, parse_partitioner(partition), seed) for _ in range(2))
    assert [part.tolist() for part in first] == [part.tolist() for part in second]


def test_deal_differs_between_seeds() -> None:
    assert (
        assign_samples(ten_classes(100), 4, Partitioner("iid"), 1)[0].tolist()
        != assign_samples(ten_classes(100), 4, Partitioner("iid"), 2)[0].tolist()
    )


def test_deal_iid_gives_equal_parts_with_all_classes() -> None:
    labels = ten_classes(1000)
    for part in assign_samples(labels, 5, Partitioner("iid"), 1):
        assert len(part) == 200
        assert len(np.unique(labels[part])) == 10


def test_deal_shards_limits_the_classes_of_a_device() -> None:
    labels = ten_classes(1000)
    for part in assign_samples(labels, 10, Partitioner("shards", 2), 1):
        assert len(part) == 100
        assert len(np.unique(labels[part])) <= 2


def test_deal_mixed_gives_a_twentieth_evenly_and_the_rest_in_two_shards() -> None:
    labels = ten_classes(10_000)
    for part in assign_samples(labels, 10, Partitioner("mixed", 0.95), 1):
        counts = np.sort(np.bincount(labels[part], minlength=10))
        assert len(part) == 1000
        # Two shards of 475 samples touch at most four classes; the others come from the even twentieth.
        assert counts[:6].sum() < 60
        assert counts[-4:].sum() > 940


def test_deal_mixed_as_authors_cuts_its_shards_from_all_samples() -> None:
    labels = ten_classes(60_000)
    parts = assign_samples(labels, 100, parse_partitioner("mixed-authors:0.95"), 1)
    # 60000 * 0.05 / 100 = 30 evenly, and two of the 210 shards of 600 / 2 - 30 / 2 = 285 samples.
    assert {len(part) for part in parts} == {600}
    dealt = np.bincount(np.concatenate(parts), minlength=60_000)
    assert dealt.max() == 2
    assert set(np.flatnonzero(dealt == 2)) <= set(range(3000))
    # Ten of the shards, and the 150 samples that fill none, are nobody's but for their place in the even part.
    assert 0 < np.count_nonzero(dealt == 0) <= 10 * 285 + 150
    for part in parts:
        assert np.sort(np.bincount(labels[part], minlength=10))[-4:].sum() >= 570


@given(count=st.integers(20, 200), devices=st.integers(1, 10), skewed=st.floats(0, 1), seed=st.integers(0, 2**40))
def test_deal_mixed_as_authors_gives_all_devices_the_same_number(
    count: int, devices: int, skewed: float, seed: int
) -> None:
    parts = assign_samples(ten_classes(count), devices, Partitioner("mixed-authors", skewed), seed)
    assert len(parts) == devices
    assert len({len(part) for part in parts}) == 1
    assert abs(len(parts[0]) - count // devices) <= 1
    assert all((np.diff(part) >= 0).all() for part in parts)


def test_deal_dirichlet_is_skewed_for_a_small_alpha_and_even_for_a_large_one() -> None:
    labels = ten_classes(10_000)
    skewed = assign_samples(labels, 10, Partitioner("dirichlet", 0.1), 1)[0]
    even = assign_samples(labels, 10, Partitioner("dirichlet", 1000.0), 1)[0]
    assert np.bincount(labels[skewed], minlength=10).max() > 0.3 * len(skewed)
    assert np.bincount(labels[even], minlength=10).max() < 0.15 * len(even)


def test_deal_refuses_too_few_samples() -> None:
    with pytest.raises(DataError, match="9 samples cannot be shared by 5 devices"):
        assign_samples(ten_classes(9), 5, Partitioner("iid"), 0)


def test_deal_refuses_more_shards_than_samples() -> None:
    with pytest.raises(DataError, match="cannot be cut into 100 shards"):
        assign_samples(ten_classes(50), 10, Partitioner("shards", 10), 0)


@pytest.mark.parametrize(
    "text",
    ["", "iid:1", "dirichlet", "dirichlet:0", "dirichlet:nan", "dirichlet:inf", "shards:0", "shards:1.5", "mixed:1.1",
     "mixed:-0.1", "mixed-authors:2", "mixed-authors", "zipf:1"],
)  # fmt: skip
def test_parse_partition_refuses_with_the_choices(text: str) -> None:
    with pytest.raises(DataError, match="use iid, dirichlet:ALPHA"):
        parse_partitioner(text)
