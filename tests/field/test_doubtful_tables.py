"""Tables that are readable and still not what is meant: each is read as it is meant, or one line says what is odd."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.export.inputs.table_samples import table_samples
from fedlp_edge.learning.export.metadata import OnnxMetadata


def loaded(path: Path, options: str = "target=y") -> Dataset:
    return load_data(parse_spec(f"{'parquet' if path.suffix == '.parquet' else 'csv'}:{path}#{options}").whole())


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def rows(data: Dataset) -> list[list[float]]:
    values: list[list[float]] = data.stored().tolist()
    return values


# Switches, as home automation, spreadsheets and PLCs write them


def test_a_column_of_switches_is_1_and_0_where_it_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "door,fan,y", "on,Yes,a", "off,No,b", "unavailable,yes,b", "Off,YES,a")
    assert rows(loaded(path, "target=y&features=door,fan")) == [[1, 1], [0, 0], [0, 1]]
    assert loaded(path, "target=fan,door&features=fan").y.tolist() == [[1, 1], [0, 0], [1, 0]]


def test_a_switch_among_numbers_is_none(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "a,y", "1,a", "2,b", "no,b")
    with pytest.raises(DataError, match=r"t\.csv:4: column 'a' holds 'no', not a number"):
        loaded(path)


def test_inference_reads_switches_as_training_does(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "door,fan", "on,No", "maybe,Yes")
    card = OnnxMetadata(model="mlp", depth=1, input_shape=(2,), classes=("a", "b"), scale=1.0, mean=(0.0, 0.0),
                        std=(1.0, 1.0), features=("door", "fan"))  # fmt: skip
    one, two = table_samples(path, card)
    assert one.values.tolist() == [1, 0]
    assert "column 'door' holds 'maybe', not a number" in str(two)


# Dates and clock times in two columns, as household meters and gas sensors of public data sets have them


@pytest.mark.parametrize(
    ("dates", "clocks"),
    [
        (("16/12/2006", "15/12/2006", "16/12/2006"), ("17:24:00", "23:00:00", "09:00:00")),
        (("10/03/2004", "09/03/2004", "10/03/2004"), ("18.00.00", "19.00.00", "9.00.00")),
        (("2024-03-10", "2024-03-09", "2024-03-10"), ("18:00", "19:00", "09:00")),
    ],
)
def test_date_and_clock_order_rows_together(tmp_path: Path, dates: tuple[str, ...], clocks: tuple[str, ...]) -> None:
    lines = (f"{date};{clock};{row};{row},5" for row, (date, clock) in enumerate(zip(dates, clocks, strict=True)))
    path = written(tmp_path / "t.csv", "Date;Time;a;y", *lines)
    assert rows(loaded(path, "target=y&features=a&time=Date,Time")) == [[1], [2], [0]]


def test_a_third_column_of_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"time=a,b,c is wrong: name one column, or the two of the date and the clock"):
        loaded(tmp_path / "t.csv", "time=a,b,c")


# Files and columns without values


def test_an_empty_file_among_others_costs_no_device(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "a,y", "1,x", "2,z")
    (tmp_path / "b.csv").touch()  # a logger has just begun it, or a power cut took what it held
    data = loaded(tmp_path)
    assert (rows(data), data.remarks) == ([[1], [2]], "left out: 1 empty file")
    (tmp_path / "a.csv").unlink()
    with pytest.raises(DataError, match=r"b\.csv is empty"):
        loaded(tmp_path)


def test_a_dead_sensor_that_costs_most_rows_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "a,dead,y", "1,5,x", "2,,z", "3,,x", "4,,z")
    said = "column 'dead' has no value in 3 of 4 rows: name the features without it with features= if it is to cost no"
    assert said in loaded(path).remarks
    written(path, "a,dead,y", "1,,x", "2,,z")
    with pytest.raises(DataError, match=r"no sample is left; .* column 'dead' has no value in 2 of 2 rows"):
        loaded(path)


def test_lists_in_parquet_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"wave": [[1.0, 2.0], [3.0, 4.0]], "y": ["a", "b"]})
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(
        DataError, match=r"no column of numbers is left for the model, but 'wave' holds pictures, lists"
    ):
        loaded(path)
    pyarrow.parquet.write_table(table.append_column("a", pa.array([1.0, 2.0])), path)
    assert (
        loaded(path).remarks == "left out: 1 column of lists or records (wave), which huggingface:FILE reads as samples"
    )


# Values that are no measurements


def test_a_number_far_from_all_others_is_named_and_left_out_where_it_is_given(tmp_path: Path) -> None:
    values = [20 + number % 7 / 2 for number in range(30)]
    lines = [f"{value},{value - 0.25}" for value in values]
    path = written(tmp_path / "t.csv", "a,y", *lines, "4294967295,21.75")
    assert loaded(path).remarks == (
        "4.29497e+09 in column 'a' is far from all other values, and scaling goes by it: if a sensor failed, add "
        "missing=4294967295"
    )
    assert len(loaded(path, "target=y&missing=4294967295")) == len(values)
    path = written(tmp_path / "t.csv", "a,y", *lines, "21.75,1e30")
    assert loaded(path).remarks.startswith("1e+30 in column 'y' is far from all other values")
    assert loaded(written(path, "a,y", *lines, "90.5,95.25")).remarks == ""


def test_a_number_of_the_row_is_named_where_it_became_a_feature(tmp_path: Path) -> None:
    lines = [f"{number},{number % 5},{'ab'[number % 2]}" for number in range(30)]
    path = written(tmp_path / "t.csv", "Unnamed: 0,a,y", *lines)
    assert loaded(path).remarks.startswith("column 'Unnamed: 0' numbers the rows and is used as a feature: name")
    assert loaded(path, "target=y&features=a").remarks == ""
    assert loaded(path, "target=y&features=Unnamed: 0,a").remarks == ""


def test_classes_that_differ_in_capitals_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "a,y", "1,OK", "2,ok", "3,bad", "5,Ok")
    data = loaded(path)
    assert data.classes == ("OK", "Ok", "bad", "ok")
    assert data.remarks == "classes that differ in capitals alone count as different: OK, Ok, ok"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (("12.5 kg", "3 kg", "1,234 kg"), "12.5 kg"),
        (("12.5kg", "300g"), "12.5kg"),
        (("€ 1.234,56", "€ 7,00"), "€ 1.234,56"),
        (("$1,234.50", "$0.99"), "$1,234.50"),
        (("20.5 °C", "−3 °C"), "20.5 °C"),
        (("45%", "7 %"), "45%"),
        (("3 m/s", "4 m/s"), "3 m/s"),
        (("A12", "B7"), ""),
        (("12a", "13b", "14c", "15d"), ""),
        (("2024-01-05", "2024-01-06"), ""),
        (("15:38", "15:39"), ""),
        (("big", "small"), ""),
    ],
)
def test_numbers_with_a_unit_are_named_where_they_count_as_text(
    tmp_path: Path, fields: tuple[str, ...], named: str
) -> None:
    rows = [f"{number};{field};{number % 2}" for number, field in enumerate((*fields, "") * 8)]
    (tmp_path / "t.csv").write_text("\n".join(["a;v;y", *rows]), "utf-8")
    remarks = load_data(f"csv:{tmp_path / 't.csv'}#target=y", "train").remarks
    assert "1 column of text (v)" in remarks
    words = f"column 'v' holds numbers with a unit ({named!r}), which count as text: write the numbers alone"
    assert (words in remarks) == bool(named)


@pytest.mark.parametrize(
    ("options", "count"),
    [("window=2", 0), ("window=2&stride=1", 1), ("window=2&stride=1&horizon=1", 2), ("window=1", 0)],
)
def test_windows_with_a_pause_inside_are_counted(tmp_path: Path, options: str, count: int) -> None:
    minutes = [0, 1, 2, 3, 40, 41, 42, 43]
    rows = "".join(f"2024-01-01 00:{minute:02d}:00,{minute % 3}.5,x\n" for minute in minutes)
    (tmp_path / "t.csv").write_text("time,a,y\n" + rows)
    data = load_data(parse_spec(f"csv:{tmp_path / 't.csv'}#target=y&time=time&{options}").whole())
    said = f"{count} sample{'s' * (count > 1)} with a pause inside (the longest is 37 times the usual step of time)"
    assert data.remarks.startswith(said) == bool(count)
    assert ("pause" in data.remarks) == bool(count)


def test_pauses_between_series_are_none(tmp_path: Path) -> None:
    rows = "".join(
        f"{who},{minute},{minute % 3}.5,x\n"
        for who, start in (("p", 0), ("q", 900))
        for minute in range(start, start + 5)
    )
    (tmp_path / "t.csv").write_text("who,time,a,y\n" + rows)
    spec = f"csv:{tmp_path / 't.csv'}#target=y&time=time&features=a&window=2&stride=1"
    assert load_data(parse_spec(spec + "&group=who").whole()).remarks == ""
    assert load_data(parse_spec(spec).whole()).remarks.startswith("1 sample with a pause inside (the longest is 896 ")


# What a power cut leaves in the file of a logger


@pytest.mark.parametrize("cut", [b"\0" * 9, b"4,1\0\0", b"4,1\0\0\0\n", b"4,\0,a\n"])
def test_zero_bytes_cost_their_own_line_and_no_other(tmp_path: Path, cut: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"u,y\n1,a\n2,b\n3,a\n" + cut)
    data = loaded(path)
    assert rows(data) == [[1], [2], [3]]
    assert "1 line with zero bytes, as a power cut leaves them" in data.remarks


def test_rows_after_zero_bytes_count_and_no_window_reaches_across(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [b"%d,%c\n" % (number, b"ab"[number % 2]) for number in range(1, 9)]
    lines[3] = b"4,\0\0\0\n"
    path.write_bytes(b"u,y\n" + b"".join(lines))
    assert rows(loaded(path)) == [[1], [2], [3], [5], [6], [7], [8]]
    assert rows(loaded(path, "target=y&window=2")) == [[[1, 2]], [[5, 6]], [[7, 8]]]
    path.write_bytes(path.read_bytes().replace(b"8,a", b"x,a"))
    with pytest.raises(DataError, match=r"t\.csv:9: column 'u' holds 'x', not a number"):
        loaded(path, "target=y&features=u")


def test_a_file_of_zero_bytes_among_others_is_an_empty_one(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "u,y", "1,a", "2,b")
    (tmp_path / "b.csv").write_bytes(b"\0" * 4096)
    data = loaded(tmp_path)
    assert rows(data) == [[1], [2]]
    assert data.remarks == "left out: 1 empty file"


def test_inference_answers_the_rows_beside_zero_bytes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"u,v\n1,2\n3,\0\0\n5,6\n")
    card = OnnxMetadata(model="mlp", depth=1, input_shape=(2,), classes=("a", "b"), scale=1.0, mean=(0.0, 0.0),
                        std=(1.0, 1.0), features=("u", "v"))  # fmt: skip
    samples = list(table_samples(path, card))
    assert [isinstance(sample, DataError) for sample in samples] == [False, True, False]
    assert "t.csv:3" in str(samples[1])


def test_a_table_that_lies_twice_in_a_folder_is_said_to_count_twice(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", "u,y", "1,a", "2,b")
    written(tmp_path / "a (1).csv", "u,y", "1,a", "2,b")
    written(tmp_path / "b.csv", "u,y", "3,a", "4,b")
    data = loaded(tmp_path)
    assert len(data) == 6
    assert data.remarks.startswith("the rows of a.csv are byte for byte those of another file, and count again")
