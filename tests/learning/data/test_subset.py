"""A specification selects samples by their labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.subset import indices_of_all_devices, select_indices

LABELS = np.array([0, 1] * 10, np.int64)


def test_all_samples_are_selected_without_a_share_or_a_limit() -> None:
    assert select_indices(LABELS, parse_spec("digits"), "train") is None
    assert select_indices(LABELS, parse_spec("digits#limit=20"), "train") is None


def test_shares_apply_to_the_training_split_alone() -> None:
    first, second = (select_indices(LABELS, parse_spec(f"digits#share={device}/2"), "train") for device in (0, 1))
    assert first is not None
    assert second is not None
    assert len(first) == len(second) == 10
    assert sorted([*first, *second]) == list(range(20))
    assert select_indices(LABELS, parse_spec("digits#share=0/2"), "test") is None


@settings(max_examples=25)
@given(st.integers(1, 19), st.integers(0, 5))
def test_limit_keeps_different_samples_in_their_order(limit: int, seed: int) -> None:
    spec = parse_spec(f"digits#limit={limit}&seed={seed}")
    chosen = select_indices(LABELS, spec, "test")
    assert chosen is not None
    assert len(chosen) == limit
    assert chosen.tolist() == sorted(set(chosen.tolist()) & set(range(20)))
    again = select_indices(LABELS, spec, "test")
    assert again is not None
    assert again.tolist() == chosen.tolist()


def test_fleet_has_what_its_devices_select() -> None:
    everyone = indices_of_all_devices(LABELS, parse_spec("digits#share=0/2&limit=4"))
    assert len(everyone) == 2
    for device, indices in enumerate(everyone):
        own = select_indices(LABELS, parse_spec(f"digits#share={device}/2&limit=4"), "train")
        assert own is not None
        assert own.tolist() == indices.tolist()
        assert len(own) == 4


def test_selection_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a specification without a share has no fleet to partition samples for$"):
        indices_of_all_devices(LABELS, parse_spec("digits"))
    with pytest.raises(DataError, match=r"^20 samples cannot be shared by 11 devices: each needs two at least$"):
        indices_of_all_devices(LABELS, parse_spec("digits#share=0/11"))
