"""Which folders are recognised as laid out for something else than classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.learning.data.readers.foreign_layouts import detection_remark, inner_split_remark


@pytest.mark.parametrize(
    ("boxes", "classes", "kind"),
    [
        ("labels/train/a.txt", ("images",), "YOLO: labels/*.txt"),
        ("_annotations.coco.json", (), "COCO: _annotations.coco.json"),
        ("annotations/instances_train2017.json", ("train2017", "val2017"), "COCO: annotations/*.json"),
        ("Annotations/a.xml", ("JPEGImages",), "Pascal VOC: Annotations/*.xml"),
    ],
)
def test_knows_detection_by_where_the_boxes_stand(
    tmp_path: Path, boxes: str, classes: tuple[str, ...], kind: str
) -> None:
    (tmp_path / boxes).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / boxes).touch()
    assert f"a detection data set ({kind})" in detection_remark([tmp_path], classes)
    assert detection_remark([tmp_path], (*classes, "bolt")) == ""


def test_empty_folders_of_labels_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "annotations").touch()
    assert detection_remark([tmp_path], ("images",)) == ""


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["bolt/a.png", "nut/b.png"],
        ["bolt/train", "bolt/val"],  # files that are called so
        ["bolt/train/a.png", "bolt/val/b.png", "nut/a.png"],
    ],
)
def test_splits_are_inside_classes_only_if_they_are_in_every_one(names: list[str]) -> None:
    assert inner_split_remark(names) == ""
    both = ["bolt/train/a.png", "bolt/val/b.png", "nut/train/a.png", "nut/val/a/b.png"]
    assert "as train/CLASS and val/CLASS" in inner_split_remark(both)
