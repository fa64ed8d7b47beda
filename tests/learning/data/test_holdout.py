"""Which samples a device keeps out of training."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.data.holdout import split_holdout
from fedlp_edge.learning.data.readers.sample_keys import is_held_out


def samples(values: list[int]) -> Dataset:
    x = torch.tensor(values, dtype=torch.float32)[:, None]
    return Dataset.of_tensor(x, torch.zeros(len(values), dtype=torch.int64), ("a",), 1.0, (0.0,), (1.0,))


def held(values: list[int], share: float) -> set[int]:
    rest = split_holdout(samples(values), share)[1]
    return set() if rest is None else {int(value) for value in rest.stored()[:, 0]}


@given(st.lists(st.integers(0, 1000), unique=True, min_size=20, max_size=60), st.randoms())
def test_a_sample_stays_on_its_side_whatever_comes_beside_it_and_in_whatever_order(
    values: list[int], random: object
) -> None:
    some = values[:10]
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert held(shuffled, 0.3) == held(values, 0.3)
    assert held(some, 0.3) == held(values, 0.3) & set(some)


def test_equal_samples_are_on_the_same_side() -> None:
    train, rest = split_holdout(samples([*range(40), *range(40)]), 0.5)
    assert rest is not None
    assert not set(train.stored()[:, 0].tolist()) & set(rest.stored()[:, 0].tolist())
    assert len(train) + len(rest) == 80


def test_no_share_leaves_the_data_as_they_are() -> None:
    data = samples([1, 2, 3])
    assert split_holdout(data, 0.0) == (data, None)


def test_nothing_is_held_out_where_training_would_lack_samples() -> None:
    data = samples([1, 2, 3])
    assert is_held_out(data.sample_keys(), 0.999999).all()
    assert split_holdout(data, 0.999999) == (data, None)
