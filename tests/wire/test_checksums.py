from __future__ import annotations

import importlib
import sys
import zlib

import pytest
import zlib_ng.zlib_ng
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.wire import checksums


def test_checksum_is_that_of_the_standard() -> None:
    assert checksums.crc32(b"123456789") == 0xCBF43926
    assert checksums.crc32(b"") == 0


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_checksum_goes_on_from_that_of_the_bytes_before(first: bytes, rest: bytes) -> None:
    assert checksums.crc32(memoryview(rest), checksums.crc32(first)) == zlib.crc32(first + rest)


def test_processor_without_a_wheel_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checksums.crc32 is zlib_ng.zlib_ng.crc32

    monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    try:
        assert importlib.reload(checksums).crc32 is zlib.crc32
    finally:
        monkeypatch.undo()
        importlib.reload(checksums)
