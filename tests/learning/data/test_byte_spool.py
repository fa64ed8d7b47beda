"""Bytes that are collected in memory, or in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.byte_spool import ByteSpool


def test_few_bytes_stay_in_memory_as_they_are(tmp_path: Path) -> None:
    spool = ByteSpool[bytes](4, tmp_path / "spool", "the sounds")
    for part in (b"ab", b"", b"cd"):
        spool.add(part)
    assert spool.finish() == [b"ab", b"", b"cd"]
    assert not (tmp_path / "spool").exists()


def test_more_bytes_go_to_a_file_in_their_order(tmp_path: Path) -> None:
    spool = ByteSpool[memoryview](4, tmp_path / "spool", "the table")
    for part in ([1], [2, 3], [], [4, 5, 6]):
        spool.add(np.asarray(part, np.int16).data)
    file = spool.finish()
    assert not isinstance(file, list)
    file.seek(0)
    assert np.frombuffer(file.read(), np.int16).tolist() == [1, 2, 3, 4, 5, 6]
    assert list((tmp_path / "spool").iterdir()) == []  # it has no name


def test_place_that_takes_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with pytest.raises(DataError, match=r"cannot keep the table in .*spool: .*; name a directory with FEDLP_CACHE_DIR"):
        ByteSpool[bytes](1, tmp_path / "spool", "the table").add(b"abc")
