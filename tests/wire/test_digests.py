from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.wire.digests import Hasher, digest_of, digest_of_file, digest_of_parts

ABC = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
"""BLAKE3 of ``abc``, as its reference implementation gives it."""


def test_every_way_to_name_a_blob_gives_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"abc")
    hasher = Hasher()
    for part in (b"a", bytearray(b"b"), memoryview(b"c")):
        hasher.update(part)

    assert hasher.digest() == ABC
    assert digest_of(b"abc") == ABC
    assert digest_of_parts([b"", b"ab", b"c"]) == ABC
    assert digest_of_file(tmp_path / "blob") == ABC


@given(st.lists(st.binary(max_size=8), max_size=5))
def test_parts_are_named_as_their_concatenation(parts: list[bytes]) -> None:
    assert digest_of_parts(parts) == digest_of(b"".join(parts))


def test_digest_so_far_does_not_end_the_blob() -> None:
    hasher = Hasher()
    hasher.update(b"ab")
    assert hasher.digest() == digest_of(b"ab")
    hasher.update(b"c")
    assert hasher.digest() == ABC


def test_file_that_is_not_there_has_no_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest_of_file(tmp_path / "blob")
