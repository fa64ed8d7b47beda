"""What users' targets become for each kind of task."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.core.targets import TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.readers.target_values import Targets, coarse_classes, read_targets, without_targets

AnyList = list[object]


def read(raw: AnyList, kind: TargetKind | None = None, names: tuple[str, ...] = ()) -> Targets:
    return read_targets(np.array(raw), len(raw), names, "x.npz", kind)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [(["nut", "bolt"], "class"), ([[0, 1], [1, 1]], "labels"), ([[0.5, 2], [1, 3]], "values"), ([0.5, 2.25], "values")],
)
def test_kind_follows_from_the_values_if_no_task_is_known(raw: AnyList, kind: TargetKind) -> None:
    assert read(raw).kind == kind


def test_words_are_numbered_by_their_order() -> None:
    found = read(["nut", "bolt", "nut"], "class")
    assert (found.names, found.y.tolist()) == (("bolt", "nut"), [1, 0, 1])


def test_all_that_is_not_normal_is_an_anomaly() -> None:
    assert read(["scratch", "OK", "dent"], "none").y.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("raw", "kind", "names", "reason"),
    [
        ([[0, 2]], "labels", (), "sample 0 has 2 in column 1"),
        ([[0.5], [np.inf]], "values", (), "y of sample 1"),
        ([[1.0, 2.0]], "values", ("a",), "2 columns, but there are 1 names"),
        (["a"], "values", (), "must hold numbers"),
    ],
)
def test_targets_that_cannot_be_of_the_kind_are_refused(
    raw: AnyList, kind: TargetKind, names: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        read(raw, kind, names)


def test_class_names_tell_that_one_column_of_an_unknown_kind_is_classes() -> None:
    with pytest.raises(DataError, match="y goes up to 3, but there are only 2 class names"):
        read([0, 3], None, ("a", "b"))


def test_only_anomaly_detection_learns_without_targets() -> None:
    assert without_targets(2, "none", "x.npz").y.tolist() == [0, 0]
    with pytest.raises(DataError, match="has no targets"):
        without_targets(2, "values", "x.npz")


def test_numbers_and_labels_are_sorted_into_classes_for_partitioners() -> None:
    values = coarse_classes(Targets(np.arange(20, dtype=np.float32)[:, None], (), "values"))
    assert np.bincount(values).tolist() == [2] * 10
    labels = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]], np.float32)
    assert coarse_classes(Targets(labels, (), "labels")).tolist() == [1, 3, 0]


def test_maps_of_values_become_rows() -> None:
    assert read([[[0.0, 1.0], [2.0, 255.0]]], "values").y.tolist() == [[0.0, 1.0, 2.0, 255.0]]
