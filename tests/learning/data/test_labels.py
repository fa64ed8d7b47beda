"""Labels of users become class numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.labels import class_numbers

Labels = np.ndarray[Any, Any]


def numbered(
    raw: Labels, *names: str, others: Callable[[], list[Labels]] = list, samples: int | None = None
) -> tuple[list[int], tuple[str, ...]]:
    numbers, found = class_numbers(raw, len(raw) if samples is None else samples, names, "shop.npz", others)
    assert numbers.dtype == np.int64
    return numbers.tolist(), found


def test_class_numbers_are_kept_with_their_gaps() -> None:
    assert numbered(np.array([4, 0, 4], np.uint8)) == ([4, 0, 4], ())
    assert numbered(np.array([[2.0], [0.0]])) == ([2, 0], ())
    assert numbered(np.array(["1", "0"])) == ([1, 0], ())


def test_one_hot_rows_are_the_number_of_their_column() -> None:
    assert numbered(np.array([[0, 0, 1], [1, 0, 0]])) == ([2, 0], ())


def test_other_labels_are_numbered_in_the_order_of_their_values() -> None:
    assert numbered(np.array(["b", " a ", "b"])) == ([1, 0, 1], ("a", "b"))
    assert numbered(np.array([-1, 1, -1])) == ([0, 1, 0], ("-1", "1"))
    assert numbered(np.array([20000, 3000])) == ([1, 0], ("3000", "20000"))
    assert numbered(np.array(["007", "01"])) == ([1, 0], ("01", "007"))


def test_labels_of_the_other_split_are_numbered_too() -> None:
    assert numbered(np.array(["c"]), others=lambda: [np.array(["a", "b"])]) == ([2], ("a", "b", "c"))


def test_names_give_the_numbers() -> None:
    assert numbered(np.array(["a", "b"]), "b", "a") == ([1, 0], ("b", "a"))
    assert numbered(np.array([0, 1]), "b", "a") == ([0, 1], ("b", "a"))


@pytest.mark.parametrize(
    ("raw", "names", "message"),
    [
        (np.array([0, 2]), ("a", "b"), "shop.npz: y goes up to 2, but there are only 2 class names, from 0"),
        (np.array(["c"]), ("a", "b"), "shop.npz: y holds c, but the 2 classes are a, b"),
        (
            np.array([0, -2]),
            (),
            "shop.npz: y must hold class numbers from 0, but it holds -2: remove unlabelled samples",
        ),
        (np.array([-1, -1]), (), "shop.npz: y must hold class numbers from 0, but it holds only -1"),
        (np.array(["a", " "]), (), "shop.npz: sample 1 has no label in y"),
        (np.array(["a", None]), (), "shop.npz: sample 1 has no label in y (None)"),
        (
            np.array([1.0, 0.5]),
            (),
            "shop.npz: y must hold class numbers or names, but sample 1 has 0.5; measurements are no classes",
        ),
        (
            np.array([[1, 1], [0, 1]]),
            (),
            "shop.npz: y has 2 columns, and not a single 1 among zeros in each row: a sample has one class "
            "(probabilities of classes are for a task of your own)",
        ),
        (
            np.array([[0, 1], [1, 0]]),
            ("a", "b", "c"),
            "shop.npz: y has 2 columns, one a class, but there are 3 class names",
        ),
        (
            np.arange(1001) * 10_000,
            (),
            "shop.npz: y holds 1,001 different values, such as 0 and 10000; at most 1,000 can be classes: give it "
            "class numbers from 0",
        ),
    ],
)
def test_unusable_labels_are_refused(raw: Labels, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError) as caught:
        numbered(raw, *names)
    assert str(caught.value) == message


def test_labels_are_one_a_sample() -> None:
    with pytest.raises(DataError) as caught:
        numbered(np.array([0, 1]), samples=3)
    assert str(caught.value) == "shop.npz: y must be one label a sample, [3], but it is [2]"


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["a", "b", "ab", "caf\u00e9"]), min_size=1, max_size=8))
def test_class_names_give_the_labels_back(texts: list[str]) -> None:
    numbers, names = numbered(np.array(texts))
    assert [names[number] for number in numbers] == texts
    assert names == tuple(sorted(set(texts)))
