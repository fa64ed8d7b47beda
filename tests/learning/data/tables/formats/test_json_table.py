from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.tables.formats.json_table import JsonTable


def written(tmp_path: Path, content: str | bytes, name: str = "log.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def load(path: Path, options: str) -> Dataset:
    return load_data(parse_spec(f"json:{path}{options and f'#{options}'}").whole())


def test_values_inside_objects_are_columns(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '{"topic": "a", "payload": {"temp": 20.5, "load": {"now": 1}}, "raw": [1, 2]}\n'
        '{"topic": "b", "payload": {"temp": "21.5", "load": {"now": null}}}\n',
    )
    table = JsonTable(path)
    assert table.columns == ("topic", "payload.temp", "payload.load.now", "raw")
    assert (table.numbers, table.nested) == ({"payload.temp", "payload.load.now"}, {"raw"})


@pytest.mark.parametrize(
    "content",
    [
        '{"a": 1, "b": 2.5, "y": "ok"}\n\n{"y": "worn", "a": 3, "b": "4.5"}\n',
        '\ufeff{"a": 1, "b": 2.5, "y": "ok"}\r\n{"a": 3, "b": 4.5, "y": "worn"}\r\n{"a": 5, "b"',
        '[{"a": 1, "b": 2.5, "y": "ok"},\n {"a": 3, "b": 4.5, "y": "worn"}]',
        gzip.compress(b'{"a": 1, "b": 2.5, "y": "ok"}\n{"a": 3, "b": 4.5, "y": "worn"}', mtime=0),
    ],
    ids=["lines", "being written", "list", "gzip"],
)
def test_records_are_rows(tmp_path: Path, content: str | bytes) -> None:
    data = load(written(tmp_path, content), "target=y")
    assert (data.stored().tolist(), data.classes) == ([[1, 2.5], [3, 4.5]], ("ok", "worn"))


def test_gaps_are_left_out_with_the_line_of_the_first(tmp_path: Path) -> None:
    rows = ['{"a": 1, "y": 0}', '{"a": "unavailable", "y": 0}', '{"a": NaN, "y": 1}', '{"y": 1}', '{"a": 2, "y": 1}']
    path = written(tmp_path, "\n".join([*rows, "\0\0\0", ""]))
    data = load(path, "target=y")
    assert data.stored().tolist() == [[1], [2]]
    assert f"4 rows with gaps (the first is {path}:2, column 'a')" in data.remarks


def test_groups_times_and_windows_are_those_of_other_tables(tmp_path: Path) -> None:
    rows = [f'{{"t": "2024-05-01T00:00:0{s}Z", "who": "p{s % 2}", "x": {s}, "y": {s % 2}}}' for s in (3, 1, 2, 0)]
    data = load(written(tmp_path, "\n".join(rows)), "target=y&features=x&group=who&time=t&window=2")
    assert data.stored().tolist() == [[[0, 2]], [[1, 3]]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1}\n{"a": \n{"a": 2}\n', r"log.jsonl:2: this line is no JSON: mend it, or remove it"),
        ('{\n"a": 1\n}\n', r"log.jsonl:1: this line is no JSON; a record takes one line"),
        ("[1, 2]", r"log.jsonl: record 1: int is no record"),
        ("1\n2\n", r"log.jsonl:1: int is no record: it needs an object with names and values"),
        ("[1, ", "is no JSON, or it is cut short"),
        ('{"users": ["a"], "num_samples": [1], "user_data": {"a": {"x": [[1]], "y": [0]}}}', "is LEAF's JSON"),
        (gzip.compress(b'{"a": 1}\n', mtime=0)[:12], "is compressed by gzip and cut short"),
        ('{"a": "x"}\n', "no column of numbers is left"),
    ],
)
def test_what_is_no_table_is_named(tmp_path: Path, content: str | bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(written(tmp_path, content), "target=a" if content == '{"a": "x"}\n' else "")


def test_records_of_different_kinds_are_told_to_name_the_features_of_one(tmp_path: Path) -> None:
    path = written(tmp_path, '{"name": "cpu", "f": {"idle": 1}}\n{"name": "mem", "f": {"used": 2}}\n')
    with pytest.raises(DataError, match="no row has a value of every feature: name some of them with features="):
        load(path, "")
    assert load(path, "features=f.idle").stored().tolist() == [[1]]


def test_lists_of_numbers_are_left_to_a_function(tmp_path: Path) -> None:
    path = written(tmp_path, '{"acc": [1, 2], "a": 1}\n{"acc": [3, 4], "a": 2}\n')
    assert load(path, "").remarks == (
        "left out: 1 column of several numbers a field (acc), which a function of yours can take apart"
    )
    with pytest.raises(DataError, match="but 'acc' holds several in each field: a function of yours can take them"):
        load(written(tmp_path, '{"acc": [1, 2], "y": "a"}\n', "b.jsonl"), "target=y")
