"""Users' arrays, tensors and lists become samples."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.arrays import as_array, check_samples, pairs_of, stored


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (torch.tensor([[1.5]], requires_grad=True), [[1.5]]),
        (torch.tensor([[0, 2]]).to_sparse(), [[0, 2]]),
        (torch.tensor([[1.5]], dtype=torch.bfloat16), [[1.5]]),
        ([torch.tensor([1]), torch.tensor([2])], [[1], [2]]),
        (np.array([[1, Decimal("0.5")]], object), [[1.0, 0.5]]),
        ([Image.new("RGB", (2, 1), (7, 8, 9))], [[[[7, 7]], [[8, 8]], [[9, 9]]]]),
        (["cat", "dog"], ["cat", "dog"]),
    ],
)
def test_values_of_any_library_become_arrays(value: Any, wanted: list[Any]) -> None:
    assert as_array(value, "x").tolist() == wanted


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "x is nothing (None), not an array"),
        ("text", "x is a str, not an array"),
        (3, "x is an int, not an array"),
        ([[1, 2], [3]], "x holds samples of different shapes, [1] and [2]: bring them to one"),
        (
            np.ma.masked_equal(np.array([1, 2, 1]), 1),
            "x is masked, with 2 values missing: fill or remove them",
        ),
    ],
)
def test_what_is_no_array_is_refused(value: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        as_array(value, "x")
    assert str(caught.value) == message


def test_pairs_are_read_from_a_sequence_or_an_iterator() -> None:
    assert pairs_of([("a", 0), ["b", 1]], "data") == (["a", "b"], [0, 1])
    assert pairs_of(iter([{"label": 3, "image": "a"}]), "data") == (["a"], [3])
    with pytest.raises(DataError) as caught:
        pairs_of([("a", 0), 5], "data")
    assert str(caught.value) == "data gives an int for sample 1, not (sample, label)"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(3), "x must be [N, ...], one row a sample, but it is [3]"),
        (
            np.array([[1, "a"]], object),
            "x must hold numbers, but it holds 'a' in sample 0 at [1]: give each text a number, or fill gaps, or leave "
            "such columns and rows out",
        ),
        (np.array([[1j]]), "x must hold numbers, not complex128"),
        (np.zeros((2, 0)), "x has samples without values: it is [2, 0]"),
        (
            np.zeros(2, [("a", "f4"), ("b", "f4")]),
            "x is a structured array (fields a, b): stack the fields into one array of numbers",
        ),
    ],
)
def test_samples_are_rows_of_numbers(x: np.ndarray[Any, Any], message: str) -> None:
    check_samples(np.zeros((2, 1)), "x")
    with pytest.raises(DataError) as caught:
        check_samples(x, "x")
    assert str(caught.value) == message


def test_samples_are_stored_as_bytes_or_finite_float32() -> None:
    pixels = np.array([[255]], np.uint8)
    assert stored(pixels, "x") is pixels
    made = stored(np.array([[1], [-2]]), "x")
    assert (made.dtype, made.tolist()) == (np.float32, [[1.0], [-2.0]])
    with pytest.raises(DataError) as caught:
        stored(np.array([[0.0], [np.nan]]), "x")
    assert str(caught.value) == "x holds values that are not finite (NaN or infinite), the first in sample 1"
    with pytest.raises(DataError) as caught:
        stored(np.array([[1e39]]), "x")
    assert str(caught.value) == "x holds values that are too large for float32, the first in sample 0"
