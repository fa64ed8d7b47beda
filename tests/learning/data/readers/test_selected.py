"""Samples that are rows of an array, and a choice among the samples of another reader."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.readers.row_files import ArrayRows
from fedlp_edge.learning.data.readers.selected import ArrayReader, SelectedReader

ROWS = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])


def test_rows_of_an_array_are_read_as_float32_and_bytes_stay_bytes() -> None:
    reader = ArrayReader(ArrayRows(ROWS), "x.npy")
    read = reader.read(np.array([2, 0]))
    assert (len(reader), reader.shape, read.dtype, read.tolist()) == (3, (2,), np.float32, [[4.0, 5.0], [0.0, 1.0]])
    assert ArrayReader(ArrayRows(ROWS.astype(np.uint8)), "x.npy").read(np.array([1])).dtype == np.uint8


def test_a_value_that_is_not_finite_is_refused_by_the_name_of_the_array() -> None:
    reader = ArrayReader(ArrayRows(np.array([[1.0], [np.nan]])), "x.npy")
    with pytest.raises(DataError, match=r"x\.npy"):
        reader.read(np.array([1]))


def test_a_choice_reads_holds_out_and_hashes_what_the_other_reader_does_at_its_positions() -> None:
    reader = ArrayReader(ArrayRows(ROWS), "x.npy")
    chosen = SelectedReader(reader, np.array([2, 1]))
    first, both = np.array([0]), np.array([0, 1])
    assert len(chosen) == 2
    assert chosen.read(first).tolist() == [[4.0, 5.0]]
    assert chosen.keys(both).tolist() == reader.keys(np.array([2, 1])).tolist()
    assert chosen.holdout(both, 0.5)[1].tolist() == reader.holdout(np.array([2, 1]), 0.5)[1].tolist()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_sample_is_either_trained_on_or_held_out(share: float) -> None:
    trained, held = ArrayReader(ArrayRows(np.zeros((50, 1))), "x.npy").holdout(np.arange(50), share)
    assert (trained ^ held).all()
    assert held.any() == (share > 0)
