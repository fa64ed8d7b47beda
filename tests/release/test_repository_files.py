"""The versions of a repository's metadata on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Snapshot, Timestamp

from fedlp_edge.errors import ReleaseError
from fedlp_edge.release.repository_files import SNAPSHOT, TIMESTAMP, RepositoryFiles


def test_newest_version_is_the_largest_number(tmp_path: Path) -> None:
    files = RepositoryFiles(tmp_path)
    for version in (9, 10):
        files.write(SNAPSHOT, Metadata(Snapshot(version)))
    newest = files.read(SNAPSHOT)
    assert newest is not None
    assert (files.version(SNAPSHOT), newest.signed.version, files.versions(SNAPSHOT)) == (10, 10, [9, 10])


def test_timestamp_has_one_file(tmp_path: Path) -> None:
    files = RepositoryFiles(tmp_path)
    assert files.version(TIMESTAMP) == 0
    for version in (1, 2):
        files.write(TIMESTAMP, Metadata(Timestamp(version)))
    assert files.version(TIMESTAMP) == 2
    assert [path.name for path in (tmp_path / "metadata").iterdir()] == ["timestamp.json"]


def test_what_waits_is_forgotten_once_it_is_complete(tmp_path: Path) -> None:
    files = RepositoryFiles(tmp_path)
    files.write_pending(SNAPSHOT, Metadata(Snapshot(1)))
    assert files.read_pending(SNAPSHOT) is not None
    files.write(SNAPSHOT, Metadata(Snapshot(1)))
    assert files.read_pending(SNAPSHOT) is None


def test_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "metadata").write_text("no directory")
    with pytest.raises(ReleaseError, match=r"metadata"):
        RepositoryFiles(tmp_path).write(SNAPSHOT, Metadata(Snapshot(1)))


def test_source_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"gone.onnx: No such file"):
        RepositoryFiles(tmp_path).copy_target("r1/gone.onnx", tmp_path / "gone.onnx")
