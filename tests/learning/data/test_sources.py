"""One split of each kind of source, and its normalisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.sources import list_samples, read, split_indices
from fedlp_edge.learning.data.spec.parsing import parse_spec


@given(st.lists(st.integers(0, 3), max_size=60), st.floats(0, 1))
def test_splits_are_disjoint_cover_everything_and_hold_out_each_class(classes: list[int], holdout: float) -> None:
    labels = np.array(classes, np.int64)
    train, test = (split_indices(labels, holdout, split) for split in ("train", "test"))  # type: ignore[arg-type]
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(classes)))
    assert (np.diff(train) > 0).all()
    for label in set(classes):
        assert (labels[test] == label).sum() == round(holdout * classes.count(label))


def test_wanted_samples_alone_are_given(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.arange(4.0)[:, None], y_train=np.array([0, 1, 0, 1]),
             x_test=np.zeros((1, 1)), y_test=np.array([1]))  # fmt: skip
    listing = list_samples(parse_spec(f"npz:{tmp_path / 'a.npz'}"), "train")
    assert listing.labels.tolist() == [0, 1, 0, 1]
    chosen = listing.samples(np.array([1, 3]))
    assert (chosen.array.tolist(), chosen.y.tolist(), chosen.index.tolist()) == ([[1.0], [3.0]], [1, 1], [1, 3])
    assert (chosen.scale, chosen.mean, chosen.std) == (1.0, (0.0,), (1.0,))  # floats are taken as they are


def test_pictures_have_constants_of_their_own(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("RGB", (2, 2), (0, 128, 255)).save(tmp_path / name / "1.png")
    grey, colour = (
        read(parse_spec(f"imagefolder:{tmp_path}#size=2&channels={channels}&holdout=0"), "train") for channels in (1, 3)
    )
    assert (grey.array.shape, grey.mean, grey.std) == ((2, 1, 2, 2), (0.5,), (0.5,))
    assert (colour.array.shape, colour.mean) == ((2, 3, 2, 2), (0.485, 0.456, 0.406))
    assert colour.array[0, :, 0, 0].tolist() == [0, 128, 255]
    assert colour.classes == ("a", "b")


def test_a_picture_of_two_classes_is_named_unless_it_is_uniform(tmp_path: Path) -> None:
    for name, greys in (("a", (1, 2, 2)), ("b", (3, 2, 4))):
        (tmp_path / name).mkdir()
        for number, grey in enumerate(greys):
            picture = Image.new("L", (2, 2), grey)
            picture.putpixel((0, 0), 9)
            picture.save(tmp_path / name / f"{number}.png")
        Image.new("L", (2, 2), 7).save(tmp_path / name / "uniform.png")
    specification = parse_spec(f"imagefolder:{tmp_path}#size=2&channels=1&holdout=0")
    assert read(specification, "train").remarks == (
        "1 picture in a folder that another class has as well (b/1.png is a/1.png)"
    )
    (tmp_path / "b" / "1.png").unlink()
    assert not read(specification, "train").remarks


def test_arrays_on_the_disk_are_read_where_they_are_wanted(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(8, dtype=np.uint8).reshape(4, 2))
    np.save(tmp_path / "y.npy", np.array([0, 0, 1, 1]))
    listing = list_samples(parse_spec(f"npy:{tmp_path}#holdout=0.5"), "test")
    assert sorted(listing.labels.tolist()) == [0, 1]
    assert listing.samples(np.array([1])).array.tolist() in ([[4, 5]], [[6, 7]])


def test_digits_keep_their_classes_and_their_splits() -> None:
    train, test = (list_samples(parse_spec("digits"), split) for split in ("train", "test"))  # type: ignore[arg-type]
    assert (len(train.labels), len(test.labels), train.classes) == (1438, 359, tuple("0123456789"))
    assert train.samples(np.array([0])).mean == (0.3053,)


def test_targets_of_another_kind_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 1)), y=np.array([0.5, 1.5, 2.5, 3.5]))
    with pytest.raises(DataError):
        list_samples(parse_spec(f"npz:{tmp_path / 'a.npz'}"), "train", "class")
