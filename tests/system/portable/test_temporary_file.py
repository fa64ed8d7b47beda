from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.system.portable.temporary_file import temporary_file


def open_files() -> set[str]:
    return {str(path.resolve()) for path in Path("/proc/self/fd").iterdir() if path.exists()}


def test_file_is_whole_and_closed_and_vanishes() -> None:
    with temporary_file(b"a picture", "request-", ".png") as path:
        assert (path.read_bytes(), path.name[:8], path.suffix) == (b"a picture", "request-", ".png")
        assert str(path) not in open_files()
    assert not path.exists()


def test_file_vanishes_when_its_reader_fails() -> None:
    with pytest.raises(ValueError, match="no picture"), temporary_file(b"", "request-", "") as path:
        raise ValueError("no picture")
    assert not path.exists()
