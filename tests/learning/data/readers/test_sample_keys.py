"""Hashes by which samples are held out."""

from __future__ import annotations

import numpy as np

from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.data.readers.sample_keys import is_held_out, keys_of_rows


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
