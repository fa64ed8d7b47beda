"""Which files below a directory are pictures, and of which class each is."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.pictures.picture_decoding import read_picture

FORK = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(40)


def paint(path: Path, grey: int = 100, side: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side), grey).save(path)


def load(root: Path, options: str = "size=2&channels=1&holdout=0", split: str = "train") -> Dataset:
    return load_data(f"imagefolder:{root}#{options}", split)  # type: ignore[arg-type]


def grey(path: Path) -> list[list[int]]:
    image: list[list[int]] = read_picture(path, 1, (2, 2)).pixels[0].tolist()
    return image


def test_links_to_nothing_and_pipes_stop_nobody(tmp_path: Path) -> None:
    for number in range(4):
        paint(tmp_path / "ok" / f"{number}.png")
    (tmp_path / "ok" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "ok" / "pipe.png")
    (tmp_path / "ok" / "loop").symlink_to(tmp_path / "ok")
    (tmp_path / "ok" / "self").symlink_to(tmp_path / "ok" / "self")
    data = load(tmp_path)
    assert len(data) == 4
    assert "ok/gone.png cannot be opened: No such file or directory" in data.remarks


def test_what_systems_leave_is_no_class_and_no_picture(tmp_path: Path) -> None:
    for name in ("good", "scratch"):
        paint(tmp_path / name / "a.png")
        (tmp_path / name / "._a.png").write_bytes(FORK)
        (tmp_path / name / "Thumbs.db").touch()
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "good" / "a.png:Zone.Identifier").touch()
    for name in ("__MACOSX", ".ipynb_checkpoints", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information"):
        paint(tmp_path / name / "a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "good" / "notes.csv").touch()
    paint(tmp_path / "stray.png")
    data = load(tmp_path)
    assert (data.classes, len(data)) == (("good", "scratch"), 2)
    assert data.remarks == (
        "left out: 1 picture in no class folder, 1 folder without pictures (empty), 1 file of other kinds (1 .csv), "
        "12 hidden or system entries"
    )


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "car", "train"):
        paint(tmp_path / name / "a.png")
        paint(tmp_path / name / "2026-05-01" / "b.png")
    data = load(tmp_path)
    assert data.classes == ("bus", "car", "train")
    assert data.y.tolist() == [0, 0, 1, 1, 2, 2]


def test_splits_are_found_by_their_usual_names_and_number_classes_alike(tmp_path: Path) -> None:
    for name in ("bolt", "nut", "washer"):
        paint(tmp_path / "Training" / name / "a.png")
    paint(tmp_path / "val" / "washer" / "a.png")
    paint(tmp_path / "old" / "a.png")
    assert load(tmp_path).classes == ("bolt", "nut", "washer")
    test = load(tmp_path, split="test")
    assert (test.classes, test.y.tolist()) == (("bolt", "nut", "washer"), [2])


def test_pictures_without_class_folders_are_explained(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"holds 1 picture but no class folders: .* in a labels\.csv$"):
        load(tmp_path)
    (tmp_path / "_classes.csv").touch()
    with pytest.raises(DataError, match=r"/_classes\.csv may be: call it labels\.csv, and name its folder"):
        load(tmp_path)


def test_suffixes_links_and_undecodable_names_are_taken_as_they_come(tmp_path: Path) -> None:
    for name in ("A.PNG", "b.JpG", "c.webp", "d.Tif", "e.jfif", "f.bmp"):
        (tmp_path / "ok").mkdir(exist_ok=True)
        kind = {"webp": "WEBP", "tif": "TIFF", "bmp": "BMP", "png": "PNG"}.get(name.split(".")[1].lower(), "JPEG")
        Image.new("L", (2, 2)).save(tmp_path / "ok" / name, kind)
    paint(tmp_path.with_name(f"{tmp_path.name}-elsewhere") / "a.png")
    (tmp_path / "worn").symlink_to(tmp_path.with_name(f"{tmp_path.name}-elsewhere"))
    odd = os.fsencode(tmp_path) + b"/Sch\xfctz"
    os.mkdir(odd)  # noqa: PTH102 - a name that is not UTF-8
    Image.new("L", (2, 2)).save(os.fsdecode(odd + b"/b\xe4d[red].png"))
    data = load(tmp_path)
    assert data.classes == ("Schütz", "ok", "worn")
    assert data.y.bincount().tolist() == [1, 6, 1]


def test_one_class_in_two_spellings_is_one(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        paint(tmp_path / unicodedata.normalize(form, "grün") / "a.png")  # type: ignore[arg-type]
    assert (load(tmp_path).classes, len(load(tmp_path))) == (("grün",), 2)


@pytest.mark.parametrize(("pictures", "boxes"), [("images/train", "labels/train"), ("train/images", "train/labels")])
def test_a_detection_data_set_is_called_one(tmp_path: Path, pictures: str, boxes: str) -> None:
    for name in ("a", "b"):
        paint(tmp_path / pictures / f"{name}.png")
    (tmp_path / boxes).mkdir(parents=True)
    (tmp_path / boxes / "a.txt").touch()
    said = load(tmp_path).remarks
    assert said.startswith("this looks like a detection data set (YOLO: labels/*.txt), whose boxes are not read: put")
    assert "name images itself" not in said


def test_pictures_beside_the_boxes_are_explained_as_detection(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "a.png")
    (tmp_path / "train" / "_annotations.coco.json").touch()
    with pytest.raises(DataError, match=r"no class folders: this looks like a detection data set \(COCO: _annot"):
        load(tmp_path)


def test_splits_inside_the_classes_are_said_to_be_none(tmp_path: Path) -> None:
    for name in ("bolt", "nut"):
        paint(tmp_path / name / "train" / "a.png")
        paint(tmp_path / name / "Val" / "b.png")
    data = load(tmp_path)
    assert (data.classes, len(data)) == (("bolt", "nut"), 4)
    assert data.remarks == (
        "train and Val inside the folders of classes are taken together: for two splits put them above, as "
        "train/CLASS and Val/CLASS"
    )
    paint(tmp_path / "worn" / "train" / "a.png")
    assert load(tmp_path).remarks == ""


def test_folders_one_level_too_deep_are_said(tmp_path: Path) -> None:
    for name in ("bolt", "nut"):
        paint(tmp_path / "parts" / name / "a.png")
    assert load(tmp_path).remarks == (
        "the folders in parts count as one class: name parts itself if they are the classes"
    )
    assert (load(tmp_path / "parts").classes, load(tmp_path / "parts").remarks) == (("bolt", "nut"), "")
