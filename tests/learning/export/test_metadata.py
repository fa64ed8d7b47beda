"""An exported file says how to use it."""

from __future__ import annotations

import pytest

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.export.metadata import OnnxMetadata, from_properties, names_of_outputs, to_properties

CARD = OnnxMetadata(model="m:f", depth=2, input_shape=(1, 4), classes=("a", "b"), scale=0.5, mean=(1.0,), std=(2.0,))
PROPERTIES = {
    "fedlp.run": "demo",
    "fedlp.model": "m:f",
    "fedlp.depth": "2",
    "fedlp.input_shape": "[1,4]",
    "fedlp.classes": '["a","b"]',
    "fedlp.scale": "0.5",
    "fedlp.mean": "[1.0]",
    "fedlp.std": "[2.0]",
    "fedlp.task": "classification",
    "fedlp.outputs": '["logits"]',
    "fedlp.units": "[]",
    "fedlp.threshold": "null",
    "fedlp.input_type": "float32",
    "fedlp.features": "[]",
    "fedlp.confidence": "null",
}


def test_properties_are_text_and_json_and_give_the_metadata_back() -> None:
    assert to_properties(CARD, {"run": "demo"}) == PROPERTIES
    assert from_properties(PROPERTIES, "a.onnx") == CARD


def test_a_file_of_an_earlier_version_is_a_classifier() -> None:
    later = ("fedlp.task", "fedlp.outputs", "fedlp.units", "fedlp.threshold")
    assert from_properties({key: value for key, value in PROPERTIES.items() if key not in later}, "a.onnx") == CARD


@pytest.mark.parametrize("wrong", [{"fedlp.depth": "0"}, {"fedlp.mean": "no JSON"}, {"fedlp.classes": "3"}])
def test_properties_of_another_kind_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ExportError) as caught:
        from_properties(PROPERTIES | wrong, "a.onnx")
    assert str(caught.value) == ("a.onnx does not say how to use it: it was not exported by fedlp (fedlp export RUN)")


def test_outputs_without_a_name_are_called_by_their_number() -> None:
    assert names_of_outputs((), 2) == ("0", "1")
    assert names_of_outputs(("cat",), 3) == ("cat", "class 1", "class 2")
    assert names_of_outputs(("cat", "dog", "cow"), 2) == ("cat", "dog")
