"""Fields of protobuf messages, in bytes that a protobuf library has written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ValueInfoProto

from fedlp_edge.system.protobuf_fields import LENGTH, fields, message_field


@given(st.text(max_size=300), st.text(max_size=300))
def test_fields_are_those_of_the_library(name: str, words: str) -> None:
    data = message_field(1, name.encode()) + message_field(3, words.encode())
    read = ValueInfoProto.FromString(data)
    assert (read.name, read.doc_string) == (name, words)
    view = memoryview(read.SerializeToString())
    found = {
        number: bytes(view[low:high]).decode()
        for number, kind, low, high in fields(view, 0, len(view))
        if kind == LENGTH
    }
    assert found == {number: text for number, text in ((1, name), (3, words)) if text} or found == {1: name, 3: words}


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0f", b"\xff" * 12], ids=["cut short", "no wire type", "endless"])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        list(fields(memoryview(data), 0, len(data)))
