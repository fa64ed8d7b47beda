from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.core.model_card import CardEntry, MeasuredCost, ModelCard, RefusedFile, decode_card, encode_card
from fedlp_edge.errors import ExportError

CARD = ModelCard(
    model="small-cnn",
    task="classification",
    input_shape=(1, 28, 28),
    files=(
        CardEntry(
            file="small-cnn-d2-int8.onnx",
            depth=2,
            precision="int8",
            sha256="0" * 64,
            blake3="f" * 64,
            bytes=1000,
            value=0.9,
            max_abs_diff=0.1,
            agreement=0.99,
            cost=MeasuredCost(milliseconds={50: 1.5}, mean_milliseconds=1.6, memory=4096),
        ),
    ),
    refused=(RefusedFile(depth=3, precision="fp16", reason="no"),),
)


def test_card_is_read_as_it_was_written() -> None:
    assert decode_card(encode_card(CARD)) == CARD


def test_card_is_text_with_lines_for_people() -> None:
    assert b'\n  "model": "small-cnn",\n' in encode_card(CARD)


@pytest.mark.parametrize("name", ["../d1.onnx", "a/b.onnx", "d1.txt", ".onnx"])
def test_card_with_a_file_elsewhere_is_refused(name: str) -> None:
    text = encode_card(CARD).replace(b"small-cnn-d2-int8.onnx", name.encode())
    with pytest.raises(ExportError, match=r"card\.json does not describe exported models"):
        decode_card(text)


def test_card_of_another_format_is_refused() -> None:
    text = msgspec.json.encode(msgspec.to_builtins(CARD) | {"format": 2})
    with pytest.raises(ExportError, match="fedlp export"):
        decode_card(text)
