from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data


def folder(root: Path, labels: str) -> Path:
    for number, name in enumerate(("a/one.png", "a/two.png", "three.png")):
        (root / name).parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2), number).save(root / name)
    (root / "labels.csv").write_text(labels)
    return root


def load(root: Path) -> Dataset:
    return load_data(f"imagefolder:{root}#size=2&channels=1&holdout=0")


def test_columns_of_0_and_1_are_labels(tmp_path: Path) -> None:
    data = load(folder(tmp_path, "file,rust,dent\na/one.png,1,0\na\\two.png,1,1\nthree.png,0,0\n"))
    assert (data.targets, data.classes) == ("labels", ("rust", "dent"))
    assert data.stored()[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert data.y.tolist() == [[1, 0], [1, 1], [0, 0]]


def test_one_column_lists_the_labels_or_names_a_class(tmp_path: Path) -> None:
    data = load(folder(tmp_path, "file;labels\nthree.png;rust|dent\na/one.png;dent\na/two.png;\n"))
    assert (data.classes, data.y.tolist()) == (("dent", "rust"), [[1, 0], [0, 0], [1, 1]])
    data = load(folder(tmp_path, "file,class\nthree.png,rust\na/one.png,dent\na/two.png,dent\n"))
    assert (data.targets, data.classes, data.y.tolist()) == ("class", ("dent", "rust"), [0, 0, 1])


@pytest.mark.parametrize("names", [("one.png", "two.png"), ("one", "two"), ("a/one", "a/two")])
def test_a_name_without_folder_or_suffix_is_that_of_the_one_file_called_so(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    data = load(folder(tmp_path, f"id_code,diagnosis\n{names[0]},2\n{names[1]},0\n"))
    assert data.y.tolist() == [2, 0]


def test_a_name_that_two_files_have_is_nobodys(tmp_path: Path) -> None:
    folder(tmp_path, "")
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "one.png").rename(tmp_path / "b" / "two.png")
    with pytest.raises(DataError, match=r"names no file that is there; it names 'two'"):
        load(folder_labels(tmp_path, "id,y\ntwo,1\n"))


def folder_labels(root: Path, labels: str) -> Path:
    (root / "labels.csv").write_text(labels)
    return root


def test_an_index_that_pandas_wrote_is_no_path(tmp_path: Path) -> None:
    data = load(folder(tmp_path, ",file,y\n0,a/one.png,dent\n1,three.png,rust\n"))
    assert (data.classes, data.y.tolist()) == (("dent", "rust"), [0, 1])


def test_the_first_column_that_names_files_has_the_paths(tmp_path: Path) -> None:
    data = load(folder(tmp_path, "y,image\ndent,three.png\nrust,a/one.png\nrust,a/two.png\n"))
    assert (data.targets, data.classes, data.y.tolist()) == ("class", ("dent", "rust"), [1, 1, 0])


def test_lists_of_python_are_labels(tmp_path: Path) -> None:
    text = "file,labels\nthree.png,\"['rust', 'dent']\"\na/one.png,\"['dent']\"\na/two.png,[]\n"
    data = load(folder(tmp_path, text))
    assert (data.classes, data.y.tolist()) == (("dent", "rust"), [[1, 0], [0, 0], [1, 1]])
    data = load(folder_labels(tmp_path, "file,labels\nthree.png,['rust']\na/one.png,['dent']\n"))
    assert (data.targets, data.classes, data.y.tolist()) == ("class", ("dent", "rust"), [0, 1])


def test_a_file_of_which_a_label_is_unknown_is_left_out(tmp_path: Path) -> None:
    data = load(folder(tmp_path, "file,rust,dent\na/one.png,1,0\na/two.png,,1\nthree.png,0,NaN\n"))
    assert data.y.tolist() == [[1, 0]]
    assert data.remarks.startswith("left out: 2 lines of labels.csv without a label")


def test_what_is_not_named_or_not_there_is_counted(tmp_path: Path) -> None:
    data = load(folder(tmp_path, "file,p,q\na/one.png,1,0\ngone.png,1,0\n"))
    assert data.remarks == (
        "left out: 1 line of labels.csv whose file is missing or of another kind, 2 files that labels.csv does not name"
    )


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("file,p,q\na/one.png,1,x\n", r"labels.csv:2: column 'q' holds 'x', not a number"),
        ("file,p,q\na/one.png,1\n", r"labels.csv:2: 2 fields, but the header names 3 columns"),
        ("file,p,q\na/one.png,1,1\n./a/one.png,1,0\n", r"labels.csv:3: 'a/one.png' stands in it twice"),
        ("id,y\n7,rust\n7,dent\n", r"labels.csv names no file that is there; it names '7'"),
        ("file,p,q\nnone.png,1,1\n", "names no file that is there; it names 'none.png'"),
        ("a/one.png,x\na/two.png,y\n", r"labels.csv:1: the first line is that of a file: put a line of names above it"),
        ("file\na/one.png\n", r"labels.csv:1: a column of paths"),
    ],
)
def test_a_wrong_list_is_refused_with_its_line(tmp_path: Path, labels: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load(folder(tmp_path, labels))


@pytest.mark.parametrize(
    ("one", "three"),
    [
        (r"C:\Users\me\parts\a\one.png", r"C:\Users\me\parts\three.png"),  # from the desktop
        ("/data/upload/1/one.png", "/data/upload/1/three.png"),  # of Label Studio
        ("s3://bucket/a/one.png", "s3://bucket/three.png"),
        ("parts/a/one.png", "parts/three.png"),
        ("A/ONE.PNG", "Three"),  # of a camera's memory card
    ],
)
def test_paths_of_another_machine_are_those_below_the_folder(tmp_path: Path, one: str, three: str) -> None:
    data = load(folder_of_parts(tmp_path, f"file,y\n{three},x\n{one},z\n"))
    assert data.stored()[:, 0, 0, 0].tolist() == [0, 2]
    assert (data.classes, data.y.tolist()) == (("x", "z"), [1, 0])


def folder_of_parts(root: Path, labels: str) -> Path:
    (root / "parts").mkdir()
    return folder(root / "parts", labels)


def test_files_of_equal_names_in_another_folder_are_not_meant(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"names no file that is there; it names 'c/one\.png'"):
        load(folder(tmp_path, "file,y\nc/one.png,x\nc/two.png,z\n"))


def test_a_list_in_other_capitals_is_one(tmp_path: Path) -> None:
    folder(tmp_path, "file,y\nthree.png,x\n")
    (tmp_path / "labels.csv").rename(tmp_path / "Labels.CSV")
    assert load(tmp_path).classes == ("x",)


def test_folders_of_both_splits_are_the_splits(tmp_path: Path) -> None:
    for number, name in enumerate(("Train/a.png", "Train/b.png", "val/c.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2), number).save(tmp_path / name)
    folder_labels(tmp_path, "file,y\nTrain/a.png,x\nTrain/b.png,z\nval/c.png,x\n")
    spec = f"imagefolder:{tmp_path}#size=2&channels=1&holdout=0.5"
    assert load_data(spec).stored()[:, 0, 0, 0].tolist() == [0, 1]
    assert load_data(spec, "test").stored()[:, 0, 0, 0].tolist() == [2]


def test_one_column_a_class_names_the_classes_of_a_classification(tmp_path: Path) -> None:
    folder(tmp_path, "filename, worn, ok\na/one.png, 1, 0\na/two.png, 0, 1\nthree.png, 1, 0\n")
    data = load_data(f"imagefolder:{tmp_path}#size=2&channels=1&holdout=0", targets="class")
    assert (data.classes, data.y.tolist()) == (("worn", "ok"), [0, 1, 0])
