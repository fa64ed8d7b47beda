"""Folders of tables in which a logger has not closed its last file, or lost the power with it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.tables.formats.unfinished import unfinished_files
from fedlp_edge.learning.data.tables.table_rows import TableRows, read_rows

TEXT = "a,wear\n" + "".join(f"{number}.5,{number % 2}\n" for number in range(400))


def read(source: str) -> TableRows:
    return read_rows(parse_spec(f"{source}#target=wear"), None)


def cut(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return path


def parquet(folder: Path, *names: str) -> list[Path]:
    for name in names:
        pandas.DataFrame({"a": [1.5, 2.5], "wear": [0, 1]}).to_parquet(folder / name)
    return [folder / name for name in names]


def test_a_parquet_file_that_is_not_closed_waits_for_its_end(tmp_path: Path) -> None:
    _, second = parquet(tmp_path, "1.parquet", "2.parquet")
    cut(second)
    table = read(f"parquet:{tmp_path}")
    assert table.target[0].tolist() == [0, 1]
    assert str(table.skipped).startswith("left out: 1 file without an end (2.parquet), as of one that is being written")
    parquet(tmp_path, "2.parquet")
    assert read(f"parquet:{tmp_path}").target[0].tolist() == [0, 1, 0, 1]


def test_a_compressed_table_that_is_not_closed_waits_for_its_end(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text(TEXT)
    (tmp_path / "2.csv.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert len(read(f"csv:{tmp_path}").target[0]) == 800
    cut(tmp_path / "2.csv.gz")
    table = read(f"csv:{tmp_path}")
    assert len(table.target[0]) == 400
    assert table.skipped.unfinished == ("2.csv.gz",)


def test_a_table_alone_must_have_its_end(tmp_path: Path) -> None:
    (path,) = parquet(tmp_path, "1.parquet")
    cut(path)
    for source in (path, tmp_path):
        with pytest.raises(DataError, match=r"1\.parquet is no Parquet file, or it is cut short"):
            read(f"parquet:{source}")


def test_three_files_of_a_folder_may_lack_their_ends_and_no_fourth(tmp_path: Path) -> None:
    files = parquet(tmp_path, *(f"{number}.parquet" for number in range(8)))
    for path in files[:3]:
        cut(path)
    assert unfinished_files(files) == files[:3]
    cut(files[3])
    assert unfinished_files(files) == []
    assert unfinished_files(files[:3]) == []


def test_what_is_damaged_otherwise_is_not_taken_for_unfinished(tmp_path: Path) -> None:
    whole, short, missing = tmp_path / "a.csv", tmp_path / "b.gz", tmp_path / "c.csv"
    whole.write_text(TEXT)
    short.write_bytes(b"\x1f\x8b\x08\x00 no deflated bytes at all")
    assert unfinished_files([whole, short, missing]) == []
