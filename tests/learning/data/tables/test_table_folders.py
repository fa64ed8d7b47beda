"""The tables in a folder, and copies among them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.tables.table_folders import copies_in, file_names, folder_name, partition_of, table_files


def test_tables_of_a_directory_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.csv", "a.tsv", "deep/c.txt", ".hidden.csv", "notes.md", "d.parquet"):
        (tmp_path / name).write_text("")
    assert table_files(tmp_path, "csv") == [tmp_path / "a.tsv", tmp_path / "b.csv"]
    assert table_files(tmp_path / "deep", "csv") == [tmp_path / "deep" / "c.txt"]
    assert table_files(tmp_path, "parquet") == [tmp_path / "d.parquet"]
    assert table_files(tmp_path / "b.csv", "csv") == [tmp_path / "b.csv"]
    with pytest.raises(DataError, match=r"holds no table: it needs files that end in \.parquet, \.pq$"):
        table_files(tmp_path / "deep", "parquet")


def test_linked_folders_count_and_those_of_systems_do_not(tmp_path: Path) -> None:
    disk, root = tmp_path / "disk", tmp_path / "root"
    for folder in (disk, root / "$RECYCLE.BIN", root / ".git"):
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text("a\n1\n")
    (root / "today").symlink_to(disk)
    assert table_files(root, "csv") == [root / "today" / "a.csv"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    for name in ("closed", "lost+found"):
        (tmp_path / name).mkdir()
    scan = os.scandir

    def scandir(path: str) -> object:
        if path != str(tmp_path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"cannot read .*/closed: Permission denied$"):
        table_files(tmp_path, "csv")
    (tmp_path / "closed").rmdir()
    assert table_files(tmp_path, "csv") == [tmp_path / "a.csv"]


def test_copies_are_files_with_the_bytes_of_an_earlier_one(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv", "d.csv", "e.csv")]
    for file, text in zip(files, ("x\n1\n", "x\n2\n", "x\n1\n", "", ""), strict=True):
        file.write_text(text)
    assert copies_in(files) == [files[2]]


def test_groups_are_named_by_files_and_by_folders_of_hive(tmp_path: Path) -> None:
    one, two = tmp_path / "a" / "x.csv.gz", tmp_path / "b" / "x.csv"
    assert file_names([one], tmp_path) == ["x"]
    assert file_names([one, two], tmp_path) == ["a/x", "b/x"]
    assert partition_of(tmp_path / "machine=7" / "x.csv", "machine") == "7"
    assert partition_of(tmp_path / "x.csv", "machine") == ""


def test_the_folder_of_a_file_is_the_first_below_the_root() -> None:
    assert folder_name(Path("all/worn/10g/a.csv"), Path("all")) == "worn"
    assert folder_name(Path("all/a.csv"), Path("all")) == ""
    assert folder_name(Path("a.csv"), Path("a.csv")) == ""
