"""Tests of samples that are made of listed pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlp_edge.learning.data.pictures.picture_folders import list_pictures
from fedlp_edge.learning.data.pictures.picture_samples import picture_samples
from fedlp_edge.learning.data.readers.target_values import Targets
from fedlp_edge.learning.data.spec.parsing import parse_spec


def painted(root: Path, *greys: int) -> Path:
    """Makes a folder with a class for each grey, whose left half has it."""
    for number, grey in enumerate(greys):
        (root / f"class-{number}").mkdir()
        pixels = np.zeros((4, 4), np.uint8)
        pixels[:, :2] = grey
        Image.fromarray(pixels).save(root / f"class-{number}" / "a.png")
    return root


@pytest.mark.parametrize("cache", ["", "&cache=0"])
def test_pictures_are_the_same_whether_they_fit_into_memory_or_not(tmp_path: Path, cache: str) -> None:
    found = list_pictures(painted(tmp_path, 10, 20, 30), "train", None)
    targets = Targets(found.labels, found.classes, "class")
    spec = parse_spec(f"imagefolder:{tmp_path}#size=4&channels=1{cache}")
    made = picture_samples(found, targets, spec, np.array([2, 0]), "of a list")
    assert isinstance(made.x, np.ndarray) == (not cache)
    assert made.array[:, 0, 0].tolist() == [[30, 30, 0, 0], [10, 10, 0, 0]]
    assert (made.y.tolist(), made.index.tolist()) == ([2, 0], [2, 0])
    assert (made.resizable, made.remarks) == (True, "of a list")


def test_a_picture_of_two_classes_is_named(tmp_path: Path) -> None:
    found = list_pictures(painted(tmp_path, 10, 20, 10, 0), "train", None)
    spec = parse_spec(f"imagefolder:{tmp_path}#size=4&channels=1")
    made = picture_samples(found, Targets(found.labels, found.classes, "class"), spec, None)
    assert made.remarks == ("1 picture in a folder that another class has as well (class-2/a.png is class-0/a.png)")
