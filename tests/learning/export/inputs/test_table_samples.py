"""Rows of CSV files, and windows of them, as samples of an exported model."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from fedlp_edge.errors import DataError
from fedlp_edge.learning.export.inference import Sample
from fedlp_edge.learning.export.inputs.table_samples import is_table, table_samples
from fedlp_edge.learning.export.metadata import OnnxMetadata

ROWS = OnnxMetadata(
    model="m", depth=1, input_shape=(2,), classes=("a", "b"), scale=1.0, mean=(1.0, 0.0), std=(2.0, 1.0),
    features=("load", "heat"),
)  # fmt: skip


def read(tmp_path: Path, text: str, metadata: OnnxMetadata = ROWS) -> list[tuple[str, list[object]] | str]:
    file = tmp_path / "rows.csv"
    file.write_text(text)
    found = table_samples(file, metadata)
    return [
        (entry.name.removeprefix(str(file)), entry.values.tolist())
        if isinstance(entry, Sample)
        else str(entry).replace(str(file), "FILE")
        for entry in found
        if isinstance(entry, Sample | DataError)
    ]


def test_columns_are_found_by_name_and_standardised(tmp_path: Path) -> None:
    assert read(tmp_path, "heat,site,load\n5,x,3\n6,y,1\n") == [(":2", [1.0, 5.0]), (":3", [0.0, 6.0])]


def test_comma_and_semicolon_of_a_german_table(tmp_path: Path) -> None:
    assert read(tmp_path, "load;heat\n3,5;0,25\n") == [(":2", [1.25, 0.25])]


def test_a_gap_or_a_word_is_one_line_and_costs_its_row_alone(tmp_path: Path) -> None:
    assert read(tmp_path, "load,heat\n1,\n1,warm\n3,4\n") == [
        "FILE:2: column 'heat' has no value",
        "FILE:3: column 'heat' holds 'warm', not a number",
        (":4", [1.0, 4.0]),
    ]


def test_a_table_without_rows_is_said(tmp_path: Path) -> None:
    assert read(tmp_path, "load,heat\n") == ["FILE has no rows below the names of its columns"]


def test_a_compressed_table_of_another_locale_is_read_as_in_training(tmp_path: Path) -> None:
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(b'load,heat\n"1,003.5",0.25\n'))
    (found,) = table_samples(tmp_path / "rows.csv.gz", ROWS)
    assert is_table(tmp_path / "rows.csv.gz")
    assert isinstance(found, Sample)
    assert found.values.tolist() == [501.25, 0.25]


def test_a_missing_column_is_said_once(tmp_path: Path) -> None:
    assert read(tmp_path, "load\n1\n2\n") == ["FILE has no column 'heat', which the model takes"]


def test_a_window_is_features_by_rows(tmp_path: Path) -> None:
    windows = msgspec.structs.replace(ROWS, input_shape=(2, 2))
    assert read(tmp_path, "load,heat\n1,2\n3,4\n5,6\n", windows) == [
        (":2-3", [[0.0, 1.0], [2.0, 4.0]]),
        "FILE:4: the last sample has 1 of 2 rows",
    ]


def test_without_names_all_columns_of_numbers_count(tmp_path: Path) -> None:
    unnamed = msgspec.structs.replace(ROWS, features=())
    assert read(tmp_path, "site,x,y\na,1,2\n", unnamed) == [(":2", [0.0, 2.0])]
    assert read(tmp_path, "x,y,z\n1,2,3\n", unnamed) == [
        "FILE has 3 columns of numbers; the model takes 2: leave out the others"
    ]


def test_a_model_of_arrays_takes_no_table(tmp_path: Path) -> None:
    arrays = msgspec.structs.replace(ROWS, features=(), input_shape=(2, 3, 4))
    assert read(tmp_path, "x\n1\n", arrays) == [
        "FILE has 1 columns of numbers; the model takes 2x3x4: leave out the others, or give it .npy files"
    ]


def test_rows_of_a_parquet_file_are_samples_as_those_of_text(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    table = pa.table({"heat": [5.0, None, 7.0], "site": ["x", "y", "z"], "load": [3, 1, 1]})
    pyarrow.parquet.write_table(table, file)
    one, gap, other = table_samples(file, ROWS)
    assert is_table(file)
    assert isinstance(one, Sample)
    assert isinstance(other, Sample)
    assert (one.name, one.values.tolist()) == (f"{file}:1", [1.0, 5.0])
    assert (other.name, other.values.tolist()) == (f"{file}:3", [0.0, 7.0])
    assert str(gap) == f"{file}:2: column 'heat' has no value"


def test_a_parquet_file_that_is_none_or_lacks_a_column_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    pyarrow.parquet.write_table(pa.table({"heat": [5.0]}), tmp_path / "lacks.parquet")
    [torn] = table_samples(tmp_path / "torn.parquet", ROWS)
    [lacks] = table_samples(tmp_path / "lacks.parquet", ROWS)
    assert str(torn).startswith(f"cannot read {tmp_path / 'torn.parquet'}: ")
    assert str(lacks) == f"{tmp_path / 'lacks.parquet'} has no column 'load', which the model takes"


def test_a_column_in_other_capitals_is_named(tmp_path: Path) -> None:
    assert read(tmp_path, "LOAD,heat\n3,5\n") == ["FILE has no column 'load', which the model takes: is it 'LOAD'?"]


def test_columns_go_by_their_numbers_where_those_of_the_model_do(tmp_path: Path) -> None:
    numbered = msgspec.structs.replace(ROWS, features=("3", "1"))
    assert read(tmp_path, "1.5,x,3\n2.5,y,5\n", numbered) == [(":1", [1.0, 1.5]), (":2", [2.0, 2.5])]
    assert read(tmp_path, " 1.5 0  3\n", numbered) == [(":1", [1.0, 1.5])]
    assert read(tmp_path, "y,1,3\nx,1.5,3\n", numbered) == [(":2", [1.0, 1.5])]


def test_records_in_json_are_read_as_in_training(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"load": 3, "at": {"heat": 1}}\n{"load": "x", "at": {"heat": 1}}\n{"at": {"heat": 2}, "load": 5}\n'
    )
    found = list(table_samples(file, msgspec.structs.replace(ROWS, features=("load", "at.heat"))))
    assert [entry.values.tolist() if isinstance(entry, Sample) else str(entry) for entry in found] == [
        [1.0, 1.0],
        f"{file}:2: column 'load' holds 'x', not a number",
        [2.0, 2.0],
    ]


def test_rows_of_pixels_or_of_a_series_are_samples_of_the_shape_of_the_model(tmp_path: Path) -> None:
    pixels = msgspec.structs.replace(
        ROWS, input_shape=(1, 2, 2), features=(), scale=1 / 255, mean=(0.0,), std=(1.0,), input_type="uint8"
    )
    text = "a,b,c,d,note\n0,51,102,255,x\n"
    assert read(tmp_path, text, pixels) == [(":2", [[[0, 51], [102, 255]]])]
    (normalised,) = read(tmp_path, text, msgspec.structs.replace(pixels, input_type="float32"))
    assert np.allclose(normalised[1], [[[0, 0.2], [0.4, 1]]])
    series = msgspec.structs.replace(ROWS, input_shape=(1, 4), features=(), scale=1.0, mean=(0.0,), std=(1.0,))
    assert read(tmp_path, text, series) == [(":2", [[0, 51, 102, 255]])]
