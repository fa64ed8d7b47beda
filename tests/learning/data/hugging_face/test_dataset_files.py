"""Tests of finding and reading the files of stored data sets."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.feather
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.hugging_face.dataset_files import batches_of, find_files, read_schema
from fedlp_edge.learning.data.public_datasets import Split
from tests.learning.data.hugging_face.parquet_datasets import write_arrow, write_parquet

NUMBERS = pyarrow.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})


def touched(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(root: Path, split: Split) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_files(root, split).paths]


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], [0], [1]),
        (["default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"], [0, 1], [2]),
        (["train/data-00000-of-00001.arrow", "validation/data-00000-of-00001.arrow"], [0], [1]),
        (["mnist-train.arrow", "mnist-test.arrow"], [0], [1]),
        (["train.parquet", "test.parquet", "validation.parquet"], [0], [1]),
        (["train.parquet", "eval.parquet"], [0], [1]),
        (["data-00000-of-00001.arrow"], [0], [0]),
        (["train.parquet"], [0], [0]),
    ],
)
def test_splits_are_told_by_names_of_files_and_folders(
    tmp_path: Path, names: list[str], train: list[int], test: list[int]
) -> None:
    touched(tmp_path, *names)
    assert found(tmp_path, "train") == [names[number] for number in train]
    assert found(tmp_path, "test") == [names[number] for number in test]


def test_what_programs_keep_beside_a_data_set_is_left_out(tmp_path: Path) -> None:
    names = ("train/a.parquet", "train/cache-1f2e.arrow", ".cache/huggingface/train.parquet", "README.md")
    touched(tmp_path, *names)
    assert found(tmp_path, "train") == ["train/a.parquet"]


def test_files_of_neither_split_are_not_used_and_named(tmp_path: Path) -> None:
    touched(tmp_path, "train.parquet", "test.parquet", "extra.parquet")
    assert [path.name for path in find_files(tmp_path, "train").unused] == ["extra.parquet"]


def test_several_data_sets_in_one_folder_are_told_apart_by_the_user(tmp_path: Path) -> None:
    touched(tmp_path, "big/train/0.parquet", "big/test/0.parquet", "small/train/0.parquet", "small/test/0.parquet")
    with pytest.raises(DataError, match=r"holds several data sets \(big, small\): name one, as in huggingface:.*/big"):
        find_files(tmp_path, "train")
    assert found(tmp_path / "small", "test") == ["test/0.parquet"]


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    touched(tmp_path, "a.txt")
    with pytest.raises(DataError, match=r"holds no stored data set: it needs files that end in \.parquet or \.arrow"):
        find_files(tmp_path, "train")


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_columns_are_read_in_batches(tmp_path: Path, name: str) -> None:
    (write_parquet if name.endswith("t") else write_arrow)(tmp_path / name, NUMBERS)
    assert read_schema(tmp_path / name).names == ["a", "b"]
    read = [batch.to_pydict() for batch in batches_of(tmp_path / name, ["b"], 2)]
    assert read == [{"b": ["x", "y"]}, {"b": ["z"]}]


def test_arrow_files_with_an_index_are_read_like_streams(tmp_path: Path) -> None:
    pyarrow.feather.write_feather(NUMBERS, tmp_path / "a.arrow")
    assert [batch.to_pydict() for batch in batches_of(tmp_path / "a.arrow", ["a"], 9)] == [{"a": [1, 2, 3]}]


def test_pointers_of_git_lfs_and_cut_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")
    with pytest.raises(DataError, match=r"a\.parquet is a pointer of Git LFS: fetch the file itself with git lfs pull"):
        read_schema(tmp_path / "a.parquet")
    write_parquet(tmp_path / "b.parquet", NUMBERS)
    (tmp_path / "b.parquet").write_bytes((tmp_path / "b.parquet").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"b\.parquet is no Parquet file, or it is cut short$"):
        read_schema(tmp_path / "b.parquet")
    (tmp_path / "c.arrow").write_bytes(b"none")
    with pytest.raises(DataError, match=r"cannot read .*c\.arrow: [^\n]+$"):
        read_schema(tmp_path / "c.arrow")
