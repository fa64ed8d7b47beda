"""Hashes by which samples are held out."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.data.readers.sample_keys import is_held_out, is_in_test_split, keys_of_names, keys_of_rows


def test_the_share_is_about_what_was_asked_for_and_a_larger_one_holds_the_smaller() -> None:
    keys = load_data("digits").sample_keys()
    tenth, half = is_held_out(keys, 0.1), is_held_out(keys, 0.5)
    assert 0.07 < tenth.mean() < 0.13
    assert 0.45 < half.mean() < 0.55
    assert half[tenth].all()


def test_hashes_are_those_of_the_bytes_of_each_row() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    assert keys_of_rows(x).tolist() == keys_of_rows(x.copy(order="F")).tolist()
    assert len(set(keys_of_rows(x).tolist())) == 3
    assert keys_of_rows(x[1:2])[0] == keys_of_rows(x)[1]


def test_the_test_split_says_nothing_of_what_a_device_holds_out_of_the_rest() -> None:
    keys = keys_of_names(str(number) for number in range(4000))
    rest = keys[~is_in_test_split(keys, 0.2)]
    assert len(rest) == pytest.approx(3200, rel=0.03)
    assert is_held_out(rest, 0.1).mean() == pytest.approx(0.1, rel=0.15)
