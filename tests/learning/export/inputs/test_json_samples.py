"""Samples that come as JSON: nested lists, or an object by the columns of a table."""

from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.export.inputs.json_samples import json_sample
from tests.learning.export.test_inference_tasks import PAIR

TABLE = msgspec.structs.replace(PAIR, features=("x", "y"), mean=(1.0, 0.0), std=(2.0, 1.0))


def test_lists_and_objects_give_the_same_sample() -> None:
    for text in ("[3, 4]", '{"y": 4, "site": "a", "x": 3}'):
        assert json_sample(text, TABLE, "line 1").values.tolist() == [1.0, 4.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[3", "line 1 is no JSON list of numbers of one sample"),
        ('{"x": "three", "y": 1}', "line 1 is no JSON list of numbers of one sample"),
        ('{"x": 3}', "line 1 has no column 'y', which the model takes"),
        ("[3]", "line 1 holds float32 [1]; the model takes one sample of 2"),
        ("[3, 1e39]", "line 1 holds values that are not finite (NaN or infinite)"),
    ],
)
def test_what_is_no_sample_is_said(text: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        json_sample(text, TABLE, "line 1")
    assert str(caught.value) == words
