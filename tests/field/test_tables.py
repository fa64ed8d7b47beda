"""Tables as spreadsheets, loggers, home automation and Spark write them: the right values, or one line."""

from __future__ import annotations

import datetime
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.spec.parsing import parse_spec


def loaded(path: Path, options: str = "target=y") -> Dataset:
    source = "parquet" if path.suffix == ".parquet" or (path.is_dir() and any(path.rglob("*.parquet"))) else "csv"
    return load_data(parse_spec(f"{source}:{path}#{options}").whole())


def rows(data: Dataset) -> list[list[float]]:
    values: list[list[float]] = data.stored().tolist()
    return values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a;b;y\n8.600,25;1,5;x\n1.360;2;z\n", [[8600.25, 1.5], [1360, 2]]),  # a German Excel
        ("a;b;y\n8.600;1,5;x\n1.360;2;z\n", [[8600, 1.5], [1360, 2]]),  # groups of digits, and no decimals
        ('a,b,y\n"8,600.25",1.5,x\n"1,360",2,z\n', [[8600.25, 1.5], [1360, 2]]),  # an American one
        ("a;b;y\n8\u202f600,25;1,5;x\n1\u202f360;2;z\n", [[8600.25, 1.5], [1360, 2]]),  # a French one
        ("a;b;y\n8'600.25;1.5;x\n1'360;2;z\n", [[8600.25, 1.5], [1360, 2]]),  # a Swiss one
        ("a,b,y\n\u22121.5,1,x\n2,3,z\n", [[-1.5, 1], [2, 3]]),  # a typeset minus
        ('"a\n[mm]",b,y\n1,2,x\n3,4,z\n', [[1, 2], [3, 4]]),  # a header of two lines: no row is lost
        ("a,b,y\n1,2,x\nunavailable,3,z\n4,5,z\n", [[1, 2], [4, 5]]),  # an export of Home Assistant
        ("a,b,y\nunknown,3,z\n1,2,x\n4,5,z\n", [[1, 2], [4, 5]]),  # ... in the first row, too
        ("a,b,y\r1,2,x\r4,5,z\r", [[1, 2], [4, 5]]),  # line ends of an old Mac
        ("y,a,b\nx,1,2.5;\nz,4,5.25;\n", [[1, 2.5], [4, 5.25]]),  # semicolons behind the rows, as of WISDM
    ],
)
def test_numbers_have_their_value_in_every_locale(tmp_path: Path, text: str, values: list[list[float]]) -> None:
    (tmp_path / "t.csv").write_text(text, newline="")
    data = loaded(tmp_path / "t.csv")
    assert rows(data) == values
    assert data.y.tolist() == [0, 1]


def test_compressed_tables_count_and_copies_of_notebooks_do_not(tmp_path: Path) -> None:
    text = "a,y\n1,x\n2,z\n"
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "README.txt").write_text("notes about the data\n")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "a-checkpoint.csv").write_text(text)
    assert rows(loaded(tmp_path)) == [[1], [2], [1], [2]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("made by a logger\na,b,y\n1,2,x\n", "t.csv:1: there is no column 'y', but line 2 names it: remove the lines"),
        ("a,b,y\nmm,2,x\n1,2,x\n3,4,x\n5,6,z\n", "t.csv:2: column 'a' holds 'mm', not a number"),
        ("a b y\nso so x\n", "fields are separated by a comma, semicolon, tab or |, by blanks only"),
        ('a,y\n1,x\n2,"z\n3,x\n', "t.csv:3: a quote is opened and never closed"),
    ],
)
def test_what_stands_above_or_between_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        loaded(tmp_path / "t.csv")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


INFLUX = (
    "#group,false,false,true,false\n#datatype,string,long,dateTime:RFC3339,double\n#default,_result,,,\n"
    ",result,table,_time,_value\n,,0,2024-01-01T00:00:00Z,1.5\n,,0,2024-01-01T00:01:00Z,2.5\n\n"
)


@pytest.mark.parametrize(
    ("text", "options", "values", "remarks"),
    [
        (INFLUX, "features=_value&time=_time", [[1.5], [2.5]], ""),  # an export of InfluxDB
        ("# station 7\n# Köln\n\na,b,y\n1,2,x\n3,4,z\n", "target=y", [[1, 2], [3, 4]], ""),
        ("# of NumPy\n# a,b,y\n1,2,x\n3,4,z\n", "target=y&features=b", [[2], [4]], ""),
        (  # a logger that was started twice, or two files that were joined
            "a,b,y\n1,2,x\n\ufeffa,b,y\n3,4,z\n",
            "target=y",
            [[1, 2], [3, 4]],
            "left out: 1 line with the names of the columns once more",
        ),
        (
            "t;a;b;y\n2;3,5;1.234,5;z\nt;a;b;y\n1;1,5;2;x\n",
            "target=y&time=t&features=a,b",
            [[1.5, 2], [3.5, 1234.5]],
            "left out: 1 line with the names of the columns once more",
        ),
        (  # a data logger of Campbell Scientific, without its first line
            '"a","b","y"\n"Volts","Deg C",""\n"Min","Avg",""\n1,2,"x"\n3,"NAN","x"\n5,6,"z"\n',
            "target=y",
            [[1, 2], [5, 6]],
            "left out: the units below the names of the columns, 1 row with gaps (the first is {path}:5, column 'b')",
        ),
    ],
)
def test_lines_of_loggers_that_are_no_rows_are_left_out(
    tmp_path: Path, text: str, options: str, values: list[list[float]], remarks: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    data = loaded(path, options)
    assert rows(data) == values
    assert data.remarks == remarks.format(path=path)


def test_lines_are_counted_with_what_loggers_write_between_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("# logger\na,b,y\n1,2,x\na,b,y\n3,4,z\n5,six,z\n")
    with pytest.raises(DataError, match=r"t\.csv:6: column 'b' holds 'six'"):
        loaded(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(",,\n\n,,\n")
    with pytest.raises(DataError, match=r"t\.csv is empty"):
        loaded(tmp_path / "t.csv")


@pytest.mark.parametrize("gap", ["", "0000-00-00 00:00:00", "NULL"])
@pytest.mark.parametrize(
    ("options", "values", "left_out"),
    [
        ("", [[3], [1], [4], [5]], ""),
        ("&window=2", [[[3, 1]], [[4, 5]]], ""),
        ("&horizon=1", [[3], [1], [4]], ""),
        ("&window=2&stride=1", [[[3, 1]], [[1, 4]], [[4, 5]]], ", 1 window that touch them"),
    ],
)
def test_rows_without_a_time_are_left_out_and_counted(
    tmp_path: Path, gap: str, options: str, values: list[list[float]], left_out: str
) -> None:
    times = ["10:01:00", "", "10:00:00", "10:02:00", "10:03:00"]
    rows_of_file = [
        f"{'2024-01-01 ' + time if time else gap},{a},x" for time, a in zip(times, (1, 2, 3, 4, 5), strict=True)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["time,a,y", *rows_of_file, ""]))
    data = loaded(tmp_path / "t.csv", f"target=y&time=time{options}")
    assert rows(data) == values
    assert data.remarks == f"left out: 1 row without a time{left_out}"


def test_words_of_a_logger_for_a_gap_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n1,2,x\nERR,3,x\n4,OL,z\n-1,5,z\n6,7,ERR\n8,9,z\n")
    with pytest.raises(DataError, match=r"t\.csv:3: column 'a' holds 'ERR', not a number: mend it, add missing=ERR if"):
        loaded(path)
    data = loaded(path, "target=y&missing=ERR,OL,-1")
    assert (rows(data), data.classes) == ([[1, 2], [8, 9]], ("x", "z"))
    assert data.remarks == (f"left out: 3 rows with gaps (the first is {path}:3, column 'a'), 1 row without a target")


@pytest.mark.parametrize("name", ["0.csv", "2.csv"])
def test_a_file_that_a_logger_has_only_begun_is_an_empty_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "1.csv").write_text("time,a,y\n2024-01-01,1,x\n2024-01-02,2,z\n")
    (tmp_path / name).write_text("time,a,y\n")
    data = loaded(tmp_path)
    assert rows(data) == [[1], [2]]
    assert data.remarks == "left out: 1 empty file, 1 column of text (time)"


def test_a_line_that_a_logger_has_not_written_to_its_end_makes_no_class(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,y\n1,ok\n2,worn\n3,ok\n4,wo")
    data = loaded(path)
    assert (data.classes, rows(data)) == (("ok", "worn"), [[1], [2], [3]])
    assert data.remarks == "left out: 1 row without a target"
    path.write_text("a,y\n1,ok\n2,worn\n3,ok\n4,worn")  # whole, as many programs end their files
    assert rows(loaded(path)) == [[1], [2], [3], [4]]
    path.write_text("a,y\n1,ok\n2,worn\n3,ok\n4,wo\n")
    assert loaded(path).classes == ("ok", "wo", "worn")


def test_classes_that_read_as_gaps_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n1,None\n2,bent\n3,NA\n4,\n")
    data = loaded(tmp_path / "t.csv")
    assert data.classes == ("bent",)
    assert data.remarks == "left out: 3 rows without a target (NA, None: a class must be called otherwise)"


def test_text_that_is_no_utf8_is_said_to_be_guessed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("a,y\n1,gut\n2,schön\n".encode("cp1252"))
    assert loaded(tmp_path / "t.csv").remarks == (
        f"{tmp_path / 't.csv'} is no UTF-8 and was read as Windows-1252 (encoding= names another one)"
    )


def test_dates_with_the_month_first_keep_their_order(tmp_path: Path) -> None:
    days = [f"{month:02d}/{day:02d}/2024" for month in (1, 2) for day in range(1, 29)]
    text = "t,a,y\n" + "".join(f"{day},{number},x\n" for number, day in enumerate(days))
    (tmp_path / "t.csv").write_text(text)
    assert [row[0] for row in rows(loaded(tmp_path / "t.csv", "target=y&time=t"))] == list(range(len(days)))
    (tmp_path / "t.csv").write_text(text + "31/12/2024,99,x\n")
    with pytest.raises(DataError, match=r"t\.csv:58: column 't' has the day first here and the month first elsewhere"):
        loaded(tmp_path / "t.csv", "target=y&time=t")


def test_parquet_of_pandas_and_spark_is_read(tmp_path: Path) -> None:
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    table = pa.table(
        {
            "t": pa.array(
                [start + datetime.timedelta(hours=hour) for hour in (1, 0)], pa.timestamp("us", tz="Europe/Berlin")
            ),
            "a": [1.0, 2.0],
            "d": pa.array([datetime.timedelta(seconds=second) for second in (3, 4)], pa.duration("ns")),
            "y": ["x", "z"],
        }
    )
    pa.parquet.write_table(table, tmp_path / "zone.parquet")
    assert rows(loaded(tmp_path / "zone.parquet", "target=y&time=t")) == [[2], [1]]
    assert rows(loaded(tmp_path / "zone.parquet", "target=y&features=d,a")) == [[3, 1], [4, 2]]  # seconds in any unit
    table.to_pandas().set_index("a")[["y"]].to_parquet(tmp_path / "index.parquet")
    assert rows(loaded(tmp_path / "index.parquet")) == [[1], [2]]


def test_folders_of_a_partitioned_table_are_groups(tmp_path: Path) -> None:
    for machine in ("m1", "m2"):
        (tmp_path / f"machine={machine}").mkdir()
        pa.parquet.write_table(pa.table({"a": [1.0], "y": ["x"]}), tmp_path / f"machine={machine}" / "part-0.parquet")
    (tmp_path / "_temporary").mkdir()
    pa.parquet.write_table(pa.table({"a": [9.0], "y": ["x"]}), tmp_path / "_temporary" / "part-0.parquet")
    assert rows(loaded(tmp_path)) == [[1], [1]]
    assert len(loaded(tmp_path, "target=y&group=machine&only=m2").y) == 1
    assert len(loaded(tmp_path, "target=y&group=file&only=machine%3Dm2/part-0").y) == 1  # no two files are one group


@pytest.mark.parametrize(
    ("table", "options", "words"),
    [
        (
            pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0]), pa.array(["x"])], names=["a", "a", "y"]),
            "target=y",
            "two columns are both called 'a': rename one",
        ),
        (pa.table({"a": [[1.0, 2.0]], "y": ["x"]}), "target=y&features=a", "column 'a' holds lists or records"),
    ],
)
def test_parquet_that_has_no_value_for_a_column_is_refused(
    tmp_path: Path, table: pa.Table, options: str, words: str
) -> None:
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=words):
        loaded(tmp_path / "t.parquet", options)


def test_a_thousand_columns_are_no_thousand_times_a_thousand_looks(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(1000)]
    (tmp_path / "t.csv").write_text(",".join([*names, "y"]) + "\n" + ",".join(["1.5"] * 1000 + ["x"]) + "\n")
    assert np.asarray(loaded(tmp_path / "t.csv").stored()).shape == (1, 1000)


@pytest.mark.parametrize("encoding", ["shift_jis", "gb18030", "euc_kr"])
def test_an_encoding_that_cannot_be_found_out_is_named(tmp_path: Path, encoding: str) -> None:
    column = {"shift_jis": "状態", "gb18030": "设备状态", "euc_kr": "상태"}[encoding]
    (tmp_path / "t.csv").write_text(f"a,{column}\n1,x\n2,z\n", encoding)
    with pytest.raises(DataError, match=r"no UTF-8 and was read as Windows-1252: name another with encoding="):
        loaded(tmp_path / "t.csv", f"target={column}")
    assert loaded(tmp_path / "t.csv", f"target={column}&encoding={encoding}").y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("a,y\n1,0.5\n-9999,1.5\n3,2.5\n-9999,3.5\n", "a"),  # a weather station's logger
        ("a,y\n1,0.5\n2,-9999\n3,2.5\n4,-9999\n", "y"),
    ],
)
def test_a_number_that_stands_for_a_gap_is_named_and_left_out_where_it_is_given(
    tmp_path: Path, text: str, column: str
) -> None:
    (tmp_path / "t.csv").write_text(text)
    remark = f"-9999 in column '{column}' is used as a number: for a gap, add missing=-9999"
    assert loaded(tmp_path / "t.csv").remarks == remark
    assert rows(loaded(tmp_path / "t.csv", "target=y&missing=-9999")) == [[1], [3]]


def test_a_usual_number_among_others_is_no_gap(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n9999,0.5\n9999,1.5\n12,2.5\n7000,3.5\n")
    assert loaded(tmp_path / "t.csv").remarks == ""


def test_times_with_and_without_a_zone_have_no_order(tmp_path: Path) -> None:
    text = "t,a,y\n2024-10-27 01:00,1,0.5\n2024-10-27T02:00:00+02:00,2,1.5\n"
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=r"t\.csv:3: column 't' holds '2024-10-27T02:00:00\+02:00', and other times"):
        loaded(tmp_path / "t.csv", "target=y&time=t")
    (tmp_path / "t.csv").write_text(text.replace("01:00,", "02:30+01:00,").replace("2024-10-27T", "2024-10-27 "))
    assert rows(loaded(tmp_path / "t.csv", "target=y&time=t")) == [[2], [1]]


def test_the_hour_that_local_clocks_have_twice_is_said(tmp_path: Path) -> None:
    hours = ("01:30", "02:00", "02:30", "02:00", "02:30", "03:00")
    lines = [f"2024-10-27 {hour},{number},{number}.5" for number, hour in enumerate(hours)]
    (tmp_path / "t.csv").write_text("\n".join(["t,a,y", *lines]) + "\n")
    assert loaded(tmp_path / "t.csv", "target=y&time=t&window=2").remarks.startswith("2 rows with the time of another")
    assert loaded(tmp_path / "t.csv", "target=y&time=t").remarks == ""
