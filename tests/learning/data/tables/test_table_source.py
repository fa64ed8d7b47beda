from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.holdout import split_holdout
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.spec.parsing import parse_spec

TWO_NUMBERS = "a;y\n1;1,5\n2;2,5\n"


def table(tmp_path: Path, text: str, name: str = "a.csv", encoding: str = "utf-8") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def load(spec: str, split: Split = "train", targets: TargetKind | None = None) -> Dataset:
    """Loads data as a device does, which trains on all of them unless the specification says otherwise."""
    return load_data(parse_spec(spec).whole(), split, targets=targets)


def rows(data: Dataset) -> list[list[float]]:
    return data.stored().tolist()  # type: ignore[no-any-return]


def series(tmp_path: Path, length: int, people: str = "p") -> Path:
    lines = [f"{person},{number},{number % 2}" for person in people for number in range(length)]
    return table(tmp_path, "who,x,y\n" + "\n".join(lines))


@pytest.mark.parametrize("field", ["70 80 82", '"[1.5, -2.0]"'])
def test_several_numbers_in_a_field_are_for_a_function(tmp_path: Path, field: str) -> None:
    path = table(tmp_path, f"emotion,pixels,usage\n0,{field},Training\n1,{field},Training\n")
    with pytest.raises(DataError, match="but 'pixels' holds several in each field: a function of yours"):
        load(f"csv:{path}#target=emotion")


def test_a_row_is_a_sample_and_all_columns_of_numbers_are_features(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b,kind\n1,2,ok\n3,4,worn\n")
    data = load(f"csv:{path}#target=kind")
    assert rows(data) == [[1, 2], [3, 4]]
    assert (data.y.tolist(), data.classes, data.features) == ([0, 1], ("ok", "worn"), ("a", "b"))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("a;b;c\n1,5;2;ja\n2,5;3;nein\n", "cp1252"),
        ("sep=;\r\na;b;c\r\n1,5;2;ja\r\n2,5;3;nein\r\n", "utf-8"),
        ('"a";"b";"c"\n"1,5";"2";"ja"\n"2,5";"3";"nein"\n', "utf-8-sig"),
        ("a\tb\tc\n1.5\t2\tja\n\n2.5\t3\tnein\n", "utf-16"),
        ("a, b, c\n1.5, 2, ja\n2.5, 3, nein\n", "utf-8"),
        ("a,b,c,\n1.5,2,ja,\n2.5,3,nein,\n", "utf-8"),
    ],
)
def test_a_table_is_read_however_it_is_written(tmp_path: Path, text: str, encoding: str) -> None:
    data = load(f"csv:{table(tmp_path, text, encoding=encoding)}#target=c")
    assert rows(data) == [[1.5, 2], [2.5, 3]]
    assert data.classes == ("ja", "nein")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a,b\n1,2\n3,x\n", "target=a", r"a.csv:3: column 'b' holds 'x', not a number"),
        ("a,b\n\n1,2\n\n3,x\n", "target=a", r"a.csv:5: column 'b'"),
        ("a,b\n1,2\n3,4,5\n", "target=a", r"a.csv:3: 3 fields, but the header names 2 columns"),
        (
            "value,b\n1,2\n",
            "target=vlaue",
            r"a.csv:1: there is no column 'vlaue': is it 'value'\?; its columns are val",
        ),
        ("a,b\n1,2\n", "target=a&features=c", r"a.csv:1: there is no column 'c'"),
        ("1,2\n3,4\n", "target=1", r"a.csv:1: the first line holds numbers, not the names"),
        ("a,a\n3,4\n", "target=a", r"a.csv:1: columns 1 and 2 are both called 'a'"),
        ("a,b\n", "target=a", "has no rows"),
        ("", "target=a", "a.csv is empty"),
        ("a,b\n1,\n2,\n", "target=a", "no sample is left; .*; left out: 2 rows with gaps"),
        ("a,b\n,1\n,2\n", "target=a", "no row has a target in column 'a'"),
        ("a,g\n1,x\n2,x\n", "target=a&features=a&group=g&only=z", "column 'g' has no value 'z'; its values are x"),
        ("a,b\n1,2\n", "target=b&window=3", "no series has the 3 successive rows"),
        ("t,b\n1,2\nlater,2\n", "target=b&time=t&features=b", r"a.csv:3: column 't' holds 'later', neither a date"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, options: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        load(f"csv:{table(tmp_path, text)}#{options}")
    assert "\n" not in str(caught.value)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    path = table(tmp_path, "name,a,b,y\nAnna,1,2,0\nBo,,2,1\nCy,3,?,0\nDee,3,4,\nEd,5,6,1\n")
    data = load(f"csv:{path}#target=y")
    assert rows(data) == [[1, 2], [5, 6]]
    assert data.remarks == (
        f"left out: 2 rows with gaps (the first is {path}:3, column 'a'), 1 row without a target, "
        "1 column of text (name)"
    )


def test_a_column_of_values_without_a_name_is_said_to_be_left_out(tmp_path: Path) -> None:
    path = table(tmp_path, ",a,,b,\n0,1,5,2,\n1,3,6,4,\n")
    data = load(f"csv:{path}")
    assert rows(data) == [[1.0, 2.0], [3.0, 4.0]]
    assert data.remarks.startswith("left out: 1 column without a name (number 3)")


@pytest.mark.filterwarnings("error")
def test_what_no_feature_can_hold_counts_as_a_gap(tmp_path: Path) -> None:
    path = table(tmp_path, "a,y\n1,0\ninf,1\n1e39,0\n-inf,1\n4,1\n")
    data = load(f"csv:{path}#target=y")
    assert rows(data) == [[1], [4]]
    assert data.remarks == f"left out: 3 rows with gaps (the first is {path}:3, column 'a')"


@pytest.mark.filterwarnings("error")
def test_a_target_that_float32_cannot_hold_is_none(tmp_path: Path) -> None:
    path = table(tmp_path, "a,y\n1,0.5\n2,1e39\n3,inf\n4,1.5\n")
    data = load(f"csv:{path}#target=y")
    assert data.y.tolist() == [[0.5], [1.5]]
    assert data.remarks == "left out: 2 rows without a target"


def test_a_number_that_is_no_class_is_a_value(tmp_path: Path) -> None:
    path = table(tmp_path, "a,y,z\n1,0.5,7\n2,1.5,8\n")
    data = load(f"csv:{path}#target=y")
    assert (data.targets, data.y.tolist(), data.classes) == ("values", [[0.5], [1.5]], ("y",))
    data = load(f"csv:{path}#target=y,z", targets="values")
    assert data.y.tolist() == [[0.5, 7], [1.5, 8]]


def test_a_decimal_comma_in_a_target_is_a_number(tmp_path: Path) -> None:
    data = load(f"csv:{table(tmp_path, TWO_NUMBERS)}#target=y")
    assert (data.targets, data.y.tolist()) == ("values", [[1.5], [2.5]])


def test_several_columns_of_0_and_1_are_labels(tmp_path: Path) -> None:
    path = table(tmp_path, "a,p,q\n1,0,1\n2,1,1\n")
    data = load(f"csv:{path}#target=p,q")
    assert (data.targets, data.y.tolist(), data.classes) == ("labels", [[0, 1], [1, 1]], ("p", "q"))


def test_a_window_has_a_row_for_each_feature_and_stays_in_its_series(tmp_path: Path) -> None:
    data = load(f"csv:{series(tmp_path, 5, 'pq')}#target=y&group=who&window=2&stride=2")
    assert data.input_shape == (1, 2)
    assert data.stored()[:, 0].tolist() == [[0, 1], [2, 3], [0, 1], [2, 3]]


def test_a_window_is_of_the_class_of_most_of_its_rows(tmp_path: Path) -> None:
    path = table(tmp_path, "x,y\n0,a\n1,b\n2,b\n3,b\n4,a\n5,c\n6,b\n7,a\n8,c\n")
    data = load(f"csv:{path}#target=y&window=3")
    assert [data.classes[number] for number in data.y.tolist()] == ["b", "c", "c"]


def test_a_horizon_takes_the_target_of_a_later_row(tmp_path: Path) -> None:
    data = load(f"csv:{series(tmp_path, 6)}#target=x&features=x&window=2&stride=1&horizon=2", targets="values")
    assert data.stored()[:, 0].tolist() == [[0, 1], [1, 2], [2, 3]]
    assert data.y[:, 0].tolist() == [3, 4, 5]


def test_rows_are_ordered_by_time_and_windows_with_gaps_are_left_out(tmp_path: Path) -> None:
    path = table(tmp_path, "t,x,y\n2024-01-03,3,0\n2024-01-01,1,0\n2024-01-02,2,0\n2024-01-04,,0\n2024-01-05,5,0\n")
    data = load(f"csv:{path}#target=y&time=t&window=2&stride=1")
    assert data.stored()[:, 0].tolist() == [[1, 2], [2, 3]]
    assert "2 windows that touch them" in data.remarks


def test_no_window_straddles_training_and_test_part(tmp_path: Path) -> None:
    spec = f"csv:{series(tmp_path, 40, 'pq')}#target=y&group=who&window=4&stride=1&holdout=.25"
    train, test = load(spec, "train").stored(), load(spec, "test").stored()
    assert int(train.max()) == 29
    assert int(test.min()) == 30
    assert len(train) == 2 * 27
    assert len(test) == 2 * 7


def test_a_device_holds_out_the_last_part_of_each_series(tmp_path: Path) -> None:
    data = load(f"csv:{series(tmp_path, 20)}#target=y&window=4&stride=1")
    train, held = split_holdout(data, 0.5)
    assert held is not None
    assert int(train.stored().max()) == 9
    assert int(held.stored().min()) == 10


def test_of_many_short_series_some_are_held_out_as_a_whole(tmp_path: Path) -> None:
    rows_of = [f"{who},{100 * who + moment},{moment % 2}\n" for who in range(40) for moment in range(6)]
    spec = "#target=y&features=x&group=who&window=4&stride=2"
    path = table(tmp_path, "who,x,y\n" + "".join(rows_of))
    train, held = split_holdout(load(f"csv:{path}{spec}"), 0.2)
    assert held is not None
    series_of = [{int(value) // 100 for value in part.stored().flatten().tolist()} for part in (train, held)]
    assert series_of[0].isdisjoint(series_of[1])
    assert series_of[0] | series_of[1] == set(range(40))
    assert 3 <= len(series_of[1]) <= 14
    # Another series moves none of them across.
    path = table(tmp_path, "who,x,y\n" + "".join([*rows_of, "99,5,0\n99,6,1\n99,7,0\n99,8,1\n"]))
    again = split_holdout(load(f"csv:{path}{spec}"), 0.2)[1]
    assert again is not None
    assert series_of[1] <= {int(value) // 100 for value in again.stored().flatten().tolist()}


def test_a_held_out_row_without_time_stays_when_rows_are_added(tmp_path: Path) -> None:
    before = load(f"csv:{series(tmp_path, 50)}#target=y&holdout=.3", "test")
    after = load(f"csv:{series(tmp_path, 80)}#target=y&holdout=.3", "test")
    assert {tuple(row) for row in rows(before)} <= {tuple(row) for row in rows(after)}


def test_each_device_gets_whole_groups(tmp_path: Path) -> None:
    path = table(tmp_path, "who,x,y\n" + "".join(f"{who},{ord(who)},{n % 2}\n" for n in range(3) for who in "cab"))
    parts = [rows(load(f"csv:{path}#target=y&group=who&share={device}/3")) for device in range(3)]
    assert parts == [[[97]] * 3, [[98]] * 3, [[99]] * 3]
    assert rows(load(f"csv:{path}#target=y&group=who&only=b")) == [[98]] * 3


def test_files_of_a_directory_are_series_of_their_own(tmp_path: Path) -> None:
    table(tmp_path, "y,x\n0,1\n1,2\n0,3\n", "anna.csv")
    table(tmp_path, "x,y\n4,0\n5,1\n6,0\n", "bo.csv")
    spec = f"csv:{tmp_path}#target=y&features=x&group=file&window=2&stride=1"
    assert load(spec).stored()[:, 0].tolist() == [[1, 2], [2, 3], [4, 5], [5, 6]]
    assert load(f"{spec}&only=bo").stored()[:, 0].tolist() == [[4, 5], [5, 6]]


def test_a_table_beyond_its_bound_is_read_from_the_disk(tmp_path: Path) -> None:
    path = series(tmp_path, 30)
    near, far = (load(f"csv:{path}#target=y&cache={cache}") for cache in (1, 0))
    assert far.nbytes < near.nbytes + 30 * 24
    assert not far.in_memory
    assert far.stored().equal(near.stored())


def test_parquet_gives_what_csv_gives(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": [1.0, np.nan, 3.0], "who": ["p", "p", "q"], "y": [0, 1, 1]})
    frame.to_parquet(tmp_path / "a.parquet")
    data = load(f"parquet:{tmp_path / 'a.parquet'}#target=y")
    assert (rows(data), data.y.tolist()) == ([[1], [3]], [0, 1])
    assert data.remarks.startswith(
        f"left out: 1 row with gaps (the first is {tmp_path / 'a.parquet'}: row 1, column 'a')"
    )
    with pytest.raises(DataError, match="column 'who' holds 'p', not a number"):
        load(f"parquet:{tmp_path / 'a.parquet'}#target=y&features=a,who")


def test_features_are_brought_to_the_fleets_order_and_scale(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b,y\n1,10,0\n3,30,1\n")
    data = load(f"csv:{path}#target=y")
    facts = data.facts().features
    assert facts is not None
    assert (facts.names, facts.mean, facts.std) == (("a", "b"), (2.0, 20.0), (1.0, 10.0))
    made = data.normalised_as(("b", "a"), (20.0, 2.0), (10.0, 1.0))
    assert made.batch(slice(0, 2))[0].tolist() == [[-1, -1], [1, 1]]
    with pytest.raises(DataError, match='features that the samples lack: "c"'):
        data.normalised_as(("a", "c"), (0.0, 0.0), (1.0, 1.0))


def test_folders_and_files_may_be_classes_and_groups(tmp_path: Path) -> None:
    for file, value in {"normal/a": 1, "normal/b": 2, "worn/10g/a": 3, "notes": 4}.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        table(tmp_path, f"x\n{value}\n{value}\n", f"{file}.csv")
    data = load(f"csv:{tmp_path}#target=folder")
    assert (rows(data), data.classes) == ([[1], [1], [2], [2], [3], [3]], ("normal", "worn"))
    assert data.remarks == "left out: 2 rows without a target"
    assert rows(load(f"csv:{tmp_path}#target=file&group=folder&only=worn")) == [[3], [3]]
    assert load(f"csv:{tmp_path}#target=file").classes == ("normal/a", "normal/b", "notes", "worn/10g/a")
    with pytest.raises(DataError, match="no file lies in a folder that names its class: name the directory above"):
        load(f"csv:{tmp_path / 'normal'}#target=folder")


def test_a_column_called_folder_is_the_column(tmp_path: Path) -> None:
    path = table(tmp_path, "x,folder,file\n1,up,a\n2,down,b\n")
    assert load(f"csv:{path}#target=folder&group=file").classes == ("down", "up")


def test_numbers_of_classes_may_have_exponents(tmp_path: Path) -> None:
    data = load(f"csv:{table(tmp_path, 'x,y' + chr(10) + '0.5,1.000e+00' + chr(10) + '0.25,0.000e+00')}#target=y")
    assert (data.y.tolist(), data.classes) == ([1, 0], ())


@pytest.mark.parametrize(("cache", "in_memory"), [("", True), ("&cache=0", False)])
def test_rows_of_pixels_become_pictures_in_bytes(tmp_path: Path, cache: str, in_memory: bool) -> None:
    path = table(tmp_path, "label,p1,p2,p3,p4\n3,0,1,2,255\n4,0,,2,3\n1,5,6,7,8\n")
    data = load(f"csv:{path}#target=label&shape=1x2x2{cache}")
    assert data.in_memory is in_memory
    assert data.stored().dtype == torch.uint8
    assert rows(data) == [[[[0, 1], [2, 255]]], [[[5, 6], [7, 8]]]]
    assert (data.y.tolist(), data.features, data.scale, data.mean) == ([3, 1], (), 1 / 255, (0.5,))


def test_rows_of_other_numbers_keep_them_in_their_shape(tmp_path: Path) -> None:
    path = table(tmp_path, "a,b,c,d\n0,1,2,0.5\n5,6,7,8\n")
    assert rows(load(f"csv:{path}#shape=2x2")) == [[[0, 1], [2, 0.5]], [[5, 6], [7, 8]]]
    data = load(f"csv:{path}#shape=1x2x2")
    assert (data.stored().dtype, data.scale, data.mean) == (torch.float32, 1.0, (0.0,))
    with pytest.raises(DataError, match="shape=1x3x3 takes 9 columns of numbers, and there are 4: name them with"):
        load(f"csv:{path}#shape=1x3x3")


@pytest.mark.parametrize("source", ["csv", "json", "parquet"])
def test_words_that_stand_for_a_gap_do_so_in_any_format(tmp_path: Path, source: str) -> None:
    path = tmp_path / f"t.{source}"
    rows = [("1", "a"), ("ERR", "b"), ("2", "ERR"), ("3", "b")]
    if source == "csv":
        path.write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in rows))
    elif source == "json":
        path.write_text("".join(f'{{"x": "{x}", "y": "{y}"}}\n' for x, y in rows))
    else:
        pa.parquet.write_table(pa.table({"x": [x for x, _ in rows], "y": [y for _, y in rows]}), path)
    data = load_data(parse_spec(f"{source}:{path}#target=y&features=x&missing=ERR").whole())
    assert (data.stored().tolist(), data.classes) == ([[1], [3]], ("a", "b"))
    with pytest.raises(DataError, match=r"column 'x' holds 'ERR', not a number: mend it, add missing=ERR if it stands"):
        load_data(parse_spec(f"{source}:{path}#target=y&features=x").whole())


def test_words_of_gaps_may_have_blanks_around_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,a\n NA ,b\n2,a\n3 ,b\n")
    assert load_data(parse_spec(f"csv:{tmp_path / 't.csv'}#target=y").whole()).stored().tolist() == [[1], [2], [3]]
