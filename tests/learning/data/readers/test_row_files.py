"""Rows of arrays in files, which are read and not mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.readers.row_files import ArrayRows, FileRows, RowSpool, open_array

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("indices", [[], [0], [1, 2, 3], [3, 0, 1, 1]])
def test_rows_of_a_file_are_those_of_the_array(tmp_path: Path, indices: list[int]) -> None:
    np.save(tmp_path / "x.npy", VALUES)
    rows = open_array(tmp_path / "x.npy")
    assert (rows.shape, rows.dtype, rows.nbytes) == ((4, 3), np.float32, 0)
    assert rows.take(np.array(indices, np.int64)).tolist() == VALUES[indices].tolist()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no array", "is no array"),
        (np.array([{}]), "Python objects"),
        (np.asfortranarray(VALUES), "stored by columns"),
    ],
)
def test_a_file_that_is_no_array_of_numbers_by_rows_is_refused(
    tmp_path: Path, content: bytes | np.ndarray, reason: str
) -> None:
    path = tmp_path / "x.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(DataError, match=reason):
        open_array(path)


def test_a_file_that_is_cut_short_is_refused_before_and_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, VALUES)
    rows, content = open_array(path), path.read_bytes()
    path.write_bytes(content[:-4])
    with pytest.raises(DataError, match="has become shorter"):
        rows.take(np.array([3]))
    with pytest.raises(DataError, match="cut short"):
        open_array(path)


@pytest.mark.parametrize(("bound", "kind"), [(1000, ArrayRows), (20, FileRows)])
def test_collected_rows_are_the_same_in_memory_and_in_a_file(tmp_path: Path, bound: int, kind: type) -> None:
    spool = RowSpool(bound, tmp_path)
    for part in (VALUES[:1], VALUES[1:3], VALUES[3:]):
        spool.add(part)
    rows = spool.finish()
    assert isinstance(rows, kind)
    assert rows.take(np.array([3, 0])).tolist() == VALUES[[3, 0]].tolist()
    assert list(tmp_path.iterdir()) == []  # the file has no name
