"""Tests of encoded files that are kept in memory or in a temporary file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.hugging_face.encoded_files import EncodedSpool


@pytest.mark.parametrize("bound", [100, 4, 0])
def test_every_file_comes_back_whole(tmp_path: Path, bound: int) -> None:
    spool = EncodedSpool(bound, tmp_path / "new")
    for content in (b"abc", b"", b"de", b"f"):
        spool.add(content)
    files = spool.finish(["w", "x", "y", "z"])
    assert [file.read_bytes() for file in files] == [b"abc", b"", b"de", b"f"]
    assert (str(files[-1]), files[-1].open("rb").read()) == ("z", b"f")
    assert [str(file) for file in files[1:3]] == ["x", "y"]
    assert len(files) == 4
    with pytest.raises(IndexError):
        files[4]
    assert not any(path.is_file() for path in tmp_path.rglob("*"))  # the temporary file has no name


def test_no_room_for_the_temporary_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot keep the encoded files in .*/file/below: "):
        EncodedSpool(0, tmp_path / "file" / "below").add(b"abc")
