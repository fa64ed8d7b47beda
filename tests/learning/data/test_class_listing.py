"""Class names have one spelling, whatever wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.class_listing import (
    checked_names,
    find_class_listing,
    normalized_name,
    read_class_listing,
)


def test_normal_form_is_composed_and_without_blanks_and_marks() -> None:
    assert normalized_name("cafe\u0301") == "caf\u00e9"
    assert normalized_name("\ufeff big  cat\u200b\t") == "big  cat"
    assert normalized_name("\u200b \u200bdog") == "dog"
    assert normalized_name("caf\udce9") == "caf\u00e9"  # a folder's name in Latin-1


@settings(max_examples=50)
@given(st.text("ae\u0301 \t\ufeff\u200b\udce9", max_size=6))
def test_normal_form_is_its_own_normal_form(name: str) -> None:
    assert normalized_name(normalized_name(name)) == normalized_name(name)


def test_checked_names_are_normal_text() -> None:
    assert checked_names([b"caf\xc3\xa9", 7, " dog "], "shop") == ("caf\u00e9", "7", "dog")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", " "], "shop: class 1 has an empty name"),
        (["cat", "dog", "cat "], "shop names 'cat' twice, as class 0 and as class 2: remove one"),
    ],
)
def test_names_that_are_empty_or_double_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        checked_names(names, "shop")
    assert str(caught.value) == message


def test_listing_is_found_in_any_letter_case(tmp_path: Path) -> None:
    assert find_class_listing(tmp_path) is None
    (tmp_path / "Classes.TXT").touch()
    assert find_class_listing(tmp_path) == tmp_path / "Classes.TXT"
    (tmp_path / "classes.txt").touch()
    assert find_class_listing(tmp_path) == tmp_path / "classes.txt"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_listing_is_read_in_any_usual_encoding(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "classes.txt"
    file.write_bytes("caf\u00e9\r\n\r\ndog\rcow\n".encode(encoding))
    assert read_class_listing(file) == ("caf\u00e9", "dog", "cow")


def test_listing_without_names_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    with pytest.raises(DataError) as caught:
        read_class_listing(file)
    assert str(caught.value) == f"cannot read {file}: No such file or directory"
    file.write_text("\n \n")
    with pytest.raises(DataError) as caught:
        read_class_listing(file)
    assert str(caught.value) == f"{file} names no class: write one name a line, or remove it"
    file.write_bytes(b"\xff\xfea")
    with pytest.raises(DataError) as caught:
        read_class_listing(file)
    assert str(caught.value) == f"{file} is not a text: save it as UTF-8"
